"""The readers that are fuzzed. Each takes any bytes; what it raises is a fault, for it has let pass only the errors it documents.

What comes in pieces is read a second time cut in two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httptools
import pymysql

from ipc import fifo
from opensips_py.clients.service.description import ServiceError
from opensips_py.db.mysql.handshake import Handshake
from opensips_py.db.mysql.result import ResultReader
from opensips_py.db.mysql.url import parse_database_url
from opensips_py.dns import wire
from opensips_py.dns.records import Question
from opensips_py.engine.holding import Holding, TooMuch
from opensips_py.mi.dispatcher import Dispatcher
from opensips_py.mi.dispatcher import ParseError as NotJson
from opensips_py.modules.cachedb_redis.protocol import Replies, redirection
from opensips_py.modules.rest_client.response import Limits, Response, TooLarge
from opensips_py.script.declarations import MIError, Module
from opensips_py.sip import framing
from opensips_py.sip.forward import build_forward
from opensips_py.sip.message import BadMessage, ParseError, SipMessage, note_source, parse
from opensips_py.sip.reply import build_reply, strip_top_via

LARGEST = 100_000
"""Bytes that an answer may have here."""


def _halves(data: bytes) -> tuple[bytes, bytes]:
    """Cut at a place that depends on the content, so that the same input is always cut at the same."""
    cut = sum(data[:64]) % len(data) if data else 0
    return data[:cut], data[cut:]


# --- SIP ----------------------------------------------------------------------------------------------------------------


def look_at(msg: SipMessage) -> None:
    """Read whatever is read lazily."""
    _ = (msg.method, msg.from_, msg.to, msg.cseq, msg.call_id, msg.max_forwards, msg.content_length, msg.body, msg.via.params)
    _ = (msg.via.branch, msg.via.rport, msg.via.received, msg.content_type, msg.user_agent, msg.via.sent_by)
    for attribute in ("vias", "contacts", "routes", "record_routes"):
        try:
            for value in getattr(msg, attribute):
                _ = value.params
        except ParseError:
            pass


def put_to_use(msg: SipMessage) -> None:
    """Read it, and make of it what a proxy makes."""
    look_at(msg)
    assert msg.serialise() == msg.raw
    position = msg._first_end
    for header in msg.headers:
        assert header.start == position
        assert msg.text[header.value_start : header.value_end] == header.value
        position = header.end
    note_source(msg, "192.0.2.77", 5077)
    if msg.is_request:
        build_reply(msg, 200, "OK", to_tag="x")
        build_forward(msg, via="Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx", ruri="sip:x@y")
    else:
        strip_top_via(msg)


def sip_message(data: bytes) -> None:
    """A datagram."""
    try:
        msg = parse(data)
    except BadMessage as error:
        assert error.message.is_request
        build_reply(error.message, error.code, "No")
    except ParseError:
        pass
    else:
        put_to_use(msg)


def _framed(*pieces: bytes) -> tuple[list[bytes], tuple[int, str] | None]:
    framer = framing.Framer()
    messages: list[bytes] = []
    try:
        for piece in pieces:
            framer.receive(piece)
            while (message := framer.next()) is not None:
                messages.append(message)
    except framing.FramingError as error:
        return messages, (error.code, str(error))
    return messages, None


def sip_stream(data: bytes) -> None:
    """SIP over TCP."""
    assert _framed(data) == _framed(*_halves(data))


# --- management ---------------------------------------------------------------------------------------------------------

_commands = Module("fuzzed", doc="commands to call")


@_commands.mi("none")
def _none() -> str:
    """No parameter."""
    return "OK"


@_commands.mi("echo", ("text",), ("text", "number"), ("values",))
def _echo(text: str = "", number: int = 0, values: list[int] | None = None) -> dict[str, Any]:
    """All types of parameters."""
    return {"text": text, "number": number, "values": values or []}


@_commands.mi("fail")
def _fail() -> None:
    """An error of its own."""
    raise MIError(400, "Value not found", "of the key")


_dispatcher = Dispatcher([_commands])


def management(data: bytes) -> None:
    """What is written to the FIFO: framing, JSON, parameters, the answer."""
    framer = fifo.Framer()
    for piece in _halves(data):
        for request in framer.feed(piece):
            _dispatch(request.body)
    framer.abandon()
    assert not framer.unfinished


def json_rpc(data: bytes) -> None:
    """JSON-RPC, without a frame around it."""
    _dispatch(data)


def _dispatch(text: bytes) -> None:
    answers: list[bytes] = []
    try:
        _dispatcher.dispatch(text, answers.append)
    except NotJson:
        return
    assert len(answers) <= 1


# --- answers of servers -------------------------------------------------------------------------------------------------


def _http(*pieces: bytes) -> object:
    response = Response(Limits(LARGEST, LARGEST))
    try:
        for piece in pieces:
            if response.feed(piece):
                break
        else:
            response.end()
    except (httptools.HttpParserError, TooLarge):
        return None
    return response.complete and (response.status, response.content_type, response.body)


def http_response(data: bytes) -> None:
    """The answer of a web server."""
    assert _http(data) == _http(*_halves(data))


_QUERIES = [wire.query(Question("example.com", kind)) for kind in ("A", "AAAA", "SRV", "NAPTR")]


def dns_response(data: bytes) -> None:
    """A datagram of a name server that has guessed the identifier."""
    for asked in _QUERIES:
        asked.message.id = int.from_bytes(data[:2])
        wire.read(asked, data)


def _result(*pieces: bytes) -> object:
    reader = ResultReader(Holding(LARGEST, "largest"))
    try:
        done = any(reader.feed(piece) for piece in pieces)
    except TooMuch:
        return None
    return done, reader.columns, reader.rows, reader.error


def mysql_result(data: bytes) -> None:
    """The answer to a query."""
    assert _result(data) == _result(*_halves(data))


_DATABASES = [parse_database_url("mysql://voip:secret@127.0.0.1/voip" + more) for more in ("", "?unix_socket=/run/db.sock")]


def mysql_handshake(data: bytes) -> None:
    """What a database server says first."""
    for database in _DATABASES:
        handshake = Handshake(database)
        try:
            for piece in _halves(data):
                out, _ = handshake.feed(piece)
                assert b"secret" not in out or database.unix_socket, "the password is sent in clear"
        except pymysql.OperationalError:
            pass


def _replies(*pieces: bytes) -> object:
    replies = Replies(2, Holding(LARGEST, "largest"))
    try:
        done = any(replies.feed(piece) for piece in pieces)
        for number, value in enumerate(replies.values):
            redirection(value)
            if done:
                replies.is_status(number)
        return done, [str(value) for value in replies.checked()]
    except (ServiceError, TooMuch):
        return None


def redis_replies(data: bytes) -> None:
    """Two replies of Redis."""
    whole = _replies(data)
    assert whole is None or whole == _replies(*_halves(data))  # what follows the replies may be at fault, and never be read


TARGETS: dict[str, Callable[[bytes], None]] = {
    "sip-message": sip_message,
    "sip-stream": sip_stream,
    "fifo": management,
    "json-rpc": json_rpc,
    "http": http_response,
    "dns": dns_response,
    "mysql-result": mysql_result,
    "mysql-handshake": mysql_handshake,
    "redis": redis_replies,
}
