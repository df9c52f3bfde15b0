"""A user's module takes part in transactions: the example of docs/modules.md."""

from __future__ import annotations

from pathlib import Path

from opensips_py.testing import Script

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
