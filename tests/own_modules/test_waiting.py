"""Functions that take time: on threads and on the asyncio loop, in plain calls, async() and launch()."""

from __future__ import annotations

import os
import threading

import pytest

from tests.own_modules.conftest import Own
from tests.support.http_server import HttpServer

BOTH = pytest.mark.parametrize("kind", ["blocking", "coroutine"])

KINDS = {
    "blocking": ("@module.blocking", "def", "time.sleep"),
    "coroutine": ("@module.function", "async def", "await asyncio.sleep"),
}


def declared(kind: str, code: str, arguments: str = "") -> str:
    """A function in both forms: ``DEF`` begins it, ``SLEEP`` sleeps."""
    decorator, word, sleep = KINDS[kind]
    return code.replace("DEF", f"{decorator}{arguments}\n{word}").replace("SLEEP", sleep)


SQUARE = """
DEF square(number: int, result: Out[int]):
    SLEEP(0.01)
    result.set(number * number)
    return 2
"""


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        'route { square(7, $avp(r)); $avp(rc) = $rc; route(answer); }\nroute[answer] { t_newtran(); t_reply(200, "OK"); }',
        'route { async(square(7, $avp(r)), answer); }\nroute[answer] { $avp(rc) = $rc; t_reply(200, "OK"); }',
    ],
)
def test_one_body_serves_plain_calls_and_async(own: Own, kind: str, text: str) -> None:
    run = own.script(declared(kind, SQUARE), text).request()
    assert (run["$avp(r)"], run["$avp(rc)"], run.replies) == (49, 2, ["200 OK"])


@BOTH
def test_launch_tells_its_report_route(own: Own, kind: str) -> None:
    text = """route { launch(square(7, $var(r)), report, "mark"); xlog("on\\n"); }
route[report] { xlog("$param(1) $rc $var(r)\\n"); }"""
    assert own.script(declared(kind, SQUARE), text).request().log == ["on", "mark 2 49"]


@BOTH
def test_the_body_runs_beside_the_thread_of_the_script(own: Own, kind: str) -> None:
    code = "names = []\nDEF where():\n    names.append(threading.current_thread().name)\n"
    own.script(declared(kind, code), "route { where(); async(where(), end); }\nroute[end] { exit; }").request()
    assert len(own.python.names) == 2
    assert threading.current_thread().name not in own.python.names


@BOTH
def test_calls_wait_side_by_side(own: Own, kind: str) -> None:
    """Eight calls that each end only when all of them run."""
    code = """
present = []

DEF meet() -> bool:
    present.append(1)
    end = time.monotonic() + 20
    while len(present) < 8 and time.monotonic() < end:
        SLEEP(0.005)
    return len(present) == 8
"""
    text = """route { $var(i) = 0; while ($var(i) < 8) { launch(meet(), met); $var(i) = $var(i) + 1; } }
route[met] { xlog("$rc\\n"); }"""
    assert own.script(declared(kind, code), text).request(seconds=30).log == ["1"] * 8


@BOTH
def test_an_exception_gives_minus_one_and_names_the_script_line(own: Own, kind: str) -> None:
    code = 'DEF fail(text: str, out: Out[str]):\n    out.set("half")\n    SLEEP(0)\n    raise LookupError(text)\n'
    text = """route {
    $avp(out) = "kept";
    fail("one", $avp(out));
    $avp(plain) = $rc;
    async(fail("two", $avp(out)), end);
}
route[end] { $avp(later) = $rc; }"""
    run = own.script(declared(kind, code), text).request()
    assert (run["$avp(plain)"], run["$avp(later)"]) == (-1, -1)
    assert run["$avp(out)"] == "kept", "a function that fails sets no outputs"
    log = "\n".join(run.log)
    assert "opensips.cfg:4: LookupError: one" in log
    assert "opensips.cfg:6: LookupError: two" in log
    assert log.count("in fail\n") == 2


