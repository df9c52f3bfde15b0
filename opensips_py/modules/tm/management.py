"""Management commands of module tm."""

from __future__ import annotations

from typing import Any

from opensips_py.core.functions_network import socket_named
from opensips_py.engine.continuation import Detached
from opensips_py.engine.dummy_request import report_context
from opensips_py.mi.dispatcher import Later
from opensips_py.modules.tm.declared import module, pass_provisional_replies, totals
from opensips_py.script.context import ListenSocket
from opensips_py.script.declarations import MIError
from opensips_py.server.process import this
from opensips_py.sip.errors import ParseError
from opensips_py.sip.message import SipMessage, parse, reread
from opensips_py.sip.request import DEFAULT_CSEQ, dialog_route, with_tag
from opensips_py.sip.uri import uri_or_none
from opensips_py.tm import identity, machine, server_transaction, uac
from opensips_py.tm.errors import error_reply
from opensips_py.tm.failure_route import request_context
from opensips_py.tm.record import LOCAL, NO_NEW_BRANCHES, decode
from opensips_py.tm.transaction import Transaction, commit, everyone
from opensips_py.tm.uac import LocalRequest, NotSent
from opensips_py.tm.uac_reply import Outcome

# --- t_uac_dlg -------------------------------------------------------------------------------------------------------

_OURS = ("from", "to", "call-id", "cseq", "content-length")
"""Headers that the request gets in any case."""


@module.mi(
    "t_uac_dlg",
    ("method", "ruri", "headers"),
    ("method", "ruri", "headers", "next_hop"),
    ("method", "ruri", "headers", "socket"),
    ("method", "ruri", "headers", "body"),
    ("method", "ruri", "headers", "next_hop", "socket"),
    ("method", "ruri", "headers", "next_hop", "body"),
    ("method", "ruri", "headers", "socket", "body"),
    ("method", "ruri", "headers", "next_hop", "socket", "body"),
)
def t_uac_dlg(
    method: str, ruri: str, headers: str, next_hop: str | None = None, socket: str | None = None, body: str | None = None
) -> Later | str:
    """Send a request and answer with its final reply: ``Status``, ``Message`` (headers and body of a received one), and after a
    2xx ``RURI``, ``Next-hop`` and ``Routes`` for the next request of the dialog. ``headers`` are lines ended by CRLF (written as
    ``\\r\\n`` too), From and To among them; Call-ID, CSeq and the tag of From are made when they are missing; ``!!`` becomes the
    address of the sending socket. An ACK is sent without waiting."""
    if uri_or_none(ruri) is None:
        raise MIError(400, "Invalid ruri")
    if next_hop is not None and uri_or_none(next_hop) is None:
        raise MIError(400, "Invalid next_hop")
    given = _read_headers(headers.replace("\\r", "\r").replace("\\n", "\n"))
    preferred = _socket(socket) if socket else None
    cseq = _check(given, method, body)
    within = report_context()
    within.continuation = Detached()  # other commands are served while a name is looked up
    try:
        sends = uac.socket_for(next_hop or ruri, preferred, within)
        request = _request(given, method, ruri, cseq, sends)
    except NotSent as error:
        raise _failure(error) from None
    request.next_hop, request.body = next_hop, body or ""
    later = Later()

    def answered(outcome: Outcome) -> None:
        if outcome.code < 200:
            later.progress(_answer(outcome))
        else:
            later.done(_answer(outcome))

    try:
        uac.ask(request, answered, provisional=bool(pass_provisional_replies.value), within=within)
    except NotSent as error:
        raise _failure(error) from None
    return "Accepted" if method == "ACK" else later


def _failure(error: NotSent) -> MIError:
    if error.error == server_transaction.E_UNSPEC:
        return MIError(500, "MI/UAC failed", str(error))
    return MIError(*error_reply(error.error, "MI/UAC"))


def _read_headers(text: str) -> SipMessage:
    """The header lines, read as those of a request."""
    if text and not text.endswith("\n"):
        text += "\r\n"
    try:
        return parse(f"OPTIONS sip:mi SIP/2.0\r\nVia: SIP/2.0/UDP mi\r\n{text}\r\n".encode("latin-1"))
    except ParseError as error:
        raise MIError(400, "Bad headers", error.reason) from None


def _socket(name: str) -> ListenSocket:
    found = socket_named(name)
    if found is None:
        raise MIError(404, "Local socket not found")
    return found


