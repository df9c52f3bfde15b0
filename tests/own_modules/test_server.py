"""A user's module in a real server: several processes, one that dies, the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.own_modules.conftest import OWN
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

HEAD = 'loadmodule "sl.so"\nloadmodule "tm.so"\n'
INVITE = (
    "INVITE sip:{user}@{server} SIP/2.0\nVia: SIP/2.0/UDP {ip}:{port};branch={branch}\nMax-Forwards: 70\n"
    "From: <sip:alice@{ip}>;tag={tag}\nTo: <sip:bob@{ip}>\nCall-ID: {call_id}\nCSeq: 1 INVITE\n\n"
)


def start(server: StartServer, tmp_path: Path, code: str, script: str, workers: int = 2) -> Server:
    (tmp_path / "own.py").write_text(OWN + code)
    return server(f'{HEAD}loadmodule "{tmp_path}/own.py"\n{script}', workers=workers)


def wait_until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = this.clock.now() + seconds
    while not true():
        assert this.clock.now() < end
        time.sleep(0.02)


HOLDING = """
import os

@module.blocking
def hold(out: Out[str]):
    time.sleep(60)

@module.function(seconds=60)
async def hold_async(out: Out[str]):
    await asyncio.sleep(60)
"""


@pytest.mark.parametrize("function", ["hold", "hold_async"])
def test_a_call_lost_with_its_worker_is_told_once(server: StartServer, client: MakeClient, tmp_path: Path, function: str) -> None:
    script = f"""route {{ xlog("held by $pp\\n"); async({function}($avp(out)), end); }}
route[end] {{ $var(rc) = $rc; xlog("resumed with $var(rc)\\n"); t_reply(480, "$var(rc)"); }}"""
    running = start(server, tmp_path, HOLDING, script)
    caller = client(running.address)
    caller.request("INVITE")
    assert caller.receive().status == 100
    wait_until(lambda: running.mi("async_list")["Count"] == 1)
    os.kill(int(running.wait_log("held by")[0].rsplit(" ", 1)[1]), signal.SIGKILL)
    reply = caller.receive(10)
    assert (reply.status, reply.reason) == (480, "-10")
    assert len(running.wait_log("resumed with")) == 1
    time.sleep(0.3)
    assert len(running.lines("resumed with")) == 1
    assert running.mi("async_list")["Count"] == 0


@pytest.mark.parametrize("function", ["slow", "slow_async"])
def test_calls_stay_with_a_worker_that_is_stuck_for_a_while(
    server: StartServer, client: MakeClient, tmp_path: Path, function: str
) -> None:
    """Its other work goes to another process, but what its threads do nobody else could finish."""
    code = """
@module.blocking
def slow():
    time.sleep(0.7)

@module.function
async def slow_async():
    await asyncio.sleep(0.7)

@module.function(seconds=0.8)
async def late():
    await asyncio.sleep(60)

@module.function
def stall():
    time.sleep(1.0)
"""
    script = f"""loadmodule "cfgutils.so"
route {{
    launch({function}(), done, "{function}");
    launch(late(), done, "late");
    launch(usleep(300000), done, "usleep");
    stall();
    sl_send_reply(200, "OK");
}}
route[done] {{ $var(rc) = $rc; xlog("$param(1) ended with $var(rc)\\n"); }}"""
    running = start(server, tmp_path, code, script)
    caller = client(running.address)
    caller.request("OPTIONS")
    assert caller.receive().status == 200
    for text in (f"{function} ended with 1", "usleep ended with 1", "late ended with -3"):
        running.wait_log(text)
    time.sleep(0.2)
    assert len(running.lines("ended with")) == 3
    assert running.lines("1 parked operations go on in another process"), "the pause was taken over"
    assert running.mi("async_list")["Count"] == 0


def test_suspended_calls_are_listed_by_the_function_s_name(server: StartServer, client: MakeClient, tmp_path: Path) -> None:
    running = start(server, tmp_path, HOLDING, "route { async(hold_async($avp(out)), end, 30); }\nroute[end] { exit; }")
    caller = client(running.address)
    caller.request("INVITE")
    assert caller.receive().status == 100
    wait_until(lambda: running.mi("async_list")["Count"] == 1)
    [operation] = running.mi("async_list")["Operations"]
    assert operation["Function"] == "hold_async"
    assert 20 < operation["Deadline"] <= 30
    running.kill()


@pytest.mark.parametrize("function", ["hold", "hold_async"])
def test_async_cancel_ends_a_call(server: StartServer, client: MakeClient, tmp_path: Path, function: str) -> None:
    script = f"""route {{ async({function}($avp(out)), end); }}
