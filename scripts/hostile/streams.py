"""What comes over connections, pipes and the DNS: framing, and what management is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from ipc import fifo
from opensips_py.dns import wire
from opensips_py.dns.records import Question
from opensips_py.mi import dispatcher
from opensips_py.sip import framing
from scripts.hostile.growth import Case, Work
from scripts.hostile.messages import filled

SMALL = "OPTIONS sip:a SIP/2.0\r\nl:0\r\n\r\n"
STREAM_UNITS = (
    *(
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        SMALL,
        "a\r\nl:0\r\n\r\n",
        "l:",
        "\nl:",
        "\nl: ",
        "\nl:\n ",
        "\nl:\r\n ",
        "a: b\r\n",
        "\r\n ",
        "Content-Length: 0\r\n",
    ),
    *("Content-Length", "\nContent-Length \t", "x"),
)
REQUESTS = (
    *(
        ':r:{"id":',
        ':r:{"id":1}',
        ':r:{"jsonrpc":"2.0"}',
        ':r:{"x":1}',
        ":r:{",
        ':r:{"a":"',
        ':r:{"a":"\\"',
        ":r: ",
        ":::",
        ":",
        "{",
        "}",
        '"',
        "\\",
        " ",
        "x",
    ),
    *(':r:{"id":"\\\\', ':r:{"method":{', "::{}", ':a:{"id":"', '{"id":'),
)
JSON = ("[", '{"a":', '"', '"\\', "1", "-", "1e", "[1,", '{"a":1,', "\\u0000", " ", "tru", '["",')


def streams() -> Iterator[Case]:
    """A TCP connection on which one thing is repeated; read as the kernel gives it, and in pieces."""
    for unit in STREAM_UNITS:
        for start in ("", "OPTIONS sip:a SIP/2.0\r\n"):
            for piece in (65536, 1000):
                yield Case(f"stream {start[:7]}{unit!r}… in {piece}", partial(_stream, unit, start, piece))


def _pieces(text: str, piece: int) -> list[bytes]:
    data = text.encode("latin-1")
    return [data[i : i + piece] for i in range(0, len(data), piece)]


def _stream(unit: str, start: str, piece: int, size: int) -> Work:
    pieces = _pieces(filled(unit, size, start), piece)

    def work() -> None:
        framer = framing.Framer()
        try:
            for data in pieces:
                framer.receive(data)
                while framer.next() is not None:
                    pass
        except framing.FramingError:
            pass

    return work


def management() -> Iterator[Case]:
    """The request FIFO, and JSON."""
    for unit in REQUESTS:
        for piece in (65536, 512):
            yield Case(f"FIFO {unit!r}… in {piece}", partial(_fifo, unit, piece))
    for unit in JSON:
        yield Case(f"JSON {unit!r}…", partial(_json, "", "", unit))
        yield Case(f"JSON parameters {unit!r}…", partial(_json, '{"jsonrpc":"2.0","id":1,"method":"x","params":', "}", unit))


def _json(before: str, behind: str, unit: str, size: int) -> Work:
    return partial(_dispatch, (filled(unit, size, before) + behind).encode())


def _fifo(unit: str, piece: int, size: int) -> Work:
    pieces = _pieces(filled(unit, size), piece)

    def work() -> None:
        framer = fifo.Framer()
        for data in pieces:
            framer.feed(data)
            framer.dropped.clear()

    return work


_dispatcher = dispatcher.Dispatcher([])


def _dispatch(text: bytes) -> None:
    try:
        _dispatcher.dispatch(text, lambda data: None)
    except dispatcher.ParseError:
        pass


def names() -> Iterator[Case]:
    """Responses of the DNS: many records, and compressed names that lead from one to the next."""
    for what, make in _RESPONSES.items():
        yield Case(f"DNS response of {what}", partial(_response, make))


def _records(size: int) -> bytes:
    return b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x01\x02\x03\x04" * (size // 16)


def _pointers(size: int) -> bytes:
    """Records whose owner is a name that points to the record before."""
    out = bytearray()
    at = 0x0C
    for _ in range(size // 18):
        place = 0x1D + len(out)
        out += (
            b"\x01a" + (0xC000 | (at & 0x3FFF)).to_bytes(2, "big") + b"\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x01\x02\x03\x04"
        )
        at = place if place < 0x3FFF else at
    return bytes(out)


_RESPONSES: dict[str, Callable[[int], bytes]] = {"many records": _records, "names that point to names": _pointers}


def _response(make: Callable[[int], bytes], size: int) -> Work:
    asked = wire.query(Question("example.com", "A"))
    records = make(size)
    count = min(len(records) // 16, 65535)
    head = asked.data[:2] + b"\x81\x80\x00\x01" + count.to_bytes(2, "big") + b"\x00\x00\x00\x00"
    return partial(wire.read, asked, head + asked.data[12:29] + records)
