"""Values and conditions as Python expressions.

A condition may need statements before its expression, because a command can stand there (it must be able to end the
script): every method for conditions gives both. Types that are known when the script is loaded (literals, ``$rc``) select
a plain Python operator; otherwise an operator of ``semantics`` is called.
"""

from __future__ import annotations

import ast as py
import re
from collections.abc import Callable

from opensips_py.script import ast, semantics
from opensips_py.script.codegen import CodeBuilder
from opensips_py.script.context import Value, ValueRefused
from opensips_py.script.environment import Environment
from opensips_py.script.posix_regex import compile_regex
from opensips_py.script.pseudo_variables_storage import script_variables
from opensips_py.script.walk import expressions

ANY, PLAIN, NUMBER, TEXT = "any", "plain", "number", "text"
"""What is known of a value: nothing (it may be NULL), nothing but that a number is a plain ``int`` (``$var``), a number,
a string."""

_SCRIPT_VARIABLE = re.compile(r"\$var\(([A-Za-z0-9_.-]+)\)\Z")
_RETURN_CODE = re.compile(r"\$(?:rc|retcode|\((?:rc|retcode)\))\Z")
_PORT = re.compile(r"\{\s*(uri|via)\.port\s*\}((?:\{\s*s\.int\s*\})?\))\Z", re.IGNORECASE)
"""A port that a URI or Via lacks is NULL, but 0 in sums (recorded behaviour): there the transformation ``port_or_0`` is read."""
_ORDER: dict[str, type[py.cmpop]] = {"<": py.Lt, ">": py.Gt, "<=": py.LtE, ">=": py.GtE}
_ON_TEXT = ("+", "&", "|", "^")
"""Operators that give a string when the left operand is one."""
_COMPARE: dict[str, type[py.cmpop]] = {"==": py.Eq, "!=": py.NotEq, **_ORDER}
_TEXT_ORDER = {"<": semantics.before_text, ">": semantics.after_text, "<=": semantics.upto_text, ">=": semantics.from_text}
_VALUE_ORDER = {
    "==": semantics.equal,
    "!=": semantics.differ,
    "<": semantics.before,
    ">": semantics.after,
    "<=": semantics.upto,
    ">=": semantics.from_,
}


