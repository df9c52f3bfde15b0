"""Warnings about texts of the message that stand unescaped where more than text is read (see ``injection``).

A route is followed from its beginning: a variable that was set from the message is as dangerous as what it was set from, until
it is set again. What a condition has compared with an anchored expression without ``.`` counts as looked at.
"""

from __future__ import annotations

import re

from opensips_py.script import ast, formats
from opensips_py.script.diagnostics import Findings
from opensips_py.script.environment import Environment
from opensips_py.script.injection import CONTEXTS, HEADER, LDAP, SINKS, SOURCES, SQL, URL, WAYS_OUT, Taint, quoted, transformed
from opensips_py.script.variable_syntax import VariableError, VariableText, scan_variable
from opensips_py.script.variables import Variable
from opensips_py.script.walk import commands_in, expressions

_HELD = ("var", "avp", "json", "shv")
"""Variables that hold what a script puts there."""
_STRICT = re.compile(r"\^(?:\\[.+*?()\[\]{}|^$-]|[^.\\'\"`;&|<>$^]|\|(?=\^?))*\$", re.DOTALL)
"""An expression over the whole text that lets no character of one's own choice through: no dot, no quotes."""
Known = dict[str, Taint]
"""What variables hold, by kind and name (``var:x``), or by name (``rU``)."""
_SET_TOGETHER = {
    **dict.fromkeys(("ru", "ruri"), ("ru", "ruri", "rU", "rd", "ruri.user", "ruri.domain")),
    **dict.fromkeys(("rU", "ruri.user"), ("rU", "ruri.user")),
    **dict.fromkeys(("rd", "ruri.domain"), ("rd", "ruri.domain")),
    **dict.fromkeys(("du", "duri"), ("du", "duri", "dd")),
}
"""Parts of the request that a script sets, and what changes with each."""
_HARMLESS = Taint("", frozenset())


def check_injection(script: ast.Script, env: Environment, findings: Findings) -> None:
    """Warn about every route of ``script``."""
    for route in script.routes:
        Follower(env, findings).block(route.body, {}, frozenset())


