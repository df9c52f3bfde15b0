"""A user's module takes part in transactions: the example of docs/modules.md."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from opensips_py.testing import Script
from scripts.testbed.observing import wait_parked
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

MODULE = """
import time

import msgspec

from opensips_py.module_api import NOTICE, Context, Module, Moment, Outbox, R, TransactionData, When, log

module = Module("timing", doc="Times calls")


class Call(msgspec.Struct):
    began: float


class Bill(msgspec.Struct):
    call_id: str
    code: int


calls = TransactionData(module, Call)
bills = Outbox(module, Bill)


@module.function(routes=R)
def time_it(ctx: Context) -> None:
    calls.set(ctx, Call(time.time()))


@calls.on(When.REPLY_OUT)
def tag(moment: Moment, call: Call) -> None:
    moment.message.append_header("X-Timed: yes\\r\\n")


@calls.on(When.COMPLETED)
def report(moment: Moment, call: Call) -> None:
    log(NOTICE, "timing", "report", f"{moment.request.call_id}: {moment.code} after {time.time() - call.began:.0f} s")
    moment.post(bills, Bill(moment.request.call_id, moment.code))


@bills.deliver
def write(bill: Bill, again: bool) -> None:
    log(NOTICE, "timing", "write", f"bill of {bill.call_id}: {bill.code}")
"""

SCRIPT = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "timing.py"
route {
    if ($rm == "INVITE")
        time_it();
    t_reply(486, "Busy");
}
"""


def test_a_users_module_times_calls(tmp_path: Path) -> None:
    (tmp_path / "timing.py").write_text(MODULE)
    with Script(SCRIPT, directory=str(tmp_path)) as script:
        call = script.request("INVITE", "sip:bob@example.com")
        assert call.replies == ["486 Busy"]
        assert call.sent[-1].value("x-timed") == "yes"
        lines = [line for line in call.log if ":timing:" in line]
        assert [line.split(":timing:")[1].split(": ")[0] for line in lines] == ["report", "write"]
        assert "486 after 0 s" in lines[0]
        other = script.request("OPTIONS", "sip:bob@example.com")
        assert not any(":timing:" in line for line in other.log)


SUSPENDED = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "cfgutils.so"
loadmodule "FOLDER/timing.py"
route {
    time_it();
    xlog("@@suspended in $pp\\n");
    async(sleep(1), resume);
}
route[resume] {
    xlog("@@resumed in $pp\\n");
    t_reply(486, "Busy");
}
"""


def test_the_data_of_a_suspended_transaction_outlive_its_worker(
    server: Callable[..., Server], client: Callable[..., SipClient], tmp_path: Path
) -> None:
    (tmp_path / "timing.py").write_text(MODULE)
    running = server(SUSPENDED.replace("FOLDER", str(tmp_path)), workers=2)
    caller = client(running.address)
    caller.request("INVITE")
    assert caller.receive().status == 100
    worker = running.wait_log("@@suspended in")[0].rsplit(" ", 1)[1]
    wait_parked(running, 1)
    os.kill(int(worker), signal.SIGKILL)
    reply = caller.final(20)
    assert (reply.status, reply.header("X-Timed")) == (486, "yes")
    assert running.wait_log("@@resumed in")[0].rsplit(" ", 1)[1] != worker
    assert ": 486 after " in running.wait_log("timing:report")[0]
    assert len(running.wait_log("timing:write: bill of")) == 1
