"""Probing: whether a destination answers a request that is made here, OPTIONS as a rule, asked again and again.

A module has one :class:`Prober`. In the timer process :meth:`Prober.start` has the destinations probed in rounds, some at a
time; a probe is a request as any other that is made here (:mod:`opensips_py.tm.uac`): it is retransmitted, times out
(408), and its answer is told in whichever process it arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from opensips_py.net.destinations import Destinations, hop_of_uri
from opensips_py.net.resolve import when_located
from opensips_py.script.context import ListenSocket
from opensips_py.server.guard import report_error
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.forward import MAX_FORWARDS
from opensips_py.tm import uac, uac_reply
from opensips_py.tm.record import Notice
from opensips_py.tm.server_transaction import E_UNSPEC

OK = 200
NOT_SENT = 503
"""The code of a probe that could not be sent: nothing is there under this name, or no socket fits (RFC 3261 8.1.3.1)."""
_CSEQ = 14
"""CSeq number of probes, as OpenSIPS chooses it."""
_AT_ONCE = 10
"""Probes that are sent before the process looks for other work."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What is sent."""

    uri: str
    """Of the destination: R-URI and To."""
    sender: str
    """URI in From."""
    method: str = "OPTIONS"
    socket: ListenSocket | None = None
    """To send it from, if that suits the destination."""
    max_forwards: int = MAX_FORWARDS


def accepted_codes(text: str) -> frozenset[int]:
    """The status codes that say that a destination works: 200, and those of a list ``"501, 403"``. Raises ValueError."""
    codes = {OK}
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        if not (piece.isascii() and piece.isdigit() and len(piece) == 3 and 100 <= int(piece) < 700):
            raise ValueError(f"[{piece}] is not a status code between 100 and 699")
        codes.add(int(piece))
    return frozenset(codes)


class Prober:
    """The probes of one module."""

    def __init__(self, module: str, answered: Callable[[bytes, int], None]) -> None:
        """``answered(name, code)`` is called with the name under which a probe was sent and the final status code."""
        self._module = module
        self._answered = answered
        self._handler = f"{module}.probe"
        uac_reply.handler(self._handler)(lambda name, outcome: answered(name, outcome.code))

    def send(self, name: bytes, probe: Probe) -> None:
        """Probe one destination. Never waits: its name in the DNS is looked up beside other work."""
        hop = hop_of_uri(probe.uri)
        if hop is None:
            log(WARNING, self._module, "probe", f"{probe.uri} is not a SIP URI")
            self._answered(name, NOT_SENT)
            return

        def located(found: Destinations) -> None:
            if found:
                self._send(name, probe, found[0].socket)
            else:
                self._answered(name, NOT_SENT)

        when_located(hop, probe.socket, this.sockets[0], located)

    def _send(self, name: bytes, probe: Probe, socket: ListenSocket) -> None:
        request = uac.LocalRequest(
            probe.method,
            probe.uri,
            f"<{probe.sender}>;tag={uac.new_tag()}",
            f"<{probe.uri}>",
            uac.new_call_id(socket),
            cseq=_CSEQ,
            socket=probe.socket,
            max_forwards=probe.max_forwards,
        )
        try:
            uac.send(request, Notice(self._handler, name))
        except uac.NotSent as reason:
            log(WARNING, self._module, "probe", f"{probe.method} {probe.uri} is not sent: {reason}")
            if reason.error != E_UNSPEC:  # what local_route has dropped tells nothing of the destination
                self._answered(name, NOT_SENT)

    def start(self, seconds: float, destinations: Callable[[], Iterable[tuple[bytes, Probe]]]) -> None:
        """Every so many seconds probe what ``destinations()`` gives. For the timer process."""

        def begin() -> None:
            again_at = this.clock.now() + seconds
            probes: Iterator[tuple[bytes, Probe]] = iter(())
            try:
                probes = iter(list(destinations()))
            except Exception as error:  # the next round may succeed
                report_error(error, self._module)
            go_on(probes, again_at)

        def go_on(probes: Iterator[tuple[bytes, Probe]], again_at: float) -> None:
            for _ in range(_AT_ONCE):
                following = next(probes, None)
                if following is None:
                    this.reactor.call_at(max(again_at, this.clock.now()), begin)
                    return
                try:
                    self.send(*following)
                except Exception as error:  # of one destination: the others are probed nevertheless
                    report_error(error, self._module)
            this.reactor.call_at(this.clock.now(), lambda: go_on(probes, again_at))

        this.reactor.call_at(this.clock.now() + seconds, begin)
