"""Text that is given to peers, in a Route for example, and comes back: nobody else can read, make or change it.

The check value is a keyed hash over the text and over what it is about (the dialog), so that a sealed text is worth nothing
elsewhere; it also begins the key stream (as in SIV, RFC 5297: the same text is sealed the same way, so no state is kept).
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b, shake_256
from hmac import compare_digest

from opensips_py.tm import identity

CHECK = 12
"""Bytes of the check value."""


def key_of(password: str) -> bytes:
    """The key that a password stands for; without one that of this run of the server."""
    if not password:
        return identity.derived_key(b"sealed text")
    return blake2b(password.encode("latin-1"), digest_size=32, person=b"sealed text").digest()


def seal(key: bytes, about: str, text: str) -> str:
    """``text`` as Base64 in which ``-`` stands for ``=``, as it may stand in a URI parameter."""
    plain = text.encode("latin-1")
    check = _check(key, about, plain)
    return base64.b64encode(check + _crypt(key, check, plain)).decode().replace("=", "-")


def unseal(key: bytes, about: str, token: str) -> str | None:
    """The text in what :func:`seal` made with the same key about the same; None for everything else."""
    try:
        data = base64.b64decode(token.replace("-", "=").encode("latin-1"), validate=True)
    except (binascii.Error, ValueError):
        return None
    check = data[:CHECK]
    plain = _crypt(key, check, data[CHECK:])
    return plain.decode("latin-1") if compare_digest(check, _check(key, about, plain)) else None


def _check(key: bytes, about: str, plain: bytes) -> bytes:
    subject = about.encode("latin-1")
    return blake2b(len(subject).to_bytes(4, "big") + subject + plain, digest_size=CHECK, key=key, person=b"sealed check").digest()


def _crypt(key: bytes, check: bytes, data: bytes) -> bytes:
    stream = shake_256(key + check).digest(len(data))
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
