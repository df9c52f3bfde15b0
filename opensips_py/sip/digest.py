"""Digest authentication: credentials and responses (RFC 2617, RFC 7616 and 8760 for SHA-2, RFC 3261 22.4)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from opensips_py.sip.errors import ParseError
from opensips_py.sip.params import Params, parse_params, unquote

HASHES: dict[str, Callable[[bytes], Any]] = {
    "MD5": hashlib.md5,
    "SHA-256": hashlib.sha256,
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data),
}
"""The algorithms that we know, by name."""


_digest = re.compile(r"[ \t\r\n]*digest[ \t\r\n]+", re.IGNORECASE).match


@dataclass(slots=True, frozen=True)
class Credentials:
    """What an Authorization or Proxy-Authorization header holds, without quotes; None for what it lacks."""

    username: str | None
    realm: str | None
    nonce: str | None
    uri: str | None
    response: str | None
    algorithm: str | None
    cnonce: str | None
    opaque: str | None
    qop: str | None
    nc: str | None
    params: Params
    """All parameters as received, by lower-case name."""

    @property
    def user(self) -> str | None:
        """The user name before ``@``."""
        return None if self.username is None else self.username.partition("@")[0]

    @property
    def domain(self) -> str | None:
        """What follows ``@`` in the user name; None when nothing does."""
        return None if self.username is None else self.username.partition("@")[2] or None


def parse_credentials(text: str) -> Credentials:
    """Read the value of an Authorization or Proxy-Authorization header; ParseError unless its scheme is Digest."""
    scheme = _digest(text)
    if scheme is None:
        raise ParseError(f"authorization scheme of {text[:20]!r} is not Digest")
    params = parse_params(text[scheme.end() :], ",")

    def get(name: str) -> str | None:
        value = params.get(name)
        return None if value is None else unquote(value)

    return Credentials(
        username=get("username"),
        realm=get("realm"),
        nonce=get("nonce"),
        uri=get("uri"),
        response=get("response"),
        algorithm=get("algorithm"),
        cnonce=get("cnonce"),
        opaque=get("opaque"),
        qop=get("qop"),
        nc=get("nc"),
        params=params,
    )


def ha1(username: str, realm: str, password: str, algorithm: str = "MD5") -> str:
    """The hash of user name, realm and password, which a server may store instead of the password."""
    return _hash(algorithm, f"{username}:{realm}:{password}")


def digest_response(credentials: Credentials, ha1_hex: str, method: str, body: str = "") -> str:
    """The ``response`` that right credentials hold for a request with ``method``.

    ParseError when the algorithm or the qop is none that we know.
    """
    return response_for(credentials, ha1_hex, ha2(credentials, method, body))


def ha2(credentials: Credentials, method: str, body: str = "") -> str:
    """The hash of what is asked for: method, URI and, with auth-int, the body. ParseError as :func:`digest_response`."""
    algorithm = hash_name(credentials.algorithm)
    qop = (credentials.qop or "").lower()
    a2 = f"{method}:{credentials.uri}"
    if qop == "auth-int":
        a2 = f"{a2}:{_hash(algorithm, body)}"
    elif qop not in ("", "auth"):
        raise ParseError(f"unknown qop {qop[:20]!r}")
    return _hash(algorithm, a2)


class Answer(Protocol):
    """What a response is made of, beside the two hashes."""

    @property
    def nonce(self) -> str | None: ...

    @property
    def algorithm(self) -> str | None: ...

    @property
    def cnonce(self) -> str | None: ...

    @property
    def qop(self) -> str | None: ...

    @property
    def nc(self) -> str | None: ...


def response_for(answer: Answer, ha1_hex: str, ha2_hex: str) -> str:
    """The ``response``, with :func:`ha1` and :func:`ha2`. ParseError when the algorithm is none that we know."""
    algorithm = hash_name(answer.algorithm)
    if (answer.algorithm or "").upper().endswith("-SESS"):
        ha1_hex = _hash(algorithm, f"{ha1_hex}:{answer.nonce}:{answer.cnonce}")
    if not answer.qop:
        return _hash(algorithm, f"{ha1_hex}:{answer.nonce}:{ha2_hex}")
    return _hash(algorithm, f"{ha1_hex}:{answer.nonce}:{answer.nc}:{answer.cnonce}:{answer.qop}:{ha2_hex}")


def hash_name(algorithm: str | None) -> str:
    """The hash of an algorithm, which is the key of :data:`HASHES` when we know it: ``MD5`` of ``md5-sess``, and of none."""
    return (algorithm or "MD5").upper().removesuffix("-SESS")


def _hash(algorithm: str, text: str) -> str:
    make = HASHES.get(algorithm.upper())
    if make is None:
        raise ParseError(f"unknown digest algorithm {algorithm[:20]!r}")
    digest: str = make(text.encode("latin-1")).hexdigest()
    return digest
