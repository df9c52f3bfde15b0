"""A module that is published as a package: a wheel, installed by pip, loaded by a server."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

CODE = '''\
from opensips_py.module_api import Module, Out

module = Module("crm", doc="From a package")


@module.function
async def customer(number: str, name: Out[str]) -> bool:
    """Who has this number?"""
    name.set(f"customer {number}")
    return True
'''

FILES = {
    "opensips_py_crm/__init__.py": CODE,
    "opensips_py_crm-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: opensips-py-crm\nVersion: 1.0\n",
    "opensips_py_crm-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "opensips_py_crm-1.0.dist-info/entry_points.txt": "[opensips_py.modules]\ncrm = opensips_py_crm:module\n",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory into which pip has installed the package."""
    wheel = tmp_path / "opensips_py_crm-1.0-py3-none-any.whl"
    record = "opensips_py_crm-1.0.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        lines = []
        for name, text in FILES.items():
            archive.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(text.encode())}\n")
        archive.writestr(record, "".join(lines) + f"{record},,\n")
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return target


def test_a_script_loads_the_module_of_an_installed_wheel(
    server: Callable[..., Server], client: Callable[..., SipClient], site: Path
) -> None:
    script = """loadmodule "sl.so"\nloadmodule "tm.so"\nloadmodule "crm.so"
route { async(customer("$rU", $avp(name)), answer); }
route[answer] { t_reply(480, "$avp(name)"); }"""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    running = server(script, environment={"PYTHONPATH": path})
    caller = client(running.address)
    caller.request("INVITE", f"sip:4711@127.0.0.1:{running.port}")
    assert caller.receive().status == 100
    assert caller.receive(10).reason == "customer 4711"
