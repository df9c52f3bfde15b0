"""Scripts are Python code to Python's tools: errors, py-spy, cProfile, coverage.py and pdb speak of the script's lines."""

from __future__ import annotations

import os
import pstats
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient
from workers import observation

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

FAULTY_MODULE = '''
from opensips_py.script.declarations import ALL, Module

module = Module("faulty", doc="fails")


@module.function(routes=ALL)
def fail(ctx) -> int:
    """Raise."""
    raise ValueError("out of order")
'''


def line_of(script: Path, text: str) -> int:
    return next(n for n, line in enumerate(script.read_text().splitlines(), 1) if text in line)


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Server]:
    """A server whose script calls a function that raises, in a route that another one calls."""
    (tmp_path / "faulty.py").write_text(FAULTY_MODULE)
    running = Server(
        f"""
loadmodule "sl.so"
loadmodule "{tmp_path}/faulty.py"
route {{
    route(inner);
}}
route[inner] {{
    $var(x) = 1;
    fail();
}}
""",
        workers=1,
    )
    yield running
    running.stop()
    running.remove()


def test_an_error_while_a_script_runs_is_logged_with_file_and_line(faulty: Server, client: MakeClient) -> None:
    client(faulty.address).request("OPTIONS")
    found = faulty.wait_log("out of order")
    line = line_of(faulty.config, "fail();")
    assert f"{faulty.config}:{line}: ValueError: out of order" in found[0]
    assert f'File "{faulty.config}", line {line}, in route_inner' in faulty.log


