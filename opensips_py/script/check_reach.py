"""Warnings about sub-routes: functions that may not stand in every kind of route from which ``route()`` gets there.

OpenSIPS looks at the block only in which a function stands; that it is reached from another kind of route shows when
it runs. So scripts that do this load, with a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from opensips_py.script import ast
from opensips_py.script.context import RouteKind
from opensips_py.script.diagnostics import Findings
from opensips_py.script.environment import Environment
from opensips_py.script.walk import calls, statements


def check_reach(script: ast.Script, env: Environment, findings: Findings) -> None:
    """Warn about calls in sub-routes that a kind of route reaches in which the function may not stand."""
    ways: dict[str, dict[RouteKind, str]] = {}
    """For each sub-route the kinds of route that reach it, with the way of the first."""
    for route in script.routes:
        if route.kind is not RouteKind.REQUEST:
            start = route.keyword if route.name == "0" else f"{route.keyword}[{route.name}]"
            for name, way in _reached(route, env, start):
                ways.setdefault(name, {}).setdefault(route.kind, way)
    for name, kinds in ways.items():
        for call, statement in calls(env.routes[RouteKind.REQUEST, name].body):
            function = env.functions.get(call.name)
            if function is None or isinstance(statement, ast.Async | ast.Await | ast.Launch):
                continue
            for kind, way in kinds.items():
                if not function.routes & kind:
                    message = f"{call.name}() is not for {_keyword(kind)}, but {way} comes here"
                    findings.warning(call, message, "call it only where it is allowed")


def _reached(start: ast.Route, env: Environment, way: str) -> Iterator[tuple[str, str]]:
    """Sub-routes that ``start`` calls, and those that they call, and resume routes, each with the way."""
    seen: set[str] = set()
    todo = [(start, way)]
    while todo:
        route, way = todo.pop()
        for statement in statements(route.body):
            if isinstance(statement, ast.Async):  # a resume route has the kind of the route that was suspended
                name = statement.route.value
            elif isinstance(statement, ast.RouteCall) and not isinstance(statement.target, ast.Variable):
                name = str(statement.target.value)
            else:
                continue
            called = env.routes.get((RouteKind.REQUEST, name))
            if called is not None and name not in seen:
                seen.add(name)
                yield name, way
                todo.append((called, f"{way} by route[{name}]"))


def _keyword(kind: RouteKind) -> str:
    return f"{(kind.name or '').lower()}_route"