route[end] {{ $var(rc) = $rc; t_reply(480, "$var(rc)"); }}"""
    running = start(server, tmp_path, HOLDING, script)
    caller = client(running.address)
    caller.request("INVITE")
    assert caller.receive().status == 100
    wait_until(lambda: running.mi("async_list")["Count"] == 1)
    [operation] = running.mi("async_list")["Operations"]
    running.mi("async_cancel", [operation["Token"]])
    assert caller.receive(10).reason == "-5"


def test_reloaded_routes_call_functions_that_the_old_ones_did_not(
    server: StartServer, client: MakeClient, tmp_path: Path
) -> None:
    code = """
@module.blocking
def old(out: Out[str]):
    out.set("old")

@module.function
async def new(out: Out[str]):
    out.set("new")
"""
    script = "route { async(old($avp(out)), end); }\nroute[end] { t_reply(480, $avp(out)); }"
    running = start(server, tmp_path, code, script)
    caller = client(running.address)
    for expected in ("old", "new"):
        caller.request("INVITE")
        assert caller.receive().status == 100
        assert caller.receive(10).reason == expected
        caller.in_transaction("ACK")
        running.config.write_text(running.config.read_text().replace("async(old(", "async(new("))
        assert running.mi("reload_routes", seconds=30) == "OK"


def test_a_start_up_function_that_fails_keeps_the_server_from_starting(server: StartServer, tmp_path: Path) -> None:
    code = '@module.on_config\ndef check():\n    raise LookupError("nothing there")\n'
    line = OWN.count("\n") + 3
    with pytest.raises(RuntimeError) as failed:
        start(server, tmp_path, code, "route { exit; }")
    text = str(failed.value)
    assert "ended with status 255" in text
    assert f"CRITICAL:own:mod_init: {tmp_path}/own.py:{line}: LookupError: nothing there" in text
    assert "Traceback" not in text


def test_a_worker_serves_others_while_functions_run(server: StartServer, client: MakeClient, tmp_path: Path) -> None:
    code = """
@module.blocking
def slow():
    time.sleep(1)

@module.function
async def slow_async():
    await asyncio.sleep(1)
"""
    script = """route {
    if ($rU == "threads") async(slow(), end);
    if ($rU == "loop") async(slow_async(), end);
    sl_send_reply(200, "OK");
}
route[end] { t_reply(486, "Busy"); }"""
    running = start(server, tmp_path, code, script, workers=1)
    waiting = []
    for user in ["threads"] * 4 + ["loop"] * 4:
        waiting.append(client(running.address))
        waiting[-1].send(INVITE, user=user)
        assert waiting[-1].receive().status == 100
    other = client(running.address)
    other.request("OPTIONS")
    assert other.receive().status == 200
    began = this.clock.now()
    assert [one.receive(10).status for one in waiting] == [486] * 8
    assert this.clock.now() - began < 6, "one after the other they take eight seconds"


def test_coroutines_clean_up_when_the_server_stops(server: StartServer, client: MakeClient, tmp_path: Path) -> None:
    code = f"""
tasks = []

@module.function
async def begin():
    tasks.append(asyncio.create_task(forever()))
    await asyncio.sleep(0)

async def forever():
    try:
        await asyncio.sleep(3600)
    finally:
        with open({str(tmp_path / "cleaned")!r}, "w") as file:
            file.write("yes")

@module.on_exit
def leave():
    with open({str(tmp_path / "left")!r}, "a") as file:
        file.write("process\\n")
"""
    running = start(server, tmp_path, code, 'route { begin(); sl_send_reply(200, "OK"); }')
    caller = client(running.address)
    caller.request("OPTIONS")
    assert caller.receive().status == 200
    assert running.stop(20) == 0
    assert (tmp_path / "cleaned").read_text() == "yes"
    assert (tmp_path / "left").read_text().count("process") >= 3


def test_shared_data_are_the_same_in_every_process_and_on_every_thread(
    server: StartServer, client: MakeClient, tmp_path: Path
) -> None:
    code = """
