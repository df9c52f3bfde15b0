"""A tree back to text: what the parser makes of the text is the same tree again, places aside.

What the tree does not keep is not printed: comments, the members of ``dst_blacklist``, ``async`` of an event_route,
the arguments of ``error()``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from opensips_py.script import ast

_INDENT = "    "
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PLAIN_NUMBER = re.compile(r"(?:0|[1-9][0-9]*)\Z")
_NAMELESS = {"route", "onreply_route", "error_route", "local_route", "startup_route"}
_WEAK = {"|", "&", "^", "<<", ">>"}


def script_text(script: ast.Script) -> str:
    """A whole script: parameters, modules, their parameters, routes."""
    parts = [
        "".join(f"{setting_text(node)}\n" for node in script.settings),
        "".join(f"loadmodule {quoted(node.path)}\n" for node in script.modules),
        "".join(f"{parameter_text(node)}\n" for node in script.parameters),
        *(route_text(node) for node in script.routes),
    ]
    return "\n".join(part for part in parts if part)


def route_text(route: ast.Route) -> str:
    """A route block."""
    head = route.keyword
    if route.keyword == "timer_route":
        head += f"[{_name(route.name)}, {route.interval}]"
    elif route.sync:
        head += f"[{_name(route.name)}, sync]"
    elif route.name != "0" or route.keyword not in _NAMELESS:
        head += f"[{_name(route.name)}]"
    return "".join([f"{head} {{\n", *_block(route.body, 1), "}\n"])


# --- top level -------------------------------------------------------------------------------------------------------


def setting_text(node: ast.Setting) -> str:
    """``name = value``."""
    value = node.value
    if node.name == "dst_blacklist" and isinstance(value, ast.Word):
        return f"dst_blacklist = {value.text}:{{}}"
    words = "".join(f" {_plain(word)}" for word in node.words)
    return f"{node.name} = {_endpoint(value) if isinstance(value, ast.Endpoint) else _plain(value)}{words}"


def parameter_text(node: ast.ModParam) -> str:
    """``modparam(module, name, value)``."""
    return f"modparam({quoted(node.module)}, {quoted(node.name)}, {_plain(node.value)})"


def _plain(value: ast.Number | ast.String | ast.Word | ast.Network) -> str:
    if isinstance(value, ast.Number):
        return str(value.value)
    return quoted(value.value) if isinstance(value, ast.String) else value.text


def _endpoint(node: ast.Endpoint) -> str:
    text = f"{node.proto}:" if node.proto else ""
    text += _host(node.host, node.port)
    if node.advertised_host is not None:
        text += f" as {_host(node.advertised_host, node.advertised_port)}"
    if node.workers is not None:
        text += f" use_workers {node.workers}"
    if node.scaling_profile is not None:
        text += f" use_auto_scaling_profile {node.scaling_profile}"
    if node.anycast:
        text += " anycast"
    if node.tag is not None:
        text += f" tag {_name(node.tag)}"
    return text


def _host(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _name(name: str) -> str:
    return name if _WORD.match(name) or _PLAIN_NUMBER.match(name) else quoted(name)


def quoted(text: str) -> str:
    """A string literal on one line."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


# --- statements ------------------------------------------------------------------------------------------------------


def _block(body: list[ast.Statement], depth: int) -> Iterator[str]:
    for statement in body:
        yield from _statement(statement, depth)


def _statement(node: ast.Statement, depth: int) -> Iterator[str]:
    indent = _INDENT * depth
    match node:
        case ast.If():
            yield f"{indent}if ({condition_text(node.condition)}) {{\n"
            yield from _block(node.then, depth + 1)
            if node.otherwise:
                yield f"{indent}}} else {{\n"
                yield from _block(node.otherwise, depth + 1)
            yield f"{indent}}}\n"
        case ast.While():
            yield f"{indent}while ({condition_text(node.condition)}) {{\n"
            yield from _block(node.body, depth + 1)
            yield f"{indent}}}\n"
        case ast.ForEach():
            yield f"{indent}for ({node.iterator.text} in {node.values.text}) {{\n"
            yield from _block(node.body, depth + 1)
            yield f"{indent}}}\n"
        case ast.Switch():
            yield f"{indent}switch ({node.value.text}) {{\n"
            for case in node.cases:
                yield f"{_INDENT * (depth + 1)}{'default' if case.label is None else 'case ' + _plain(case.label)}:\n"
                yield from _block(case.body, depth + 2)
            yield f"{indent}}}\n"
        case _:
            yield f"{indent}{command_text(node)};\n"


