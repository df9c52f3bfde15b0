"""Whatever comes in whatever order, some things always hold for a forked call.

At most one final reply goes to the caller (further 2xx excepted), nothing provisional after it, every negative reply
to an INVITE is acknowledged, and in the end the store is empty.
"""

from __future__ import annotations

import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from opensips_py.core import relay
from opensips_py.core.transactions import reply
from opensips_py.script.context import Branch, Context
from opensips_py.sip.message import SipMessage
from tests.tm.world import UAC, UAS1, UAS2, World, reply_to, request

CODES = st.sampled_from([100, 180, 183, 200, 302, 404, 408, 486, 487, 503, 603])


class Call(RuleBasedStateMachine):
    """A caller, two callees, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(dir="/dev/shm")
        self.patch = pytest.MonkeyPatch()
        self.world = World(self.directory, self.patch)
        self.branches: dict[tuple[str, str], tuple[tuple[str, int], SipMessage]] = {}
        self.finals: list[int] = []
        self.seen: set[bytes] = set()
        self.method = "INVITE"

    def teardown(self) -> None:
        self.observe([(address, msg) for _, address, msg in self.world.pass_time(700)])
        if self.finals or self.method == "OPTIONS":
            assert self.finals
        assert self.world.entries() == 0
        self.world.store.close()
        self.patch.undo()
        shutil.rmtree(self.directory)

    @initialize(method=st.sampled_from(["INVITE", "OPTIONS"]), failover=st.booleans(), second=st.booleans())
    def begin(self, method: str, failover: bool, second: bool) -> None:
        def main(ctx: Context) -> int:
            if ctx.msg.method == method:
                if failover:
                    ctx.armed_failure = "f"
                if second:
                    ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
            return relay.relay(ctx)

        def failed(ctx: Context) -> int:
            ctx.new_uri = "sip:third@127.0.1.3:15063"
            code = relay.relay(ctx)
            return code if code > 0 else reply(ctx, 480, "Nobody")

        self.method = method
        self.world.script(main, failure_f=failed)
        self.observe(self.world.receive(request(method), UAC))

    def observe(self, out: list[tuple[tuple[str, int], SipMessage]]) -> None:
        for address, msg in out:
            if msg.is_request:
                if msg.method == self.method:
                    self.branches[msg.via.branch or "", msg.ruri] = (address, msg)
                continue
            assert address == UAC
            if msg.method != self.method or msg.raw in self.seen:
                continue  # the answer to a CANCEL, or a retransmission
            self.seen.add(msg.raw)
            if msg.status >= 200:
                if self.finals:
                    assert self.method == "INVITE" and self.finals[0] < 300 and msg.status < 300
                self.finals.append(msg.status)
            else:
                assert not self.finals, f"{msg.status} after {self.finals}"

    @rule(which=st.integers(0, 5), code=CODES)
    def callee_replies(self, which: int, code: int) -> None:
        if not self.branches:
            return
        name = sorted(self.branches)[which % len(self.branches)]
        address, msg = self.branches[name]
        known = bool(self.world.records())
        out = self.world.receive(reply_to(msg, code, f"R{code}", tag=f"{name[0][-1]}{code}"), address)
        self.observe(out)
        if code >= 300 and self.method == "INVITE" and known and not (self.finals and self.finals[0] < 300):
            answered_2xx = getattr(msg, "answered", False)
            acks = [m for a, m in out if m.is_request and m.method == "ACK" and a == address]
            assert acks or answered_2xx
        if code // 100 == 2:
            msg.answered = True  # type: ignore[attr-defined]

    @rule()
    def caller_repeats(self) -> None:
        if self.world.records():
            self.observe(self.world.receive(request(self.method), UAC))

    @precondition(lambda self: self.method == "INVITE")
    @rule()
    def caller_cancels(self) -> None:
        if self.world.records():
            out = self.world.receive(request("CANCEL"), UAC)
            assert [m.status for a, m in out if a == UAC and m.method == "CANCEL"] == [200]
            self.observe(out)

    @precondition(lambda self: self.method == "INVITE" and self.finals and self.finals[0] >= 300)
    @rule()
    def caller_acknowledges(self) -> None:
        if self.world.records():
            assert self.world.receive(request("ACK", to_tag="any"), UAC) == []

    @rule(seconds=st.sampled_from([0.3, 0.6, 3.0, 10.0, 31.0, 121.0]))
    def time_passes(self, seconds: float) -> None:
        self.observe([(address, msg) for _, address, msg in self.world.pass_time(seconds)])


TestCall = Call.TestCase
TestCall.settings = settings(
    max_examples=60, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)

__all__ = ["UAS1", "UAS2", "TestCall"]
