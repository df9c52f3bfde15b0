"""Judging function calls: does the function exist, may it stand here, do its arguments fit?"""

from __future__ import annotations

import re

from opensips_py.script import ast, known_modules
from opensips_py.script.context import RouteKind
from opensips_py.script.declarations import Doubt, Function, Parameter
from opensips_py.script.diagnostics import Findings
from opensips_py.script.environment import Environment, looks_like_format, name_of
from opensips_py.script.event_names import MAX_EVENT_NAME, events
from opensips_py.script.flag_names import branch_flags, message_flags
from opensips_py.script.migration import PAGE
from opensips_py.script.modules import way_to
from opensips_py.script.posix_regex import RegexError, compile_regex
from opensips_py.script.suggest import did_you_mean, nearest
from opensips_py.script.variables import Variable, VariableError

ARMED_ROUTES = {
    "t_on_failure": (RouteKind.FAILURE, "failure_route"),
    "t_on_reply": (RouteKind.ONREPLY, "onreply_route"),
    "t_on_branch": (RouteKind.BRANCH, "branch_route"),
}
"""Functions whose first argument names a route block."""

FLAGS = {"flag": message_flags, "branch_flag": branch_flags}
"""Parameter kinds that name a flag, and where its name is kept."""
_WORDS = re.compile(r"[a-z]+(?:-[a-z0-9]+)+(?:\s*,\s*[a-z0-9=-]+)*")
"""Flags by name."""
_TEXTS = ("str", "regex", "letters")
"""Parameter kinds for which OpenSIPS takes no number."""
_NAMES = ("avp", "route", "event", "raised_event")
FIXED_AVP = re.compile(r"\$avp\(([^()$]+)\)|\$\(avp\(([^()$]+)\)(?:\[[^]$]*\])?\)")
"""An AVP whose name is known when the script is loaded."""


def _at(argument: ast.Argument) -> ast.Node:
    assert argument is not None
    return argument