@BOTH
@pytest.mark.parametrize("raised", ["SystemExit(1)", "KeyboardInterrupt()", "asyncio.CancelledError()"])
def test_what_would_end_a_program_ends_only_the_call(own: Own, kind: str, raised: str) -> None:
    code = f"DEF quit():\n    SLEEP(0)\n    raise {raised}\nDEF go():\n    SLEEP(0)\n    return 5\n"
    text = """route { quit(); $avp(first) = $rc; async(quit(), again); }
route[again] { $avp(second) = $rc; go(); $avp(third) = $rc; }"""
    run = own.script(declared(kind, code), text).request()
    assert [run[f"$avp({name})"] for name in ("first", "second", "third")] == [-1, -1, 5]


HOLD = """
go = threading.Event()
ended = threading.Event()
cleaned = []

DEF hold(out: Out[str] | None = None):
    try:
        end = time.monotonic() + 30
        while not go.is_set() and time.monotonic() < end:
            SLEEP(0.005)
    finally:
        cleaned.append(1)
    if out:
        out.set("late")
    ended.set()
    return 1

@module.function
def release():
    go.set()
"""


@BOTH
@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ("(seconds=0.5)", "hold($avp(out)); $avp(rc) = $rc;"),
        ("(seconds=0.5)", "async(hold($avp(out)), end);"),
        ("", "async(hold($avp(out)), end, 1);"),
        ("(seconds=None)", "async(hold($avp(out)), end, 1);"),
    ],
)
def test_a_deadline_ends_the_wait_and_the_late_result_is_thrown_away(own: Own, kind: str, arguments: str, call: str) -> None:
    code = declared(kind, HOLD, arguments)
    script = own.script(code, f"route {{ {call} }}\nroute[end] {{ $avp(rc) = $rc; }}")
    run = script.request()
    assert run["$avp(rc)"] == -3
    if kind == "coroutine":
        script.wait(lambda: bool(own.python.cleaned))
        assert not own.python.ended.is_set(), "it is cancelled"
    else:
        own.python.go.set()
        assert own.python.ended.wait(10), "a thread cannot be ended, and goes on"
    assert run["$avp(out)"] is None


def test_a_deadline_may_be_a_module_parameter(own: Own) -> None:
    code = 'limit = module.param("limit", int, 30)\n' + declared("coroutine", HOLD, "(seconds=limit)")
    script = own.script(code, 'modparam("own", "limit", 1)\nroute { hold(); $avp(rc) = $rc; }')
    assert script.request()["$avp(rc)"] == -3


@BOTH
def test_calls_beyond_the_bound_wait_and_beyond_the_queue_are_refused(own: Own, kind: str) -> None:
    size = "threads" if kind == "blocking" else "coroutines"
    text = f"""modparam("own", "{size}", 1)
modparam("own", "queue", 1)
route {{
    launch(hold(), end, "1");
    launch(hold(), end, "2");
    launch(hold(), end, "3");
    release();
}}
route[end] {{ xlog("$param(1) $rc\\n"); }}"""
    run = own.script(declared(kind, HOLD), text).request()
    warning, *lines = run.log
    assert "opensips.cfg:" in warning and "hold() is not called" in warning
    assert lines == ["3 -4", "1 1", "2 1"]


@BOTH
def test_a_call_whose_deadline_passes_in_the_queue_is_never_made(own: Own, kind: str) -> None:
    size = "threads" if kind == "blocking" else "coroutines"
    code = declared(kind, HOLD) + declared(kind, "calls = []\nDEF note():\n    calls.append(1)\n", "(seconds=0.5)")
    text = f"""modparam("own", "{size}", 1)
route {{ launch(hold(), held); launch(note(), end); launch(note(), last); }}
route[held] {{ xlog("held $rc\\n"); note(); xlog("$rc\\n"); }}
route[end] {{ xlog("$rc\\n"); }}
route[last] {{ xlog("$rc\\n"); release(); }}"""
    script = own.script(code, text)
    assert script.request().log == ["-3", "-3", "held 1", "1"]
    assert own.python.calls == [1]