class ValueCompiler(CodeBuilder):
    """Compiles values and conditions."""

    env: Environment
    hoisted: dict[int, py.expr]
    """Results of what has been run before an expression, by the ``id`` of the node."""
    fails: bool = False
    """Has code been made that can raise EvaluationError, since this was last set to False?"""

    # --- values ------------------------------------------------------------------------------------------------------

    def value(self, node: ast.Expression) -> tuple[py.expr, str]:
        """A value and what is known of its type. Evaluating arithmetic may raise EvaluationError."""
        match node:
            case ast.Number():
                return self.const(semantics.wrap(node.value)), NUMBER
            case ast.String():
                return self.const(node.value), TEXT
            case ast.Variable():
                return self.read(node)
            case ast.Null():
                return self.const(None), ANY
            case ast.Arithmetic():
                return self._arithmetic(node)
            case ast.Complement():
                inner, kind = self.value(node.operand)
                if isinstance(inner, py.Constant) and kind == NUMBER:
                    return self.const(semantics.complement(_literal(inner))), NUMBER
                return self.call(self.bind(semantics.complement, "complement"), inner), NUMBER
            case ast.CodeOf() | ast.TruthOf():
                return self.hoisted[id(node)], NUMBER
            case _:
                raise TypeError(f"{type(node).__name__} is not a value")

    def hoist(self, node: ast.Expression) -> list[py.stmt]:
        """Statements for the commands and conditions that stand in an expression; ``value()`` takes their results."""
        out: list[py.stmt] = []
        for part in expressions(node):
            match part:
                case ast.CodeOf():
                    before, result = self.code_of(part.command)
                case ast.TruthOf():
                    before, test = self._condition(part.condition, exact=True)
                    result = self.choose(test, self.const(1), self.const(0))
                case _:
                    continue
            out += before
            if part is not node:
                name = self.temporary("c")
                out.append(self.set(result, name))
                result = self.name(name)
            self.hoisted[id(part)] = result
        return out

    def read(self, node: ast.Variable) -> tuple[py.expr, str]:
        """A variable."""
        constant = self.env.constant(node)
        if constant is not None:
            return self.const(constant), NUMBER if isinstance(constant, int) else TEXT
        if _RETURN_CODE.match(node.text):
            return self.attr("ctx", "rc"), NUMBER
        m = _SCRIPT_VARIABLE.match(node.text)
        if m is not None:
            script_variables.setdefault(m[1], None)
            return self.item(self.bind(script_variables, "variables", "var"), m[1]), PLAIN
        return self.call(self.getter(node), self.name("ctx")), ANY

    def getter(self, node: ast.Variable) -> py.expr:
        """The function that reads a variable."""
        return self.bind(self.env.variable(node).get, node.text, ("get", node.text))

    def _arithmetic(self, node: ast.Arithmetic) -> tuple[py.expr, str]:
        read = self._operand if node.op in _ON_TEXT else self.number_form
        left, left_kind = read(node.left)
        right, right_kind = read(node.right)
        operator = self.operator(node.op, node.right, right_kind)
        if isinstance(left, py.Constant) and isinstance(right, py.Constant):
            try:
                folded = operator(_literal(left), _literal(right))
                return self.const(folded), TEXT if isinstance(folded, str) else NUMBER
            except semantics.EvaluationError:
                pass  # said at run time too: the statement fails each time
        slow = self.call(self.bind(operator, operator.__name__), left, right)
        sums = node.op not in _ON_TEXT or left_kind == NUMBER or operator is semantics.WITH_NUMBER.get(node.op)
        kind = NUMBER if sums else TEXT if left_kind == TEXT and node.op == "+" else PLAIN
        if node.op in ("+", "-") and isinstance(right, py.Constant) and right_kind == NUMBER:
            return self._small_step(node.op, left, right), kind
        return slow, kind

    def _operand(self, node: ast.Expression) -> tuple[py.expr, str]:
        if isinstance(node, ast.Variable) and _PORT.search(node.text):
            text = _PORT.sub(r"{\1.port_or_0}\2", node.text)
            return self.call(self.bind(self.env.registry.variable(text).get, text, ("get", text)), self.name("ctx")), ANY
        return self.value(node)

    def operator(self, op: str, right: ast.Expression, kind: str) -> Callable[..., str | int]:
        """The function of an operator; ``kind`` is that of the right operand."""
        if kind == NUMBER and not isinstance(right, ast.Variable) and op in semantics.WITH_NUMBER:
            return semantics.WITH_NUMBER[op]
        return semantics.OPERATORS[op]

    def _small_step(self, op: str, left: py.expr, right: py.Constant) -> py.expr:
        """``$x + 1`` without a call, for a plain number that stays within 32 bits."""
        a, n = self.temporary("a"), self.temporary("n")
        taken = self.compare(self.kind_of(self.take(a, left)), py.Is(), self.name("int"))
        sum_ = self.take(n, self.binary(self.name(a), py.Add() if op == "+" else py.Sub(), right))
        rises = (int(_literal(right) or 0) >= 0) == (op == "+")  # a 32-bit number can leave its range on this side only
        inside = self.compare(sum_, *((py.LtE(), self.const(0x7FFFFFFF)) if rises else (py.GtE(), self.const(-0x80000000))))
        operator: Callable[..., int] = semantics.add_number if op == "+" else semantics.subtract
        slow = self.call(self.bind(operator, operator.__name__), self.name(a), right)
        return self.choose(self.both(taken, inside), self.name(n), slow)

    # --- conditions --------------------------------------------------------------------------------------------------

    def condition(self, node: ast.Condition, exact: bool = False) -> tuple[list[py.stmt], py.expr]:
        """Statements to run first, and the truth: false when a part that was looked at has none, as ``"text" > 5``, or
        None with ``exact``."""
        outer, self.fails = self.fails, False
        before, test = self._condition(node, exact)
        if self.fails:
            result = self.temporary("c")
            failed = self.set(self.const(None if exact else False), result)
            before = [self.attempt([*before, self.set(test, result)], self.failure(), "error", [failed])]
            test = self.name(result)
        self.fails = outer
        return before, test

    def _condition(self, node: ast.Condition, exact: bool) -> tuple[list[py.stmt], py.expr]:
        """With ``exact`` a part without a truth raises EvaluationError; without, it may as well be false."""
        match node:
            case ast.Comparison():
                before = [*self.hoist(node.left), *self.hoist(node.right)]
                self.fails |= _fallible(node.left) or _fallible(node.right)
                return before, self._comparison(node, exact)
            case ast.Truth():
                return self._truth(node)
            case ast.Not():
                before, test = self._condition(node.operand, exact=True)
                return before, self.negated(test)
            case ast.Ran():
                before, code = self.code_of(node.command)
                return before, self.compare(code, py.Gt(), self.const(0))
            case ast.Logical():
                return self._logical(node, exact)

    def code_of(self, node: ast.Statement) -> tuple[list[py.stmt], py.expr]:
        """A command where a condition or a value stands: what runs it, and its return code."""
        raise NotImplementedError  # abstract

    def _logical(self, node: ast.Logical, exact: bool) -> tuple[list[py.stmt], py.expr]:
        before, left = self._condition(node.left, exact or node.op == "or")
        between, right = self._condition(node.right, exact)
        if not between:
            return before, self.both(left, right) if node.op == "and" else self.either(left, right)
        result = self.temporary("c")
        test = self.name(result) if node.op == "and" else self.negated(self.name(result))
        return [*before, self.set(left, result), self.when(test, [*between, self.set(right, result)])], self.name(result)

    def _truth(self, node: ast.Truth) -> tuple[list[py.stmt], py.expr]:
        if isinstance(node.value, ast.Number):
            return [], self.const(bool(node.value.value))
        before = self.hoist(node.value)
        value, _ = self.value(node.value)
        if node.bracketed and isinstance(node.value, ast.Variable):
            return before, self.compare(value, py.IsNot(), self.const(None))
        self.fails |= _fallible(node.value)
        return before, value

    def failure(self) -> str:
        """The name of the exception of a failed evaluation."""
        return self.bind(semantics.EvaluationError, "EvaluationError").id

    def refusal(self) -> str:
        """The name of the exception of a value that cannot be taken; a failed evaluation is one."""
        return self.bind(ValueRefused, "ValueRefused").id

    def _comparison(self, node: ast.Comparison, exact: bool) -> py.expr:
        right = node.right
        if isinstance(right, ast.Number):
            left, left_kind = self.number_form(node.left)
            return self._with_number(node.op, left, left_kind, right.value, exact)
        left, left_kind = self.value(node.left)
        match right:
            case ast.Null() if isinstance(left, py.Constant):
                return self.const((left.value is None) == (node.op == "=="))
            case ast.Null():
                return self.compare(left, py.Is() if node.op == "==" else py.IsNot(), self.const(None))
            case ast.Network():
                return self._with_network(node.op, left, right.text, exact)
            case ast.String() if node.op in ("=~", "!~"):
                test: py.expr = self._match(left, right.value)
                return test if node.op == "=~" else self.negated(test)
            case ast.String():
                return self._with_text(node.op, left, right.value)
        other, other_kind = self.value(right)
        if node.op in ("=~", "!~"):
            test = self.call(self.bind(semantics.matches_value, "matches_value"), left, other)
            return test if node.op == "=~" else self.negated(test)
        if left_kind == other_kind == NUMBER:
            return self.compare(left, _COMPARE[node.op](), other)
        function = _VALUE_ORDER[node.op]
        return self.call(self.bind(function, function.__name__), left, other)

    def _match(self, left: py.expr, expression: str) -> py.expr:
        test = self.bind(compile_regex(expression).test, "matches", ("regex", expression))
        t = self.temporary()
        text = self.choose(
            self.compare(self.kind_of(self.name(t)), py.Is(), self.name("str")),
            self.name(t),
            self.call(self.name("str"), self.name(t)),
        )
        return self.both(
            self.compare(self.take(t, left), py.IsNot(), self.const(None)),
            self.call(test, text),
        )

    def _with_network(self, op: str, left: py.expr, text: str, exact: bool) -> py.expr:
        """With a network. What is not an address is neither in it nor outside; NULL is outside."""
        net = semantics.Net(text)
        if exact:
            self.fails = True
            test: py.expr = self.call(self.bind(net.decide, "decide_network", ("decide", text)), left)
            return test if op == "==" else self.negated(test)
        if op == "==":
            return self.call(self.bind(net.has, "in_network", ("net", text)), left)
        return self.call(self.bind(net.lacks, "outside_network", ("outside", text)), left)

    def _with_number(self, op: str, left: py.expr, kind: str, number: int, exact: bool) -> py.expr:
        """With a number literal. A string is neither equal nor different; NULL is different."""
        literal = self.const(semantics.wrap(number))
        if exact and kind != NUMBER:
            self.fails = True
            return self._decided_number(op, left, literal)
        if op == "==":
            return self.compare(left, py.Eq(), literal)
        if op == "!=":
            if kind == NUMBER:
                return self.compare(left, py.NotEq(), literal)
            return self.call(self.bind(semantics.differs_number, "differs_number"), left, literal)
        if kind == NUMBER:
            return self.compare(left, _ORDER[op](), literal)
        t = self.temporary()
        ordered = self.compare(self.name(t), _ORDER[op](), literal)
        if kind == PLAIN:
            return self.both(self.compare(self.kind_of(self.take(t, left)), py.Is(), self.name("int")), ordered)
        return self.both(self.call(self.name("isinstance"), self.take(t, left), self.name("int")), ordered)

    def _decided_number(self, op: str, left: py.expr, literal: py.expr) -> py.expr:
        """The same, but a string raises EvaluationError."""
        t = self.temporary()
        strict = self.call(self.bind(semantics.no_text, "no_text"), self.name(t))
        if op == "==":
            return self.either(self.compare(self.take(t, left), py.Eq(), literal), strict)
        compared = self.compare(self.name(t), _COMPARE[op](), literal)
        is_number = self.call(self.name("isinstance"), self.take(t, left), self.name("int"))
        otherwise = self.negated(strict) if op == "!=" else strict
        return self.choose(is_number, compared, otherwise)

    def number_form(self, node: ast.Expression) -> tuple[py.expr, str]:
        """A value where only numbers count: the number of a text that has one (``$rm``, ``$proto``)."""
        if isinstance(node, ast.Variable):
            number = self.env.variable(node).number
            if number is not None:
                return self.call(self.bind(number, f"number {node.text}", ("number", node.text)), self.name("ctx")), ANY
        return self._operand(node)

    def kind_of(self, value: py.expr) -> py.expr:
        """``value.__class__``: cheaper than isinstance() where no subclass can come."""
        return py.Attribute(value=value, attr="__class__", ctx=py.Load(), **self.place())

    def _with_text(self, op: str, left: py.expr, text: str) -> py.expr:
        """With a string literal, ignoring case."""
        folded = self.const(semantics.fold(text))
        if op in ("==", "!="):
            t = self.temporary()
            length = self.compare(self.call(self.name("len"), self.name(t)), py.Eq(), self.const(len(text)))
            likely = self.either(self.compare(self.kind_of(self.name(t)), py.IsNot(), self.name("str")), length)
            folding = self.call(self.bind(semantics.equals_text, "equals_text"), self.name(t), folded)
            same = self.either(self.compare(self.take(t, left), py.Eq(), self.const(text)), self.both(likely, folding))
            return same if op == "==" else self.negated(same)
        function = _TEXT_ORDER[op]
        return self.call(self.bind(function, function.__name__), left, folded)


def _literal(node: py.Constant) -> Value:
    """The value of a constant made here."""
    value = node.value
    return value if isinstance(value, str | int) else None


def _fallible(node: ast.Expression) -> bool:
    """Can evaluating this raise EvaluationError?"""
    return isinstance(node, ast.Arithmetic | ast.Complement)
