"""Routes to Python functions.

Each route becomes one function ``route_name(ctx) -> int``. Its code object carries the script's file name and lines, so a
traceback, a profiler and a coverage tool speak of ``opensips.cfg:42``. The value returned is the route's return code; 0
means that the script has ended, and every caller passes it on at once::

    if (!mf_process_maxfwd_header(10)) {     rc = ctx.rc = _mf_process_maxfwd_header(ctx, 10)
        sl_send_reply(483, "Too Many Hops"); if not rc: return 0
        exit;                                if not rc > 0:
    }                                            rc = ctx.rc = _sl_send_reply(ctx, 483, 'Too Many Hops')
                                                 if not rc: return 0
                                                 return 0

``$rc`` lives in ``ctx.rc`` and is set by every statement. An ``if`` whose branch is missing leaves the value of its
condition there, 1 or 0 (-1 when it compares what cannot be compared), but counts as 1 when it ends a block; ``break``
leaves -5, ``while`` 1, ``for`` what its last pass has left (all as OpenSIPS does).
"""

from __future__ import annotations

import ast as py
import os
import re
from collections.abc import Callable
from itertools import zip_longest
from types import CodeType
from typing import Any

from opensips_py.script import ast, semantics
from opensips_py.script.compile_calls import CallCompiler
from opensips_py.script.compile_values import ANY, NUMBER, PLAIN
from opensips_py.script.context import Context, RouteKind
from opensips_py.script.environment import Environment
from opensips_py.script.pseudo_variables_storage import script_variables
from opensips_py.script.walk import commands_in, statements, values_in, values_of

RouteFunction = Callable[[Context], int]

_UNSET_CODE = -5
"""The code of a statement that sets none: ``break``, and ``assert()`` that is not tested."""
_COMPOUND = {"-=": "-", "*=": "*", "/=": "/", "%=": "%", "&=": "&", "|=": "|", "^=": "^"}
_FIXED_VARIABLE = re.compile(r"\$var\(([A-Za-z0-9_.-]+)\)\Z")


