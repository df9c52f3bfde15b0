"""How large a message and its parts may be: looked at once, when it has come, before anything is done with it.

What has been taken once is never refused again: stored messages, and messages as they leave, may have grown.
"""

from __future__ import annotations

from opensips_py.script.parameters import Settings
from opensips_py.sip.errors import ParseError
from opensips_py.sip.message import SipMessage

_SHORTEST_HEADER = 4
"""Bytes of a header that has a name, a colon and a line end."""


class Limits:
    """The limits of the running script."""

    small = 0
    """A message of this length or less keeps all limits."""
    message = headers = header = uri = body = 0


def configure(settings: Settings) -> None:
    """Take the limits from the core parameters."""
    Limits.message = settings.max_message_size
    Limits.headers = settings.max_headers
    Limits.header = settings.max_header_length
    Limits.uri = settings.max_uri_length
    Limits.body = settings.max_body_size
    Limits.small = min(Limits.message, _SHORTEST_HEADER * Limits.headers, Limits.header, Limits.uri, Limits.body)


def check(msg: SipMessage) -> None:
    """Raise ParseError, with the status that answers it, for a message that is larger than allowed."""
    if len(msg.raw) > Limits.message:
        raise _refusal(msg, 513, "Message Too Large", f"{len(msg.raw)} bytes, max_message_size is {Limits.message}")
    if len(msg.ruri) > Limits.uri:
        raise _refusal(msg, 414, "Request-URI Too Long", f"{len(msg.ruri)} characters, max_uri_length is {Limits.uri}")
    lines = msg._lines
    if len(lines) > Limits.headers:
        raise _refusal(msg, 400, "Too Many Headers", f"{len(lines)}, max_headers is {Limits.headers}")
    longest = max(map(len, lines))
    if longest > Limits.header:
        raise _refusal(msg, 400, "Header Too Long", f"{longest} bytes, max_header_length is {Limits.header}")
    if msg.body_end - msg.body_start > Limits.body:
        length = msg.body_end - msg.body_start
        raise _refusal(msg, 413, "Request Entity Too Large", f"{length} bytes, max_body_size is {Limits.body}")


def _refusal(msg: SipMessage, code: int, reason: str, why: str) -> ParseError:
    """An ACK, and a reply, is dropped."""
    error = ParseError(f"{reason} ({why})", msg if msg.method != "ACK" else None, code)
    error.phrase = reason
    return error
