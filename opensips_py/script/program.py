"""A script ready to run: :func:`load` takes a file through every stage and gives a :class:`Program`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, TracebackType
from typing import Any, Protocol

from opensips_py.script import ast, check, lexer, missing_modules, modules, parameters, parser, preprocess, sockets, variables
from opensips_py.script.codegen import FOREIGN
from opensips_py.script.compile import RouteCompiler, RouteFunction, name_of_code
from opensips_py.script.context import ListenSocket, RouteKind
from opensips_py.script.declarations import Module
from opensips_py.script.diagnostics import ERROR, WARNING, Diagnostic, Findings, ScriptErrors
from opensips_py.script.environment import Environment
from opensips_py.script.event_names import events
from opensips_py.script.flag_names import branch_flags, message_flags
from opensips_py.script.parameters import Settings
from opensips_py.script.runtime import Runtime
from opensips_py.script.shape import shape


class LoadOptions(Protocol):
    """What the command line says about loading; ``workers.options.Options`` is one."""

    check_all: bool
    listen: list[str]
    udp_workers: int | None
    tcp_workers: int | None
    max_buffer: int | None
    debug_mode: bool
    preprocessor: str | None
    argv: dict[str, str]
    missing_modules: str
    """``error`` or ``warn``."""


@dataclass(slots=True)
class Defaults:
    """Options of a load without a command line."""

    check: bool = False
    """``-c`` or ``-C``: only check."""
    check_all: bool = False
    listen: list[str] = field(default_factory=list)
    udp_workers: int | None = None
    tcp_workers: int | None = None
    max_buffer: int | None = None
    debug_mode: bool = False
    preprocessor: str | None = None
    argv: dict[str, str] = field(default_factory=dict)
    missing_modules: str = "error"


class Program:
    """A compiled script with its settings, modules and sockets."""

    def __init__(self, path: str, script: ast.Script, env: Environment) -> None:
        self.path = path
        self.files = script.files
        """The script and the files that it includes."""
        self.settings: Settings = env.settings
        self.modules: dict[str, Module] = env.modules
        """The core's and the loaded modules by name."""
        self.registry = env.registry
        self.sockets: list[ListenSocket] = []
        self.aliases: list[tuple[str | None, str, int | None]] = []
        """``(proto, host, port)`` of each ``alias=``; None: any."""
        self.warnings: list[Diagnostic] = []
        """Warnings and notices."""
        self.argv = env.argv
        self.preprocessor: str | None = None
        self.missing: str | None = None
        """Which modules are missing, in one line; None: none is."""
        self.directory = os.getcwd()
        """Where names of files in the script begin."""
        self.generation = 0
        """How often the routes have been read again."""
        self.frame_nodes: list[ast.Node] = [*script.settings, *script.modules, *script.parameters]
        """What the script says outside its routes."""
        self._namespace: dict[str, Any] = {"__name__": path, "rt": None}
        compiler = RouteCompiler(script, env, self._namespace)
        # a script that is only checked may name what nobody knows
        self.routes: dict[tuple[RouteKind, str], RouteFunction] = {} if env.unsupported else compiler.run()
        self.called: frozenset[str] = frozenset(env.called)
        """Functions that the script calls, with ``async`` and ``await`` if it has these."""
        self._codes = compiler.codes
        self._given_names = {name_of_code(file): file for file in self.files}
        self.timer_routes: dict[str, int] = {
            r.name: r.interval for r in script.routes if r.kind is RouteKind.TIMER and r.interval
        }
        """Seconds between two runs of each timer route."""
        self.event_routes: dict[str, bool] = {r.name: r.sync for r in script.routes if r.kind is RouteKind.EVENT}
        """Whether each event route runs at once, inside what raises the event."""

    @property
    def frame(self) -> tuple[Any, ...]:
        """What the script says outside its routes, for comparing."""
        return tuple(shape(node) for node in self.frame_nodes)

    def release(self) -> None:
        """The routes will not run again: let go of all that they refer to, without the help of the collector."""
        self.routes.clear()
        self._codes.clear()
        self._namespace.clear()

    @property
    def runtime(self) -> Runtime:
        """What routes reach the server through. Set it in every process before a route runs."""
        return self._namespace["rt"]  # type: ignore[no-any-return]

    @runtime.setter
    def runtime(self, runtime: Runtime) -> None:
        self._namespace["rt"] = runtime

    def route(self, kind: RouteKind, name: str) -> RouteFunction | None:
        """A route block; ``"0"`` is the one without a name."""
        return self.routes.get((kind, name))

    def locate(self, error: BaseException) -> tuple[str, int] | None:
        """File and line of the script statement from which an exception came, or None."""
        place = None
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            place = self.place(trace.tb_frame.f_code, trace.tb_lineno) or place
            trace = trace.tb_next
        return place

    def place(self, code: CodeType, line: int) -> tuple[str, int] | None:
        """File and line of the script for a line of ``code``; None when that is not a route."""
        if code not in self._codes:
            return None
        if line >= FOREIGN:
            return self.files[line // FOREIGN - 1], line % FOREIGN
        return self._given_names.get(code.co_filename, code.co_filename), line


_NESTING = 5000
"""Python frames that reading a script may use: a chain of ``else if`` nests, and some run over hundreds of branches."""


def load(path: str, options: LoadOptions | None = None) -> Program:
    """Read, check and compile the script in ``path``. Raises ScriptErrors with everything that is wrong."""
    with deep(path):
        return _load(path, options)


@contextmanager
def deep(path: str) -> Iterator[None]:
    """Let statements nest as deeply as scripts do; what nests deeper still becomes ScriptErrors."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _NESTING))
    try:
        yield
    except RecursionError:
        raise ScriptErrors([Diagnostic(path, 1, 1, 2, ERROR, "statements or conditions are nested too deeply")]) from None
    except SyntaxError as e:  # Python's own limit, for loops and switches
        line = (e.lineno or 1) % FOREIGN
        raise ScriptErrors([Diagnostic(e.filename or path, line, 1, 2, ERROR, f"cannot be compiled: {e.msg}")]) from None
    finally:
        sys.setrecursionlimit(limit)


def _load(path: str, options: LoadOptions | None) -> Program:
    options = Defaults() if options is None else options
    findings = Findings()
    message_flags.clear()
    branch_flags.clear()
    events.clear()
    try:
        source = preprocess.flatten(path, findings, options.preprocessor)
    except preprocess.Unreadable:
        raise ScriptErrors(findings.sorted()) from None
    script = parser.parse(lexer.tokens(source, findings), findings)
    settings = parameters.apply(script.settings, findings)
    _override(settings, options)
    only_checked = bool(getattr(options, "check", False))
    env = Environment(settings, variables.Registry(), argv=dict(options.argv), only_checked=only_checked)
    strict = options.check_all or not only_checked
    missing = WARNING if options.missing_modules == "warn" else ERROR
    modules.load(script, env, findings, strict=strict, missing=missing)
    modules.check_values(script, env, findings)
    check.check(script, env, findings, path)
    listening, aliases = sockets.resolve(settings, env.modules, env.missing, options.listen, findings, path)
    summary = missing_modules.summary(script, env)
    if findings.failed:
        raise ScriptErrors(findings.sorted(), summary)
    variables.use(env.registry)
    program = Program(path, script, env)
    program.missing = summary
    program.sockets, program.aliases = listening, aliases
    program.preprocessor = options.preprocessor
    program.warnings = findings.sorted()
    return program


def _override(settings: Settings, options: LoadOptions) -> None:
    """The command line wins over the script."""
    if options.debug_mode or settings.debug_mode:
        settings.debug_mode = 1
        settings.udp_workers = settings.tcp_workers = 2
        settings.log_level = 4
        settings.log_stderror = 1
    if options.udp_workers is not None:
        settings.udp_workers = options.udp_workers
    if options.tcp_workers is not None:
        settings.tcp_workers = options.tcp_workers
    if options.max_buffer is not None:
        settings.maxbuffer = options.max_buffer
