"""No text in an argument makes a function of a module raise, or costs more than its length; whatever the message is."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from opensips_py.engine.operation import Operation
from opensips_py.script import modules as known
from opensips_py.script.context import Context, RouteKind, Source, ValueRefused
from opensips_py.script.declarations import Function, Module, Parameter
from opensips_py.script.posix_regex import RegexError, compile_dynamic
from opensips_py.script.variables import by_text, current
from opensips_py.server.process import this
from opensips_py.sip.message import parse
from opensips_py.testing import Script
from scripts import db
from tests.script.test_hostile_values import TEXTS, messages
from tests.support.script_context import REQUEST, SDP, wire

MOST_CPU = 1.0
"""Seconds of CPU time for one call; what is linear takes some milliseconds for the longest texts here."""
NEEDS_A_SERVER = {"dialplan", "ldap", "db_mysql", "mi_fifo", "mi_datagram", "httpd", "python"}
"""Modules that read a database or a file when they start, or serve somebody."""
SKIPPED = {
    *("sleep", "usleep", "abort", "script_trace"),  # hold up or change the process
    *("t_relay", "t_replicate", "forward", "send", "t_uac_dlg", "t_new_request", "t_wait_for_new_branches"),  # look names up
}
LONG = [
    *("a" * 60_000, "(" * 30_000, "%" * 60_000, "a,b;c=" * 10_000, "\r\n" * 30_000, "<sip:a@b>," * 6_000, "=" * 60_000),
    *("1+" * 30_000, "((" * 20_000 + "1", "9" * 60_000, "sin " * 15_000, "1 dup * " * 7_000, "2^" * 20_000 + "2"),
    *("-" * 60_000, "[" * 60_000, "{" * 60_000, '{"a":' * 10_000, "/" * 60_000, "//" * 10_000 + "g", "/a*/b/g" * 5_000),
    *("\\" * 60_000, "$" * 60_000, "$(a{s." * 9_000, "SIP/2.0/UDP h;b=c," * 3_000, "a=b\r\n" * 10_000, "|" * 60_000),
    *("0x" + "f" * 60_000, "1e" + "9" * 20, "." * 60_000, "::" * 30_000),
]
LARGE = [0, 1, -1, 2**31 - 1, -(2**31)]


def loaded() -> list[str]:
    return [name for name in known.available() if name not in NEEDS_A_SERVER]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    url = f"sqlite://{tmp_path_factory.mktemp('database')}/case.db"
    assert db.main(["create", url]) == 0
    lines = "".join(f'loadmodule "{name}.so"\n' for name in loaded() if not name.startswith("proto_"))
    settings = (
        'modparam("uac", "restore_mode", "none")\n'
        f'modparam("dispatcher", "db_url", "{url}")\n'  # which does not take the default one
        f'db_default_url="{url}"\n'
    )
    with Script(
        lines + settings + 'loadmodule "proto_tcp.so"\nroute { exit; }\nroute[r] { exit; }\nfailure_route[f] { exit; }'
    ) as running:
        for handle in this.handles:
            handle._take = lambda data: None  # type: ignore[attr-defined]
        yield running


def context(body: str = SDP) -> Context:
    msg = parse(wire(REQUEST + body))
    return Context(msg, Source("198.51.100.7", 5061), this.sockets[0], RouteKind.REQUEST)


def argument(parameter: Parameter, text: str, number: int) -> Any:
    """A value as a compiled route passes it; LookupError when a script cannot have this one there."""
    kind = parameter.kind
    if kind in ("int", "loose_int"):
        return number
    if kind == "str":
        if parameter.fault is not None and parameter.fault(text, current()) is not None:
            raise LookupError
        return text
    if kind == "var":
        return by_text("$var(out)")
    if kind == "varlist":
        return [by_text("$avp(a)"), by_text("$var(b)")]
    if kind == "regex":
        try:
            return compile_dynamic(text, True)
        except RegexError:
            return compile_dynamic("a|b", True)
    if kind in ("flag", "branch_flag", "mask"):
        return number & 0xFFFF
    if kind == "static":
        if parameter.fault is None or parameter.fault(text, current()) is not None:
            raise LookupError
        return text
    return {"avp": "a", "route": "r", "event": "E_X", "raised_event": "E_X"}.get(kind, text)


def functions() -> list[tuple[str, str]]:
    found = [("core", function) for function in known.core_module().functions if function not in SKIPPED]
    for name in loaded():
        module = importlib.import_module(f"opensips_py.modules.{name}").module
        found += [(name, function) for function in module.functions if function not in SKIPPED]
    return found


def declared(module: str) -> Module:
    return known.core_module() if module == "core" else this.program.modules[module]


def calls(function: Function, texts: list[str]) -> Iterator[tuple[str, list[Any]]]:
    for i, text in enumerate(texts):
        mandatory = [at for at, p in enumerate(function.parameters) if not p.optional]
        for count in {len(function.parameters), max(mandatory, default=-1) + 1}:
            left_out = count < len(function.parameters)
            try:
                yield (
                    text,
                    [
                        None if left_out and p.optional else argument(p, text, LARGE[i % len(LARGE)])
                        for p in function.parameters[:count]
                    ],
                )
            except LookupError:
                continue


@pytest.mark.parametrize(("module", "name"), functions())
def test_no_argument_makes_a_function_raise_or_take_long(script: Script, module: str, name: str) -> None:
    function = declared(module).functions[name]
    if not function.parameters:
        calls_: Iterator[tuple[str, list[Any]]] = iter([("", [])])
    else:
        calls_ = calls(function, [*TEXTS, *LONG])
    for text, arguments in calls_:
        ctx = context()
        began = time.process_time()
        try:
            result = function.call(ctx, *arguments)
        except ValueRefused:  # the statement fails, with a line in the log
            result = -1
        took = time.process_time() - began
        assert took < MOST_CPU, f"{name}({text[:60]!r}…) took {took:.1f} s"
        end(result)
        ctx.msg.serialise()


def end(result: object) -> None:
    if isinstance(result, Operation):
        result.close()
    else:
        assert result is None or isinstance(result, int)


@pytest.mark.parametrize("module", ["core", *loaded()])
def test_no_message_makes_a_function_raise_or_take_long(script: Script, module: str) -> None:
    plain = {"str": "sip:x@192.0.2.7", "regex": compile_dynamic("a|^b", True)}
    for name, function in declared(module).functions.items():
        if name in SKIPPED:
            continue
        try:
            arguments = [plain.get(p.kind) or argument(p, "From", 1) for p in function.parameters]
        except LookupError:
            continue
        for ctx in itertools.islice(messages(), len(name) % 5, None, 5):
            began = time.process_time()
            try:
                end(function.call(ctx, *arguments))
            except ValueRefused:
                continue
            finally:
                took = time.process_time() - began
            assert took < MOST_CPU, f"{name}() took {took:.1f} s with {ctx.msg.text[:300]!r}"
