"""Going through a tree: every statement, every call, in the order written."""

from __future__ import annotations

from collections.abc import Iterator

from opensips_py.script import ast


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


def values_in(condition: ast.Condition) -> Iterator[ast.Expression]:
    """Every value that a condition looks at, and its parts."""
    for part in conditions(condition):
        if isinstance(part, ast.Comparison):
            yield from expressions(part.left)
            yield from expressions(part.right)
        elif isinstance(part, ast.Truth):
            yield from expressions(part.value)


def condition_of(statement: ast.Statement) -> ast.Condition | None:
    """The condition that a statement tests, if any."""
    return statement.condition if isinstance(statement, ast.If | ast.While | ast.Assert) else None


def commands_in(statement: ast.Statement) -> Iterator[ast.Statement]:
    """Commands that stand as conditions of a statement."""
    condition = condition_of(statement)
    if condition is not None:
        for part in conditions(condition):
            if isinstance(part, ast.Ran):
                yield part.command


def statements(body: list[ast.Statement]) -> Iterator[ast.Statement]:
    """Every statement of a block, with those inside others and those that stand as conditions."""
    for statement in body:
        yield from commands_in(statement)
        yield statement
        for block in blocks(statement):
            yield from statements(block)


def expressions(expression: ast.Expression) -> Iterator[ast.Expression]:
    """An expression and all its parts."""
    yield expression
    if isinstance(expression, ast.Arithmetic):
        yield from expressions(expression.left)
        yield from expressions(expression.right)
    elif isinstance(expression, ast.Complement):
        yield from expressions(expression.operand)


def calls(body: list[ast.Statement]) -> Iterator[tuple[ast.Call, ast.Statement]]:
    """Every function call with the statement that it belongs to (a Call itself, Async, Await, Launch, Assign)."""
    for statement in statements(body):
        if isinstance(statement, ast.Call):
            yield statement, statement
        elif isinstance(statement, ast.Async | ast.Await | ast.Launch):
            yield statement.call, statement
        elif isinstance(statement, ast.Assign):
            for part in expressions(statement.value):
                if isinstance(part, ast.CallValue):
                    yield part.call, statement
