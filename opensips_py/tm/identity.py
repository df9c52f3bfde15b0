"""Names: store keys of transactions, branch parameters, To tags.

A server transaction is named by the top Via's branch and sent-by and by the method (RFC 3261 17.2.3); a CANCEL and
an ACK for a negative reply find their INVITE because they carry its branch. The key is a keyed hash: peers cannot make
two requests collide. Our own branch parameter carries key and branch number, so that a reply leads straight to its
transaction, in whichever process it arrives.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from zlib import crc32

from ipc.prefixes import prefix

COOKIE = "z9hG4bK"
PREFIX = prefix(b"t", "transaction", __name__)
"""Begins the key of a transaction."""
INDEX_PREFIX = prefix(b"i", "where the ACK for a 2xx finds a transaction", __name__)
"""Begins the key under which the ACK for a 2xx finds one."""

_secret: bytes
_sl_tag_prefix: str


def derive_secrets(given: bytes | None) -> None:
    """The secrets behind keys, branches and tags: before the fork, one set for all processes of a server.

    They come from the server's secret, so that servers with the same one make and know the same; without one they are random.
    """
    global _secret, _sl_tag_prefix
    _secret = os.urandom(16) if given is None else blake2b(given, digest_size=16, person=b"server secret").digest()
    _sl_tag_prefix = blake2b(key=_secret, digest_size=5, person=b"stateless tag").hexdigest()


derive_secrets(None)


def server_key(branch: str, sent_by: str, method: str) -> bytes:
    """Store key of a request whose Via branch has the RFC 3261 cookie."""
    return PREFIX + blake2b(f"{branch} {sent_by} {method}".encode("latin-1"), digest_size=8, key=_secret).digest()


def rfc2543_key(call_id: str, cseq: int, method: str, from_tag: str, ruri: str, via: str) -> bytes:
    """Store key of a request without the cookie (RFC 3261 17.2.3, second list)."""
    text = f"{call_id}\n{cseq}\n{method}\n{from_tag}\n{ruri}\n{via}"
    return PREFIX + blake2b(text.encode("latin-1"), digest_size=8, key=_secret, person=b"rfc2543").digest()


def success_ack_key(call_id: str, cseq: str) -> bytes:
    """Store key under which the ACK for a 2xx finds the INVITE transaction (it has a branch of its own, RFC 3261 13.2.2.4)."""
    return INDEX_PREFIX + blake2b(f"{cseq} {call_id}".encode("latin-1"), digest_size=8, key=_secret, person=b"2xx").digest()


def new_key() -> bytes:
    """Store key of a transaction for a request made here."""
    return PREFIX + os.urandom(8)


ENTRIES = 65536
"""Entries of OpenSIPS' transaction table: what management commands show of a key is a place in such a table."""


def entry(key: bytes) -> int:
    """Entry of the table that transaction ``key`` would stand in."""
    return key[1] << 8 | key[2]


def ident(key: bytes) -> str:
    """``entry:label``: a transaction's name in management commands and for t_write_req()."""
    return f"{entry(key)}:{int.from_bytes(key[3:], 'big')}"


def of_ident(text: str) -> bytes:
    """The key that :func:`ident` names; the hexadecimal form of ``$T_id`` is taken too. ValueError says what is wrong."""
    index, colon, label = text.partition(":")
    if not colon:
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != 8:
            raise ValueError("Invalid trans_id")
        return PREFIX + key
    if not (index.isascii() and index.isdigit() and int(index) < ENTRIES):
        raise ValueError("Invalid index in trans_id")
    if not (label.isascii() and label.isdigit() and len(label) < 16 and int(label) < 1 << 48):
        raise ValueError("Invalid label in trans_id")
    return PREFIX + int(index).to_bytes(2, "big") + int(label).to_bytes(6, "big")


def branch_id(key: bytes, number: int) -> str:
    """``branch`` parameter of the Via that we put on branch ``number``."""
    return f"z9hG4bK{key[1:].hex()}.{number:x}"


def of_branch_id(branch: str) -> tuple[bytes, int] | None:
    """(key, branch number) from a reply's top Via; None when it is not of our making."""
    m = _branch_id(branch)
    return None if m is None else (PREFIX + bytes.fromhex(m[1]), int(m[2], 16))


_branch_id = re.compile(r"z9hG4bK([0-9a-f]{16})\.([0-9a-f]{1,4})(?:\.[0-9a-f]{1,4})?").fullmatch


def sibling_branch_id(branch: str, number: int) -> str:
    """:func:`branch_id` of branch ``number`` of the transaction that ``branch`` belongs to."""
    return f"{branch[:24]}{number:x}"


def repeated_branch_id(branch: str) -> str:
    """A new identifier for the same branch, whose request goes to another server because it could not be sent."""
    number, _, attempt = branch[24:].partition(".")
    return f"{branch[:24]}{number}.{int(attempt or '0', 16) + 1:x}"


def stateless_branch_id(branch: str, sent_by: str, method: str) -> str:
    """Branch of a request forwarded without state: the same for its retransmissions (RFC 3261 16.11)."""
    digest = blake2b(f"{branch} {sent_by} {method}".encode("latin-1"), digest_size=8, key=_secret, person=b"stateless")
    return "z9hG4bKs" + digest.hexdigest()


def derived_key(person: bytes) -> bytes:
    """The server's key for another purpose."""
    return blake2b(key=_secret, digest_size=32, person=person).digest()


def to_tag(key: bytes) -> str:
    """To tag of all replies that the transaction ``key`` makes here, the 200 for its CANCEL included (RFC 3261 9.2)."""
    return blake2b(key, digest_size=8, key=_secret, person=b"to tag").hexdigest()  # who has it does not know the key


def stateless_to_tag(branch: str, sent_by: str) -> str:
    """To tag of stateless replies; the same for a retransmission (RFC 3261 8.2.7) and found again in the ACK."""
    return f"{_sl_tag_prefix}.{crc32(f'{branch}{sent_by}'.encode('latin-1')):08x}"


def may_be_stateless_to_tag(tag: str) -> bool:
    """Whether a tag has the form of :func:`stateless_to_tag`."""
    return tag.startswith(_sl_tag_prefix)
