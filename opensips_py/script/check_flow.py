"""Warnings about the flow of a script: what is never reached, and what a suspension loses."""

from __future__ import annotations

from opensips_py.script import ast
from opensips_py.script.context import RouteKind
from opensips_py.script.diagnostics import Findings
from opensips_py.script.environment import Environment, stored_name, stored_names
from opensips_py.script.walk import blocks, calls, condition_of, statements, values_in, values_of

_Stored = tuple[str, str]


def check_flow(script: ast.Script, env: Environment, findings: Findings) -> None:
    """Warn about every route of ``script``."""
    everywhere: set[_Stored] = set()
    for route in script.routes:
        everywhere |= _written(route.body, env)
    for parameter in script.parameters:
        if isinstance(parameter.value, ast.String):
            if parameter.name == "varset":
                everywhere.add(("var", parameter.value.value.partition("=")[0].strip()))
            everywhere |= set(stored_names(parameter.value.value))
    for route in script.routes:
        _unreachable(route.body, findings)
        _in_loop(route.body, False, findings)
        if route.sync:
            _held_up(route, findings)
        _stdin_position(route.body, everywhere, findings)
    _lost_variables(script, env, findings)


def _unreachable(body: list[ast.Statement], findings: Findings) -> None:
    for statement, following in zip(body, [*body[1:], None], strict=False):
        for block in blocks(statement):
            _unreachable(block, findings)
        if following is None or isinstance(following, ast.Break):
            continue
        if isinstance(statement, ast.Async):
            if isinstance(following, ast.Exit | ast.Drop) or (isinstance(following, ast.Return) and following.value is None):
                continue  # a habit, and harmless
            findings.warning(
                following, "never reached: async() ends the run of the script", f"put it into route[{statement.route.value}]"
            )
        elif isinstance(statement, ast.Exit | ast.Return | ast.Drop | ast.Break):
            word = type(statement).__name__.lower()
            findings.warning(following, f"never reached: it follows '{word}'")


def _in_loop(body: list[ast.Statement], loop: bool, findings: Findings) -> None:
    for statement in body:
        if loop and isinstance(statement, ast.Async):
            findings.warning(
                statement,
                "async() in a loop: the loop is not continued afterwards",
                "await(f(...)) waits inside a loop; or let the resume route call async() again",
            )
        for block in blocks(statement):
            _in_loop(block, loop or isinstance(statement, ast.While | ast.ForEach), findings)


def _held_up(route: ast.Route, findings: Findings) -> None:
    for statement in statements(route.body):
        if isinstance(statement, ast.Await):
            message = f"await() in event_route[{route.name}, sync] holds up the process: it runs inside what has raised the event"
            findings.warning(statement, message, "leave out ', sync', or use async()")


def _stdin_position(body: list[ast.Statement], written: set[_Stored], findings: Findings) -> None:
    """``exec("cmd", $var(out))``: the manual page's own example passes the variable as standard input."""
    for call, _ in calls(body):
        if call.name != "exec" or len(call.arguments) < 2:
            continue
        argument = call.arguments[1]
        if not isinstance(argument, ast.Variable):
            continue
        stored = stored_name(argument.text)
        if stored is not None and stored not in written:
            findings.warning(
                argument,
                f"{argument.text} is never set: the second parameter of exec() is the program's standard input",
                f"the output variable is the third parameter: exec(command, , {argument.text})",
            )


# --- what a route reads and writes ---------------------------------------------------------------------------------


def _written(body: list[ast.Statement], env: Environment) -> set[_Stored]:
    """Variables that a block sets, itself."""
    found: set[_Stored] = set()
    for statement in statements(body):
        if isinstance(statement, ast.Assign):
            found |= _one(statement.target.text)
        elif isinstance(statement, ast.ForEach):
            found |= _one(statement.iterator.text)
    for call, _ in calls(body):
        found |= outputs(call, env)
    return found


def _one(text: str) -> set[_Stored]:
    stored = stored_name(text)
    return set() if stored is None else {stored}


def outputs(call: ast.Call, env: Environment) -> set[_Stored]:
    """Variables that receive a function's results."""
    function = env.functions.get(call.name)
    found: set[_Stored] = set()
    for i, argument in enumerate(call.arguments):
        kind = function.parameters[i].kind if function is not None and i < len(function.parameters) else ""
        if isinstance(argument, ast.Variable) and kind in ("var", "varlist"):
            found |= _one(argument.text)
        elif isinstance(argument, ast.String) and kind == "varlist":
            found |= set(stored_names(argument.value))
    return found


def _reads(body: list[ast.Statement], env: Environment) -> list[tuple[_Stored, ast.Node]]:
    """Variables that a block reads, with the place, in the order written; up to where it sets them, by the caller."""
    found: list[tuple[_Stored, ast.Node]] = []

    def text(value: str, at: ast.Node) -> None:
        found.extend((stored, at) for stored in stored_names(value))

    def value(expression: ast.Expression | None) -> None:
        if expression is not None:
            for part in values_of(expression):
                if isinstance(part, ast.Variable):
                    text(part.text, part)

    for statement in statements(body):
        condition = condition_of(statement)
        if condition is not None:
            for read in values_in(condition):
                if isinstance(read, ast.Variable):
                    text(read.text, read)
        if isinstance(statement, ast.Assign):
            value(statement.value)
        elif isinstance(statement, ast.Xlog):
            if isinstance(statement.format, ast.String):
                text(statement.format.value, statement.format)
            else:
                value(statement.format)
        elif isinstance(statement, ast.Return | ast.Switch):
            value(statement.value)
        elif isinstance(statement, ast.ForEach):
            value(statement.values)
    for call, _ in calls(body):
        written = outputs(call, env)
        for argument in call.arguments:
            if isinstance(argument, ast.Variable) and stored_name(argument.text) not in written:
                text(argument.text, argument)
            elif isinstance(argument, ast.String):
                text(argument.value, argument)
    return found


def _reached(name: str, env: Environment, seen: set[str]) -> list[ast.Route]:
    """A route and those that it calls."""
    route = env.routes.get((RouteKind.REQUEST, name))
    if route is None or name in seen:
        return []
    seen.add(name)
    found = [route]
    for statement in statements(route.body):
        if isinstance(statement, ast.RouteCall) and not isinstance(statement.target, ast.Variable):
            found += _reached(str(statement.target.value), env, seen)
    return found


def _lost_variables(script: ast.Script, env: Environment, findings: Findings) -> None:
    """A resume route that reads a ``$var`` which only the suspended route has set."""
    for route in script.routes:
        before: set[_Stored] = set()
        for statement in statements(route.body):
            if isinstance(statement, ast.Assign) and not isinstance(statement.value, ast.Null):
                before |= _one(statement.target.text)
            elif isinstance(statement, ast.Call):
                before |= outputs(statement, env)
            elif isinstance(statement, ast.Async):
                _lost_by(statement, before, env, findings)


def _lost_by(node: ast.Async, before: set[_Stored], env: Environment, findings: Findings) -> None:
    resumed = _reached(node.route.value, env, set())
    if not resumed:
        return
    set_again = outputs(node.call, env)
    for route in resumed:
        set_again |= _written(route.body, env)
    for stored, at in _reads(resumed[0].body, env):
        if stored[0] == "var" and stored in before and stored not in set_again:
            findings.warning(
                at,
                f"$var({stored[1]}) is not preserved over async() (line {node.line} suspends, this route goes on)",
                f"use $avp({stored[1]}), which is",
            )
