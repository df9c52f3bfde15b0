"""``await send_request("MESSAGE", "sip:bob@example.com", caller="sip:shop@example.com", body="Sold")``, in a user's coroutine.

The request is sent in the script's thread, as one of ``t_uac_dlg``; its final reply comes back to the coroutine. A plain
call of a coroutine holds that thread, so it cannot send: that is an error instead of a wait for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from opensips_py.script.outputs import to_script, to_unicode
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage
from opensips_py.sip.request import with_tag
from opensips_py.sip.uri import uri_or_none
from opensips_py.tm import uac
from opensips_py.tm.uac import LocalRequest, NotSent
from opensips_py.tm.uac_reply import Outcome
from opensips_py.user_modules import script_thread

held: ContextVar[bool] = ContextVar("held", default=False)
"""In a coroutine that the script's thread waits for."""

_OURS = {"via", "from", "to", "call-id", "cseq", "content-length", "max-forwards"}
"""Headers that the server writes itself."""


class RequestFailed(Exception):
    """A request could not be sent; the text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The final reply to a request; 408 when none has come."""

    code: int
    reason: str
    message: SipMessage | None
    """The reply as it came; None for one that the server made."""

    def header(self, name: str) -> str | None:
        """Value of the first header of that name, or None."""
        value = None if self.message is None else self.message.value(name.lower())
        return None if value is None else to_unicode(value)

    @property
    def body(self) -> str:
        """Its body; empty if there is none."""
        return "" if self.message is None else to_unicode(self.message.body)


async def send_request(
    method: str,
    uri: str,
    *,
    caller: str,
    callee: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: str = "",
    content_type: str = "text/plain;charset=utf-8",
    next_hop: str | None = None,
) -> Reply:
    """Send a request outside a dialog and give its final reply. Runs local_route, retransmits, gives up after ``fr_timeout``.

    ``caller`` and ``callee`` (default: ``uri``) are the URIs of From and To; ``next_hop`` is a URI to whose address the
    request goes instead. ``content_type`` is for a body. Raises RequestFailed when it cannot be sent, ValueError for what
    cannot stand in a request, RuntimeError in a plain call of a coroutine and where there is no module tm. INVITE is not
    for it: nobody here would send the ACK.
    """
    if held.get():
        raise RuntimeError("a plain call holds the thread that sends: use async() or launch() for a function that sends requests")
    if "tm" not in this.program.modules:
        raise RuntimeError("send_request() needs the module tm")
    request = _request(method, uri, caller, callee or uri, _lines(headers or {}, body, content_type), body, next_hop)
    running = asyncio.get_running_loop()
    reply: asyncio.Future[Reply] = running.create_future()

    def finish(result: Reply | Exception) -> None:
        if reply.done():  # the coroutine was cancelled
            return
        if isinstance(result, Exception):
            reply.set_exception(result)
        else:
            reply.set_result(result)

    def answered(outcome: Outcome) -> None:
        running.call_soon_threadsafe(finish, _reply(outcome))

    def send() -> None:
        try:
            request.call_id = uac.new_call_id(uac.socket_for(next_hop or uri))
            uac.ask(request, answered)
        except NotSent as error:
            running.call_soon_threadsafe(finish, RequestFailed(str(error)))
        except Exception as error:
            running.call_soon_threadsafe(finish, error)

    script_thread.call(send)
    return await reply


def _request(method: str, uri: str, caller: str, callee: str, lines: str, body: str, next_hop: str | None) -> LocalRequest:
    if not method.isascii() or not method.isalpha() or method in ("INVITE", "ACK", "CANCEL"):
        raise ValueError(f"{method!r} cannot be sent by send_request()")
    for text in filter(None, (uri, caller, callee, next_hop)):
        if uri_or_none(to_script(text)) is None or any(c in text for c in "\r\n<>"):
            raise ValueError(f"{text!r} is not a SIP URI")
    return LocalRequest(
        method,
        to_script(uri),
        from_=with_tag(f"<{to_script(caller)}>", uac.new_tag()),
        to=f"<{to_script(callee)}>",
        call_id="",
        headers=lines,
        body=to_script(body),
        next_hop=None if next_hop is None else to_script(next_hop),
    )


def _lines(headers: Mapping[str, str], body: str, content_type: str) -> str:
    given = dict(headers)
    if body and not any(name.lower() in ("content-type", "c") for name in given):
        given["Content-Type"] = content_type
    for name, value in given.items():
        if name.lower() in _OURS or not name.isascii() or any(c in name + value for c in "\r\n") or ":" in name:
            raise ValueError(f"header {name!r} cannot be given: the server writes it itself, or it is not one line")
    return "".join(f"{name}: {to_script(value)}\r\n" for name, value in given.items())


def _reply(outcome: Outcome) -> Reply:
    _, _, reason = outcome.status.partition(" ")
    return Reply(outcome.code, to_unicode(reason), outcome.message)
