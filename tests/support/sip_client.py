"""A SIP user agent over UDP that a test drives by hand: it sends exactly what it is told and shows what comes."""

from __future__ import annotations

import itertools
import socket
from dataclasses import dataclass

from opensips_py.server.process import this

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Message:
    """A received message, split for assertions; values are as they came (one character per byte)."""

    raw: str
    source: tuple[str, int]
    at: float
    """``this.clock.now()`` of its arrival."""

    @property
    def start(self) -> str:
        return self.raw.split("\r\n", 1)[0]

    @property
    def status(self) -> int:
        """Status code; 0 for a request."""
        return int(self.start.split()[1]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def reason(self) -> str:
        return self.start.split(" ", 2)[2]

    @property
    def method(self) -> str:
        """Method of a request; of a reply, the one in its CSeq."""
        return self.header("CSeq").split()[-1] if self.status else self.start.split()[0]

    @property
    def ruri(self) -> str:
        return self.start.split()[1]

    @property
    def body(self) -> str:
        return self.raw.split("\r\n\r\n", 1)[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        head = self.raw.split("\r\n\r\n", 1)[0].replace("\r\n ", " ").replace("\r\n\t", " ")
        pairs = (line.split(":", 1) for line in head.split("\r\n")[1:])
        return [(name.strip(), value.strip()) for name, value in pairs]

    def all(self, name: str) -> list[str]:
        """Values of all headers of that name, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str:
        """Value of the first header of that name; KeyError if there is none."""
        for value in self.all(name):
            return value
        raise KeyError(f"no {name} in:\n{self.raw}")


class SipClient:
    """A UDP socket on 127.0.0.1 and the conventions of the tests.

    Texts are written with ``\\n`` and may contain ``{ip} {port} {server} {branch} {call_id} {tag} {n}``: own address, the
    server's ``ip:port``, and values that are new for each message (or given by name). ``Content-Length`` is added when missing.
    """

    def __init__(self, server: tuple[str, int] | None = None, *, ip: str = "127.0.0.1", port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((ip, port))
        self.ip, self.port = self.socket.getsockname()[:2]
        self.server = server
        self.sent: dict[str, str] = {}
        """Values of the place holders in the text sent last."""

    def __enter__(self) -> SipClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def values(self, **given: str) -> dict[str, str]:
        """Fresh values for the place holders."""
        n = str(next(_numbers))
        host = f"{self.server[0]}:{self.server[1]}" if self.server else ""
        base = f"{self.port}-{n}-{this.clock.ticks()}"
        fresh = {"ip": self.ip, "port": str(self.port), "server": host, "n": n}
        fresh |= {"branch": f"z9hG4bK-{base}", "call_id": f"{base}@test", "tag": f"tag-{n}"}
        return fresh | given

    def render(self, text: str, **given: str) -> bytes:
        """A text with its place holders filled in, as bytes."""
        self.sent = self.values(**given)
        self.sent = {name: self._fill(value) for name, value in self.sent.items()}
        return self._wire(self._fill(text))

    def _fill(self, text: str) -> str:
        for name, value in self.sent.items():
            text = text.replace("{" + name + "}", value)
        return text

    @staticmethod
    def _wire(text: str) -> bytes:
        head, _, body = text.lstrip("\n").replace("\r\n", "\n").partition("\n\n")
        body = body.replace("\n", "\r\n")
        if "\ncontent-length:" not in head.lower() and "\nl:" not in head.lower():
            head += f"\nContent-Length: {len(body)}"
        return (head.rstrip("\n").replace("\n", "\r\n") + "\r\n\r\n" + body).encode("latin-1")

    def send(self, text: str, to: tuple[str, int] | None = None, **given: str) -> bytes:
        """Send a text; returns the bytes, for :meth:`send_raw` to repeat."""
        data = self.render(text, **given)
        self.send_raw(data, to)
        return data

    def send_raw(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        target = to or self.server
        assert target is not None, "no server given"
        self.socket.sendto(data, target)

    def request(self, method: str, uri: str | None = None, headers: str = "", body: str = "", **given: str) -> bytes:
        """Send a usual request outside a dialog; ``headers`` are further lines. Returns the bytes sent."""
        extra = headers.strip("\n") + "\n" if headers else ""
        given = {"uri": uri or "sip:bob@{server}", "cseq": "1"} | given
        return self.send(
            "{method} {uri} SIP/2.0\n"
            "Via: SIP/2.0/UDP {ip}:{port};branch={branch}\n"
            "Max-Forwards: 70\n"
            "From: <sip:alice@{ip}>;tag={tag}\n"
            "To: <sip:bob@{server}>\n"
            "Call-ID: {call_id}\n"
            "CSeq: {cseq} {method}\n"
            "Contact: <sip:alice@{ip}:{port}>\n"
            f"{extra}\n{body}",
            None,
            **({"method": method} | given),
        )

    def in_transaction(self, method: str, to: str | None = None, headers: str = "") -> bytes:
        """Send ACK (of a failure) or CANCEL for the request sent last: same Via, Call-ID, tag and CSeq number."""
        extra = headers.strip("\n") + "\n" if headers else ""
        return self.send(
            "{method} {uri} SIP/2.0\n"
            "Via: SIP/2.0/UDP {ip}:{port};branch={branch}\n"
            "Max-Forwards: 70\n"
            "From: <sip:alice@{ip}>;tag={tag}\n"
            f"To: {to or '<sip:bob@{server}>'}\n"
            "Call-ID: {call_id}\n"
            "CSeq: {cseq} {method}\n"
            f"{extra}\n",
            None,
            **(self.sent | {"method": method}),
        )

    def receive(self, seconds: float = 10) -> Message:
        """The next message; AssertionError when none comes."""
        self.socket.settimeout(seconds)
        try:
            data, source = self.socket.recvfrom(65535)
        except TimeoutError:
            raise AssertionError(f"no message within {seconds} s") from None
        return Message(data.decode("latin-1"), source[:2], this.clock.now())

    def final(self, seconds: float = 10) -> Message:
        """The next final reply; provisional ones before it are passed over."""
        end = this.clock.now() + seconds
        while True:
            message = self.receive(max(0.01, end - this.clock.now()))
            if message.status >= 200:
                return message

    def nothing(self, seconds: float = 0.3) -> None:
        """Assert that no message comes."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(65535)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected message:\n{data.decode('latin-1')}")

    def reply(
        self, request: Message, code: int, reason: str = "OK", headers: str = "", body: str = "", tag: str = "callee"
    ) -> bytes:
        """Answer a received request as a user agent server does; returns the bytes sent."""
        keep = [f"{k}: {v}" for k, v in request.headers if k.lower() in ("via", "from", "call-id", "cseq", "record-route")]
        to = request.header("To")
        if "tag=" not in to and code > 100:
            to += f";tag={tag}"
        lines = [f"SIP/2.0 {code} {reason}", *keep, f"To: {to}", f"Contact: <sip:callee@{self.ip}:{self.port}>"]
        if headers:
            lines.append(headers.strip("\n"))
        data = self._wire("\n".join(lines) + "\n\n" + body)
        self.send_raw(data, request.source)
        return data