class Follower:
    """Follows one route."""

    def __init__(self, env: Environment, findings: Findings) -> None:
        self.env = env
        self.findings = findings

    def block(self, body: list[ast.Statement], known: Known, looked_at: frozenset[str]) -> bool:
        """A block: ``known`` is what variables hold, and is changed. True: the block never goes on after its end."""
        for statement in body:
            ended = self._statement(statement, known, looked_at)
            if ended:
                return True
            if isinstance(statement, ast.If):
                refused = _refused(statement)
                _trust(known, refused)
                looked_at |= refused
        return False

    def _statement(self, node: ast.Statement, known: Known, looked_at: frozenset[str]) -> bool:
        for command in commands_in(node):
            self._statement(command, known, looked_at)
        match node:
            case ast.Assign():
                self._assign(node, known, looked_at)
            case ast.Call():
                self._call(node, known, looked_at)
            case ast.Async() | ast.Await() | ast.Launch():
                self._call(node.call, known, looked_at)
                return isinstance(node, ast.Async)
            case ast.If():
                then, otherwise = dict(known), dict(known)
                tested = _tested(node.condition)
                _trust(then, tested)
                ends = self.block(node.then, then, looked_at | tested)
                ends_too = self.block(node.otherwise, otherwise, looked_at)
                known.clear()
                known.update({} if ends else then)
                for name, taint in ({} if ends_too else otherwise).items():
                    _put(known, name, _both(known.get(name), taint))
                return ends and ends_too and bool(node.otherwise)
            case ast.While() | ast.ForEach():
                if isinstance(node, ast.ForEach):
                    _put(known, self._held(node.iterator), self._of_variable(node.values, known, looked_at))
                self.block(node.body, known, looked_at)
            case ast.Switch():
                for case in node.cases:
                    inside = dict(known)
                    self.block(case.body, inside, looked_at)
                    for name, taint in inside.items():
                        _put(known, name, _both(known.get(name), taint))
            case ast.Exit() | ast.Return() | ast.Drop():
                return True
            case _:
                pass
        return False

    # --- what variables hold -----------------------------------------------------------------------------------------

    def _assign(self, node: ast.Assign, known: Known, looked_at: frozenset[str]) -> None:
        parts = self._parts(node.target.text)
        held = None if parts is None else _name(parts)
        if parts is None or (held is None and parts.name not in _SET_TOGETHER):
            return
        taint: Taint | None = None
        for part in expressions(node.value):
            if isinstance(part, ast.Arithmetic) and part.op != "+":
                taint = None
                break
            if isinstance(part, ast.Variable):
                taint = _both(taint, self._of_variable(part, known, looked_at))
        if held is None:
            for name in _SET_TOGETHER[parts.name]:
                known[name] = taint or _HARMLESS
            return
        if node.op == "+=" or (node.op == "=" and held.startswith("avp:")):
            taint = _both(taint, known.get(held))
        _put(known, held, taint)

    def _held(self, node: ast.Variable) -> str | None:
        parts = self._parts(node.text)
        return None if parts is None else _name(parts)

    def _parts(self, text: str) -> VariableText | None:
        try:
            return scan_variable(text, 0, self.env.registry.argument)[0]
        except VariableError:
            return None

    def _of_variable(self, node: ast.Variable, known: Known, looked_at: frozenset[str]) -> Taint | None:
        return self._of_text(node.text, known, looked_at)

    def _of_text(self, text: str, known: Known, looked_at: frozenset[str]) -> Taint | None:
        """What a variable, as written, brings along."""
        parts = self._parts(text)
        if parts is None:
            return None
        held = _name(parts)
        if held is not None:
            taint = known.get(held)
        elif _plain(parts) in looked_at:
            return None
        elif parts.name in known:
            taint = known[parts.name]
        else:
            contexts = SOURCES.get(parts.name)
            taint = None if contexts is None or _is_number(parts) else Taint(_short(parts), contexts)
        if taint is None:
            return None
        contexts = transformed(taint.contexts, [step.name.lower() for step in parts.transformations])
        return Taint(taint.source, contexts) if contexts else None

    # --- where they go -----------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, known: Known, looked_at: frozenset[str]) -> None:
        for at, context in SINKS.get(node.name, {}).items():
            if at < len(node.arguments):
                self._argument(node.arguments[at], context, known, looked_at)
        function = self.env.functions.get(node.name)
        for i, argument in enumerate(node.arguments):
            kind = function.parameters[i] if function is not None and i < len(function.parameters) else None
            if kind is not None and kind.kind == "var" and kind.written and isinstance(argument, ast.Variable):
                _put(known, self._held(argument), None)
            elif kind is not None and kind.kind == "varlist" and isinstance(argument, ast.String):
                for text in argument.value.split(";"):
                    parts = self._parts(text.strip())
                    _put(known, None if parts is None else _name(parts), None)
        if node.name == "ldap_filter_url_encode" and len(node.arguments) > 1:
            self._encoded(node.arguments[0], node.arguments[1], known, looked_at)

    def _encoded(self, given: ast.Argument, result: ast.Argument, known: Known, looked_at: frozenset[str]) -> None:
        """What is escaped for a filter is not for anything else."""
        texts = [text for text, _ in self._variables(given)]
        taint = None
        for text in texts:
            taint = _both(taint, self._of_text(text, known, looked_at))
        if taint is not None and isinstance(result, ast.Variable):
            _put(known, self._held(result), Taint(taint.source, taint.contexts - {LDAP, URL, HEADER}))

    def _variables(self, argument: ast.Argument) -> list[tuple[str, str]]:
        """The variables of an argument, each with the text in front of it."""
        if isinstance(argument, ast.Variable):
            return [(argument.text, "")]
        if not isinstance(argument, ast.String):
            return []
        try:
            pieces = formats.split_format(self.env.text(argument), self.env.registry)
        except VariableError:
            return []
        found, before = [], ""
        for piece in pieces:
            if isinstance(piece, Variable):
                found.append((piece.text, before))
                before += "x"
            else:
                before += piece
        return found

    def _argument(self, argument: ast.Argument, context: str, known: Known, looked_at: frozenset[str]) -> None:
        for text, before in self._variables(argument):
            taint = self._of_text(text, known, looked_at)
            parts = self._parts(text)
            if argument is None or parts is None:
                continue
            if taint is not None and context in taint.contexts:
                self._warn(argument, parts, taint, context)
            elif context == SQL and not quoted(before) and self._only_escaped(parts, known, looked_at):
                self.findings.warning(
                    argument, f"{text} stands in SQL without quotes: escaping does not help there", f"write '{text}'"
                )

    def _only_escaped(self, parts: VariableText, known: Known, looked_at: frozenset[str]) -> bool:
        """Is it {s.escape.common} alone that makes this text of the message harmless?"""
        names = [step.name.lower() for step in parts.transformations]
        if "s.escape.common" not in names:
            return False
        names.remove("s.escape.common")
        held = _name(parts)
        if held is None and _plain(parts) in looked_at:
            return False
        taint = known.get(held or parts.name) or (Taint("", SOURCES[parts.name]) if parts.name in SOURCES else None)
        return taint is not None and SQL in transformed(taint.contexts, names)

    def _warn(self, at: ast.Node, parts: VariableText, taint: Taint, context: str) -> None:
        plain = _short(parts)
        whole = parts.text if taint.source == plain else f"{parts.text} (from {taint.source})"
        if context == LDAP:
            hint = f'write ldap_filter_url_encode("{plain}", $var(f)); before it, and $var(f) in the filter'
        elif isinstance(at, ast.Variable) and taint.source != plain:
            hint = f"put {with_transformation(taint.source, WAYS_OUT[context])} into {plain}"
        else:
            escaped = with_transformation(plain, WAYS_OUT[context])
            hint = f"write ? and give {plain} after it, or '{escaped}'" if context == SQL else f"write {escaped}"
        self.findings.warning(at, f"{whole} is what the sender has written, and stands unescaped in {context}", hint)