@BOTH
def test_nothing_is_left_of_many_calls(own: Own, kind: str) -> None:
    code = declared(kind, SQUARE.replace("0.01", "0")) + declared(kind, HOLD, "(seconds=0.01)")
    text = "route { async(square(3, $avp(r)), one); }\nroute[one] { async(hold(), two); }\nroute[two] { exit; }"
    script = own.script(code, text)
    own_limit = 8
    script.request()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    own.python.go.set()
    for _ in range(100):
        script.request()
    script.wait(lambda: len(own.python.cleaned) >= 1)
    assert len(os.listdir("/proc/self/fd")) <= before[0]
    assert threading.active_count() <= before[1] + own_limit


@BOTH
def test_every_call_ends_once_when_results_and_deadlines_race(own: Own, kind: str) -> None:
    code = declared(
        kind,
        """
calls = []

DEF race(number: int, out: Out[int]):
    calls.append(number)
    SLEEP(0.0001 * (number * 37 % 101))
    out.set(number)
    return 1
""",
        "(seconds=0.005)",
    )
    text = """max_while_loops=1000
modparam("own", "queue", 1000)
route { $var(i) = 0; while ($var(i) < 300) { launch(race($var(i), $var(out)), end, "$var(i)"); $var(i) = $var(i) + 1; } }
route[end] { $var(rc) = $rc; $avp(x) = $var(out); if ($var(rc) < 0) $avp(x) = "-"; xlog("$param(1) $var(rc) $avp(x)\\n"); }"""
    script = own.script(code, text)
    before = len(os.listdir("/proc/self/fd"))
    ended = [line.split() for line in script.request(seconds=60).log]
    assert sorted(int(number) for number, _, _ in ended) == list(range(300))
    assert {rc for _, rc, _ in ended} <= {"1", "-3"}
    assert all(value == (number if rc == "1" else "-") for number, rc, value in ended), "each gets its own result"
    assert len(set(own.python.calls)) == len(own.python.calls), "no call is made twice"
    assert len(os.listdir("/proc/self/fd")) <= before + 3  # the loop's own


def test_asyncio_streams_tasks_and_subprocesses_work_unchanged(own: Own, http_server: HttpServer) -> None:
    code = f"""
@module.function
async def fetch(path: str, status: Out[str], text: Out[str]):
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        answer = group.create_task(ask(path))
        group.create_task(asyncio.sleep(0.01))
    status.set((await answer).split(b"\\r\\n")[0].decode())
    program = await asyncio.create_subprocess_exec("echo", path, stdout=asyncio.subprocess.PIPE)
    out, _ = await program.communicate()
    text.set(await asyncio.to_thread(out.decode))

async def ask(path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", {http_server.port})
    writer.write(f"GET {{path}} HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()
"""
    script = own.script(code, 'route { async(fetch("/hello", $avp(s), $avp(t)), end); }\nroute[end] { $avp(rc) = $rc; }')
    run = script.request()
    assert (run["$avp(rc)"], run["$avp(s)"], run["$avp(t)"]) == (1, "HTTP/1.1 200 OK", "/hello\n"), run.log


