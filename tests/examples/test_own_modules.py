"""The examples of modules of one's own run, and are as short as they say."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from opensips_py.module_api import ConfigError
from opensips_py.testing import Script
from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from tests.support.http_server import HttpServer
from tests.support.sip_client import SipClient

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def test_the_template_has_ten_lines() -> None:
    text = (EXAMPLES / "my_module.py").read_text()
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 10


@pytest.mark.parametrize("page", ["README.md", "docs/modules.md"])
def test_the_template_is_the_one_that_is_shown(page: str) -> None:
    assert (EXAMPLES / "my_module.py").read_text() in (EXAMPLES.parent / page).read_text()


def test_the_template_runs_as_its_script_says(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    text = (EXAMPLES / "my_module.cfg").read_text()
    places = {"socket=udp:127.0.0.1:5060": "socket=udp:127.0.0.1:{port}", '"my_module.py"': f'"{EXAMPLES}/my_module.py"'}
    for old, new in places.items():
        assert old in text
        text = text.replace(old, new)
    running = server(text)
    sip = client(running.address)
    sip.request("OPTIONS", f"sip:alice@127.0.0.1:{running.port}")
    assert sip.final(10).start == "SIP/2.0 200 Hello alice"


def test_the_template_s_own_test_passes() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=prepend", "test_my_module.py"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=100)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_the_template_is_checked_before_the_server_runs(tmp_path: Path) -> None:
    text = (EXAMPLES / "my_module.cfg").read_text().replace('greeting("$rU", $avp(text))', 'greeting("$rU", $rm)')
    path = tmp_path / "wrong.cfg"
    path.write_text(text.replace('"my_module.py"', f'"{EXAMPLES}/my_module.py"'))
    command = [sys.executable, "-m", "opensips_py", "-C", "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=EXAMPLES.parent)
    assert done.returncode == 255
    assert f"{path}:15:24: error: $rm cannot be written, and this parameter receives a value" in done.stderr


@pytest.fixture
def carriers(http_server: HttpServer) -> str:
    """The larger example, asking the test's web server."""
    text = (EXAMPLES / "carriers.cfg").read_text()
    assert "127.0.0.1:8088" in text
    return text.replace("127.0.0.1:8088", f"127.0.0.1:{http_server.port}")


def test_carriers_are_asked_once_and_known_then(carriers: str, http_server: HttpServer) -> None:
    with Script(carriers, directory=EXAMPLES) as script:
        for _ in range(3):
            run = script.request("INVITE", "sip:49301234567@example.com")
            assert run.replies == ["200 Carrier hello"], run.log
        assert len(http_server.requests) == 1
        assert (script.statistic("carriers:asked"), script.statistic("carriers:known")) == (1, 2)
        assert script.mi("carriers_list") == {"result": {"49301234567": "hello"}}
        assert script.mi("carriers_set", {"number": "112", "carrier": "Zoë"}) == {"result": "OK"}
        assert script.request("INVITE", "sip:112@example.com").replies == ["200 Carrier Zoë"]
        assert run["$carriers_known"] == 2


def test_a_service_that_fails_is_told_from_one_that_does_not_know() -> None:
    text = (EXAMPLES / "carriers.cfg").read_text().replace("127.0.0.1:8088", f"127.0.0.1:{free_port(socket.SOCK_STREAM)}")
    with Script(text, directory=EXAMPLES) as script:
        run = script.request("INVITE", "sip:2@example.com")
        assert run.replies == ["503 Carriers are not known at the moment"]
        assert "ConnectionRefusedError" in "\n".join(run.log)
        script.mi("carriers_set", ["3", ""])
        assert script.request("INVITE", "sip:3@example.com").replies == ["404 No such number"]


def test_a_service_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = (EXAMPLES / "carriers.cfg").read_text().replace("127.0.0.1:8088", f"127.0.0.1:{silent.getsockname()[1]}")
        with Script(text.replace('"timeout", 2', '"timeout", 1'), directory=EXAMPLES) as script:
            run = script.request("INVITE", "sip:2@example.com")
    assert run.replies == ["503 Carriers are not known at the moment"]
    assert not run.log


def test_the_script_is_told_when_the_service_is_down() -> None:
    place = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    text = (EXAMPLES / "carriers.cfg").read_text().replace("127.0.0.1:8088", place)
    code = (EXAMPLES / "carriers.py").read_text()
    assert "@module.every(60)" in code
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "carriers.py").write_text(code.replace("@module.every(60)", "@module.every(0.05)"))
        with Script(text, directory=directory, process="timer") as script:
            run = script.request("OPTIONS", "sip:1@example.com")
            script.wait(lambda: f"no carriers from {place}" in run.log)


def test_a_wrong_service_keeps_the_server_from_starting(carriers: str) -> None:
    text = carriers.replace('"service", "127.0.0.1:', '"service", "127.0.0.1')
    with pytest.raises(ConfigError, match="is not host:port"):
        Script(text, directory=EXAMPLES)