class RouteCompiler(CallCompiler):
    """Compiles all routes of one script into one namespace."""

    def __init__(self, script: ast.Script, env: Environment, namespace: dict[str, Any]) -> None:
        super().__init__(namespace, script.files)
        self.env = env
        self.script = script
        self.routes: dict[tuple[RouteKind, str], RouteFunction] = {}
        self.codes: set[CodeType] = set()
        """Code objects made here: frames of these are lines of the script."""
        self.function_names = _function_names(script)
        self.recursive = _recursive(script)
        self.has_arguments = _has_arguments(script)
        self.hoisted = {}
        self.rc_read = False
        """Does the next statement read what the current one leaves in ``$rc``?"""

    def run(self) -> dict[tuple[RouteKind, str], RouteFunction]:
        """Compile everything."""
        self.namespace["_dynamic_route"] = self.dynamic_route
        by_file: dict[str, list[py.stmt]] = {}
        for route in self.script.routes:
            self.file = route.file
            by_file.setdefault(route.file, []).append(self._route(route))
        for file, functions in by_file.items():
            module = py.Module(body=functions, type_ignores=[])
            exec(compile(module, name_of_code(file), "exec"), self.namespace)
        for route in self.script.routes:
            key = (route.kind, route.name)
            function = self.namespace[self.function_names[key]]
            self.routes[key] = function
            self.codes.add(function.__code__)
        return self.routes

    def dynamic_route(self, ctx: Context, name: Any, where: str) -> int | None:
        """``route("name_$var(x)")``: None when there is no such route, which leaves ``$rc`` alone."""
        route = self.routes.get((RouteKind.REQUEST, str(name)))
        if name is None or route is None:
            self.namespace["rt"].problem(-3, f"unknown route({'<null>' if name is None else name})", where)
            return None
        return semantics.call_deeper(ctx, route)

    def _route(self, route: ast.Route) -> py.FunctionDef:
        self.at(route)
        shown = route.keyword if route.name == "0" else f"{route.keyword}[{route.name}]"
        name = self.function_names[(route.kind, route.name)]
        line = self.line
        body = self.block(route.body, tail=True)
        self.line = line
        return self.function(name, body, shown)

    # --- blocks ------------------------------------------------------------------------------------------------------

    def block(self, body: list[ast.Statement], *, tail: bool = False) -> list[py.stmt]:
        """The statements of a block. With ``tail`` it ends the route and returns; otherwise ``$rc`` is its value."""
        out: list[py.stmt] = []
        for statement, following in zip_longest(body, body[1:]):
            self.at(statement)
            last = following is None
            unread = _unread(following)
            self.rc_read = not (last or unread)
            code = self.statement(statement, last=last, tail=tail and last)
            if unread:
                _forget_ok(code)
            out += code
        if tail and not (out and isinstance(out[-1], py.Return)):
            if body:
                out.append(self.give(self._result(body[-1])))
            else:
                out.append(self.give(self.const(1)))
        return out

    def _result(self, last: ast.Statement) -> py.expr:
        if isinstance(last, ast.Xlog | ast.Log | ast.Noop):
            return self.const(1)
        return self.attr("ctx", "rc")

    def statement(self, node: ast.Statement, *, last: bool, tail: bool) -> list[py.stmt]:
        """One statement. ``last``: it ends its block; ``tail``: it ends the route."""
        match node:
            case ast.Call():
                return [*self.run_call(node), *self._after(tail)]
            case ast.RouteCall():
                return [*self.run_route(node), *self._after(tail)]
            case ast.Assign():
                return self._assign(node)
            case ast.If():
                return self._if(node, last=last, tail=tail)
            case ast.Xlog():
                written = [*self.xlog(node), self._ok()]
                return [self._attempted(node, written)] if isinstance(node.level, ast.Variable) else written
            case ast.Log():
                return [*self.log(node), self._ok()]
            case ast.Exit():
                return [self.give(self.const(0))]
            case ast.Drop():
                return [self.set(self.const(True), "ctx.dropped"), self.give(self.const(0))]
            case ast.Return():
                return [self.give(self._return_value(node))]
            case ast.Break():
                return [self.set(self.const(_UNSET_CODE), "ctx.rc"), self.leave()]
            case ast.While():
                return self._while(node)
            case ast.ForEach():
                return self._for(node)
            case ast.Switch():
                return self._switch(node)
            case ast.Async():
                return self.suspend(node)
            case ast.Await():
                return [*self.run_await(node), *self._after(tail)]
            case ast.Launch():
                return [*self.run_launch(node), *self._after(tail)]
            case ast.Assert():
                return self._assert(node)
            case _:
                return [self._ok()]

    def _ok(self) -> py.stmt:
        return self.set(self.const(1), "ctx.rc")

    def _after(self, tail: bool) -> list[py.stmt]:
        """After a command: 0 ends the script."""
        if tail:
            return [self.give(self.name("rc"))]
        return [self.when(self.negated(self.name("rc")), [self.give(self.const(0))])]

    def code_of(self, node: ast.Statement) -> tuple[list[py.stmt], py.expr]:
        """A command where a condition or a value stands: what runs it, and its return code. 0 ends the script."""
        self.at(node)
        code = self.name("rc")
        match node:
            case ast.Call():
                return [*self.run_call(node), *self._after(False)], code
            case ast.RouteCall():
                return [*self.run_route(node), *self._after(False)], code
            case ast.Await():
                return [*self.run_await(node), *self._after(False)], code
            case ast.Launch():
                return [*self.run_launch(node), *self._after(False)], code
            case _:
                return self.statement(node, last=False, tail=False), self.attr("ctx", "rc")

    # --- control -----------------------------------------------------------------------------------------------------

    def _if(self, node: ast.If, *, last: bool, tail: bool) -> list[py.stmt]:
        exact = self.rc_read and not node.otherwise  # a condition that has no truth leaves -1 instead of 0
        before, test = self.condition(node.condition, exact)
        line = self.line
        then = self._branch(node.then, 1, last=last, tail=tail)
        self.line = line  # what stands for an absent else belongs to the if, not to the last line before it
        otherwise = self._branch(node.otherwise, 0, last=last, tail=tail)
        self.line = line
        if exact and isinstance(test, py.Name):
            failed = self.compare(test, py.Is(), self.const(None))
            otherwise = [self.set(self.choose(failed, self.const(-1), self.const(0)), "ctx.rc")]
        return [*before, self.when(test, then, otherwise)]

    def _branch(self, body: list[ast.Statement], truth: int, *, last: bool, tail: bool) -> list[py.stmt]:
        if body:
            return self.block(body, tail=tail)
        if tail:
            return [self.give(self.const(1))]
        return [self.set(self.const(1 if last else truth), "ctx.rc")]

    def _while(self, node: ast.While) -> list[py.stmt]:
        before, test = self.condition(node.condition)
        line = self.line
        stop: list[py.stmt] = []
        if not (isinstance(test, py.Constant) and test.value):
            stop = [self.when(self.negated(test), [self._ok(), self.leave()])]
        body = [*before, *stop, *self.block(node.body)]
        self.line = line
        passes = self.call(self.name("range"), self.const(self.env.settings.max_while_loops))
        loop = self.each(self.temporary("i"), passes, body)
        said = self.const("max while loops are encountered")
        loop.orelse = [self._ok(), self.do(self.call(self.attr("rt", "problem"), self.const(3), said, self.where(node)))]
        return [loop]

    def _for(self, node: ast.ForEach) -> list[py.stmt]:
        """Leaves in ``$rc`` what its last pass has left, and 1 without any."""
        if "[*]" not in node.values.text:
            return [self._ok()]
        values = self.bind(self.env.variable(node.values).each, f"each {node.values.text}", ("each", node.values.text))
        item = self.temporary("v")
        line = self.line
        put = self._attempted(node, self._put(node.iterator, self.name(item), ANY))  # $json may refuse it
        body = self.block(node.body)
        self.line = line
        none = self.when(self.compare(self.name(item), py.Is(), self.const(None)), [self._ok()])
        return [self.set(self.const(None), item), self.each(item, self.call(values, self.name("ctx")), [put, *body]), none]

    def _switch(self, node: ast.Switch) -> list[py.stmt]:
        """The number of the case to begin with, then every case from there on until a break."""
        value, _ = self.value(node.value)
        v, start = self.temporary("v"), self.temporary("s")
        first: py.expr = self.const(len(node.cases))
        for i in range(len(node.cases) - 1, -1, -1):
            label = node.cases[i].label
            if label is None:
                first = self.const(i)
            elif isinstance(label, ast.Number):
                first = self.choose(self.compare(self.name(v), py.Eq(), self.const(label.value)), self.const(i), first)
            else:
                folded = self.const(semantics.fold(label.value))
                test = self.call(self.bind(semantics.is_case, "is_case"), self.name(v), folded)
                same = self.either(self.compare(self.name(v), py.Eq(), self.const(label.value)), test)
                first = self.choose(same, self.const(i), first)
        out: list[py.stmt] = [self.set(value, v), self._ok(), self.set(first, start)]
        line = self.line
        body: list[py.stmt] = []
        for i, case in enumerate(node.cases):
            if not case.body:
                continue
            self.at(case)
            inside = self.block(case.body)
            self.at(case)
            body.append(self.when(self.compare(self.name(start), py.LtE(), self.const(i)), inside))
        self.line = line
        return [*out, self.forever([*body, self.leave()])]

    def _assert(self, node: ast.Assert) -> list[py.stmt]:
        if not self.env.settings.enable_asserts:
            return [self.set(self.const(_UNSET_CODE), "ctx.rc")]
        before, test = self.condition(node.condition)
        where = self.where(node)
        told = self.do(
            self.call(self.attr("rt", "problem"), self.const(-2), self.const(f"ASSERTION FAILED - {node.info}"), where)
        )
        failed: list[py.stmt] = [told]
        if self.env.settings.abort_on_assert:
            failed.append(self.do(self.call(self.bind(os.abort, "abort"))))
        failed.append(self.give(self.const(0)))
        return [*before, self.when(self.negated(test), failed), self._ok()]

    def _return_value(self, node: ast.Return) -> py.expr:
        if node.value is None:
            return self.const(1)
        value, kind = self.value(node.value)
        if kind == NUMBER:
            return value
        return self.call(self.bind(semantics.return_code, "return_code"), value)

    # --- assignment --------------------------------------------------------------------------------------------------

    def _assign(self, node: ast.Assign) -> list[py.stmt]:
        target, op = node.target, node.op
        if isinstance(node.value, ast.Null):
            variable = self.env.variable(target)
            operator = variable.assign if op == ":=" else variable.set
            setter = self.bind(operator, f"{'replace' if op == ':=' else 'set'} {target.text}", ("set", op == ":=", target.text))
            put = [self.do(self.call(setter, self.name("ctx"), self.const(None))), self._ok()]
            return put if _takes_everything(target) else [self._attempted(node, put)]
        outer, self.fails = self.fails, False
        before = self.hoist(node.value)
        early, self.fails = self.fails, outer
        value, kind = self.value(node.value)
        fallible = isinstance(node.value, ast.Arithmetic | ast.Complement) and not isinstance(value, py.Constant)
        if op not in ("=", ":="):
            fallible = True
            current, current_kind = self.read(target)
            if op == "+=":
                value = self.call(self.bind(semantics.joined, "joined"), current, value)
                kind = NUMBER if kind == NUMBER else ANY
                if isinstance(node.value, ast.Number) and current_kind in (ANY, PLAIN):
                    small = ast.Arithmetic(
                        "+", target, node.value, file=node.file, line=node.line, column=node.column, end=node.end
                    )
                    value = self._increment(small, value)
            else:
                # of numbers only: $x & $y works on strings too, $x &= $y does not (recorded behaviour)
                function = semantics.WITH_NUMBER.get(_COMPOUND[op]) or semantics.OPERATORS[_COMPOUND[op]]
                value = self.call(self.bind(function, function.__name__), current, value)
                kind = NUMBER
        elif isinstance(node.value, ast.Variable) and self.env.variable(target).takes_text:
            value = self.call(self.bind(semantics.text_of, "text_of"), value)
        put = [*self._put(target, value, kind, replace=op == ":="), self._ok()]
        if early:
            return [self._attempted(node, [*before, *put])]
        if fallible or not _takes_everything(target):
            put = [self._attempted(node, put)]
        return [*before, *put]

    def _attempted(self, node: ast.Node, put: list[py.stmt]) -> py.stmt:
        """An assignment that may fail: ``$rc`` is -1 then, and the variable what it was."""
        text = self.call(self.name("str"), self.name("error"))
        problem = self.do(self.call(self.attr("rt", "problem"), self.const(-1), text, self.where(node)))
        return self.attempt(put, self.refusal(), "error", [problem, self.set(self.const(-1), "ctx.rc")])

    def _increment(self, node: ast.Arithmetic, slow: py.expr) -> py.expr:
        """``$x += 1``: as ``$x + 1``, except that a string is refused."""
        value, _ = self.value(node)
        if isinstance(value, py.IfExp):
            value.orelse = slow
            return value
        return slow

    def _put(self, target: ast.Variable, value: py.expr, kind: str, *, replace: bool = False) -> list[py.stmt]:
        """Give a variable a value."""
        m = _FIXED_VARIABLE.match(target.text)
        if m is not None and (kind == NUMBER or (isinstance(value, py.Constant) and value.value is not None)):
            return [self.store_item(self.bind(script_variables, "variables", "var"), m[1], value)]
        variable = self.env.variable(target)
        put = variable.assign if replace else variable.set
        setter = self.bind(put, f"{'replace' if replace else 'set'} {target.text}", ("set", replace, target.text))
        return [self.do(self.call(setter, self.name("ctx"), value))]


