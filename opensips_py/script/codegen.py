"""Building blocks of Python code for the compiler: nodes of Python's ``ast`` that carry the script's line.

Everything that generated code refers to (getters, functions, patterns) becomes a global name of its namespace.
"""

from __future__ import annotations

import ast as py
import re
from collections.abc import Sequence
from typing import Any

from opensips_py.script import ast

FOREIGN = 1_000_000
"""Code from an included file, inside a route of another file, has line ``FOREIGN * (index of the file + 1) + line``:
a Python function belongs to one file."""

_LOAD, _STORE = py.Load(), py.Store()


class CodeBuilder:
    """Makes nodes at the current line, and names for objects."""

    def __init__(self, namespace: dict[str, Any], files: list[str]) -> None:
        self.namespace = namespace
        self.files = files
        self.line = 1
        self.file = ""
        self._names: dict[object, str] = {}
        self._temporaries = 0

    def at(self, node: ast.Node) -> None:
        """Following nodes stand where ``node`` stands."""
        if node.file == self.file:
            self.line = node.line
        else:
            self.line = FOREIGN * (self.files.index(node.file) + 1) + node.line

    def place(self) -> dict[str, Any]:
        return {"lineno": self.line, "col_offset": 0, "end_lineno": self.line, "end_col_offset": 0}

    # --- names -------------------------------------------------------------------------------------------------------

    def bind(self, value: Any, hint: str, key: object = None) -> py.Name:
        """A global name for ``value``. The same ``key`` (default: the object) gives the same name."""
        key = (hint, id(value)) if key is None else key
        name = self._names.get(key)
        if name is None:
            base = "_" + re.sub(r"\W+", "_", hint).strip("_")
            name = base
            n = 1
            while name in self.namespace:
                n += 1
                name = f"{base}_{n}"
            self._names[key] = name
            self.namespace[name] = value
        return self.name(name)

    def temporary(self, hint: str = "t") -> str:
        """A new local name."""
        self._temporaries += 1
        return f"{hint}{self._temporaries}"

    # --- expressions -------------------------------------------------------------------------------------------------

    def name(self, name: str) -> py.Name:
        return py.Name(id=name, ctx=_LOAD, **self.place())

    def const(self, value: Any) -> py.expr:
        return py.Constant(value=value, **self.place())

    def attr(self, name: str, attribute: str) -> py.Attribute:
        return py.Attribute(value=self.name(name), attr=attribute, ctx=_LOAD, **self.place())

    def call(self, function: py.expr, *arguments: py.expr) -> py.Call:
        return py.Call(func=function, args=list(arguments), keywords=[], **self.place())

    def take(self, name: str, value: py.expr) -> py.NamedExpr:
        """``(name := value)``."""
        return py.NamedExpr(target=py.Name(id=name, ctx=_STORE, **self.place()), value=value, **self.place())

    def compare(self, left: py.expr, op: py.cmpop, right: py.expr) -> py.Compare:
        return py.Compare(left=left, ops=[op], comparators=[right], **self.place())

    def both(self, *values: py.expr) -> py.BoolOp:
        return py.BoolOp(op=py.And(), values=list(values), **self.place())

    def either(self, *values: py.expr) -> py.BoolOp:
        return py.BoolOp(op=py.Or(), values=list(values), **self.place())

    def negated(self, value: py.expr) -> py.expr:
        if isinstance(value, py.Constant):
            return self.const(not value.value)
        return py.UnaryOp(op=py.Not(), operand=value, **self.place())

    def choose(self, test: py.expr, then: py.expr, otherwise: py.expr) -> py.IfExp:
        return py.IfExp(test=test, body=then, orelse=otherwise, **self.place())

    def binary(self, left: py.expr, op: py.operator, right: py.expr) -> py.BinOp:
        return py.BinOp(left=left, op=op, right=right, **self.place())

    def tuple(self, values: Sequence[py.expr]) -> py.Tuple:
        return py.Tuple(elts=list(values), ctx=_LOAD, **self.place())

    # --- statements --------------------------------------------------------------------------------------------------

    def set(self, value: py.expr, *targets: str) -> py.Assign:
        """``a = b.c = value``; a target with a dot is an attribute."""
        made: list[py.expr] = []
        for target in targets:
            owner, dot, attribute = target.partition(".")
            if dot:
                made.append(py.Attribute(value=self.name(owner), attr=attribute, ctx=_STORE, **self.place()))
            else:
                made.append(py.Name(id=target, ctx=_STORE, **self.place()))
        return py.Assign(targets=made, value=value, **self.place())

    def item(self, mapping: py.expr, key: str) -> py.Subscript:
        """``mapping[key]``."""
        return py.Subscript(value=mapping, slice=self.const(key), ctx=_LOAD, **self.place())

    def store_item(self, mapping: py.expr, key: str, value: py.expr) -> py.Assign:
        """``mapping[key] = value``."""
        target = py.Subscript(value=mapping, slice=self.const(key), ctx=_STORE, **self.place())
        return py.Assign(targets=[target], value=value, **self.place())

    def do(self, value: py.expr) -> py.Expr:
        return py.Expr(value=value, **self.place())

    def give(self, value: py.expr) -> py.Return:
        return py.Return(value=value, **self.place())

    def when(self, test: py.expr, then: list[py.stmt], otherwise: list[py.stmt] | None = None) -> py.If:
        return py.If(test=test, body=then or [self.nothing()], orelse=otherwise or [], **self.place())

    def nothing(self) -> py.Pass:
        return py.Pass(**self.place())

    def leave(self) -> py.Break:
        return py.Break(**self.place())

    def forever(self, body: list[py.stmt]) -> py.While:
        return py.While(test=self.const(True), body=body, orelse=[], **self.place())

    def each(self, target: str, values: py.expr, body: list[py.stmt]) -> py.For:
        return py.For(
            target=py.Name(id=target, ctx=_STORE, **self.place()),
            iter=values,
            body=body or [self.nothing()],
            orelse=[],
            **self.place(),
        )

    def attempt(self, body: list[py.stmt], error: str, name: str, handler: list[py.stmt]) -> py.Try:
        """``try: body except error as name: handler``."""
        caught = py.ExceptHandler(type=self.name(error), name=name, body=handler, **self.place())
        return py.Try(body=body, handlers=[caught], orelse=[], finalbody=[], **self.place())

    def function(self, name: str, body: list[py.stmt], doc: str) -> py.FunctionDef:
        """``def name(ctx)``."""
        parameters = py.arguments(
            posonlyargs=[],
            args=[py.arg(arg="ctx", **self.place())],
            kwonlyargs=[],
            kw_defaults=[],
            defaults=[],
            vararg=None,
            kwarg=None,
        )
        return py.FunctionDef(
            name=name, args=parameters, body=[self.do(self.const(doc)), *body], decorator_list=[], **self.place()
        )
