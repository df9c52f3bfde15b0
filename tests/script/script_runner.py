"""A script in a temporary directory, with a module of its own, and what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opensips_py.script import program
from opensips_py.script.context import Context, RouteKind, Source
from opensips_py.script.diagnostics import Diagnostic, ScriptErrors
from opensips_py.script.pseudo_variables_storage import script_variables
from opensips_py.sip.message import parse

MODULE = """
from opensips_py.script.declarations import ALL, B, Module, Pattern, R, Static, Var, VarList

module = Module("probe", doc="functions for tests")
limit = module.param("limit", int, 5, doc="a number")
label = module.param("label", str, "none", doc="a text")
many = module.param("many", str, [], doc="several texts", multiple=True)
nothing = module.param("nothing", int, 0, doc="a number", no_effect="there is nothing to set")
calls = []

@module.function(routes=ALL)
def give(ctx, code: int) -> int:
    return code

@module.function(routes=ALL)
def note(ctx, text: str, more: str | None = None) -> int:
    calls.append((text, more))
    return 1

@module.function(routes=ALL)
def into(ctx, value: str, output: Var) -> int:
    output.set(ctx, value)
    return 1

@module.function(routes=ALL)
def found(ctx, text: str, pattern: Pattern) -> int:
    return 1 if pattern.search(text) else -1

@module.function(routes=ALL)
def fixed(ctx, text: Static) -> int:
    calls.append(text)
    return 1

@module.function(routes=B)
def in_branch(ctx) -> int:
    return 1

@module.function(routes=ALL)
def broken(ctx) -> int:
    raise RuntimeError("broken")

@module.operation(routes=ALL)
def fetch(ctx, query: str, outputs: VarList | None = None) -> int:
    calls.append((query, outputs and [v.text for v in outputs]))
    return 7

@module.operation(routes=ALL)
def exec(ctx, command: str, stdin: str | None = None, output: Var | None = None) -> int:
    return 1

@module.operation(routes=ALL, async_only=True)
def only_async(ctx) -> int:
    return 1
"""

OPTIONS = (
    b"OPTIONS sip:bob@127.0.0.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK1\r\n"
    b"From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\n"
    b"Content-Length: 0\r\n\r\n"
)
HEAD = 'socket=udp:127.0.0.1:20100\nloadmodule "proto_udp.so"\nloadmodule "tm.so"\nloadmodule "probe.py"\n'
FIRST = HEAD.count("\n") + 1
"""Line at which the text after HEAD begins."""


class Recorder:
    """A runtime that writes down what scripts ask for."""

    def __init__(self) -> None:
        self.xlog_level = 2
        self.log_level = 2
        self.lines: list[str] = []
        self.problems: list[tuple[str, str]] = []
        self.suspended: list[tuple[Any, ...]] = []
        self.launched: list[tuple[Any, ...]] = []
        self.awaited: list[tuple[Any, ...]] = []
        self.waited: list[Any] = []

    def wait(self, ctx: Context, operation: Any) -> int:
        self.waited.append(operation)
        return int(operation)

    def suspend(self, ctx: Context, operation: Any, route: str, seconds: float | None, where: str) -> int:
        self.suspended.append((operation, route, seconds, where.rpartition(":")[2]))
        return 0

    def wait_here(self, ctx: Context, operation: Any, seconds: float | None, where: str) -> int:
        self.awaited.append((operation, seconds))
        return int(operation)

    def launch(self, ctx: Context, operation: Any, route: str | None, text: str | None, seconds: float | None, where: str) -> int:
        self.launched.append((operation, route, text, seconds))
        return 1

    def xlog(self, level: int, text: str) -> None:
        self.lines.append(text)

    def log(self, level: int, text: str) -> None:
        self.lines.append(f"{level}:{text}")

    def problem(self, level: int, text: str, where: str) -> None:
        self.problems.append((where.rpartition(":")[2], text))


class Scripts:
    """Writes, loads and runs scripts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "opensips.cfg"
        (directory / "probe.py").write_text(MODULE)

    def load(self, text: str, head: str = HEAD, **options: Any) -> program.Program:
        self.path.write_text(head + text, encoding="latin-1")
        return program.load(str(self.path), program.Defaults(**options))

    def findings(self, text: str, head: str = HEAD, **options: Any) -> list[Diagnostic]:
        """Everything said about a script; lines count from the first line of ``text``."""
        try:
            return self.load(text, head, **options).warnings
        except ScriptErrors as e:
            return e.diagnostics

    def say(self, text: str, head: str = HEAD, **options: Any) -> list[tuple[int, int, str]]:
        """``(line, column, message)``."""
        shift = head.count("\n")
        return [(d.line - shift, d.column, d.message) for d in self.findings(text, head, **options)]

    def context(self, prog: program.Program) -> Context:
        return Context(parse(OPTIONS), Source("127.0.0.1", 5070), prog.sockets[0])

    def run(self, text: str, **options: Any) -> Run:
        prog = self.load(text, **options)
        return Run(self, prog)

    def logged(self, body: str, extra: str = "") -> list[str]:
        """What the main route with this body writes with xlog()."""
        return self.run("route {\n" + body + "\n}\n" + extra).runtime.lines


class Run:
    """One run of the main route."""

    def __init__(self, scripts: Scripts, prog: program.Program) -> None:
        self.program = prog
        self.runtime = Recorder()
        prog.runtime = self.runtime
        script_variables.update(dict.fromkeys(script_variables))
        self.ctx = scripts.context(prog)
        route = prog.route(RouteKind.REQUEST, "0")
        assert route is not None
        self.error: Exception | None = None
        try:
            self.code = route(self.ctx)
        except Exception as e:
            self.error = e
