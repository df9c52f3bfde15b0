"""Whatever comes in whatever order, in whichever process, some things always hold for a forked call.

Messages (also lost and repeated ones), timers, ends of suspended scripts and deaths of processes come in any order, and two
processes may be at work at once, switched between any two of their store operations. Always:

- one final reply goes to the caller, further 2xx to an INVITE excepted; nothing provisional after it;
- every negative reply to an INVITE that a callee has received is acknowledged;
- a CANCEL goes only where a provisional reply has come from, and everywhere where one has and no final reply has;
- every branch is sent; nothing is sent again to a callee that has answered;
- in the end the store is empty, whatever has died when.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from opensips_py.script.context import Branch, Context
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage
from opensips_py.tm import relay
from opensips_py.tm.server_transaction import new_transaction, reply
from opensips_py.tm.states import Uac
from tests.tm.processes import Answer, Sent, SimulatedServer, engine
from tests.tm.world import UAC, reply_to, request

CODES = st.sampled_from([100, 180, 183, 200, 202, 302, 404, 408, 486, 487, 503, 603])
PROCESSES = st.integers(0, 2)
SWITCHES = st.lists(st.integers(0, 7), max_size=4)
STEPS = st.integers(0, 30)
FAILURE_ROUTES = ["none", "nothing", "relay", "again", "two", "reply", "suspend", "suspend, reply"]
END = 700.0
"""Seconds after which everything has timed out."""


class Callee:
    """One branch as its callee knows it: nothing of it before a copy of the request arrives."""

    def __init__(self) -> None:
        self.address = ("", 0)
        self.request: SipMessage | None = None
        self.rang = self.cancelled = False
        """It has sent a provisional reply; has been sent a CANCEL."""
        self.heard = self.answered = self.accepted = False
        """The server has processed a provisional, a final, a 2xx of it."""
        self.refused = False
        """A process died over its negative final, which may have been processed, or would be repeated."""
        self.success: bytes | None = None
        """The last 2xx that it has sent."""


class Call(RuleBasedStateMachine):
    """A caller, callees, processes and time."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(dir="/dev/shm")
        self.patch = pytest.MonkeyPatch()
        self.server = SimulatedServer(self.directory, self.patch)
        self.callees: dict[str, Callee] = {}
        self.finals: list[int] = []
        self.seen: set[bytes] = set()
        self.stored: set[str] = set()
        self.method = "INVITE"
        self.trying = False
        self.acknowledged = False
        self.lost = False
        """Something may have been lost with a process, which its sender repeats before much time has passed."""
        self.died = False
        """A process has died, at any time."""

    # --- the script ---------------------------------------------------------------------------------------------------

    @initialize(
        method=st.sampled_from(["INVITE", "INVITE", "INVITE", "OPTIONS"]),
        failure=st.sampled_from(FAILURE_ROUTES),
        fork=st.booleans(),
        before=st.sampled_from(["nothing", "t_newtran", "183", "suspend", "suspend twice"]),
        reply_route=st.booleans(),
        lost=st.integers(0, 7),
        death=st.none() | STEPS,
    )
    def call_begins(
        self, method: str, failure: str, fork: bool, before: str, reply_route: bool, lost: int, death: int | None
    ) -> None:
        def main(ctx: Context) -> int:
            if ctx.msg.method != method:
                return relay.relay(ctx)
            if before.startswith("suspend"):
                return engine().suspend(ctx, Answer.new(), before.replace(" ", "_"), None, "")
            if before != "nothing" and new_transaction(ctx) <= 0:
                return 0
            if before == "183":
                reply(ctx, 183, "Progress")
            return go_on(ctx)

        def go_on(ctx: Context) -> int:
            if failure != "none":
                ctx.armed_failure = "f"
            if reply_route:
                ctx.armed_reply = "r"
            if fork:
                ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
            code = relay.relay(ctx)
            return code if code >= 0 else reply(ctx, 500, "Not relayed")

        def once_more(ctx: Context) -> int:
            return engine().suspend(ctx, Answer.new(), "suspend", None, "")

        def failed(ctx: Context) -> int:
            if failure == "nothing":
                return 1
            if failure.startswith("suspend"):
                return engine().suspend(ctx, Answer.new(), "failed_later", None, "")
            return after_failure(ctx)

        def after_failure(ctx: Context) -> int:
            if failure.endswith("reply"):
                return reply(ctx, 480, "Nobody")
            if failure == "again" and "again" not in ctx.avps:
                ctx.avps["again"] = ["1"]
                ctx.armed_failure = "f"
            ctx.new_uri = "sip:third@127.0.1.3:15063"
            if failure == "two":
                ctx.branches.append(Branch("sip:fourth@127.0.1.2:15062"))
            code = relay.relay(ctx)
            return code if code > 0 else reply(ctx, 480, "Nobody")

        self.method = method
        self.server.script(
            main,
            failure_f=failed,
            onreply_r=lambda ctx: 1,
            request_suspend=go_on,
            request_suspend_twice=once_more,
            request_failed_later=after_failure,
        )
        self.happens([(0, self.server.datagram(request(method), UAC))], (), None if death is None else (0, death), lost)

    # --- what is seen --------------------------------------------------------------------------------------------------

    def happens(
        self,
        actions: list[tuple[int, Callable[[], None]]],
        switches: list[int] | tuple[int, ...] = (),
        death: tuple[int, int] | None = None,
        lost: int = 0,
    ) -> tuple[Sent, bool]:
        out, died = self.server.perform(actions, switches, death)
        self.observe(out, lost)
        self.lost = self.lost or died
        self.died = self.died or died
        return out, died

    def observe(self, out: Sent, lost: int = 0) -> None:
        """``lost``: bit mask of the requests sent that do not arrive."""
        for address, msg in out:
            if not msg.is_request:
                assert address == UAC
                self.reply_seen(msg)
                continue
            callee = self.callees.setdefault(msg.via.branch or "", Callee())
            if msg.method == "CANCEL":
                assert callee.rang, "a CANCEL where no provisional reply has come from"
                callee.cancelled = True
            elif msg.method == self.method:
                assert not callee.answered, "sent again to a callee that has answered"
                callee.address = address
                if not lost & 1:
                    callee.request = msg
                lost >>= 1
        for rec in self.server.records():
            self.stored.update(branch.via for branch in rec.branches)

    def reply_seen(self, msg: SipMessage) -> None:
        if msg.method != self.method:
            return
        self.trying = self.trying or msg.status == 100
        if msg.raw in self.seen:
            return
        self.seen.add(msg.raw)
        if msg.status < 200:
            assert not self.finals, f"{msg.status} after {self.finals}"
            return
        if self.finals:
            # every 2xx to an INVITE passes (RFC 3261 16.7 step 5), so also one from a callee that has refused before: the
            # negative reply, if it was chosen but never sent because its process died, comes after it when it is repeated
            chosen = self.died and max(self.finals) < 300 and any(rec.code == msg.status for rec in self.server.records())
            assert self.method == "INVITE" and (msg.status < 300 or chosen), f"{msg.status} after {self.finals}"
        self.finals.append(msg.status)

    # --- what may come ---------------------------------------------------------------------------------------------------

    def reply_of(self, which: int, code: int) -> tuple[Callee, Callable[[], None]] | None:
        known = [callee for _, callee in sorted(self.callees.items()) if callee.request is not None]
        if not known:
            return None
        callee = known[which % len(known)]
        msg = callee.request
        assert msg is not None
        if code < 200 and callee.answered:
            code = 200 if callee.accepted else 486
        data = reply_to(msg, code, f"R{code}", tag=f"{which}{code}")

        if 200 <= code < 300:
            callee.success = data

        def arrive() -> None:
            self.server.datagram(data, callee.address)()

        arrive.__name__ = str(code)
        return callee, arrive

    def note(self, callee: Callee, code: int) -> None:
        """The server has processed a reply."""
        if code < 200:
            name = callee.request.via.branch if callee.request is not None else None
            pending = any(b.via == name and b.state < Uac.COMPLETED for rec in self.server.records() for b in rec.branches)
            callee.heard = callee.heard or pending  # one that comes after timer B is too late
        else:
            callee.answered = True
            callee.accepted = callee.accepted or code < 300

    @rule(which=st.integers(0, 5), code=CODES, process=PROCESSES, lost=st.integers(0, 3))
    def callee_replies(self, which: int, code: int, process: int, lost: int) -> None:
        found = self.reply_of(which, code)
        if found is None:
            return
        callee, arrive = found
        code = int(arrive.__name__)
        known = bool(self.server.records())
        self.rings_from_now(callee, code)
        out, _ = self.happens([(process, arrive)], lost=lost)
        must_acknowledge = code >= 300 and self.method == "INVITE" and known and callee.success is None
        self.note(callee, code)
        if must_acknowledge and not (self.finals and self.finals[0] < 300):
            assert any(msg.is_request and msg.method == "ACK" and address == callee.address for address, msg in out)

    @staticmethod
    def rings_from_now(callee: Callee, code: int) -> None:
        """The CANCEL that waited for this provisional may go out with it."""
        callee.rang = callee.rang or code < 200

    @rule(which=st.integers(0, 5), code=CODES, process=PROCESSES, death=STEPS, lost=st.integers(0, 3))
    def process_dies_over_a_reply(self, which: int, code: int, process: int, death: int, lost: int) -> None:
        found = self.reply_of(which, code)
        if found is None:
            return
        callee, arrive = found
        code = int(arrive.__name__)
        self.rings_from_now(callee, code)
        _, died = self.happens([(process, arrive)], (), (0, death), lost)
        if not died:
            self.note(callee, code)
        elif code >= 300:
            callee.refused = True

    @rule(first=st.integers(0, 5), second=st.integers(0, 5), codes=st.tuples(CODES, CODES), switches=SWITCHES)
    def two_callees_reply_at_once(self, first: int, second: int, codes: tuple[int, int], switches: list[int]) -> None:
        one, other = self.reply_of(first, codes[0]), self.reply_of(second, codes[1])
        if one is None or other is None:
            return
        for callee, arrive in (one, other):
            self.rings_from_now(callee, int(arrive.__name__))
        self.happens([(0, one[1]), (1, other[1])], switches)
        for callee, arrive in (one, other):
            self.note(callee, int(arrive.__name__))

    @rule(process=PROCESSES, death=st.none() | STEPS)
    def caller_repeats(self, process: int, death: int | None) -> None:
        if self.server.records():
            self.happens([(process, self.server.datagram(request(self.method), UAC))], (), None if death is None else (0, death))

    @rule(which=st.integers(0, 5), code=CODES, switches=SWITCHES, death=st.none() | st.tuples(st.integers(0, 1), STEPS))
    def caller_repeats_while_a_callee_replies(
        self, which: int, code: int, switches: list[int], death: tuple[int, int] | None
    ) -> None:
        found = self.reply_of(which, code)
        if found is None or not self.server.records():
            return
        callee, arrive = found
        code = int(arrive.__name__)
        self.rings_from_now(callee, code)
        _, died = self.happens([(0, arrive), (1, self.server.datagram(request(self.method), UAC))], switches, death)
        if death is None or not died or death[0] == 1:
            self.note(callee, code)
        elif code >= 300:
            callee.refused = True

    @precondition(lambda self: self.method == "INVITE")
    @rule(process=PROCESSES)
    def caller_cancels(self, process: int) -> None:
        if self.server.records():
            out, _ = self.happens([(process, self.server.datagram(request("CANCEL"), UAC))])
            assert [msg.status for address, msg in out if address == UAC and msg.method == "CANCEL"] == [200]

    @precondition(lambda self: self.method == "INVITE")
    @rule(which=st.integers(0, 5), code=CODES, switches=SWITCHES, death=st.none() | st.tuples(st.integers(0, 1), STEPS))
    def caller_cancels_while_a_callee_replies(
        self, which: int, code: int, switches: list[int], death: tuple[int, int] | None
    ) -> None:
        found = self.reply_of(which, code)
        if found is None or not self.server.records():
            return
        callee, arrive = found
        code = int(arrive.__name__)
        self.rings_from_now(callee, code)
        _, died = self.happens([(1, arrive), (2, self.server.datagram(request("CANCEL"), UAC))], switches, death)
        if death is None or not died or death[0] == 1:
            self.note(callee, code)
        elif code >= 300:
            callee.refused = True

    @precondition(lambda self: self.method == "INVITE" and self.finals and self.finals[0] >= 300)
    @rule(process=PROCESSES)
    def caller_acknowledges(self, process: int) -> None:
        if self.server.records():
            out, _ = self.happens([(process, self.server.datagram(request("ACK", to_tag="any"), UAC))])
            assert out == []
            self.acknowledged = True

    # --- suspended scripts ----------------------------------------------------------------------------------------------

    @rule(lost=st.integers(0, 3), death=st.none() | STEPS)
    def operation_ends(self, lost: int, death: int | None) -> None:
        Answer.all_end()
        for number, process in enumerate(self.server.processes):
            if len(process.engine):
                self.happens([(number, process.end_operations)], (), None if death is None else (0, death), lost)

    @rule(switches=SWITCHES, what=st.sampled_from(["CANCEL", "repeat"]), death=st.none() | st.tuples(st.integers(0, 1), STEPS))
    def operation_ends_while_the_caller_sends(self, switches: list[int], what: str, death: tuple[int, int] | None) -> None:
        Answer.all_end()
        method = "CANCEL" if what == "CANCEL" and self.method == "INVITE" else self.method
        for number, process in enumerate(self.server.processes):
            if len(process.engine):
                send = self.server.datagram(request(method), UAC)
                self.happens([(number, process.end_operations), ((number + 1) % 3, send)], switches, death)

    @rule(process=PROCESSES)
    def process_is_killed(self, process: int) -> None:
        self.happens([(process, lambda: this.store.get(b"t"))], (), (0, 0))  # type: ignore[list-item]

    # --- time ------------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.3, 0.6, 3.0, 10.0, 31.0, 121.0]))
    def time_passes(self, seconds: float) -> None:
        self.what_may_have_been_lost_is_repeated()
        out = [(address, msg) for _, address, msg in self.server.let_time_pass(seconds)]
        if self.acknowledged:
            assert not any(msg.method == self.method and not msg.is_request for _, msg in out), "repeated after its ACK"
        self.observe(out)

    @rule(which=st.integers(0, 5), code=CODES, switches=SWITCHES, death=st.none() | st.tuples(st.integers(0, 1), STEPS))
    def a_timer_fires_while_a_callee_replies(
        self, which: int, code: int, switches: list[int], death: tuple[int, int] | None
    ) -> None:
        self.what_may_have_been_lost_is_repeated()
        found, due = self.reply_of(which, code), self.server.next_deadline()
        if found is None or due is None:
            return
        callee, arrive = found
        code = int(arrive.__name__)
        self.server.now = max(self.server.now, due)
        self.rings_from_now(callee, code)
        known = bool(self.server.records())
        _, died = self.happens([(0, self.server.due_timers()), (1, arrive)], switches, death)
        if known and (death is None or not died or death[0] == 0):  # it was not the process with the reply that died
            self.note(callee, code)
        elif code >= 300:
            callee.refused = True

    @rule(switches=SWITCHES, death=st.none() | st.tuples(st.integers(0, 1), STEPS))
    def two_processes_fire_timers(self, switches: list[int], death: tuple[int, int] | None) -> None:
        self.what_may_have_been_lost_is_repeated()
        due = self.server.next_deadline()
        if due is not None:
            self.server.now = max(self.server.now, due)
            self.happens([(0, self.server.due_timers()), (1, self.server.due_timers())], switches, death)

    # --- the end ---------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.check_the_end()
        finally:
            self.server.store.close()
            self.patch.undo()
            shutil.rmtree(self.directory)

    def what_may_have_been_lost_is_repeated(self) -> None:
        """A caller without final reply repeats its request (17.1.2.2), a callee its 2xx to an INVITE (13.3.1.4)."""
        if not self.lost:
            return
        if self.method != "INVITE" and not self.finals:
            self.caller_repeats(1, None)
        for callee in list(self.callees.values()):
            if callee.success is not None and self.method == "INVITE":
                self.happens([(1, self.server.datagram(callee.success, callee.address))])
                self.note(callee, 200)
        self.lost = False

    def check_the_end(self) -> None:
        for _ in range(4):  # the script suspends twice at most, its failure route once, when all has timed out perhaps
            self.operation_ends(0, None)
            self.what_may_have_been_lost_is_repeated()
        self.time_passes(END)
        self.operation_ends(0, None)
        assert not any(len(process.engine) for process in self.server.processes)
        self.time_passes(END)
        if self.trying or self.stored:
            assert self.finals, "a caller waits for ever"
        assert self.server.entries() == 0, [row[0] for row in self.server.store.scan(b"")]
        assert not self.server.turns._held, "a lock is left"
        sent = {name for name, callee in self.callees.items() if callee.address[0]}
        assert self.stored <= sent, "a branch was never sent"
        if self.method == "INVITE":
            for callee in self.callees.values():
                if callee.heard and not callee.answered and not callee.refused:
                    assert callee.cancelled, "a callee rings for ever"


TestCall = Call.TestCase
TestCall.settings = settings(
    max_examples=600,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    report_multiple_bugs=False,
)

__all__ = ["TestCall"]