def _takes_everything(target: ast.Variable) -> bool:
    """Whether a variable of the script's own is assigned to."""
    return _FIXED_VARIABLE.match(target.text) is not None or target.text.startswith(("$var(", "$avp("))


def name_of_code(file: str) -> str:
    """The file name that Python's tools see: absolute, since the server changes its directory."""
    return file if file == "-" else os.path.abspath(file)


def _sets_rc(statement: py.stmt) -> py.Constant | None:
    """The number in ``ctx.rc = number``."""
    if not isinstance(statement, py.Assign) or not isinstance(statement.value, py.Constant):
        return None
    target = statement.targets[0]
    return statement.value if isinstance(target, py.Attribute) and target.attr == "rc" else None


def _is_ok(statement: py.stmt) -> bool:
    """``ctx.rc = 1``."""
    number = _sets_rc(statement)
    return number is not None and number.value == 1


def _forget_ok(code: list[py.stmt]) -> None:
    """Take away the last thing that an assignment or a line of the log does: setting ``$rc``."""
    if len(code) > 1 and _is_ok(code[-1]):
        code.pop()
    elif code and isinstance(last := code[-1], py.Try) and _is_ok(last.body[-1]):
        last.body.pop()
        last.handlers[0].body.pop()  # the same for the failed assignment
    elif code and isinstance(last, py.If):
        _forget_ok(last.body)
        _forget_ok(last.orelse)
        if len(last.orelse) == 1 and _sets_rc(last.orelse[0]):
            last.orelse.clear()


