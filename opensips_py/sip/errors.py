"""What goes wrong when a message is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opensips_py.sip.message import SipMessage


class ParseError(Exception):
    """Received text is not SIP.

    ``reason`` says what is wrong. ``message`` is the request as far as it could be read when it has what a reply
    needs (a request line and a usable top Via, RFC 3261 8.2.6): answer it with ``code``. None: drop it.
    """

    def __init__(self, reason: str, message: SipMessage | None = None, code: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message
        self.code = code
