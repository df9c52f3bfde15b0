"""A module of a user's own in a directory, and scripts that load it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest

from opensips_py.testing import Script

OWN = """\
from __future__ import annotations

import asyncio
import threading
import time

from opensips_py.module_api import ALL, B, Context, Module, Out, Pattern, R, Static, Var

module = Module("own", doc="for tests")
"""


class Own:
    """Writes ``own.py`` and starts scripts that load it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack

    def write(self, code: str, name: str = "own.py", head: str = OWN) -> Path:
        path = self.directory / name
        path.write_text(head + code, encoding="utf-8")
        return path

    def script(
        self, code: str, text: str, name: str = "own.py", process: Literal["SIP receiver", "timer"] = "SIP receiver"
    ) -> Script:
        self.write(code, name)
        return self.start(f'loadmodule "{name}"\n{text}', process)

    def start(self, text: str, process: Literal["SIP receiver", "timer"] = "SIP receiver") -> Script:
        return self._stack.enter_context(Script(text, directory=self.directory, process=process))

    @property
    def python(self) -> Any:
        """The Python module that the script has loaded."""
        return sys.modules["opensips_py_user_module_own"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    with ExitStack() as stack:
        yield Own(tmp_path, stack)
