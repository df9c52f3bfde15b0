"""mi(): management commands run by the script."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from opensips_py.script.context import Value
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.testing import Run, Script
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

MODULES = 'loadmodule "mi_script.so"\nloadmodule "cachedb_local.so"\n'

OWN = """
from opensips_py.mi.dispatcher import Later
from opensips_py.module_api import MIError, Module

module = Module("own")

@module.mi("own_show", ("name", "number"), ("list",), ())
def show(name: str = "-", number: int = 0, list: list[str] = []) -> object:
    return {"Name": name, "Number": number, "List": list}

@module.mi("own_fail", ("code",))
def fail(code: int) -> str:
    raise MIError(code, "Über")

@module.mi("own_perhaps", ("seconds",))
def perhaps(seconds: int) -> Later | str:
    return Later() if seconds else "now"

@module.mi("own_later")
async def later() -> str:
    return "at last"
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    (tmp_path / "own.py").write_text(OWN)
    with ExitStack() as stack:

        def start(route: str, more: str = "", head: str = "") -> Run:
            text = f'{MODULES}loadmodule "own.py"\n{head}route {{ {route} }}\n{more}'
            return stack.enter_context(Script(text, directory=tmp_path)).request()

        yield start


def called(run: Callable[..., Run], call: str) -> tuple[Value, Value]:
    """Return code and ret_var of a call."""
    done = run(f"{call}; $avp(rc) = $rc;")
    return done["$avp(rc)"], done["$avp(ret)"]


def test_the_result_is_json(run: Callable[..., Run]) -> None:
    rc, ret = called(run, 'mi("version", $avp(ret))')
    assert rc == 1
    assert re.fullmatch(r'\{"Server":"opensips-py .*"\}', str(ret))


def test_the_variable_may_be_left_out(run: Callable[..., Run]) -> None:
    assert called(run, 'mi("uptime")') == (1, None)


def test_parameters_behind_the_command_go_by_position(run: Callable[..., Run]) -> None:
    rc, ret = called(run, 'mi("own_show  Zoë   7", $avp(ret))')
    assert (rc, ret) == (1, '{"Name":"Zoë","Number":7,"List":[]}')


def test_values_of_an_avp_go_by_position_in_the_order_in_which_they_were_added(run: Callable[..., Run]) -> None:
    given = '$avp(p) = "x y"; $avp(p) = 3; mi("own_show ignored 1", $avp(ret), $avp(p))'
    assert called(run, given) == (1, '{"Name":"x y","Number":3,"List":[]}')


def test_two_avps_are_names_and_values(run: Callable[..., Run]) -> None:
    given = '$avp(p) = "number"; $avp(v) = 4; $avp(p) = "name"; $avp(v) = "n"; mi("own_show", $avp(ret), $avp(p), $avp(v))'
    assert called(run, given) == (1, '{"Name":"n","Number":4,"List":[]}')


def test_an_array_is_written_as_such(run: Callable[..., Run]) -> None:
    given = '$avp(p) = "list"; $avp(v) = "__array(one two)"; mi("own_show", $avp(ret), $avp(p), $avp(v))'
    assert called(run, given) == (1, '{"Name":"-","Number":0,"List":["one","two"]}')


def test_missing_values_are_an_error_and_further_ones_are_ignored(run: Callable[..., Run]) -> None:
    names = '$avp(p) = "name"; $avp(p) = "number"; $avp(v) = "n";'
    assert called(run, f'{names} mi("own_show", $avp(ret), $avp(p), $avp(v))') == (-2, "could not parse script params!")
    more = f'{names} $avp(v) = 1; $avp(v) = 2; mi("own_show", $avp(ret), $avp(p), $avp(v))'
    assert called(run, more) == (1, '{"Name":"n","Number":1,"List":[]}')


@pytest.mark.parametrize(
    ("call", "rc", "text"),
    [
        ("no_such_command", -1, None),
        ("own_fail 404", -404, "Über"),
        ("own_fail -32000", -32000, "Über"),
        ("own_show a b c d", -32602, "Invalid params"),
        ("own_show a b", -32602, "Invalid params"),
        ("own_later", -3, "own_later takes time: write async(mi(...), route)"),
        ("own_perhaps 1", -3, "own_perhaps has begun and takes time: write async(mi(...), route) for its result"),
        ("own_perhaps 0", 1, '"now"'),
        ("reload_routes", -3, "reload_routes takes time: write async(mi(...), route)"),
    ],
)
def test_errors_are_negative_codes_with_their_text(run: Callable[..., Run], call: str, rc: int, text: str | None) -> None:
    assert called(run, f'mi("{call}", $avp(ret))') == (rc, text)


def test_commands_of_modules_do_their_work(run: Callable[..., Run]) -> None:
    route = 'mi("cache_store local key value"); cache_fetch("local", "key", $avp(ret)); $avp(rc) = 1;'
    assert run(route)["$avp(ret)"] == "value"


def test_pretty_printing(run: Callable[..., Run]) -> None:
    done = run('mi("own_show", $avp(ret));', head='modparam("mi_script", "pretty_printing", 1)\n')
    assert str(done["$avp(ret)"]).startswith('{\n    "Name": "-",\n')


@pytest.mark.parametrize(("command", "result"), [("own_later", '"at last"'), ("own_show", '{"Name":"-","Number":0,"List":[]}')])
def test_async_waits_for_results_that_come_later(run: Callable[..., Run], command: str, result: str) -> None:
    done = run(f'async(mi("{command}", $avp(ret)), end);', "route[end] { $avp(rc) = $rc; }")
    assert (done["$avp(rc)"], done["$avp(ret)"]) == (1, result)


def test_launch_reports_the_result(run: Callable[..., Run]) -> None:
    done = run('launch(mi("own_later", $var(ret)), end);', 'route[end] { xlog("$rc $var(ret)\\n"); }')
    assert done.log == ['1 "at last"']


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('mi("ps", $avp(r), $var(p))', "Parameter must be an AVP"),
        ('mi("ps", $avp(r), $(avp(p)[0]))', "Parameter must be an AVP"),
        ("mi()", "too few parameters for command <mi>"),
    ],
)
def test_wrong_calls_are_found_before_the_server_runs(run: Callable[..., Run], call: str, message: str) -> None:
    with pytest.raises(ScriptErrors) as found:
        run(f"{call};")
    assert [error.message for error in found.value.errors] == [message]


def test_a_worker_asks_the_whole_server(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    """Processes, counts of all of them, and new routes for all."""
    running = server(
        """loadmodule "sl.so"\nloadmodule "tm.so"\nloadmodule "mi_script.so"
route {
    mi("ps", $var(ps));
    xlog("ps: $var(ps)\\n");
    $avp(name) = "statistics"; $avp(value) = "__array(core:rcv_requests)";
    mi("get_statistics", $var(all), $avp(name), $avp(value));
    xlog("all: $var(all)\\n");
    async(mi("reload_routes", $avp(ret)), end);
}
route[end] { $var(rc) = $rc; t_reply(480, "$var(rc) $avp(ret)"); }""",
        workers=2,
    )
    caller = client(running.address)
    caller.request("INVITE")
    assert caller.receive().status == 100
    assert caller.receive(20).reason == '1 "OK"'
    shown = json.loads(running.wait_log("ps: ")[0].split("ps: ", 1)[1])
    assert {p["PID"] for p in shown["Processes"]} == set(running.pids())
    assert running.wait_log('all: {"core:rcv_requests":1}')
