"""Branches that come later, and replies to local requests, whoever is faster and whatever dies when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from opensips_py.engine.dummy_request import report_context
from opensips_py.evi.events import TRANSACTION
from opensips_py.modules.tm import injection
from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.tm import relay, uac, uac_reply
from opensips_py.tm.record import Notice
from opensips_py.tm.server_transaction import new_transaction
from opensips_py.tm.uac import LocalRequest
from tests.tm.processes import Sent, SimulatedServer
from tests.tm.test_any_order_of_events import CODES, PROCESSES, STEPS, SWITCHES, Call
from tests.tm.world import UAC, UAS1, find, reply_to, request


class CallThatWaits(Call):
    """As :class:`Call`, over a transaction that waits for branches; other processes add some at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    @initialize(relays=st.booleans(), arms=st.booleans(), lost=st.integers(0, 3), death=st.none() | STEPS)
    def call_begins(self, relays: bool, arms: bool, lost: int, death: int | None) -> None:
        def main(ctx: Context) -> int:
            if ctx.msg.method != "INVITE":
                return relay.relay(ctx)
            if new_transaction(ctx) <= 0:
                return 0
            if arms:
                ctx.armed_failure = "f"
            if injection.t_wait_for_new_branches(ctx) <= 0:
                return 0
            return relay.relay(ctx) if relays else 1

        def failed(ctx: Context) -> int:
            ctx.new_uri = "sip:third@127.0.1.3:15063"
            return relay.relay(ctx)

        self.server.script(main, failure_f=failed)
        self.happens([(0, self.server.datagram(request("INVITE"), UAC))], (), None if death is None else (0, death), lost)

    def observe(self, out: Sent, lost: int = 0) -> None:
        super().observe(out, lost)
        self.stored.discard("")  # the branch that waits is not sent

    def adding(self, cancels: bool) -> Callable[[], None] | None:
        keys = [key for key, _ in self.server.store.scan(b"t")]
        if len(keys) != 1:
            return None
        self.added += 1
        uri = f"sip:added{self.added}@127.0.1.{2 + self.added % 2}:{15062 + self.added % 2}"

        def add() -> None:
            ctx = report_context()
            ctx.slots[TRANSACTION], ctx.new_uri = keys[0], uri
            assert injection.t_inject_branches(ctx, "msg", "cancel" if cancels else None) in (1, -1, -2, -3)

        return add

    @rule(process=PROCESSES, cancels=st.booleans(), death=st.none() | STEPS)
    def a_branch_is_added(self, process: int, cancels: bool, death: int | None) -> None:
        add = self.adding(cancels)
        if add is not None:
            self.happens([(process, add)], (), None if death is None else (0, death))

    @rule(which=st.integers(0, 5), code=CODES, switches=SWITCHES, cancels=st.booleans())
    def a_branch_is_added_while_a_callee_replies(self, which: int, code: int, switches: list[int], cancels: bool) -> None:
        found, add = self.reply_of(which, code), self.adding(cancels)
        if found is None or add is None:
            return
        callee, arrive = found
        code = int(arrive.__name__)
        self.rings_from_now(callee, code)
        self.happens([(0, arrive), (1, add)], switches)
        self.note(callee, code)

    @rule(switches=SWITCHES)
    def a_branch_is_added_while_the_caller_cancels(self, switches: list[int]) -> None:
        add = self.adding(False)
        if add is not None:
            self.happens([(0, add), (1, self.server.datagram(request("CANCEL"), UAC))], switches)

    @rule(switches=SWITCHES)
    def two_branches_are_added_at_once(self, switches: list[int]) -> None:
        one, other = self.adding(False), self.adding(False)
        if one is not None and other is not None:
            self.happens([(0, one), (1, other)], switches)


TestCallThatWaits = CallThatWaits.TestCase
TestCallThatWaits.settings = settings(
    max_examples=200,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    report_multiple_bugs=False,
)


@pytest.mark.parametrize("place", range(16))
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
@pytest.mark.parametrize("code", [200, 486, None])
def test_an_asker_is_told_wherever_a_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, code: int | None, place: int
) -> None:
    """While the final reply is processed, or (None) while the timer process gives up."""
    told: list[int] = []
    monkeypatch.setitem(uac_reply.handlers, "test", lambda state, outcome: told.append(outcome.code))
    server = SimulatedServer(str(tmp_path / "store"), monkeypatch)
    server.script(lambda ctx: 1)
    asked = LocalRequest(method, "sip:bob@127.0.1.2:15062", "<sip:a@x>;tag=f", "<sip:b@y>", "made@here")
    out, _ = server.perform([(0, lambda: _ask(asked))])
    monkeypatch.setattr(this, "counters", SimpleNamespace(status=lambda slot: server.processes[slot]), raising=False)
    if code is None:
        server.now += 31
        _, died = server.perform([(1, server.due_timers())], (), (0, place))
        server.perform([(2, server.due_timers())])
    else:
        answer = reply_to(find(out, f"{method}.*"), code)
        _, died = server.perform([(1, server.datagram(answer, UAS1))], (), (0, place))
        server.perform([(2, server.datagram(answer, UAS1))])  # repeated by the callee, or because we repeat the request
    server.perform([(2, uac_reply.sweep)])
    assert told and set(told) == {code or 408}
    assert len(told) == 1 or died  # after its handler
    server.let_time_pass(60)
    assert server.entries() == 0
    server.store.close()


def _ask(asked: LocalRequest) -> None:
    uac.send(asked, Notice("test"))
