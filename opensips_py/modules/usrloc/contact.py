"""A binding: the Contact of an address of record, with what came with it (RFC 3261 10.3)."""

from __future__ import annotations

import zlib

import msgspec

from opensips_py.script.context import Q_UNSPECIFIED
from opensips_py.sip.uri import same_uri

PERMANENT = 0.0
"""``expires`` of a contact that stays until it is removed."""

METHODS = (
    *("INVITE", "CANCEL", "ACK", "BYE", "INFO", "OPTIONS", "UPDATE", "REGISTER", "MESSAGE", "SUBSCRIBE", "NOTIFY", "PRACK"),
    *("REFER", "PUBLISH"),
)
"""Methods by bit, from the lowest on, as in OpenSIPS; the next bit stands for any other."""
OTHER_METHOD = 1 << len(METHODS)
ALL_METHODS = 0xFFFFFFFF
_BITS = {name: 1 << i for i, name in enumerate(METHODS)}


NO_SOCKET = ""
"""``socket`` of a contact that did not come with a REGISTER."""


class Contact(msgspec.Struct, array_like=True):
    """One contact as it is kept in the shared store."""

    uri: str
    expires: float
    """``this.clock.now()`` (one clock for all processes) at which it ends."""
    call_id: str
    cseq: int
    q: int = Q_UNSPECIFIED
    """In thousandths."""
    user_agent: str = "n/a"
    received: str | None = None
    """URI of the address that the REGISTER came from, when that is where requests must go."""
    path: str | None = None
    socket: str = NO_SOCKET
    """Name of the socket that the REGISTER came to. This server need not have it."""
    methods: int = ALL_METHODS
    flags: int = 0
    """Message flags at registration."""
    branch_flags: int = 0
    instance: str | None = None
    """``+sip.instance`` with its quotes."""
    attributes: str | None = None
    modified: float = 0.0
    """``this.clock.now()`` of the last change."""

    def valid(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires == PERMANENT or self.expires > now

    def remaining(self, now: float) -> int:
        """Seconds left; 0 for a permanent one."""
        return 0 if self.expires == PERMANENT else max(0, int(self.expires - now + 0.5))

    def same(self, uri: str) -> bool:
        """Whether it has this URI (RFC 3261 10.3 step 7, 19.1.4)."""
        return self.uri == uri or same_uri(self.uri, uri)

    def supports(self, method: str) -> bool:
        """Whether its user agent has said that it takes this method, or has said nothing."""
        return bool(self.methods & _BITS.get(method, OTHER_METHOD))

    def contact_id(self, aor: str) -> int:
        """The number that stands for the contact of ``aor`` in management commands."""
        text = f"{aor}\0{self.uri}\0{self.call_id}".encode("latin-1")
        return (zlib.crc32(text) << 32 | zlib.crc32(text, 1)) & 0x7FFFFFFFFFFFFFFF


def methods_of(text: str) -> int:
    """Bits of a list of methods, as in Allow."""
    bits = 0
    for name in text.split(","):
        name = name.strip()
        if name:
            bits |= _BITS.get(name.upper(), OTHER_METHOD)
    return bits


def q_text(q: int) -> str:
    """A quality in thousandths as it stands in Contact."""
    return f"{q / 1000:g}"


def q_of(text: str) -> int | None:
    """A quality in thousandths from ``0`` to ``1`` with at most three decimals (RFC 3261 20.10); None when it is not one."""
    whole, _, decimals = text.partition(".")
    if whole not in ("0", "1", "") or not (whole or decimals) or len(decimals) > 3:
        return None
    if decimals and not (decimals.isascii() and decimals.isdigit()):
        return None
    q = int(whole or 0) * 1000 + int(decimals.ljust(3, "0") if decimals else 0)
    return q if q <= 1000 else None
