"""What goes wrong when SIP is read."""

from __future__ import annotations


class ParseError(Exception):
    """Received text is not SIP: ``reason`` says what is wrong, ``code`` is the status that would say so.

    A message that can be answered raises :class:`opensips_py.sip.message.BadMessage`; drop what raises this one.
    """

    def __init__(self, reason: str, code: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
