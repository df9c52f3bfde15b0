"""The moments at which it matters who is faster, or who dies: tried at every place between two store operations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from opensips_py.script.context import Context
from opensips_py.tm import relay
from opensips_py.tm.server_transaction import reply
from tests.tm.processes import Answer, SimulatedServer, engine
from tests.tm.world import UAC, UAS1, find, reply_to, request, summary

PLACES = range(14)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], SimulatedServer]:
    def make(number: int) -> SimulatedServer:
        return SimulatedServer(str(tmp_path / f"store{number}"), monkeypatch)

    return make


@pytest.mark.parametrize("place", PLACES)
def test_a_late_reply_does_not_bring_back_what_is_being_deleted(fresh: Callable[[int], SimulatedServer], place: int) -> None:
    for back in range(6):
        server = fresh(back)
        server.script(relay.relay)
        out, _ = server.perform([(0, server.datagram(request("OPTIONS"), UAC))])
        sent = find(out, "OPTIONS.*")
        server.perform([(0, server.datagram(reply_to(sent, 200), UAS1))])
        server.let_time_pass(4.9)
        while server.entries():
            due = server.next_deadline()
            assert due is not None, "left for ever"
            server.now = due
            server.perform([(1, server.datagram(reply_to(sent, 100), UAS1)), (0, server.due_timers())], [place, back])
        server.store.close()


@pytest.mark.parametrize("place", PLACES)
def test_a_request_and_its_repetition_at_once_are_relayed_once(fresh: Callable[[int], SimulatedServer], place: int) -> None:
    for back in range(8):
        server = fresh(back)
        server.script(relay.relay)
        both = [(number, server.datagram(request("INVITE"), UAC)) for number in (0, 1)]
        out, _ = server.perform(both, [place, back])
        assert summary(out).count("INVITE>UAS1") == 1
        assert len(server.records()) == 1
        server.store.close()


@pytest.mark.parametrize("place", range(40))
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_a_process_that_dies_anywhere_in_a_suspending_script_leaves_no_caller_alone(
    fresh: Callable[[int], SimulatedServer], method: str, place: int
) -> None:
    server = fresh(0)

    def main(ctx: Context) -> int:
        return engine().suspend(ctx, Answer.new(), "go_on", None, "")

    server.script(main, request_go_on=lambda ctx: reply(ctx, 200, "Done"))
    out, _ = server.perform([(0, server.datagram(request(method), UAC))], (), (0, place))
    Answer.all_end()
    for number, process in enumerate(server.processes):
        more, _ = server.perform([(number, process.end_operations)], (), (0, place - 10) if place >= 10 else None)
        out += more
    for number in (0, 1, 2):  # what a dead one drove was taken over
        more, _ = server.perform([(number, server.processes[number].end_operations)])
        out += more
    if method == "OPTIONS" or "100>UAC" not in summary(out):
        out += server.perform([(1, server.datagram(request(method), UAC))])[0]
        Answer.all_end()
        out += server.perform([(1, server.processes[1].end_operations)])[0]
    out += [(address, msg) for _, address, msg in server.let_time_pass(40)]
    finals = {msg.raw for _, msg in out if not msg.is_request and msg.status >= 200}
    assert len(finals) == 1
    assert server.entries() == 0
    server.store.close()


def test_a_script_that_suspends_behind_its_reply_leaves_nothing(fresh: Callable[[int], SimulatedServer]) -> None:
    server = fresh(0)

    def main(ctx: Context) -> int:
        reply(ctx, 486, "Busy")
        return engine().suspend(ctx, Answer.new(), "go_on", None, "")

    server.script(main, request_go_on=lambda ctx: 1)
    assert summary(server.perform([(0, server.datagram(request("INVITE"), UAC))])[0]) == ["100>UAC", "486>UAC"]
    assert summary(server.let_time_pass(0.6)) == ["486>UAC"]  # no ACK yet
    Answer.all_end()
    server.perform([(0, server.processes[0].end_operations)])
    server.let_time_pass(60)
    assert server.entries() == 0
    server.store.close()
