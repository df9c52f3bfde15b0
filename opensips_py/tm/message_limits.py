"""How large a message and its parts may be: looked at once, when it has come, before anything is done with it.

What has been taken once is never refused again: stored messages, and messages as they leave, may have grown.
"""

from __future__ import annotations

from opensips_py.script.parameters import Settings
from opensips_py.server import traffic
from opensips_py.sip.errors import ParseError
from opensips_py.sip.message import BadMessage, SipMessage

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
    length, limits = len(msg.raw), Limits
    if length > limits.message:
        raise _refusal(msg, 513, f"Message Too Large ({length} bytes, max_message_size is {limits.message})")
    length = len(msg.ruri)
    if length > limits.uri:
        raise _refusal(msg, 414, f"Request-URI Too Long ({length} bytes, max_uri_length is {limits.uri})")
    lines = msg._lines
    if len(lines) > limits.headers:
        raise _refusal(msg, 400, f"{len(lines)} headers, max_headers is {limits.headers}")
    length = max(map(len, lines))
    if length > limits.header:
        raise _refusal(msg, 400, f"a header of {length} bytes, max_header_length is {limits.header}")
    length = msg.body_end - msg.body_start
    if length > limits.body:
        raise _refusal(msg, 413, f"Request Entity Too Large ({length} bytes, max_body_size is {limits.body})")


def _refusal(msg: SipMessage, code: int, reason: str) -> ParseError:
    traffic.large_msgs.add()
    return ParseError(reason, code) if msg.method == "ACK" else BadMessage(reason, msg, code)
