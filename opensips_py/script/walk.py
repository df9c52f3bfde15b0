"""Going through a tree: every statement, every call, in the order written."""

from __future__ import annotations

from collections.abc import Iterator

from opensips_py.script import ast

_WITH_PARTS = ast.Assign | ast.If | ast.While | ast.Assert
_LITERAL = ast.Number | ast.String | ast.Variable | ast.Null
"""Values in which no command stands; most are."""


def blocks(statement: ast.Statement) -> list[list[ast.Statement]]:
    """The blocks inside a statement."""
    if isinstance(statement, ast.If):
        return [statement.then, statement.otherwise]
    if isinstance(statement, ast.While | ast.ForEach):
        return [statement.body]
    if isinstance(statement, ast.Switch):
        return [case.body for case in statement.cases]
    return []


def conditions(condition: ast.Condition) -> Iterator[ast.Condition]:
    """A condition and all its parts."""
    yield condition
    if isinstance(condition, ast.Logical):
        yield from conditions(condition.left)
        yield from conditions(condition.right)
    elif isinstance(condition, ast.Not):
        yield from conditions(condition.operand)


def _sides(condition: ast.Condition) -> Iterator[ast.Expression]:
    """The expressions that a condition looks at."""
    for part in conditions(condition):
        if isinstance(part, ast.Comparison):
            yield part.left
            yield part.right
        elif isinstance(part, ast.Truth):
            yield part.value


def values_in(condition: ast.Condition) -> Iterator[ast.Expression]:
    """Every value that a condition looks at, and its parts."""
    for side in _sides(condition):
        yield from values_of(side)


def values_of(expression: ast.Expression) -> Iterator[ast.Expression]:
    """An expression, all its parts, and what conditions in it look at."""
    for part in expressions(expression):
        yield part
        if isinstance(part, ast.TruthOf):
            yield from values_in(part.condition)


def condition_of(statement: ast.Statement) -> ast.Condition | None:
    """The condition that a statement tests, if any."""
    return statement.condition if isinstance(statement, ast.If | ast.While | ast.Assert) else None


def commands_in(statement: ast.Statement) -> Iterator[ast.Statement]:
    """Commands that stand as conditions or values in a statement."""
    condition = condition_of(statement)
    if condition is not None:
        yield from _commands_in_condition(condition)
    elif isinstance(statement, ast.Assign):
        yield from _commands_in_value(statement.value)


def _commands_in_condition(condition: ast.Condition) -> Iterator[ast.Statement]:
    for part in conditions(condition):
        if isinstance(part, ast.Ran):
            yield from commands_in(part.command)
            yield part.command
    for side in _sides(condition):
        yield from _commands_in_value(side)


def _commands_in_value(expression: ast.Expression) -> Iterator[ast.Statement]:
    for part in expressions(expression):
        if isinstance(part, ast.CodeOf):
            yield part.command
        elif isinstance(part, ast.TruthOf):
            yield from _commands_in_condition(part.condition)


def statements(body: list[ast.Statement]) -> Iterator[ast.Statement]:
    """Every statement of a block, with those inside others and those that stand as conditions or values."""
    for statement in body:
        if isinstance(statement, _WITH_PARTS) and not isinstance(getattr(statement, "value", None), _LITERAL):
            yield from commands_in(statement)
        yield statement
        for block in blocks(statement):
            yield from statements(block)


def expressions(expression: ast.Expression) -> Iterator[ast.Expression]:
    """An expression and all its parts; what stands in commands and conditions is not among them."""
    yield expression
    if isinstance(expression, ast.Arithmetic):
        yield from expressions(expression.left)
        yield from expressions(expression.right)
    elif isinstance(expression, ast.Complement):
        yield from expressions(expression.operand)


def calls(body: list[ast.Statement]) -> Iterator[tuple[ast.Call, ast.Statement]]:
    """Every function call with the statement that it belongs to (a Call itself, Async, Await, Launch)."""
    for statement in statements(body):
        if isinstance(statement, ast.Call):
            yield statement, statement
        elif isinstance(statement, ast.Async | ast.Await | ast.Launch):
            yield statement.call, statement
