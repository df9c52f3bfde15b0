"""Probing: requests that find out whether destinations answer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from opensips_py.script.context import Context, ListenSocket
from opensips_py.server.process import this
from opensips_py.tm import probing, uac_reply
from opensips_py.tm.probing import NOT_SENT, Probe, Prober, accepted_codes
from tests.tm.world import UAS1, UAS2, World, find, reply_to, summary

SENDER = "sip:prober@localhost"
FIRST, SECOND = (Probe(f"sip:{host}:{port}", SENDER) for host, port in (UAS1, UAS2))


class Watched:
    """A prober, and what it has told of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(uac_reply, "handlers", {})
        self.told: list[tuple[bytes, int]] = []
        self.prober = Prober("test", lambda name, code: self.told.append((name, code)))


@pytest.fixture
def watched(world: World, monkeypatch: pytest.MonkeyPatch) -> Watched:
    world.script(lambda ctx: 1)
    return Watched(monkeypatch)


@pytest.mark.parametrize(
    ("text", "codes"),
    [("", {200}), ("501, 403", {200, 403, 501}), ("200,", {200}), (" 404 ", {200, 404}), ("699,100", {100, 200, 699})],
)
def test_codes_that_say_that_a_destination_works(text: str, codes: set[int]) -> None:
    assert accepted_codes(text) == codes


@pytest.mark.parametrize("text", ["abc", "20", "099", "700", "4xx", "404 403", "-404", "²00", "404;403"])
def test_a_list_of_codes_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a status code"):
        accepted_codes(text)


def test_what_is_sent_and_what_is_told(world: World, watched: Watched) -> None:
    watched.prober.send(b"one", FIRST)
    sent = find(world.taken(), "OPTIONS>UAS1")
    assert (sent.ruri, sent.value("to")) == (FIRST.uri, f"<{FIRST.uri}>")
    assert str(sent.value("from")).startswith(f"<{SENDER}>;tag=")
    assert sent.value("cseq") == "14 OPTIONS"
    world.receive(reply_to(sent, 100), UAS1)
    assert watched.told == []
    world.receive(reply_to(sent, 404), UAS1)
    assert watched.told == [(b"one", 404)]


def test_the_method_and_the_socket_can_be_chosen(world: World, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    second = ListenSocket(1, "udp", "127.0.0.9", 15069)
    monkeypatch.setattr(this, "sockets", [world.socket, second])
    monkeypatch.setattr(this, "handles", [*this.handles, this.handles[0]])
    watched.prober.send(b"one", Probe(FIRST.uri, SENDER, "INFO", second))
    sent = find(world.taken(), "INFO>UAS1")
    assert (sent.via.host, sent.via.port) == ("127.0.0.9", 15069)


@pytest.mark.parametrize(
    ("probe", "sent"), [(FIRST, "70"), *((Probe(FIRST.uri, SENDER, max_forwards=number), str(number)) for number in (0, 5))]
)
def test_max_forwards_can_be_chosen(world: World, watched: Watched, probe: Probe, sent: str) -> None:
    watched.prober.send(b"one", probe)
    assert find(world.taken(), "OPTIONS>UAS1").value("max-forwards") == sent


def test_a_destination_that_is_silent_is_told_of_as_408(world: World, watched: Watched) -> None:
    watched.prober.send(b"one", FIRST)
    world.pass_time(29)
    assert watched.told == []
    world.pass_time(2)
    assert watched.told == [(b"one", 408)]


@pytest.mark.parametrize("uri", ["tel:12", "not a uri", "sip:[::1]:5060", "sip:127.0.1.2;transport=tcp"])
def test_a_destination_that_nothing_can_be_sent_to(world: World, watched: Watched, uri: str) -> None:
    """No SIP URI, no socket for its address family or transport."""
    watched.prober.send(b"one", Probe(uri, SENDER))
    assert watched.told == [(b"one", NOT_SENT)]
    assert world.entries() == 0


def test_what_local_route_drops_tells_nothing_of_the_destination(world: World, watched: Watched) -> None:
    def local(ctx: Context) -> int:
        ctx.dropped = True
        return 0

    world.script(lambda ctx: 1, local_0=local)
    watched.prober.send(b"one", FIRST)
    assert watched.told == []


class Reactor:
    """Timers that are fired by hand."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        self.timers.append((when, call))

    def fire(self) -> float:
        """The next one: when it was due."""
        when, call = self.timers.pop(0)
        call()
        return when


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> Reactor:
    made = Reactor()
    monkeypatch.setattr(this, "reactor", SimpleNamespace(call_at=made.call_at))
    return made


def test_rounds_follow_each_other_whatever_happens_in_one(world: World, watched: Watched, reactor: Reactor) -> None:
    given = iter([[(b"1", FIRST), (b"2", SECOND)], ZeroDivisionError(), [(b"2", SECOND)]])

    def destinations() -> list[tuple[bytes, Probe]]:
        found = next(given)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[return-value]

    watched.prober.start(30, destinations)
    rounds = []
    for _ in range(3):
        world.now = reactor.timers[0][0]
        rounds.append((reactor.fire(), summary(world.taken())))
    assert rounds == [(1030.0, ["OPTIONS>UAS1", "OPTIONS>UAS2"]), (1060.0, []), (1090.0, ["OPTIONS>UAS2"])]


def test_many_destinations_are_probed_some_at_a_time(
    world: World, watched: Watched, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(probing, "_AT_ONCE", 2)
    watched.prober.start(30, lambda: [(b"%d" % n, FIRST) for n in range(5)])
    sent = []
    world.now += 30
    for _ in range(3):
        assert reactor.fire() == 1030.0
        sent.append(len(world.taken()))
    assert sent == [2, 2, 1]
    assert reactor.timers[0][0] == 1060.0


def test_a_destination_at_fault_holds_up_no_other(world: World, watched: Watched, reactor: Reactor) -> None:
    bad: Probe = None  # type: ignore[assignment]
    watched.prober.start(30, lambda: [(b"1", bad), (b"2", SECOND)])
    reactor.fire()
    assert summary(world.taken()) == ["OPTIONS>UAS2"]