seen = module.shared("seen", int)

@module.function
def count():
    seen.add("calls")

@module.blocking
def count_slowly():
    for _ in range(20):
        seen.add("calls")

@module.function
async def count_async():
    for _ in range(20):
        seen.add("calls")
        await asyncio.sleep(0)

@module.mi("seen")
def show() -> dict[str, int]:
    return dict(seen.items())
"""
    script = """route {
    count();
    launch(count_slowly(), done);
    launch(count_async(), done);
    async(count_slowly(), end);
}
route[done] { count(); }
route[end] { count(); t_reply(486, "Busy"); }"""
    running = start(server, tmp_path, code, script, workers=3)
    callers = [client(running.address) for _ in range(12)]
    for caller in callers:
        caller.request("INVITE")
    for caller in callers:
        assert caller.receive().status == 100
        assert caller.receive().status == 486
    wait_until(lambda: running.mi("seen") == {"calls": 12 * 64}, 20)


def wire(text: str) -> str:
    """Its bytes in UTF-8, one character for each."""
    return text.encode().decode("latin-1")


SENDING = """
from opensips_py.module_api import RequestFailed, send_request

@module.function
async def tell(uri: str, text: str, answer: Out[str]) -> int:
    try:
        reply = await send_request("MESSAGE", uri, caller="sip:shop@example.com", body=text, headers={"X-Shop": "7"})
    except RequestFailed as error:
        answer.set(str(error))
        return -2
    answer.set(f"{reply.reason} {reply.header('X-Answer')} {reply.body}")
    return reply.code
"""


def test_a_coroutine_sends_requests_and_gets_their_replies(server: StartServer, client: MakeClient, tmp_path: Path) -> None:
    callee = client()
    script = f"""route {{ async(tell("sip:bob@127.0.0.1:{callee.port}", "Müsli", $avp(answer)), end); }}
route[end] {{ $var(rc) = $rc; t_reply(480, "$var(rc) $avp(answer)"); }}
local_route {{ append_hf("X-Local: yes\\r\\n"); }}"""
    running = start(server, tmp_path, SENDING, 'loadmodule "sipmsgops.so"\n' + wire(script))
    callee.server = running.address
    caller = client(running.address)
    caller.request("INVITE")
    assert caller.receive().status == 100
    message = callee.receive()
    assert (message.method, message.body) == ("MESSAGE", wire("Müsli"))
    assert [message.header(name) for name in ("X-Shop", "X-Local", "Content-Type")] == ["7", "yes", "text/plain;charset=utf-8"]
    assert message.header("From").startswith("<sip:shop@example.com>;tag=")
    callee.reply(message, 202, wire("Läuft"), headers=wire("X-Answer: später\n"), body="gut")
    assert caller.receive(10).reason == wire("202 Läuft später gut")


def test_a_request_that_cannot_be_sent_is_told_to_the_coroutine(server: StartServer, client: MakeClient, tmp_path: Path) -> None:
    script = """route { async(tell("sip:bob@no.such.host.invalid", "x", $avp(answer)), end); }
route[end] { $var(rc) = $rc; t_reply(480, "$var(rc) $avp(answer)"); }"""
    running = start(server, tmp_path, SENDING, script)
    caller = client(running.address)
    caller.request("INVITE")
    assert caller.receive().status == 100
    assert caller.receive(20).reason.startswith("-2 sip:bob@no.such.host.invalid leads to no address")


def test_every_runs_in_one_process_only(server: StartServer, tmp_path: Path) -> None:
    code = f"""
import os

@module.every(0.02)
def tick():
    with open({str(tmp_path / "ticks")!r}, "a") as file:
        file.write(f"{{os.getpid()}}\\n")
"""
    running = start(server, tmp_path, code, "route { exit; }")
    path = tmp_path / "ticks"
    wait_until(lambda: path.exists() and path.read_text().count("\n") >= 5)
    assert set(path.read_text().split()) == {str(pid) for pid in running.pids("timer")}