def _unread(following: ast.Statement | None) -> bool:
    """Does the next statement set ``$rc`` without reading it? Then there is no need to set it before."""
    texts: list[str] = []
    if isinstance(following, ast.Xlog):
        texts = [
            getattr(following.level, "text", ""),
            getattr(following.format, "text", "") or getattr(following.format, "value", ""),
        ]
    elif isinstance(following, ast.Assign):
        if any(commands_in(following)):
            return False
        texts = [following.target.text, *(getattr(part, "text", "") for part in values_of(following.value))]
    elif isinstance(following, ast.If):
        if not all(_unread(body[0]) for body in (following.then, following.otherwise) if body):
            return False
        if any(commands_in(following)):
            return False
        texts = [getattr(part, "text", "") for part in values_in(following.condition)]
    else:
        return isinstance(following, ast.Log | ast.Exit)
    return not any(name in text for text in texts for name in ("rc", "retcode", "param"))


def _function_names(script: ast.Script) -> dict[tuple[RouteKind, str], str]:
    """A Python name for each route: ``route``, ``route_resume_credit``, ``failure_route_x``."""
    names: dict[tuple[RouteKind, str], str] = {}
    for route in script.routes:
        base = route.keyword if route.name == "0" else f"{route.keyword}_{re.sub(r'[^A-Za-z0-9_]', '_', route.name)}"
        name, n = base, 1
        while name in names.values():
            n += 1
            name = f"{base}_{n}"
        names[(route.kind, route.name)] = name
    return names