def with_transformation(text: str, name: str) -> str:
    """A variable with one more transformation: ``$(fU{s.int})`` of ``$fU``."""
    return f"{text[:-1]}{{{name}}})" if text.startswith("$(") else f"$({text[1:]}{{{name}}})"


def _name(parts: VariableText) -> str | None:
    """Kind and name of a variable that scripts set; the parts of a JSON document are one."""
    if parts.name not in _HELD or parts.argument is None:
        return None
    argument = parts.argument.strip()
    return f"{parts.name}:{re.split(r'[/[]', argument)[0] if parts.name == 'json' else argument}"


def _short(parts: VariableText) -> str:
    """The variable without its transformations."""
    argument = "" if parts.argument is None else f"({parts.argument})"
    index = "" if parts.index is None else f"[{parts.index}]"
    context = "" if parts.context is None else f"<{parts.context}>"
    return f"$({context}{parts.name}{argument}{index})" if index or context else f"${parts.name}{argument}"


def _plain(parts: VariableText) -> str:
    """The same text for ``$fU`` and ``$(fU{s.escape.common})``."""
    return f"{parts.name}({parts.argument})[{parts.index}]"


def _is_number(parts: VariableText) -> bool:
    return parts.name == "ct.fields" and parts.argument in ("q", "expires")


def _put(known: Known, held: str | None, taint: Taint | None) -> None:
    if held is not None:
        known.pop(held, None)
        if taint is not None:
            known[held] = taint


def _both(one: Taint | None, other: Taint | None) -> Taint | None:
    if one is None or other is None:
        return one or other
    return Taint(one.source, one.contexts | other.contexts)


def _trust(known: Known, looked_at: frozenset[str]) -> None:
    """Variables that have been looked at are harmless until they are set again."""
    for held in list(known):
        kind, _, name = held.partition(":")
        if f"{kind}({name})[None]" in looked_at:
            del known[held]


# --- what has been looked at -------------------------------------------------------------------------------------------


def _tested(condition: ast.Condition) -> frozenset[str]:
    """Variables of which a condition that is true has seen every character."""
    if isinstance(condition, ast.Logical) and condition.op in ("&&", "and"):
        return _tested(condition.left) | _tested(condition.right)
    return _strict(condition, "=~")


def _refused(node: ast.If) -> frozenset[str]:
    """Variables that are looked at after ``if (!($fU =~ "^[0-9]+$")) { exit; }``."""
    if node.otherwise or not node.then or not isinstance(node.then[-1], ast.Exit | ast.Return | ast.Drop):
        return frozenset()
    parts = [node.condition]
    found: frozenset[str] = frozenset()
    while parts:
        part = parts.pop()
        if isinstance(part, ast.Logical) and part.op in ("||", "or"):
            parts += [part.left, part.right]
        elif isinstance(part, ast.Not):
            found |= _strict(part.operand, "=~")
        else:
            found |= _strict(part, "!~")
    return found


def _strict(condition: ast.Condition, op: str) -> frozenset[str]:
    if not isinstance(condition, ast.Comparison) or condition.op != op or not isinstance(condition.right, ast.String):
        return frozenset()
    if not isinstance(condition.left, ast.Variable) or _STRICT.fullmatch(condition.right.value) is None:
        return frozenset()
    try:
        parts, _ = scan_variable(condition.left.text, 0, lambda name: "optional")
    except VariableError:
        return frozenset()
    return frozenset((_plain(parts),)) if not parts.transformations else frozenset()


__all__ = ["CONTEXTS", "check_injection"]
