"""Text that is given to peers, in a Route for example, and comes back: nobody else can read, make or change it.

AES-SIV (RFC 5297) with what the text is about (the dialog) as associated data, so that a sealed text is worth nothing
elsewhere. Without a nonce it is deterministic: the same text is sealed the same way, also in a retransmission and by another
process, so no state is kept.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from opensips_py.tm import identity

_TAG = 16
"""Bytes of the synthetic IV, which is what authenticates the text."""


def key_of(password: str) -> bytes:
    """The key that a password stands for, for AES-256 twice; without a password one of this run of the server."""
    secret = password.encode("latin-1") or identity.derived_key(b"sealed text")
    return blake2b(secret, digest_size=64, person=b"sealed text").digest()


def seal(key: bytes, about: str, text: str) -> str:
    """``text``, which must not be empty, as Base64 in which ``-`` stands for ``=``, as it may stand in a URI parameter."""
    data = AESSIV(key).encrypt(text.encode("latin-1"), [about.encode("latin-1")])
    return base64.b64encode(data).decode().replace("=", "-")


def unseal(key: bytes, about: str, token: str) -> str | None:
    """The text in what :func:`seal` made with the same key about the same; None for everything else."""
    try:
        data = base64.b64decode(token.replace("-", "=").encode("latin-1"), validate=True)
        if len(data) <= _TAG:
            return None
        return AESSIV(key).decrypt(data, [about.encode("latin-1")]).decode("latin-1")
    except (binascii.Error, ValueError, InvalidTag):
        return None
