"""Warnings about ``$rc``: it is the return code of the last statement, and an ``if`` is a statement too."""

from __future__ import annotations

from opensips_py.script import ast
from opensips_py.script.diagnostics import Findings
from opensips_py.script.walk import blocks, condition_of, conditions, values_in

_NAMES = ("$rc", "$retcode")
_SETTING = ast.Call | ast.RouteCall | ast.Await


def check_codes(script: ast.Script, findings: Findings) -> None:
    """Warn where ``$rc`` is tested after an ``if`` that was false, and so has left its own value there."""
    for route in script.routes:
        _block(route.body, findings)


def _block(body: list[ast.Statement], findings: Findings) -> None:
    for i, statement in enumerate(body):
        if i:
            _behind(body[i - 1], statement, findings)
        for block in blocks(statement):
            _block(block, findings)


def _behind(before: ast.Statement, statement: ast.Statement, findings: Findings) -> None:
    if not isinstance(before, ast.If) or not _only_looks(before) or _means_its_body(before):
        return
    at = _test(statement)
    if at is not None:
        # The last if of an else-if chain ends the block of the else, and counts as 1 there.
        value = 1 if before.otherwise else 0
        findings.warning(
            at,
            f"{at.text} is {value} here when the 'if' in line {before.line} was false",
            f"keep it before that 'if': $var(rc) = {at.text};",
        )


def _only_looks(node: ast.If) -> bool:
    """Is there a way through the ``if`` that runs nothing?"""
    if any(isinstance(part, ast.Ran) for part in conditions(node.condition)):
        return False
    if not node.otherwise:
        return True
    return len(node.otherwise) == 1 and isinstance(node.otherwise[0], ast.If) and _only_looks(node.otherwise[0])


def _means_its_body(node: ast.If) -> bool:
    """``if ($var(x)) { f(); }``: the code that is tested after it is that of ``f()``, or 0."""
    return _read(node.condition) is None and bool(node.then) and isinstance(node.then[-1], _SETTING)


def _test(statement: ast.Statement) -> ast.Variable | None:
    """Where a statement decides by ``$rc``, before its condition has run anything."""
    if isinstance(statement, ast.Switch):
        return statement.value if statement.value.text in _NAMES else None
    condition = condition_of(statement)
    if condition is None or any(isinstance(part, ast.Ran) for part in conditions(condition)):
        return None
    return _read(condition)


def _read(condition: ast.Condition) -> ast.Variable | None:
    for value in values_in(condition):
        if isinstance(value, ast.Variable) and value.text in _NAMES:
            return value
    return None