def _check(given: SipMessage, method: str, body: str | None) -> int:
    """Refuse what cannot be sent; gives the number of the CSeq."""
    if body and not given.has("content-type"):
        raise MIError(400, "Content-Type missing")
    if body and given.has("content-length"):
        raise MIError(400, "Content-Length disallowed")
    if not given.has("to"):
        raise MIError(400, "To missing")
    if not given.has("from"):
        raise MIError(400, "From missing")
    if given.from_ is None:
        raise MIError(400, "Error in From")
    if not given.has("cseq"):
        return DEFAULT_CSEQ
    words = (given.value("cseq") or "").split()
    if not words or not (words[0].isascii() and words[0].isdigit()) or int(words[0]) >= 1 << 32:
        raise MIError(400, "Bad CSeq number")
    if words[1:] != [method]:
        raise MIError(400, "CSeq method mismatch")
    return int(words[0])


def _request(given: SipMessage, method: str, ruri: str, cseq: int, socket: ListenSocket) -> LocalRequest:
    from_ = (given.value("from") or "").strip()
    assert given.from_ is not None
    if given.from_.tag is None:
        from_ = with_tag(from_, uac.new_tag())
    rest = "".join(f"{header.name}: {header.value.rstrip()}\r\n" for header in given.headers[1:] if header.kind not in _OURS)
    return LocalRequest(
        method,
        ruri,
        from_=from_,
        to=(given.value("to") or "").strip(),
        call_id=given.call_id or uac.new_call_id(socket),
        cseq=cseq,
        headers=rest.replace("!!", f"{socket.host}:{socket.port}"),
        socket=socket,
    )


def _answer(outcome: Outcome) -> dict[str, Any]:
    answer: dict[str, Any] = {"Status": outcome.status}
    reply = outcome.message
    if reply is None:
        return answer
    if 200 <= outcome.code < 299:
        try:
            route = dialog_route(reply)
        except ParseError as error:
            raise MIError(500, "MI/UAC failed", error.reason) from None
        if route.ruri is not None:
            answer["RURI"] = route.ruri
        if route.next_hop is not None:
            answer["Next-hop"] = route.next_hop
        if route.routes:
            answer["Routes"] = route.routes
    answer["Message"] = reply.text[reply.text.index("\n") + 1 :]
    return answer


# --- looking at transactions, and acting on them ---------------------------------------------------------------------


@module.mi("t_uac_cancel", ("callid", "cseq"))
def t_uac_cancel(callid: str, cseq: str) -> str:
    """Cancel all branches of the INVITE with this Call-ID and CSeq number (``1``, or ``1 INVITE``)."""
    number = cseq.split()[0] if cseq.split() else ""
    needle = callid.encode("latin-1")
    for key, data in everyone():
        if needle not in data:  # a thousand times cheaper than decoding
            continue
        rec = decode(data)
        if rec.method != "INVITE":
            continue
        msg = reread(rec.raw)
        if msg.call_id == callid and msg.cseq is not None and str(msg.cseq.number) == number:
            _cancel(key)
            return "OK"
    raise MIError(481, "No such transaction")


def _cancel(key: bytes) -> None:
    tx = Transaction(key)
    with tx as rec:
        if rec is None:
            raise MIError(481, "No such transaction")
        if rec.flags & LOCAL:
            rec.flags |= NO_NEW_BRANCHES  # nobody else would stop a failure route that tries again
        machine.cancel_branches(rec, -1, None, this.clock.now(), tx.out)
        commit(tx)


@module.mi("t_hash")
def t_hash() -> list[dict[str, int]]:
    """Transactions by entry of a table of 65536: how many there are now, and how many have been made."""
    current = [0] * identity.ENTRIES
    for key, _ in everyone():
        current[identity.entry(key)] += 1
    made = totals()
    return [{"index": i, "Current": current[i], "Total": made[i]} for i in range(identity.ENTRIES)]


@module.mi(
    "t_reply",
    ("code", "reason", "trans_id", "to_tag"),
    ("code", "reason", "trans_id", "to_tag", "new_headers"),
    ("code", "reason", "trans_id", "to_tag", "body"),
    ("code", "reason", "trans_id", "to_tag", "new_headers", "body"),
)
def t_reply(code: int, reason: str, trans_id: str, to_tag: str, new_headers: str = "", body: str = "") -> str:
    """Answer the request of a transaction: ``trans_id`` is its ``$T_id``, or ``entry:label`` as t_write_req() gives it."""
    if not 100 <= code < 700:
        raise MIError(400, "Invalid reply code")
    try:
        key = identity.of_ident(trans_id)
    except ValueError as error:
        raise MIError(400, str(error)) from None
    server_transaction.prepare()
    tx = Transaction(key)
    with tx as rec:
        if rec is None:
            raise MIError(404, "Transaction not found")
        if rec.code >= 200 or rec.flags & LOCAL:
            raise MIError(500, "Reply failed")
        headers = new_headers if not new_headers or new_headers.endswith("\n") else new_headers + "\r\n"
        ctx = request_context(rec)
        server_transaction.send_reply(ctx, tx, rec, code, reason, headers, body, to_tag=to_tag or None)
        commit(tx)
    return "OK"