def test_a_background_task_that_fails_is_logged_as_the_server_logs(own: Own) -> None:
    code = """
@module.function
async def begin():
    async def broken():
        raise ValueError("in the background")
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    task = asyncio.create_task(broken())
    await asyncio.sleep(0.01)
    del task
    import gc
    gc.collect()
"""
    run = own.script(code, "route { begin(); }").request()
    log = "\n".join(run.log)
    assert "ZeroDivisionError" in log
    assert "in the background" in log


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ('"MESSAGE", "sip:a@192.0.2.5", caller="sip:b@c"', "a plain call holds the thread that sends"),
        ('"INVITE", "sip:a@192.0.2.5", caller="sip:b@c"', "'INVITE' cannot be sent by send_request()"),
        ('"MESSAGE", "tel", caller="sip:b@c"', "'tel' is not a SIP URI"),
        ('"MESSAGE", "sip:a@192.0.2.5", caller="sip:b@c\\r\\nX: y"', "is not a SIP URI"),
        ('"MESSAGE", "sip:a@192.0.2.5", caller="sip:b@c", headers={"Via": "x"}', "header 'Via' cannot be given"),
        ('"MESSAGE", "sip:a@192.0.2.5", caller="sip:b@c", headers={"X": "x\\r\\ny: z"}', "header 'X' cannot be given"),
    ],
)
def test_requests_that_cannot_be_sent_are_errors_of_the_function(own: Own, arguments: str, error: str) -> None:
    code = f"""
from opensips_py.module_api import send_request

@module.function
async def tell():
    await send_request({arguments})
"""
    text = "tell(); $avp(rc) = $rc;" if "plain" in error else "async(tell(), end);"
    run = own.script(code, f"route {{ {text} }}\nroute[end] {{ $avp(rc) = $rc; }}").request()
    assert run["$avp(rc)"] == -1
    assert error in "\n".join(run.log)


@pytest.mark.parametrize("declared", ["@module.function\ndef", "@module.blocking\ndef", "@module.function\nasync def"])
def test_events_may_be_raised_on_any_thread_and_run_in_the_script_s(own: Own, declared: str) -> None:
    code = f"""
found = module.event("E_OWN_FOUND", "name", "count", doc="something was found")
threads = []

{declared} find(name: str):
    found.emit(name=name, count=3)

@module.function
def note():
    threads.append(threading.current_thread() is threading.main_thread())
"""
    text = """route { find("Zoë"); async(usleep(50000), end); }
route[end] { exit; }
event_route[E_OWN_FOUND] { note(); xlog("$param(name) $param(count)\\n"); }"""
    script = own.script(code, 'loadmodule "cfgutils.so"\n' + text)
    run = script.request()
    script.wait(lambda: bool(run.log))
    assert run.log == ["Zoë 3"]
    assert own.python.threads == [True]


def test_an_event_is_raised_with_its_own_parameters_only(own: Own) -> None:
    code = 'found = module.event("E_OWN_FOUND", "name")\n@module.function\ndef find():\n    found.emit(nam="x")\n'
    run = own.script(code, "route { find(); $avp(rc) = $rc; }").request()
    assert run["$avp(rc)"] == -1
    assert "event E_OWN_FOUND has no parameter nam" in "\n".join(run.log)


@BOTH
def test_a_management_command_may_wait_too(own: Own, kind: str) -> None:
    _, word, sleep = KINDS[kind]
    extra = ", blocking=True" if kind == "blocking" else ""
    code = f"""
@module.mi("slow", ("name",){extra})
{word} slow(name: str):
    {sleep}(0.01)
    if name == "bad":
        raise ValueError("bad")
    return {{"Name": name, "Thread": threading.current_thread() is threading.main_thread()}}
"""
    script = own.script(code, "route { exit; }")
    assert script.mi("slow", ["x"]) == {"result": {"Name": "x", "Thread": False}}
    assert script.mi("slow", ["bad"])["error"]["code"] == -32000


def test_every_runs_again_and_again_in_the_timer_process(own: Own) -> None:
    code = """
runs = []

@module.every(0.01)
async def tick():
    runs.append("async")
    if len(runs) == 2:
        raise ValueError("once")

@module.every(0.01)
def tock():
    runs.append("thread")
"""
    script = own.script(code, "route { exit; }", process="timer")
    script.wait(lambda: own.python.runs.count("async") >= 4 and own.python.runs.count("thread") >= 4)
