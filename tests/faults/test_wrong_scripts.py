"""Mistakes around async() and launch() in a script, as the command line tells them: place, reason, way out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.testbed.server import Server, check
from tests.faults.observing import MODULES
from tests.support.sip_client import SipClient

SCRIPT = (
    'socket=udp:127.0.0.1:5099\nloadmodule "proto_udp.so"\n'
    + MODULES.strip()
    + "\nroute {\n    BODY\n}\nroute[resume] { exit; }\n"
)
LINE = SCRIPT[: SCRIPT.index("BODY")].count("\n") + 1


def _check(tmp_path: Path, body: str, option: str = "-C") -> subprocess.CompletedProcess[str]:
    path = tmp_path / "my.cfg"
    path.write_text(SCRIPT.replace("BODY", body))
    return check(path, option)


ERRORS = {
    'async(exec("true"), resmue);': (25, ["route [resmue] is not defined", 'did you mean "resume"?']),
    'launch(exec("true"), resmue);': (26, ["route [resmue] is not defined", 'did you mean "resume"?']),
    'async(xlog("x"), resume);': (11, ["xlog"]),
    'async(t_reply(200, "OK"), resume);': (11, ["t_reply() cannot be used in async(): it never waits"]),
    "async(no_such(1), resume);": (11, ["unknown async command <no_such>"]),
    'async(exec("true"));': (23, ["async() needs the route that goes on", "write async(function(...), resume_route)"]),
    'async(exec("true"), resume, soon);': (33, ["the timeout of async() is a number of seconds"]),
    'async(avp_db_query("SELECT 1", "$rm"), resume);': (36, ["$rm cannot be written"]),
}


@pytest.mark.parametrize("option", ["-c", "-C"])
@pytest.mark.parametrize("body", ERRORS)
def test_a_mistake_is_shown_with_line_and_column(tmp_path: Path, body: str, option: str) -> None:
    column, texts = ERRORS[body]
    done = _check(tmp_path, body, option)
    assert done.returncode == 255
    assert f"my.cfg:{LINE}:{column}" in done.stderr, done.stderr
    assert body in done.stderr and "^" in done.stderr, "the line and a caret"
    for text in texts:
        assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_variable_in_the_place_of_the_input_is_warned_of(tmp_path: Path) -> None:
    """The call of the manual page: 3.1 takes the second parameter as the program's input."""
    done = _check(tmp_path, 'async(exec("curl my_host", $var(response_body)), resume);')
    assert done.returncode == 0
    assert "the second parameter of exec() is the program's standard input" in done.stderr
    assert f"my.cfg:{LINE}:" in done.stderr
    assert "$var(response_body)" in done.stderr
    good = _check(tmp_path, 'async(exec("curl my_host", , $var(response_body)), resume);')
    assert (good.returncode, "standard input" in good.stderr) == (0, False)


def test_async_without_the_module_tm_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.cfg"
    path.write_text(
        SCRIPT.replace('loadmodule "tm.so"\nmodparam("tm", "wt_timer", 1)\n', "").replace("BODY", "async(sleep(1), resume);")
    )
    done = check(path)
    assert done.returncode == 255
    assert "async() needs the module tm" in done.stderr and 'loadmodule "tm.so"' in done.stderr


INLINE = (
    MODULES.replace('loadmodule "db_mysql.so"\nloadmodule "avpops.so"\n', "")
    + """
route {
    $avp(begin) = $Ts;
    t_on_failure("failed");
    $du = "sip:127.0.0.1:CALLEE";
    t_relay();
}
failure_route[failed] {
    async(exec("exec sleep 60", , $avp(out)), again, 1);
}
route[again] {
    t_reply(480, "rc $rc after $(Ts{s.int})");
}
"""
)


def test_a_failure_route_waits_no_longer_than_it_was_told(
    server: Callable[..., Server], client: Callable[..., SipClient]
) -> None:
    callee = client()
    running = server(INLINE.replace("CALLEE", str(callee.port)), workers=1)
    caller = client(running.address)
    caller.request("INVITE")
    got = callee.receive()
    callee.reply(got, 486, "Busy Here")
    answer = caller.final()
    assert answer.status == 480 and answer.reason.startswith("rc -3 ")
    assert answer.at - got.at > 0.9
