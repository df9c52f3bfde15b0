"""Messages that the transaction layer makes from what it has stored: ACK, CANCEL, and replies on their way upstream."""

from __future__ import annotations

from opensips_py.sip.forward import DEFAULT_USER_AGENT, build_ack, build_cancel
from opensips_py.sip.message import SipMessage, reread
from opensips_py.sip.reply import strip_top_via


class Identification:
    """How this server names itself (core parameters server_header, user_agent_header, server_signature)."""

    user_agent = DEFAULT_USER_AGENT
    """Whole header line without CRLF; empty for none."""


def ack(sent: bytes, reply: SipMessage, headers: str = "") -> bytes:
    """The ACK for a negative ``reply`` to the INVITE ``sent`` (RFC 3261 17.1.1.3)."""
    invite = reread(sent)
    via, routes = _via_and_routes(invite)
    return build_ack(invite, reply, ruri=invite.ruri, via=via, routes=routes + headers, user_agent=Identification.user_agent)


def cancel(sent: bytes, reason: str | None, more: str = "") -> bytes:
    """The CANCEL for the INVITE ``sent`` (RFC 3261 9.1), with a Reason header (RFC 3326) if given."""
    invite = reread(sent)
    via, routes = _via_and_routes(invite)
    headers = f"Reason: {reason}\r\n{more}" if reason else more
    return build_cancel(invite, ruri=invite.ruri, via=via, routes=routes, headers=headers, user_agent=Identification.user_agent)


def elsewhere(sent: bytes, branch: str, new_branch: str, via: str, stream: bool) -> bytes:
    """The request ``sent`` for another server: the same but for the branch parameter of our Via (RFC 3263 4.3).

    ``via``: what stands before the parameters of that Via, when the request leaves over another socket; empty: as it was.
    ``stream``: it goes over a connection, where it must say how long it is (RFC 3261 18.3).
    """
    mark = f";branch={branch}".encode()
    at = sent.index(mark)
    start = at if not via else sent.rindex(b"Via: ", 0, at) + len(b"Via: ")
    made = sent[:start] + via.encode() + f";branch={new_branch}".encode() + sent[at + len(mark) :]
    if stream and not (msg := reread(made)).has("content-length"):
        made = made.replace(b"\r\n\r\n", f"\r\nContent-Length: {len(msg.body)}\r\n\r\n".encode(), 1)
    return made


def _via_and_routes(invite: SipMessage) -> tuple[str, str]:
    routes = "".join(f"Route: {header.value}\r\n" for header in invite.all("route"))
    return f"Via: {invite.via.value}", routes


relayed_reply = strip_top_via
"""A received reply in its form for upstream: without our Via, with the changes of onreply routes."""
