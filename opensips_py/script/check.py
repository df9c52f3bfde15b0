"""Does every name of a script exist, and is it used as it may be? All errors in one run, each with its place.

The tree has been parsed; this file judges statements and expressions. Calls are judged by ``check_calls``, the flow
between routes (what is never reached, what a suspension loses) by ``check_flow``.
"""

from __future__ import annotations

import itertools
import re

from opensips_py.script import ast, formats, known_modules
from opensips_py.script.check_calls import CallChecker
from opensips_py.script.check_codes import check_codes
from opensips_py.script.check_flow import check_flow
from opensips_py.script.check_injection import check_injection
from opensips_py.script.check_reach import check_reach
from opensips_py.script.context import RouteKind
from opensips_py.script.diagnostics import Findings
from opensips_py.script.environment import Environment, looks_like_format, name_of
from opensips_py.script.modules import way_to
from opensips_py.script.posix_regex import RegexError, compile_regex
from opensips_py.script.semantics import Net
from opensips_py.script.suggest import did_you_mean
from opensips_py.script.variables import Variable, VariableError
from opensips_py.script.walk import calls, expressions

_DOUBTFUL = re.compile(r"\(\)|\[|\$\(\s|\$[\w.]+\(")
_ITERATORS = ("var", "avp", "json")


def check(script: ast.Script, env: Environment, findings: Findings, path: str) -> None:
    """Check every route of ``script``; fills ``env.routes``."""
    Checker(env, findings).run(script, path)