def test_py_spy_shows_where_in_the_script_a_worker_is(server: StartServer, client: MakeClient) -> None:
    running = server(
        """
loadmodule "cfgutils.so"
route {
    route(slow);
}
route[slow] {
    xlog("@@slow\n");
    sleep(4);
}
""",
        workers=1,
    )
    client(running.address).request("OPTIONS")
    running.wait_log("@@slow")
    spy = Path(sys.executable).parent / "py-spy"
    (pid,) = running.pids("SIP receiver")
    done = subprocess.run([spy, "dump", "--pid", str(pid)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name = running.config.name
    assert f"route_slow ({running.config}:{line_of(running.config, 'sleep(4)')})" in done.stdout.replace(
        f"({name}:", f"({running.config}:"
    )
    assert "route (" in done.stdout


def test_cprofile_shows_route_names_with_file_and_line(server: StartServer, client: MakeClient, tmp_path: Path) -> None:
    running = server(
        'loadmodule "sl.so"\nroute {\n    route(inner);\n}\nroute[inner] {\n    sl_send_reply(200, "OK");\n}\n',
        workers=1,
        environment={"OPENSIPS_PY_PROFILE": str(tmp_path)},
    )
    sip = client(running.address)
    for _ in range(3):
        sip.request("OPTIONS")
        assert sip.final().status == 200
    assert running.stop() == 0
    (result,) = tmp_path.glob("SIP-receiver*.prof")
    stats: dict[tuple[str, int, str], tuple[int, ...]] = pstats.Stats(str(result)).stats  # type: ignore[attr-defined]
    assert stats[str(running.config), line_of(running.config, "route {"), "route"][0] == 3
    assert stats[str(running.config), line_of(running.config, "route[inner]"), "route_inner"][0] == 3


SCRIPT = """
loadmodule "sipmsgops.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cfgutils.so"
include_file "{parts}/inner.cfg"
route {
    if (is_method("OPTIONS")) {
        sl_send_reply(200, "OK");
        exit;
    }
    if ($rU == "sleep")
        async(usleep(1000), resume);
    include_file "{parts}/part.cfg"
    xlog("never reached\\n");
}
route[resume] {
    t_reply(202, "Accepted");
}
"""


@pytest.fixture
def measured(client: MakeClient, tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A server that has run a part of its script under coverage.py, and ended; the configuration of coverage.py."""
    configuration = tmp_path / "coveragerc"
    configuration.write_text(
        f"[run]\nplugins = opensips_py.script.coverage_plugin\ndata_file = {tmp_path}/data\n[html]\ndirectory = {tmp_path}/html\n"
    )
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "inner.cfg").write_text('route[unused] {\n    xlog("unused\\n");\n}\n')
    (parts / "part.cfg").write_text('    sl_send_reply(403, "No");\n    exit;\n')
    running = Server(SCRIPT.replace("{parts}", str(parts)), workers=2, environment={"OPENSIPS_PY_COVERAGE": str(configuration)})
    sip = client(running.address)
    for method, user, status in (("OPTIONS", "x", 200), ("MESSAGE", "sleep", 202), ("MESSAGE", "x", 403)):
        sip.request(method, f"sip:{user}@127.0.0.1:{running.port}")
        assert sip.final().status == status
    assert running.stop() == 0
    assert "Traceback" not in running.log
    yield running, configuration
    running.remove()


WAITING = """
loadmodule "tm.so"
loadmodule "cfgutils.so"
route {
    route(waits);
    if ($rU == "nobody")
        xlog("never reached\\n");
    t_reply(200, "OK");
}
route[waits] {
    $avp(x) = 1;
    await(usleep(100000));
    $avp(x) = 2;
}
"""


def _wait_ten_times(running: Server, sip: SipClient) -> None:
    """Ten scripts wait at once, and go on in turn."""
    for _ in range(10):
        sip.request("MESSAGE")
    for _ in range(10):
        assert sip.final().status == 200
    assert running.stop() == 0
    assert "Traceback" not in running.log


def row_of_script(configuration: Path) -> list[str]:
    """What coverage reports of opensips.cfg: statements, missing ones, per cent, lines."""
    coverage(configuration, "combine", "-q")
    (row,) = (line.split()[1:] for line in coverage(configuration, "report", "-m").splitlines() if "opensips.cfg" in line)
    return row


def test_coverage_follows_scripts_that_wait(server: StartServer, client: MakeClient, tmp_path: Path) -> None:
    configuration = tmp_path / "coveragerc"
    configuration.write_text(f"[run]\nplugins = opensips_py.script.coverage_plugin\ndata_file = {tmp_path}/data\n")
    running = server(WAITING, workers=1, environment={"OPENSIPS_PY_COVERAGE": str(configuration)})
    _wait_ten_times(running, client(running.address))
    assert row_of_script(configuration) == ["7", "1", "86%", str(line_of(running.config, "never reached"))]


@pytest.mark.parametrize("place", [[], ["-w", "/"]], ids=["where it was started", "elsewhere"])
def test_a_relative_name_of_the_script_will_do(server: StartServer, client: MakeClient, tmp_path: Path, place: list[str]) -> None:
    configuration = tmp_path / "coveragerc"
    configuration.write_text(f"[run]\nplugins = opensips_py.script.coverage_plugin\ndata_file = {tmp_path}/data\n")
    # as the installed command has it: Python looks for nothing in the directory where it was started
    environment = {"OPENSIPS_PY_COVERAGE": str(configuration), "PYTHONSAFEPATH": "1"}
    running = server(WAITING, workers=1, environment=environment, options=["-f", "opensips.cfg", *place])
    _wait_ten_times(running, client(running.address))
    assert row_of_script(configuration) == ["7", "1", "86%", str(line_of(running.config, "never reached"))]


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("OPENSIPS_PY_PROFILE", "no/such", "there is no directory no/such: create it"),
        ("OPENSIPS_PY_COVERAGE", "no/such", "there is no configuration file no/such: create it"),
        ("OPENSIPS_PY_COVERAGE", "there", "needs coverage.py: pip install coverage"),
    ],
)
def test_what_the_tools_lack_is_said_before_the_server_starts(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, text: str
) -> None:
    monkeypatch.setenv(variable, value)
    if value == "there":
        monkeypatch.setattr(observation, "find_spec", lambda name: None)
    assert text in (observation.refusal("") or "")


def test_a_server_without_the_directory_for_its_profiles_does_not_start(server: StartServer, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="create it"):
        server(WAITING, workers=1, environment={"OPENSIPS_PY_PROFILE": str(tmp_path / "missing")})


def test_cprofile_shows_scripts_that_wait(server: StartServer, client: MakeClient, tmp_path: Path) -> None:
    running = server(WAITING, workers=1, environment={"OPENSIPS_PY_PROFILE": str(tmp_path)})
    _wait_ten_times(running, client(running.address))
    (result,) = tmp_path.glob("SIP-receiver*.prof")
    stats: dict[tuple[str, int, str], tuple[int, ...]] = pstats.Stats(str(result)).stats  # type: ignore[attr-defined]
    calls = stats[str(running.config), line_of(running.config, "route[waits]"), "route_waits"][1]
    assert calls >= 10, "cProfile knows one stack only: scripts that wait at once look to it as if they called each other"


def coverage(configuration: Path, *words: str) -> str:
    command = [sys.executable, "-m", "coverage", *words, f"--rcfile={configuration}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=configuration.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_coverage_reports_which_lines_of_a_script_were_reached(measured: tuple[Server, Path]) -> None:
    running, configuration = measured
    coverage(configuration, "combine", "-q")
    rows = {
        Path(line.split()[0]).name: line.split()[1:]
        for line in coverage(configuration, "report", "-m").splitlines()
        if ".cfg" in line
    }
    never = str(line_of(running.config, "never reached"))
    assert rows["opensips.cfg"] == ["7", "1", "86%", never]
    assert rows["part.cfg"] == ["2", "0", "100%"]
    assert rows["inner.cfg"] == ["1", "1", "0%", "2"]
    coverage(configuration, "html", "-q")
    page = next((configuration.parent / "html").glob("*opensips_cfg.html")).read_text()
    assert f'class="mis show_mis"><span class="n"><a id="t{never}"' in page
    reached = line_of(running.config, "sl_send_reply(200")
    assert f'class="run"><span class="n"><a id="t{reached}"' in page


DEBUGGED = """
loadmodule "sl.so"
route {
    $var(x) = 41;
    breakpoint();
    $var(x) = $var(x) + 1;
    sl_send_reply(200, "OK $var(x)");
}
"""


def test_breakpoint_stops_in_the_route_when_the_server_was_started_for_it(client: MakeClient) -> None:
    reading, writing = os.pipe()
    running = Server(DEBUGGED, workers=1, environment={"OPENSIPS_PY_DEBUGGER": "1", "PYTHONUNBUFFERED": "1"}, stdin=reading)
    os.close(reading)
    try:
        sip = client(running.address)
        sip.request("OPTIONS", f"sip:alice@127.0.0.1:{running.port}")
        running.wait_log(f"> {running.config}({line_of(running.config, '$var(x) + 1')})route()")
        sip.nothing(0.2)
        os.write(writing, b"pv $rU\npv $var(x)\nnext\npv $var(x)\nwhere\ncontinue\n")
        assert sip.final().reason == "OK 42"
        log = running.log
        assert "'alice'" in log and "41" in log and "42" in log
        os.write(writing, b"quit\n")
        sip.request("OPTIONS", f"sip:alice@127.0.0.1:{running.port}")
        assert sip.final().status == 200
        assert running.stop() == 0
        assert "Traceback" not in running.log
    finally:
        os.close(writing)
        running.kill()
        running.remove()


@pytest.mark.parametrize(
    ("workers", "options", "message"),
    [(2, [], "needs a single SIP receiver, there are 2"), (1, [], "needs a standard input to read commands from")],
)
def test_a_server_that_cannot_be_debugged_says_why(workers: int, options: list[str], message: str) -> None:
    running = Server(DEBUGGED, workers=workers, environment={"OPENSIPS_PY_DEBUGGER": "1"}, options=options, wait=False)
    try:
        assert running.process.wait(20) == 255
        assert message in running.log
    finally:
        running.kill()
        running.remove()


def test_breakpoint_is_passed_in_any_other_server(server: StartServer, client: MakeClient) -> None:
    running = server(DEBUGGED)
    sip = client(running.address)
    sip.request("OPTIONS")
    assert sip.final().reason == "OK 42"
    running.wait_log("start the server with OPENSIPS_PY_DEBUGGER=1 to stop here")