def command_text(node: ast.Statement) -> str:
    """A command or assignment, without its semicolon."""
    match node:
        case ast.Call():
            return f"{node.name}({_arguments(node.arguments)})"
        case ast.Assign():
            return f"{node.target.text} {node.op} {'NULL' if isinstance(node.value, ast.Null) else value_text(node.value)}"
        case ast.RouteCall():
            return f"route({', '.join([_target(node.target), *map(_argument, node.arguments)])})"
        case ast.Xlog():
            level = "" if node.level is None else f"{_argument(node.level)}, "
            return f"xlog({level}{_argument(node.format)})"
        case ast.Log():
            return f"log({node.level}, {quoted(node.text)})"
        case ast.Return():
            return "return" if node.value is None else f"return({_argument(node.value)})"
        case ast.Async():
            return f"async({command_text(node.call)}, {_name(node.route.value)}{_seconds(node.seconds)})"
        case ast.Await():
            return f"await({command_text(node.call)}{_seconds(node.seconds)})"
        case ast.Launch():
            route = "" if node.route is None else f", {_name(node.route.value)}"
            text = "" if node.text is None else f", {_argument(node.text)}"
            return f"launch({command_text(node.call)}{route}{text}{_seconds(node.seconds)})"
        case ast.Assert():
            return f"assert({condition_text(node.condition)}, {quoted(node.info)})"
        case ast.Noop():
            return "error()"
        case _:
            return type(node).__name__.lower()  # exit, drop, break


def _seconds(seconds: float | ast.Variable | None) -> str:
    if seconds is None:
        return ""
    return f", {seconds.text}" if isinstance(seconds, ast.Variable) else f", {seconds:.15f}".rstrip("0").rstrip(".")


def _arguments(arguments: list[ast.Argument]) -> str:
    return ", ".join(map(_argument, arguments))


def _argument(argument: ast.Argument) -> str:
    match argument:
        case None:
            return ""
        case ast.Variable():
            return argument.text
        case ast.Null():
            return "NULL"
        case _:
            return _plain(argument)


def _target(target: ast.String | ast.Number | ast.Variable) -> str:
    if isinstance(target, ast.String):
        return target.value if _WORD.match(target.value) else quoted(target.value)
    return _argument(target)


# --- conditions and values -------------------------------------------------------------------------------------------


def condition_text(node: ast.Condition) -> str:
    """A condition."""
    match node:
        case ast.Logical():
            left = (condition_text if isinstance(node.left, ast.Logical) else _term)(node.left)
            return f"{left} {'&&' if node.op == 'and' else '||'} {_term(node.right)}"
        case ast.Not():
            return f"!{_term(node.operand)}"
        case ast.Truth():
            return _bracketed(node.value) if node.bracketed else _left(node.value)
        case ast.Ran():
            return command_text(node.command)
        case ast.Comparison():
            left = _bracketed(node.left) if isinstance(node.left, ast.Number) else _left(node.left)
            return f"{left} {node.op} {_right(node.right)}"


def _term(node: ast.Condition) -> str:
    grouped = isinstance(node, ast.Logical) or (isinstance(node, ast.Ran) and isinstance(node.command, ast.Assign))
    return f"({condition_text(node)})" if grouped else condition_text(node)


def _left(node: ast.Expression) -> str:
    return value_text(node) if isinstance(node, ast.Variable | ast.Number) else _bracketed(node)


def _right(node: ast.Expression) -> str:
    if isinstance(node, ast.Null):
        return "NULL"
    return _bracketed(node) if isinstance(node, ast.Arithmetic | ast.Complement | ast.CodeOf | ast.TruthOf) else value_text(node)


def _bracketed(node: ast.Expression) -> str:
    return f"[{value_text(node)}]"


def value_text(node: ast.Expression) -> str:
    """An arithmetic expression."""
    match node:
        case ast.Variable():
            return node.text
        case ast.Null():
            return "NULL"
        case ast.CodeOf():
            return command_text(node.command)
        case ast.TruthOf():
            return f"({condition_text(node.condition)})"
        case ast.Complement():
            return f"~{_grouped(node.operand, True)}"
        case ast.Arithmetic():
            weak = node.op in _WEAK
            left = _grouped(node.left, not weak and isinstance(node.left, ast.Arithmetic) and node.left.op in _WEAK)
            right = _grouped(node.right, not (weak and isinstance(node.right, ast.Arithmetic) and node.right.op not in _WEAK))
            return f"{left} {node.op} {right}"
        case _:
            return _plain(node)


def _grouped(node: ast.Expression, group: bool) -> str:
    return f"({value_text(node)})" if group and isinstance(node, ast.Arithmetic) else value_text(node)
