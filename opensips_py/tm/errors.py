"""Why a request could not be forwarded: what the script is told, and what the caller."""

from __future__ import annotations

from opensips_py.tm.server_transaction import (
    E_BAD_ADDRESS,
    E_BAD_REQ,
    E_BAD_URI,
    E_BREADTH,
    E_LOOP,
    E_NO_DESTINATION,
    E_SEND,
    E_TOO_MANY_BRANCHES,
)

RETURN_CODES = {E_NO_DESTINATION: -3, E_BAD_ADDRESS: -4, E_SEND: -6, E_BAD_URI: -2, E_BAD_REQ: -2}
"""Return codes of t_relay by internal error number; others give -1."""


_OF_RFC = {E_LOOP: "Loop Detected", E_BREADTH: "Max-Breadth Exceeded"}
"""Errors that OpenSIPS does not know: RFC 3261 21.4.20, RFC 5393 5.3.3.1."""


def error_reply(error: int, signature: str) -> tuple[int, str]:
    """(status, phrase) of the reply to the caller for an internal error; ``signature`` is TM or SL."""
    if error in _OF_RFC:
        return error, _OF_RFC[error]
    code, text = {
        E_SEND: (477, "Send failed"),
        E_BAD_ADDRESS: (476, "Unresolvable destination"),
        E_BAD_URI: (475, "Bad URI"),
        E_BAD_REQ: (400, "Bad Request"),
        E_NO_DESTINATION: (500, "No destination available"),
        E_TOO_MANY_BRANCHES: (500, "Forking capacity exceeded"),
    }.get(error, (500, "Server error occurred"))
    return code, f"{text} ({error}/{signature})"
