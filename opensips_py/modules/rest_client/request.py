"""Requests as they are sent (RFC 9112)."""

from __future__ import annotations

from typing import NamedTuple

from opensips_py.modules.rest_client.url import HttpUrl


class Header(NamedTuple):
    """A header of a script."""

    name: str
    """In lower case."""
    line: str
    """Without line end; empty: the request goes without this header."""

    @classmethod
    def of_line(cls, text: str) -> Header | None:
        """A line as curl understands it; None when it is no header."""
        name, colon, value = text.partition(":")
        if not colon:
            name, semicolon, value = text.partition(";")
            if not semicolon or value.strip():
                return None
        name = name.strip()
        if not name or not name.isprintable():
            return None
        if not colon:
            return cls(name.lower(), f"{name}:")
        return cls(name.lower(), text if value.strip() else "")


def request_bytes(method: str, url: HttpUrl, headers: list[Header], body: bytes | None) -> bytes:
    """A request. What the script gives takes the place of what would be sent by itself."""
    given = {header.name for header in headers}
    lines = [f"{method} {url.target} HTTP/1.1"]
    if "host" not in given:
        lines.append(f"Host: {url.origin.field}")
    if "accept" not in given:
        lines.append("Accept: */*")
    lines += [header.line for header in headers if header.line and header.name != "content-length"]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if body is None else head + body
