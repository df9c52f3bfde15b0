"""Calls as Python code: functions, ``route()``, ``async()``, ``await()``, ``launch()``, ``xlog()``.

Arguments are fixed when the script is loaded as far as they can be: literals are constants, format strings closures,
regular expressions patterns. What can be NULL at run time is tested before the call, which then fails with -1.
"""

from __future__ import annotations

import ast as py
import functools

from opensips_py.script import ast, formats, semantics
from opensips_py.script.check_calls import FIXED_AVP, FLAGS
from opensips_py.script.compile_values import ANY, NUMBER, PLAIN, ValueCompiler
from opensips_py.script.context import RouteKind
from opensips_py.script.declarations import Function, Parameter
from opensips_py.script.environment import looks_like_format
from opensips_py.script.line_guard import header_lines, whole_headers
from opensips_py.script.one_line import one_line
from opensips_py.script.posix_regex import compile_regex


class CallCompiler(ValueCompiler):
    """Compiles calls. Each leaves the return code in ``rc`` and ``ctx.rc``; who calls tests it for 0."""

    function_names: dict[tuple[RouteKind, str], str]
    recursive: set[str]
    has_arguments: bool
    """Can a route of the script have arguments?"""

    def where(self, node: ast.Node) -> py.expr:
        """``file:line`` of a statement, for the log."""
        return self.const(f"{node.file}:{node.line}")

    # --- functions ---------------------------------------------------------------------------------------------------

    def run_call(self, node: ast.Call) -> list[py.stmt]:
        """A plain call."""
        function = self.env.functions[node.name]
        before, nullable, arguments = self._arguments(node, function)
        call = self._applied(function, arguments)
        if function.waits:
            call = self.call(self.attr("rt", "wait"), self.name("ctx"), call)
        return self._unless_null(node, before, nullable, [self.set(call, "rc", "ctx.rc")])

    def _applied(self, function: Function, arguments: list[py.expr]) -> py.expr:
        self.env.called.add(function.name)
        return self.call(self.bind(function.call, function.name), self.name("ctx"), *arguments)

    def _unless_null(self, node: ast.Call, before: list[py.stmt], nullable: list[str], run: list[py.stmt]) -> list[py.stmt]:
        """Run only if no argument is NULL or refused. Otherwise, and when a variable does not take a result, the code is -1."""
        code = [*before, *run]
        if nullable:
            tests = [self.compare(self.name(name), py.Is(), self.const(None)) for name in nullable]
            test = tests[0] if len(tests) == 1 else self.either(*tests)
            absent = self.const(f"{node.name}() is not run: a parameter has no value")
            code = [*before, self.when(test, self._failed(node, absent), run)]
        given = zip(self.env.functions[node.name].parameters, node.arguments, strict=False)
        if any(_may_be_refused(parameter, argument) for parameter, argument in given):
            told = self.call(self.name("str"), self.name("error"))
            code = [self.attempt(code, self.refusal(), "error", self._failed(node, told))]
        return code

    def _failed(self, node: ast.Call, text: py.expr) -> list[py.stmt]:
        """What stands for a call that was not made, or came to nothing."""
        told = self.do(self.call(self.attr("rt", "problem"), self.const(-1), text, self.where(node)))
        return [told, self.set(self.const(-1), "rc", "ctx.rc")]

    def _arguments(self, node: ast.Call, function: Function) -> tuple[list[py.stmt], list[str], list[py.expr]]:
        """Statements to run first, names that must not be None then, and the arguments."""
        before: list[py.stmt] = []
        nullable: list[str] = []
        arguments: list[py.expr] = []
        for argument, parameter in zip(node.arguments, function.parameters_for(len(node.arguments)), strict=False):
            value, can_fail = self._argument(argument, parameter)
            if can_fail:
                name = self.temporary("a")
                before.append(self.set(value, name))
                nullable.append(name)
                value = self.name(name)
            arguments.append(value)
        few = len(function.parameters) - 1 if function.parameters and function.parameters[-1].repeated else 0
        while len(arguments) > few and isinstance(arguments[-1], py.Constant) and arguments[-1].value is None:
            arguments.pop()
        return before, nullable, arguments

    def _argument(self, argument: ast.Argument, parameter: Parameter) -> tuple[py.expr, bool]:
        """The argument's value, and whether it can be NULL although it was given."""
        kind = parameter.kind
        if argument is None:
            return self.const(None), False
        if kind == "var":
            assert isinstance(argument, ast.Variable)
            return self.bind(self.env.variable(argument), argument.text, ("variable", argument.text)), False
        if kind == "varlist":
            text = (
                argument.text
                if isinstance(argument, ast.Variable)
                else str(argument.value)
                if not isinstance(argument, ast.Null)
                else ""
            )
            return self.bind(tuple(self.env.variables_of(text)), parameter.name, ("varlist", text)), False
        if kind in FLAGS:
            return self.const(
                FLAGS[kind].mask("" if isinstance(argument, ast.Variable | ast.Null) else str(argument.value))
            ), False
        if kind == "avp":
            found = FIXED_AVP.fullmatch(argument.text if isinstance(argument, ast.Variable) else "")
            return self.const("" if found is None else (found[1] or found[2]).strip()), False
        if kind in ("static", "route", "raised_event"):
            if isinstance(argument, ast.Variable):
                return self._read_late(argument, parameter)
            return self.const("" if isinstance(argument, ast.Null) else str(argument.value)), False
        if kind == "value":
            return self._value(argument), False
        if kind == "loose_int" and isinstance(argument, ast.String):
            return self.const(int(argument.value)), False
        if kind in ("int", "loose_int"):
            return self._number(argument)
        if kind == "regex":
            return self._regex(argument)
        if parameter.words is not None:
            return self._flags(argument, parameter)
        if parameter.guard == "lines":
            return self._header_lines(argument)
        value, nullable = self._text(argument)
        if parameter.guard and not isinstance(value, py.Constant):
            value = self.call(self.bind(one_line, "one_line"), value)
        return value, nullable

    def _header_lines(self, argument: ast.Argument) -> tuple[py.expr, bool]:
        if isinstance(argument, ast.Variable):
            return self.call(self.bind(whole_headers(self.env.variable(argument)), argument.text), self.name("ctx")), True
        if not isinstance(argument, ast.String) or not looks_like_format(argument.value):
            return self._text(argument)
        made = header_lines(self.env.text(argument), self.env.registry)
        if isinstance(made, str):
            return self.const(made), False
        return self.call(self.bind(made, "header_lines"), self.name("ctx")), False

    def _read_late(self, argument: ast.Variable, parameter: Parameter) -> tuple[py.expr, bool]:
        """A variable where a literal is usual: what it holds is judged when the function is called, and NULL is refused."""
        value, _ = self._text(argument)
        if parameter.fault is not None:
            judge = functools.partial(semantics.judged, parameter.fault, self.env.registry)
            value = self.call(self.bind(judge, "judged"), value)
        return value, True

    def _flags(self, argument: ast.Argument, parameter: Parameter) -> tuple[py.expr, bool]:
        """Flags by name become their bits or letters, as far as possible when the script is loaded."""
        words, mask = parameter.words, parameter.kind == "mask"
        assert words is not None
        if mask and isinstance(argument, ast.String):
            return self.const(words.mask_of(argument.value)), False
        value, can_fail = self._number(argument) if mask and isinstance(argument, ast.Number) else self._given(argument, mask)
        if isinstance(value, py.Constant):
            return (value if mask else self.const(words.letters(str(value.value)))), False
        return self.call(self.bind(words.mask if mask else words.letters, "flags"), value), mask or can_fail

    def _given(self, argument: ast.Argument, raw: bool) -> tuple[py.expr, bool]:
        """The value of a variable, or text."""
        if raw and isinstance(argument, ast.Variable):
            return self.read(argument)[0], True
        return self._text(argument)

    def _value(self, argument: ast.Argument) -> py.expr:
        """A value as it is: NULL too."""
        if isinstance(argument, ast.Variable):
            return self.read(argument)[0]
        if isinstance(argument, ast.Number):
            return self.const(argument.value)
        return self.const(None) if argument is None or isinstance(argument, ast.Null) else self._text(argument)[0]

    def _number(self, argument: ast.Argument) -> tuple[py.expr, bool]:
        if isinstance(argument, ast.Number):
            return self.const(semantics.wrap(argument.value)), False
        assert isinstance(argument, ast.Variable)
        value, kind = self.read(argument)
        if kind == NUMBER:
            return value, False
        return self.call(self.bind(semantics.number_of, "number_of"), value), True

    def _text(self, argument: ast.Argument) -> tuple[py.expr, bool]:
        if isinstance(argument, ast.Number):
            return self.const(str(argument.value)), False
        if isinstance(argument, ast.Variable):
            value, kind = self.read(argument)
            if isinstance(value, py.Constant):
                return self.const(str(value.value)), False
            return self.call(self.bind(semantics.text_of, "text_of"), value), kind in (ANY, PLAIN)
        assert isinstance(argument, ast.String)
        text = self.env.parameter(argument)
        if isinstance(text, str):
            return self.const(text), False
        return self.call(self.bind(text, "text"), self.name("ctx")), False

    def _regex(self, argument: ast.Argument) -> tuple[py.expr, bool]:
        if isinstance(argument, ast.String) and not looks_like_format(argument.value):
            return self.bind(compile_regex(argument.value, True), "pattern", ("pattern", argument.value)), False
        value, _ = self._text(argument)
        return self.call(self.bind(semantics.pattern_of, "pattern_of"), value), True

    # --- async and launch --------------------------------------------------------------------------------------------

    def suspend(self, node: ast.Async) -> list[py.stmt]:
        """``async()``: ends the run of the script, unless a parameter has no value."""
        self.env.called.add("async")
        function = self.env.functions[node.call.name]
        before, nullable, arguments = self._arguments(node.call, function)
        call = self.call(
            self.attr("rt", "suspend"),
            self.name("ctx"),
            self._applied(function, arguments),
            self.const(node.route.value),
            self._seconds(node.seconds),
            self.where(node),
        )
        return self._unless_null(node.call, before, nullable, [self.give(call)])

    def run_await(self, node: ast.Await) -> list[py.stmt]:
        """``await()``: as a plain call, but the process serves others meanwhile."""
        self.env.called.add("await")
        function = self.env.functions[node.call.name]
        before, nullable, arguments = self._arguments(node.call, function)
        call = self.call(
            self.attr("rt", "wait_here"),
            self.name("ctx"),
            self._applied(function, arguments),
            self._seconds(node.seconds),
            self.where(node),
        )
        return self._unless_null(node.call, before, nullable, [self.set(call, "rc", "ctx.rc")])

    def run_launch(self, node: ast.Launch) -> list[py.stmt]:
        """``launch()``."""
        function = self.env.functions[node.call.name]
        before, nullable, arguments = self._arguments(node.call, function)
        text: py.expr = self.const(None)
        if node.text is not None:
            text, _ = self._text(node.text)
        call = self.call(
            self.attr("rt", "launch"),
            self.name("ctx"),
            self._applied(function, arguments),
            self.const(None if node.route is None else node.route.value),
            text,
            self._seconds(node.seconds),
            self.where(node),
        )
        return self._unless_null(node.call, before, nullable, [self.set(call, "rc", "ctx.rc")])

    def _seconds(self, seconds: float | ast.Variable | None) -> py.expr:
        if not isinstance(seconds, ast.Variable):
            return self.const(seconds)
        value, _ = self.read(seconds)
        return self.call(self.bind(semantics.seconds_of, "seconds_of"), value)

    # --- routes ------------------------------------------------------------------------------------------------------

    def run_route(self, node: ast.RouteCall) -> list[py.stmt]:
        """``route()``."""
        target = node.target
        dynamic: py.expr | None = None
        if isinstance(target, ast.Variable):
            dynamic, _ = self.read(target)
        elif isinstance(target, ast.String) and looks_like_format(target.value):
            text = self.env.format(target)
            dynamic = self.const(text) if isinstance(text, str) else self.call(self.bind(text, "text"), self.name("ctx"))
        run: list[py.stmt]
        if dynamic is not None:
            found = self.call(self.name("_dynamic_route"), self.name("ctx"), dynamic, self.where(node))
            unknown = self.compare(self.name("rc"), py.Is(), self.const(None))
            run = [
                self.set(found, "rc"),
                self.when(unknown, [self.set(self.const(-1), "rc")], [self.set(self.name("rc"), "ctx.rc")]),
            ]
        else:
            assert not isinstance(target, ast.Variable)
            name = str(target.value)
            function = self.name(self.function_names[(RouteKind.REQUEST, name)])
            if name in self.recursive:
                call = self.call(self.bind(semantics.call_deeper, "call_deeper"), self.name("ctx"), function)
            else:
                call = self.call(function, self.name("ctx"))
            run = [self.set(call, "rc", "ctx.rc")]
        if not node.arguments and not self.has_arguments:
            return run
        kept = self.temporary("p")
        if not node.arguments:  # the caller's own are not those of the route that it calls
            hide = self.when(self.name(kept), [self.set(self.tuple([]), "ctx.params")])
            show = self.when(self.name(kept), [self.set(self.name(kept), "ctx.params")])
            return [self.set(self.attr("ctx", "params"), kept), hide, *run, show]
        given = self.tuple([self._route_argument(argument) for argument in node.arguments])
        return [
            self.set(self.attr("ctx", "params"), kept),
            self.set(given, "ctx.params"),
            *run,
            self.set(self.name(kept), "ctx.params"),
        ]

    def _route_argument(self, argument: ast.Argument) -> py.expr:
        """A literal, or what reads a variable whenever ``$param(n)`` is read."""
        if isinstance(argument, ast.Variable):
            value, _ = self.read(argument)
            if isinstance(value, py.Constant):
                return value
            if "$param" in argument.text or "(param" in argument.text:
                return self.call(self.bind(semantics.ByName, "ByName"), self.getter(argument), self.name("ctx"))
            return self.call(self.bind(functools.partial, "partial"), self.getter(argument), self.name("ctx"))
        if isinstance(argument, ast.String | ast.Number):
            return self.const(argument.value)
        return self.const(None)

    # --- log ---------------------------------------------------------------------------------------------------------

    def xlog(self, node: ast.Xlog) -> list[py.stmt]:
        """``xlog()``: nothing is formatted unless the level is on."""
        if isinstance(node.format, ast.Variable):
            value, _ = self.read(node.format)
            text: py.expr = self.call(self.bind(formats.print_value, "print_value"), value)
        else:
            made = self.env.format(node.format)
            text = self.const(made) if isinstance(made, str) else self.call(self.bind(made, "text"), self.name("ctx"))
        level = node.level
        before: list[py.stmt] = []
        threshold: py.expr
        if isinstance(level, ast.Variable):
            name = self.temporary("l")
            value, _ = self.read(level)
            before.append(self.set(self.call(self.bind(semantics.log_level_of, "log_level_of"), value), name))
            threshold = self.name(name)
        elif isinstance(level, ast.Number):
            threshold = self.const(level.value)
        elif isinstance(level, ast.String):
            threshold = self.const(semantics.LEVELS[level.value])
        else:
            threshold = self.const(self.env.settings.xlog_print_level)
        write = self.do(self.call(self.attr("rt", "xlog"), threshold, text))
        return [*before, self.when(self.compare(self.attr("rt", "xlog_level"), py.GtE(), threshold), [write])]

    def log(self, node: ast.Log) -> list[py.stmt]:
        """``log()``."""
        write = self.do(self.call(self.attr("rt", "log"), self.const(node.level), self.const(node.text)))
        return [self.when(self.compare(self.attr("rt", "log_level"), py.GtE(), self.const(node.level)), [write])]


def _may_be_refused(parameter: Parameter, argument: ast.Argument) -> bool:
    """Whether a call can end with ValueRefused over a parameter."""
    if argument is None:
        return False
    if parameter.kind in ("var", "varlist"):
        return parameter.written
    return bool(parameter.guard) and (isinstance(argument, ast.Variable) or "$" in str(getattr(argument, "value", "")))
