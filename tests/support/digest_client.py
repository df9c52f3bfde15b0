"""A client that answers digest challenges, written from RFC 7616 alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

HASHES: dict[str, Callable[[bytes], hashlib._Hash]] = {
    "md5": hashlib.md5,
    "sha-256": hashlib.sha256,
    "sha-512-256": lambda data: hashlib.new("sha512_256", data),
}


def parameters(challenge: str) -> dict[str, str]:
    """What a challenge says."""
    assert challenge.startswith("Digest ")
    return {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', challenge)}


def answer(
    challenge: str,
    username: str,
    password: str,
    method: str,
    uri: str = "sip:example.com",
    *,
    qop: str | None = None,
    nc: str = "00000001",
    cnonce: str = "0a4f113b",
    algorithm: str | None = None,
    body: str = "",
    **changed: str,
) -> str:
    """The credentials for a challenge; ``changed``: parameters that are to be something else than they should."""
    asked = parameters(challenge)
    name = (algorithm or "MD5").lower()

    def hashed(text: str) -> str:
        return HASHES[name.removesuffix("-sess")](text.encode()).hexdigest()

    a1 = f"{username}:{asked['realm']}:{password}"
    if name.endswith("-sess"):
        a1 = f"{hashed(a1)}:{asked['nonce']}:{cnonce}"
    a2 = f"{method}:{uri}" + (f":{hashed(body)}" if qop == "auth-int" else "")
    middle = f"{asked['nonce']}:{nc}:{cnonce}:{qop}" if qop else asked["nonce"]
    given = {
        "username": username,
        "realm": asked["realm"],
        "nonce": asked["nonce"],
        "uri": uri,
        "response": hashed(f"{hashed(a1)}:{middle}:{hashed(a2)}"),
    }
    if qop or name.endswith("-sess"):
        given["cnonce"] = cnonce
    given |= changed
    text = ", ".join(f'{key}="{value}"' for key, value in given.items() if value)
    if algorithm:
        text += f", algorithm={algorithm}"
    return "Digest " + text + (f", qop={qop}, nc={nc}" if qop else "")
