"""What goes to a MySQL server."""

from __future__ import annotations

_COM_QUERY = b"\x03"
_LONGEST = 0xFFFFFF


def packets(query: bytes) -> bytes:
    """A query as packets of the protocol."""
    payload = _COM_QUERY + query
    size = len(payload)
    if size < _LONGEST:
        return size.to_bytes(3, "little") + b"\0" + payload
    out = bytearray()
    for number, at in enumerate(range(0, size + 1, _LONGEST)):
        part = payload[at : at + _LONGEST]
        out += len(part).to_bytes(3, "little") + bytes((number & 255,)) + part
    return bytes(out)