class Checker(CallChecker):
    """Checks routes."""

    def __init__(self, env: Environment, findings: Findings) -> None:
        self.env = env
        self.findings = findings
        self.kind = RouteKind.REQUEST
        self.block = "route"
        self.events_used = []

    def run(self, script: ast.Script, path: str) -> None:
        """The whole script."""
        self._collect(script, path)
        self._deadlines(script)
        self._blacklists(script)
        for route in script.routes:
            self.kind = route.kind
            self.block = route.keyword
            if not route.body and route.name != "0" and not self.findings.failed:
                self.findings.warning(route, f"{route.keyword}[{route.name}] is empty")
            if route.kind is RouteKind.EVENT:
                self.events_used.append((route, route.name))
            self.statements(route.body)
        self.events_exist()
        check_flow(script, self.env, self.findings)
        check_codes(script, self.findings)
        check_reach(script, self.env, self.findings)
        check_injection(script, self.env, self.findings)

    def _deadlines(self, script: ast.Script) -> None:
        """Does ``async_timeout`` name functions that wait?"""
        able = [f.name for f in self.env.functions.values() if f.waits]
        for setting in script.settings:
            if setting.name == "async_timeout":
                for name in self.env.settings.async_timeout.by_function:
                    if name not in able:
                        hint = did_you_mean(name, able) or f"functions that wait: {', '.join(sorted(able)) or 'none is loaded'}"
                        self.findings.error(setting, f"async_timeout: {name}() is not a function that waits", hint)

    def _blacklists(self, script: ast.Script) -> None:
        """A list of forbidden destinations that is defined and used would not keep anything from being sent there."""
        if not any(setting.name == "dst_blacklist" for setting in script.settings):
            return
        for route in script.routes:
            for call, _ in calls(route.body):
                if call.name == "use_blacklist":
                    hint = "test $du and $rd in the script before t_relay()"
                    self.findings.error(call, "not supported yet: use_blacklist() with a list of dst_blacklist", hint)

    def _collect(self, script: ast.Script, path: str) -> None:
        first: dict[tuple[RouteKind, str], ast.Route] = {}
        for route in script.routes:
            key = (route.kind, route.name)
            if key in first:
                if route.name == "0":
                    message = (
                        f"{route.keyword} is defined twice"
                        if route.keyword != "route"
                        else "overwriting default request routing table"
                    )
                else:
                    message = f"Script route <{route.name}> is redefined"
                self.findings.error(route, message, f"the first one stands in {first[key].file}:{first[key].line}")
            else:
                first[key] = route
        self.env.routes = first
        if (RouteKind.REQUEST, "0") not in first and not self.findings.failed:
            at = ast.Null(file=path, line=1, column=1, end=2)
            self.findings.error(
                at, "there is no route { ... } block: requests would not be routed", "every script needs one route without a name"
            )

    # --- statements --------------------------------------------------------------------------------------------------

    def statements(self, body: list[ast.Statement]) -> None:
        """A block."""
        for statement in body:
            self.statement(statement)

    def statement(self, node: ast.Statement) -> None:
        """One statement and what is inside it."""
        match node:
            case ast.Call():
                self.call(node)
            case ast.Assign():
                self._assign(node)
            case ast.If():
                self.condition(node.condition)
                self.statements(node.then)
                self.statements(node.otherwise)
            case ast.While():
                self.condition(node.condition)
                self.statements(node.body)
            case ast.RouteCall():
                self._route_call(node)
            case ast.Xlog():
                self._xlog(node)
            case ast.Return():
                if isinstance(node.value, ast.Variable):
                    self.variable(node.value)
            case ast.Async() | ast.Await() | ast.Launch():
                self.suspension(node)
            case ast.Switch():
                self.variable(node.value)
                for case in node.cases:
                    self.statements(case.body)
            case ast.ForEach():
                self._for(node)
            case ast.Assert():
                self.condition(node.condition)
            case _:
                pass

    def _for(self, node: ast.ForEach) -> None:
        self.variable(node.values)
        if "[*]" not in node.values.text:
            message = "never runs: for goes over the values of a variable with the index [*]"
            self.findings.warning(node.values, message, "write for ($var(it) in $(avp(list)[*])) { ... }")
        iterator = self.variable(node.iterator)
        if name_of(node.iterator.text) not in _ITERATORS:
            self.findings.error(node.iterator, f"{node.iterator.text} cannot be the iterator of a for", "use $var, $avp or $json")
        elif iterator is not None and not iterator.writable:
            self.findings.error(node.iterator, f"{node.iterator.text} cannot be written")
        self.statements(node.body)

    def _xlog(self, node: ast.Xlog) -> None:
        if isinstance(node.level, ast.Variable):
            self.variable(node.level)
        elif isinstance(node.level, ast.String):
            from opensips_py.script.semantics import LEVELS

            if node.level.value not in LEVELS:
                self.findings.error(node.level, f"unknown log level {node.level.value}", did_you_mean(node.level.value, LEVELS))
        if isinstance(node.format, ast.Variable):
            self.variable(node.format)
        else:
            self.format(node.format)

    def _route_call(self, node: ast.RouteCall) -> None:
        target = node.target
        if isinstance(target, ast.Variable):
            self.variable(target)
        elif isinstance(target, ast.String) and looks_like_format(target.value):
            self.format(target)
        else:
            self.route_exists(target, RouteKind.REQUEST, str(target.value), "route")
        for argument in node.arguments:
            if isinstance(argument, ast.Variable):
                self.variable(argument)

    def _assign(self, node: ast.Assign) -> None:
        self.expression(node.value)
        target = node.target
        variable = self.variable(target)
        if variable is not None and not variable.writable:
            if "{" in target.text:
                self.findings.error(
                    target, "transformations not accepted in left side of assignment", "apply them on the right side"
                )
            else:
                self.findings.error(target, "invalid left operand in assignment", f"{target.text} cannot be written")
        elif isinstance(node.value, ast.Null) and node.op == ":=" and name_of(target.text) == "var":
            self.findings.error(target, "invalid left operand in NULL assignment", "write = NULL; := NULL is for $avp")
        if isinstance(node.value, ast.String) and looks_like_format(node.value.value) and self._is_format(node.value):
            self.findings.warning(
                node.value,
                "a string on the right of an assignment is not expanded",
                'write $var(a) + "text", or the variable without quotes',
            )

    # --- conditions and expressions ----------------------------------------------------------------------------------

    def condition(self, node: ast.Condition) -> None:
        """A condition."""
        match node:
            case ast.Logical():
                self.condition(node.left)
                self.condition(node.right)
            case ast.Not():
                self.condition(node.operand)
            case ast.Truth():
                self.expression(node.value)
            case ast.Ran():
                if isinstance(node.command, ast.Assign):
                    self.findings.warning(node, "assignment in a condition: always true", "did you mean ==?")
                self.statement(node.command)
            case ast.Comparison():
                self._comparison(node)

    def _comparison(self, node: ast.Comparison) -> None:
        self.expression(node.left)
        self.expression(node.right)
        right = node.right
        if isinstance(right, ast.Network):
            try:
                Net(right.text)
            except ValueError as e:
                self.findings.error(right, f"bad network: {e}")
        if not isinstance(right, ast.String):
            return
        if node.op in ("=~", "!~"):
            try:
                compile_regex(right.value)
            except RegexError as e:
                self.findings.error(right, f"bad regular expression: {e.message}")
        elif looks_like_format(right.value) and self._is_format(right):
            self.findings.warning(right, "a string in a comparison is not expanded", "write the variable without quotes")

    def expression(self, node: ast.Expression) -> None:
        """A value."""
        for part in expressions(node):
            if isinstance(part, ast.Variable):
                self.variable(part)
            elif isinstance(part, ast.CodeOf):
                self.statement(part.command)
            elif isinstance(part, ast.TruthOf):
                self.condition(part.condition)

    def variable(self, node: ast.Variable) -> Variable | None:
        """A variable; None when it is wrong."""
        self._arguments_set(node, node.text)
        try:
            return self.env.variable(node)
        except VariableError as error:
            self._variable_error(node, error, node.column + error.offset)
        return None

    def format(self, node: ast.String) -> None:
        """A format string."""
        self._arguments_set(node, node.value)
        try:
            self.env.format(node)
        except VariableError as error:
            self._variable_error(node, error, node.column)
            return
        if _DOUBTFUL.search(node.value):
            self._variables_in(node)

    def _variables_in(self, node: ast.String) -> None:
        """Variables of a format string that are not written as they must be."""
        registry = self.env.registry
        pieces = formats.split_format(node.value, registry)
        for piece, following in itertools.zip_longest(pieces, pieces[1:]):
            if isinstance(piece, str):
                continue
            try:
                registry.variable(piece.text)
            except VariableError as error:
                self._not_started(node, error.message, None)
            if isinstance(following, str) and following.startswith("(") and not piece.text.endswith(")"):
                self._not_started(node, f"{piece.text} takes no argument", f"write $({piece.text[1:]}) before a parenthesis")

    def _arguments_set(self, node: ast.Node, text: str) -> None:
        if "argv" in text:
            for name in self.env.unset_arguments(text):
                self.findings.warning(node, f"$argv({name}) is not set: it is NULL", f"start the server with -o {name}=value")

    def _is_format(self, node: ast.String) -> bool:
        try:
            return not isinstance(formats.compile_format(node.value, self.env.registry), str)
        except VariableError:
            return False

    def _variable_error(self, node: ast.Variable | ast.String, error: VariableError, column: int) -> None:
        message, _, hint = error.message.partition("; ")
        at: ast.Node = node
        if isinstance(node, ast.Variable) and node.end > column:
            at = ast.Null(file=node.file, line=node.line, column=column, end=node.end)
        name = message.partition("$")[2].split(" ")[0].split("(")[0]
        if message.startswith("unknown variable"):
            module = known_modules.module_of_variable(name)
            if module is not None and module not in self.env.modules:
                hint = way_to(name, module)
            elif self.findings.modules_lost or self.env.unsupported:
                return
        self.findings.error(at, message, hint or None)
