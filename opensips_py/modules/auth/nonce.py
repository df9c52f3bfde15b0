"""Nonces: what a challenge gives out, and what comes back with the credentials.

A nonce holds the second in which it ends, six random bytes, and a check value over both that only who has the key can make. So
any process knows a nonce of any other, and whoever asks for challenges by the thousand leaves nothing behind.

Only credentials that are right make a nonce *used*: a row in the shared store (end, random bytes) until the nonce ends. The row
holds the highest nonce count (RFC 7616 3.4) and who has used it. Without qop a nonce is for one message, which may come again;
with qop it may be used with a higher count, and with the same count by the same client: source address and Call-ID (as recorded
from OpenSIPS 3.1, where anybody may repeat credentials with a qop).
"""

from __future__ import annotations

import os
from hashlib import blake2b
from hmac import compare_digest

from ipc.prefixes import prefix
from opensips_py.modules.auth.declared import Settings, disable_nonce_check, nonce_expire
from opensips_py.server.process import this

PREFIX = prefix(b"w", "nonce that was used: its end, and which it is", __name__)
_CHECK = 12
"""Bytes of the check value."""
_BODY = 10
"""Bytes before it: end, random."""
_SKEW = 5
"""Seconds by which the clocks of servers with the same secret may differ."""
_SWEEP_SECONDS = 1.0
_AT_ONCE = 2000
"""Rows that one sweep deletes."""
_UNCOUNTED = b"\xff\xff\xff\xff"
"""Count of a nonce that was used without qop: none is higher."""


def make() -> str:
    """A new nonce; with ``disable_nonce_check`` one for everybody in the same second, as in OpenSIPS."""
    ends = int(this.clock.now()) + nonce_expire.value
    body = ends.to_bytes(4, "big") + (bytes(6) if disable_nonce_check.value else os.urandom(6))
    return (body + _check(body)).hex()


def holds(nonce: str) -> bool:
    """Whether the nonce was made with our key and has not ended."""
    body = _body(nonce)
    if body is None:
        return False
    now = this.clock.now()
    return now <= int.from_bytes(body[:4], "big") <= now + nonce_expire.value + _SKEW


def use(nonce: str, count: int | None, client: bytes) -> bool:
    """Use a nonce that :func:`holds`; False when somebody else has. ``count``: with qop.

    Raises ``StoreFull``.
    """
    body = _body(nonce)
    if disable_nonce_check.value or body is None:
        return body is not None
    _sweep()
    store, key = this.store, PREFIX + body
    row = (_UNCOUNTED if count is None else count.to_bytes(4, "big")) + client
    if store.put_new(key, row):
        return True
    with store.batch() as batch:
        used = batch.get(key) or bytes(4)
        if count is not None and row[:4] > used[:4]:
            batch.put(key, row)
            return True
    return row == used


def _body(nonce: str) -> bytes | None:
    """What the nonce says; None when we have not made it."""
    try:
        data = bytes.fromhex(nonce)
    except ValueError:
        return None
    body = data[:_BODY]
    # one spelling only: another one would be another nonce
    right = len(nonce) == 2 * (_BODY + _CHECK) and nonce == data.hex() and compare_digest(data[_BODY:], _check(body))
    return body if right else None


def _check(body: bytes) -> bytes:
    return blake2b(body, digest_size=_CHECK, key=Settings.key, person=b"nonce check").digest()


_next_sweep = 0.0


def _sweep() -> None:
    """Delete rows of nonces that have ended, now and then."""
    global _next_sweep
    now = this.clock.now()
    if now < _next_sweep:
        return
    _next_sweep = now + _SWEEP_SECONDS
    ended = this.store.scan(PREFIX, limit=_AT_ONCE, stop=PREFIX + int(this.clock.now()).to_bytes(4, "big"))
    if ended:
        with this.store.batch() as batch:
            for key, _ in ended:
                batch.delete(key)