class CallChecker:
    """Checks calls. The checker proper gives the rest."""

    env: Environment
    findings: Findings
    events_used: list[tuple[ast.Node, str]]
    """Places where events are named, and their names."""
    kind: RouteKind
    block: str

    def variable(self, node: ast.Variable) -> Variable | None:
        """A variable; None when it is wrong."""
        raise NotImplementedError  # abstract

    def format(self, node: ast.String) -> None:
        """A format string."""
        raise NotImplementedError  # abstract

    def route_exists(self, at: ast.Node, kind: RouteKind, name: str, keyword: str) -> None:
        """Is there such a route block?"""
        if (kind, name) in self.env.routes or self.findings.routes_lost:
            return
        names = [n for k, n in self.env.routes if k is kind and n != "0"]
        hint = did_you_mean(name, names)
        if hint is None:
            hint = f"add {keyword}[{name}] {{ ... }}"
        self.findings.error(at, f"{keyword} [{name}] is not defined", hint)

    def suspension(self, node: ast.Async | ast.Await | ast.Launch) -> None:
        """``async()``, ``await()`` and ``launch()``."""
        word = type(node).__name__.lower()
        function = self._function(node.call, "async command")
        if function is not None and not function.waits:
            self.findings.error(
                node.call, f"{function.name}() cannot be used in {word}(): it never waits", self._instead_of_waiting(function)
            )
        elif function is not None:
            self._arguments(node.call, function, "async command")
        absent = not self.env.loads_module("tm") and not self.findings.modules_lost
        if not isinstance(node, ast.Launch) and absent:
            self.findings.error(node, f"{word}() needs the module tm", 'add loadmodule "tm.so"')
        if not isinstance(node, ast.Await) and node.route is not None:
            self.route_exists(node.route, RouteKind.REQUEST, node.route.value, "route")
        if isinstance(node.seconds, ast.Variable):
            self.variable(node.seconds)
        if isinstance(node, ast.Launch) and node.text is not None:
            if isinstance(node.text, ast.Variable):
                self.variable(node.text)
            else:
                self.format(node.text)

    def _instead_of_waiting(self, function: Function) -> str:
        able = [f.name for f in self.env.functions.values() if f.waits]
        listed = f"; functions that can: {', '.join(sorted(able))}" if able else ""
        module = self.env.modules.get(function.module)
        if module is not None and module.own:
            listed += "; if it takes time, declare it with @module.blocking or as async def"
        return f"call it plainly{listed}"

    def call(self, node: ast.Call) -> None:
        """A plain call."""
        function = self._function(node, "command")
        if function is None:
            return
        if function.async_only:
            self.findings.error(
                node,
                f"{function.name}() can only be used in async(), await() and launch()",
                f"write async({function.name}(...), resume_route)",
            )
            return
        if not function.routes & self.kind:
            allowed = ", ".join(_keyword(k) for k in RouteKind if k is not RouteKind.ALL and k & function.routes)
            self.findings.error(
                node, f"Command <{function.name}> cannot be used in the block: {self.block}", f"it may be used in {allowed}"
            )
            return
        self._arguments(node, function, "command")

    def _function(self, node: ast.Call, what: str) -> Function | None:
        function = self.env.functions.get(node.name)
        if function is None:
            self._unknown(node, what)
            for argument in node.arguments:
                self._expandable(argument)
        return function

    def _unknown(self, node: ast.Call, what: str) -> None:
        name = node.name
        if name in known_modules.UNSUPPORTED_FUNCTIONS:
            self.findings.error(node, f"not supported: function {name}()", known_modules.UNSUPPORTED_FUNCTIONS[name])
            return
        modules = known_modules.modules_of(name)
        loaded = [module for module in modules if module in self.env.modules]
        if loaded:
            self.findings.error(node, f"not supported yet: function {name}() of module {loaded[0]}", f"see {PAGE}")
            return
        hint = None
        if modules:
            if self.findings.modules_lost:
                return
            hint = way_to(name, *modules)
        elif name in known_modules.RENAMED_FUNCTIONS:
            now = known_modules.RENAMED_FUNCTIONS[name]
            self.findings.error(node, f"'{name}()' is deprecated", f"use {now if '$' in now else now + '()'} instead")
            return
        elif self.findings.modules_lost or self.env.unsupported:
            return
        else:
            near = nearest(name, [*self.env.functions, "xlog", "route", "async", "await", "launch", "return", "exit", "drop"])
            if near is None:
                near = nearest(name, known_modules.functions())
            hint = None if near is None else f'did you mean "{near}"?'
        message = f"unknown {what} <{name}>"
        if hint is None:
            message += ", missing loadmodule?"
        self.findings.error(node, message, hint)

    # --- arguments ---------------------------------------------------------------------------------------------------

    def _arguments(self, node: ast.Call, function: Function, what: str) -> None:
        arguments = node.arguments
        parameters = function.parameters_for(len(arguments))
        form = f"{function.name}({signature(function)})"
        if len(arguments) > len(parameters):
            hint = f"{form}: OpenSIPS 3.1 takes no more" if known_modules.known(function.module) else form
            self.findings.error(node, f"too many parameters for {what} <{function.name}>", hint)
        elif len(arguments) < function.required:
            self.findings.error(node, f"too few parameters for {what} <{function.name}>", form)
        for i, (argument, parameter) in enumerate(zip(arguments, parameters, strict=False), 1):
            if argument is None:
                if not parameter.optional:
                    self.findings.error(
                        node, f"mandatory parameter omitted for {what} <{function.name}>", f"parameter {i} of {form}"
                    )
                continue
            if isinstance(argument, ast.Number) and parameter.kind in _TEXTS and not self._takes_number(function, i):
                self._number_for_text(i, argument)
                continue
            self._argument(i, argument, parameter, form)
        for argument in arguments[len(parameters) :]:
            self._expandable(argument)
        if (
            function.given_fault is not None
            and arguments
            and isinstance(arguments[0], ast.String)
            and "$" not in arguments[0].value
        ):
            fault = function.given_fault(arguments[0].value, max(0, len(arguments) - len(function.parameters) + 1))
            if fault is not None:
                self.findings.error(node, fault, form)
        armed = ARMED_ROUTES.get(function.name)
        if armed is not None and arguments and isinstance(arguments[0], ast.String) and "$" not in arguments[0].value:
            self.route_exists(arguments[0], armed[0], arguments[0].value, armed[1])

    def _is_format(self, node: ast.String) -> bool:
        """Does a text have variables, all of them known?"""
        raise NotImplementedError  # abstract

    def _number_for_text(self, i: int, argument: ast.Number) -> None:
        self._not_started(argument, f"Param [{i}] expected to be a string or variable", f'write "{argument.value}" in quotes')

    def _not_started(self, at: ast.Node, message: str, hint: str | None) -> None:
        """OpenSIPS does not start with it; but its own check finds nothing wrong."""
        if self.env.only_checked:
            self.findings.warning(at, f"{message}: the server does not start with it", hint)
        else:
            self.findings.error(at, message, hint)

    def _takes_number(self, function: Function, i: int) -> bool:
        """Does a function take a number where it takes text? Those of OpenSIPS do not, unless 3.1 has a number there."""
        if function.module == "core":
            return False
        kinds = known_modules.kinds_of(function.module, function.name)
        return kinds is None or i > len(kinds) or kinds[i - 1].strip("[]") == "int"

    def _expandable(self, argument: ast.Argument) -> None:
        if isinstance(argument, ast.Variable):
            self.variable(argument)
        elif isinstance(argument, ast.String):
            self.format(argument)

    def _argument(self, i: int, argument: ast.Argument, parameter: Parameter, form: str) -> None:
        assert argument is not None
        kind = parameter.kind
        if isinstance(argument, ast.Null):
            if kind == "value":
                return
            self.findings.error(argument, "NULL cannot be a parameter", "leave the parameter out")
        elif kind == "int" or (kind == "loose_int" and not _is_number(argument)):
            if isinstance(argument, ast.Variable):
                self.variable(argument)
            elif isinstance(argument, ast.String):
                hint = f"write {argument.value}" if argument.value.lstrip("-").isdecimal() else form
                if argument.value.startswith("$"):
                    hint = f"write {argument.value} without quotes"
                elif _WORDS.fullmatch(argument.value):
                    hint = f"names of flags came with OpenSIPS 3.2, here it is a number: {form}"
                self.findings.error(argument, f"Param [{i}] expected to be an integer or variable", hint)
        elif kind in ("mask", "letters"):
            self._flags(i, argument, parameter, form)
        elif kind == "var":
            self._output(i, argument, form, parameter)
            if isinstance(argument, ast.Variable) and parameter.fault is not None:
                fault = parameter.fault(argument.text, self.env.registry)
                if fault is not None:
                    self.findings.error(argument, fault, form)
        elif kind == "varlist":
            self._list(i, argument, form)
        elif kind in FLAGS:
            if isinstance(argument, ast.Variable):
                self.findings.error(
                    argument, f"Param [{i}] expected to be the name of a flag", "flags are named when the script is loaded"
                )
            else:
                try:
                    if argument.value == "":
                        raise ValueError(f"a {FLAGS[kind].what} flag has a name")
                    FLAGS[kind].mask(str(argument.value))
                except ValueError as e:
                    self.findings.error(argument, str(e))
        elif kind == "static":
            if isinstance(argument, ast.Variable):
                self.variable(argument)
            elif isinstance(argument, ast.String) and parameter.fault is not None:
                fault = parameter.fault(argument.value, self.env.registry)
                if fault is not None and argument.value.startswith("$") and self._is_format(argument):
                    self.findings.warning(argument, f"{fault}: the call fails with -1")
                elif fault is not None:
                    self.findings.error(argument, fault)
        elif kind in _NAMES:
            self._name(i, argument, kind, form)
        elif kind == "regex":
            if isinstance(argument, ast.String) and not looks_like_format(argument.value):
                try:
                    compile_regex(argument.value, True)
                except RegexError as e:
                    self.findings.error(argument, f"bad regular expression: {e.message}")
            else:
                self._expandable(argument)
        else:
            self._expandable(argument)
            if parameter.fault is not None and isinstance(argument, ast.String) and "$" not in argument.value:
                fault = parameter.fault(argument.value, self.env.registry)
                if isinstance(fault, Doubt):
                    self.findings.warning(argument, fault)
                elif fault is not None:
                    self.findings.error(argument, fault)

    def _flags(self, i: int, argument: ast.Argument, parameter: Parameter, form: str) -> None:
        """Flags: a number or letters, or names."""
        words = parameter.words
        assert words is not None
        if not isinstance(argument, ast.String) or looks_like_format(argument.value):
            if parameter.kind == "mask" and isinstance(argument, ast.String):
                self.findings.error(
                    argument, f"Param [{i}] expected to be an integer or variable", f"write {argument.value} without quotes"
                )
            self._expandable(argument)
            return
        text = argument.value
        if parameter.kind == "mask" and (not text.strip() or text.lstrip("-").isdecimal()):
            self.findings.error(argument, f"Param [{i}] expected to be an integer or variable", f"write {text or '0'}")
        elif parameter.kind == "mask" or words.named(text):
            fault = words.fault(text)
            if fault is not None:
                self.findings.error(argument, f"Param [{i}]: {fault}", words.hint(text))

    def _name(self, i: int, argument: ast.Argument, kind: str, form: str) -> None:
        """An AVP, a route or an event."""
        if kind == "avp":
            if not isinstance(argument, ast.Variable) or FIXED_AVP.fullmatch(argument.text) is None:
                text = argument.value if isinstance(argument, ast.String) else ""
                hint = f"write {text} without quotes" if FIXED_AVP.fullmatch(text) else form
                self.findings.error(_at(argument), f"Param [{i}] expected to be an AVP with a fixed name, as $avp(name)", hint)
            return
        if kind == "event" and not (isinstance(argument, ast.String) and not looks_like_format(argument.value)):
            self._expandable(argument)
            return
        if kind == "raised_event" and isinstance(argument, ast.Variable):
            self.variable(argument)
        elif not isinstance(argument, ast.String):
            self.findings.error(_at(argument), f"Param [{i}] expected to be a name", form)
        elif kind == "route":
            self.route_exists(argument, RouteKind.REQUEST, argument.value, "route")
        elif kind == "raised_event":
            if len(argument.value) > MAX_EVENT_NAME:
                self.findings.error(argument, f"the name of an event has at most {MAX_EVENT_NAME} characters")
            events.raised(argument.value)
        else:
            self.events_used.append((argument, argument.value))

    def events_exist(self) -> None:
        """Warn of events that nothing raises; when all calls have been checked."""
        for at, name in self.events_used:
            if name in events.known:
                continue
            module = known_modules.module_of_event(name)
            if module in self.env.modules:
                self.findings.warning(at, f"not supported yet: module {module} does not raise {name}", f"see {PAGE}")
            elif module is not None:
                self.findings.warning(at, f"no loaded module raises {name}", way_to(name, module))
            elif not self.env.unsupported:
                hint = did_you_mean(name, events.known) or "no loaded module raises it, nor does the script with raise_event()"
                self.findings.warning(at, f"there is no event {name}", hint)

    def _output(self, i: int, argument: ast.Argument, form: str, parameter: Parameter | None = None) -> None:
        if not isinstance(argument, ast.Variable):
            hint = form
            if isinstance(argument, ast.String) and argument.value.startswith("$"):
                hint = f"write {argument.value} without quotes"
            if argument is not None:
                self.findings.error(argument, f"Param [{i}] expected to be a variable", hint)
            return
        variable = self.variable(argument)
        if variable is None or variable.writable or (parameter is not None and not parameter.written):
            return
        message = f"{argument.text} cannot be written, and this parameter receives a value"
        if parameter is None or parameter.own:
            self.findings.error(argument, message, form)
        else:
            self.findings.warning(argument, f"{message}: the call fails with -1", form)

    def _list(self, i: int, argument: ast.Argument, form: str) -> None:
        if isinstance(argument, ast.Variable):
            self._output(i, argument, form)
        elif isinstance(argument, ast.String):
            try:
                variables = self.env.variables_of(argument.value)
            except VariableError as e:
                self.findings.error(argument, e.message)
                return
            for variable in variables:
                if not variable.writable:
                    self.findings.error(argument, f"{variable.text} cannot be written, and this parameter receives values")
        elif argument is not None:
            self.findings.error(argument, f"Param [{i}] expected to be a list of variables", form)


def _is_number(argument: ast.Argument) -> bool:
    """Whether a literal in quotes is a number."""
    return isinstance(argument, ast.String) and re.fullmatch(r"[+-]?[0-9]{1,9}", argument.value) is not None


def signature(function: Function) -> str:
    """``int code, str reason [, var output]`` for messages."""
    text = ""
    for parameter in function.parameters:
        kind = {"mask": "int", "letters": "str", "loose_int": "int"}.get(parameter.kind, parameter.kind)
        item = f"{kind} {parameter.name}".rstrip() + ("..." if parameter.repeated else "")
        separator = ", " if text else ""
        text += f"[{separator}{item}]" if parameter.optional else separator + item
    return text


def _keyword(kind: RouteKind) -> str:
    return "route" if kind is RouteKind.REQUEST else f"{(kind.name or '').lower()}_route"


__all__ = ["ARMED_ROUTES", "CallChecker", "name_of", "signature"]
