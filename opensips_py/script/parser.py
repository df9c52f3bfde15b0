"""Tokens to tree (OpenSIPS ``cfg.y``); the grammar stands in docs/grammar.md.

Recursive descent, one method per rule. After an error the parser goes on after the statement (at the next ``;`` or
block), so that one run reports every error. Whatever has parsed stays in the tree.
"""

from __future__ import annotations

from opensips_py.script import ast
from opensips_py.script.diagnostics import Findings
from opensips_py.script.lexer import END, ID, NUMBER, STRING, VARIABLE, Token
from opensips_py.script.settings import SettingParser
from opensips_py.script.statements import COMMENTS, ROUTE_KEYWORDS, StatementParser
from opensips_py.script.token_stream import SyntaxFault

_NAMELESS = {"route", "onreply_route", "error_route", "local_route", "startup_route"}
"""Route blocks that may stand without a name."""
_NAMED = {"route", "failure_route", "onreply_route", "branch_route", "timer_route", "event_route"}


class Parser(SettingParser, StatementParser):
    """Parses one script."""

    def __init__(self, tokens: list[Token], findings: Findings) -> None:
        super().__init__(tokens, findings)
        self.script = ast.Script()

    # --- top level ---------------------------------------------------------------------------------------------------

    def parse(self) -> ast.Script:
        """The whole script. Errors are in the findings."""
        while self.token.kind != END:
            start = self.token
            try:
                self._top()
            except SyntaxFault:
                self._lost(start)
                self._resume_top()
        self.script.files = list(self.findings.sources)
        return self.script

    def _lost(self, start: Token) -> None:
        """Remember what may have stood in a top-level statement that is given up."""
        if start.value in ("modparam", "/"):  # "//": a comment of another language
            return
        if start.value != "loadmodule":
            self.findings.routes_lost = True
        if start.value not in ROUTE_KEYWORDS:
            self.findings.modules_lost = True

    def _top(self) -> None:
        token = self.token
        if self.accept(";"):
            self.error(token, "syntax error: ';' at top level", "leave it out: parameters and route blocks end without it")
            return
        if token.value == "}" and token.kind != STRING:
            if self.unclosed:
                self.unclosed -= 1
                self.next()
                return
            self.fail(token, "syntax error: '}' closes nothing", "there is one '}' too many, here or above")
        if token.kind != ID:
            hint = COMMENTS if token.value == "/" else None
            message = f"syntax error: {token.shown} at top level, where a parameter, loadmodule, modparam or route is expected"
            self.fail(token, message, hint)
        word = str(token.value)
        following = self.peek()
        if word in ROUTE_KEYWORDS and following.value in ("{", "[") and following.kind != STRING:
            self.script.routes.append(self.route())
        elif word == "loadmodule":
            self.next()
            path = self.expect_kind(STRING, 'string expected: loadmodule "name.so"')
            self.script.modules.append(ast.LoadModule(str(path.value), **self.span(token)))
        elif word == "modparam":
            self.script.parameters.append(self._modparam())
        elif following.value == "=" and following.kind != STRING:
            self.script.settings.append(self.setting())
        elif word in ROUTE_KEYWORDS:
            self.next()
            hint = (
                f"write {word}[name] {{ ... }}" if word not in _NAMELESS else f"write {word} {{ ... }} or {word}[name] {{ ... }}"
            )
            self.fail(self.token, f"syntax error: invalid {word} statement", hint)
        elif following.value in ("(", ";", "{", "[") and following.kind != STRING:
            self._misplaced(token, following)
        else:
            self.fail(token, f"syntax error: unexpected '{word}'", "a core parameter is written name = value")

    def _misplaced(self, token: Token, following: Token) -> None:
        word = str(token.value)
        if following.value in ("{", "["):
            self.fail(token, f"syntax error: unknown kind of route '{word}'", self.near(word, ROUTE_KEYWORDS))
        self.fail(
            token,
            f"syntax error: '{word}' is a statement, and statements stand inside a route block",
            "is there a '}' too many above?",
        )

    def _modparam(self) -> ast.ModParam:
        start = self.next()
        self.expect("(")
        module = self.expect_kind(STRING, "modparam needs a module name in quotes")
        self.expect(",", "modparam takes three arguments: module, parameter, value")
        name = self.expect_kind(STRING, "modparam needs a parameter name in quotes")
        self.expect(",", "modparam takes three arguments: module, parameter, value")
        value = self.value()
        if not isinstance(value, ast.Number | ast.String):
            self.fail(self.previous, "modparam needs a number or a string as value", f'write "{self.previous.value}" in quotes')
        self.expect(")", "modparam takes three arguments: module, parameter, value")
        return ast.ModParam(str(module.value), str(name.value), value, **self.span(start))

    def route(self) -> ast.Route:
        """A route block."""
        start = self.next()
        keyword = str(start.value)
        name, interval, sync = "0", 0, False
        if self.accept("["):
            if keyword not in _NAMED:
                self.fail(self.token, f"syntax error: {keyword} has no name", f"write {keyword} {{ ... }}")
            name = self.route_name()
            if keyword == "timer_route":
                self.expect(",", "timer_route needs a name and an interval in seconds: timer_route[name, 60]")
                interval = int(self.expect_kind(NUMBER, "the interval of a timer_route is a number of seconds").value)
                if interval < 1:
                    self.findings.warning(self.previous, "a timer_route with an interval of 0 never runs", "write seconds")
            elif keyword == "event_route" and self.accept(","):
                sync = self._event_mode()
            self.expect("]", f"syntax error: invalid {keyword} statement, ']' expected")
        elif keyword not in _NAMELESS:
            self.fail(
                self.token,
                f"syntax error: {keyword} needs a name",
                f"write {keyword}[name{', seconds' if keyword == 'timer_route' else ''}] {{ ... }}",
            )
        place = self.span(start)
        self.breakable = 0
        body = self.block(start)
        return ast.Route(ROUTE_KEYWORDS[keyword], name, body, interval, keyword, sync, **place)

    def _event_mode(self) -> bool:
        """``sync`` or ``async``: whether it is ``sync``."""
        mode = str(self.expect_kind(ID, "'sync' or 'async' expected").value)
        if mode not in ("sync", "async"):
            self.error(self.previous, "'sync' or 'async' expected")
        return mode == "sync"

    def _resume_top(self) -> None:
        """Go on at the next line that can begin a top-level statement."""
        depth = 0
        if self.token.value == "}" and self.token.kind != STRING:
            self.next()
        while self.token.kind != END:
            token = self.token
            if token.kind not in (STRING, VARIABLE):
                if token.value == "{":
                    depth += 1
                elif token.value == "}":
                    depth = max(0, depth - 1)
                elif token.first and token.kind == ID and (depth == 0 or token.column == 1) and self._begins_top(token):
                    return
            self.next()

    def _begins_top(self, token: Token) -> bool:
        following = self.peek()
        if token.value in ("loadmodule", "modparam"):
            return True
        return (token.value in ROUTE_KEYWORDS and following.value in ("{", "[")) or (
            following.value == "=" and following.kind != STRING
        )


def parse(tokens: list[Token], findings: Findings) -> ast.Script:
    """The tree of a script; syntax errors go to ``findings``."""
    return Parser(tokens, findings).parse()
