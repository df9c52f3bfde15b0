"""How a module is tested: the function alone, and a script that calls it. Run it with pytest."""

from __future__ import annotations

from pathlib import Path

from my_module import greeting

from opensips_py.module_api import Out
from opensips_py.testing import Script

HERE = Path(__file__).parent


def test_the_function_greets() -> None:
    text: Out[str] = Out()
    assert greeting("alice", text)
    assert text.value == "Hello alice"


def test_the_script_answers_with_the_greeting() -> None:
    with Script((HERE / "my_module.cfg").read_text(), directory=HERE) as script:
        run = script.request("OPTIONS", "sip:bob@example.com")
        assert run.replies == ["200 Hello bob"]
        assert run["$avp(text)"] == "Hello bob"