def _has_arguments(script: ast.Script) -> bool:
    """Is there a call with arguments, an event route or a ``launch()`` with a text?"""
    return any(
        (isinstance(statement, ast.RouteCall) and statement.arguments)
        or (isinstance(statement, ast.Launch) and statement.text is not None)
        for route in script.routes
        for statement in statements(route.body)
    ) or any(route.kind is RouteKind.EVENT for route in script.routes)


def _recursive(script: ast.Script) -> set[str]:
    """Names of routes that may, by way of others, call themselves: only those calls need to be counted."""
    edges: dict[str, set[str]] = {}
    for route in script.routes:
        if route.kind is not RouteKind.REQUEST:
            continue
        called = edges.setdefault(route.name, set())
        for statement in statements(route.body):
            if isinstance(statement, ast.RouteCall):
                fixed = isinstance(statement.target, ast.String | ast.Number)
                called.add(str(statement.target.value) if fixed and not isinstance(statement.target, ast.Variable) else "*")
    recursive: set[str] = set()
    for name in edges:
        seen: set[str] = set()
        todo = list(edges[name])
        while todo:
            at = todo.pop()
            if at in seen:
                continue
            seen.add(at)
            todo += edges if at == "*" or "$" in at else edges.get(at, ())
        if name in seen:
            recursive.add(name)
    return recursive
