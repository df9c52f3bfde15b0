"""The rules for statements and blocks, and going on after an error in one."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from opensips_py.script import ast
from opensips_py.script.commands import CommandParser
from opensips_py.script.context import RouteKind
from opensips_py.script.diagnostics import Findings
from opensips_py.script.expressions import ASSIGNING
from opensips_py.script.lexer import END, ID, STRING, VARIABLE, Token
from opensips_py.script.token_stream import SyntaxFault

COMMENTS = "comments begin with # or stand between /* and */"
ROUTE_KEYWORDS = {
    "route": RouteKind.REQUEST,
    "failure_route": RouteKind.FAILURE,
    "onreply_route": RouteKind.ONREPLY,
    "branch_route": RouteKind.BRANCH,
    "error_route": RouteKind.ERROR,
    "local_route": RouteKind.LOCAL,
    "startup_route": RouteKind.STARTUP,
    "timer_route": RouteKind.TIMER,
    "event_route": RouteKind.EVENT,
}
"""The words that begin a route block."""
ROUTE_MEANINGS = {
    "route": "without a name: every received request; with one: a subroutine, or what goes on after ``async()``",
    "failure_route": "when all branches have failed, armed by ``t_on_failure()``",
    "onreply_route": "without a name: every received reply; with one: replies of a transaction, armed by ``t_on_reply()``",
    "branch_route": "before each branch is sent, armed by ``t_on_branch()``",
    "error_route": "when a received request cannot be parsed",
    "local_route": "before a request of the server itself is sent",
    "startup_route": "once, before the first request",
    "timer_route": "every so many seconds: ``timer_route[name, seconds]``",
    "event_route": "when a module raises the event",
}
"""When each of them runs."""
_BLOCK_WORDS = {"if", "else", "while", "for", "switch", "case", "default"}


class StatementParser(CommandParser):
    """Statements and blocks."""

    def __init__(self, tokens: list[Token], findings: Findings) -> None:
        super().__init__(tokens, findings)
        self.unclosed = 0
        """How many blocks were given up open: as many '}' may be left over."""

    def route(self) -> ast.Route:
        """A route block."""
        raise NotImplementedError  # abstract

    # --- blocks ------------------------------------------------------------------------------------------------------

    def block(self, owner: Token) -> list[ast.Statement]:
        """``{ … }``."""
        self.expect("{", f"syntax error: '{{' expected after {owner.value}, not {self.token.shown}")
        body: list[ast.Statement] = []
        while True:
            token = self.token
            if token.value == "}" and token.kind != STRING:
                self.next()
                return body
            if token.kind == END:
                self.fail(
                    token, f"syntax error: the block of '{owner.value}' in line {owner.line} is not closed", "a '}' is missing"
                )
            if self._new_route(token):
                self.error(
                    token,
                    f"syntax error: {token.value} begins inside the block of '{owner.value}' in line {owner.line}",
                    "a '}' is missing above, or the route block stands in the wrong place",
                )
                self.unclosed += 1
                if token.column == 1:
                    raise SyntaxFault
                self.route()
                continue
            body.extend(self._guarded())

    def _new_route(self, token: Token) -> bool:
        if token.kind != ID or token.value not in ROUTE_KEYWORDS:
            return False
        following = self.peek()
        return (following.value in ("[", "{")) and following.kind != STRING

    def _guarded(self, *, braces: bool = False) -> list[ast.Statement]:
        """One statement, or with ``braces`` a block; after an error, none, after it."""
        start, first = self.index, self.token
        try:
            return self._body(first) if braces else self._statement()
        except SyntaxFault:
            if self._unwinding():
                raise
            self._resume_statement(start)
            if first.kind == ID and first.value == "if" and self.accept_word("else"):
                self._guarded(braces=True)  # it had its if; what it leads to is read for its errors
            return []

    def _unwinding(self) -> bool:
        return self.token.kind == END or (self._new_route(self.token) and self.token.column == 1)

    def _resume_statement(self, start: int) -> None:
        """Go on after the statement that began at ``start``: its ``;``, or the block that belongs to it."""
        if self.index == start:
            self.next()
        parens = 0
        depth = self.depth_since(start)
        while self.token.kind != END:
            token = self.token
            if token.kind not in (STRING, VARIABLE):
                if token.value == ";" and depth <= 0:
                    self.next()
                    return
                if token.value == "}":
                    depth -= 1
                    if depth < 0:
                        return
                    self.next()
                    if depth == 0:
                        return
                    continue
                if self._new_route(token) and token.column == 1:
                    return
                if token.value == "{":
                    self._skipped_block(token)
                    if depth <= 0:
                        return
                    continue
                parens += (token.value == "(") - (token.value == ")")
                if token.first and token.kind == ID and parens <= 0 and depth <= 0 and self._begins_statement(token):
                    return
            elif token.kind == VARIABLE and token.first and parens <= 0 and depth <= 0 and self.peek().value in ASSIGNING:
                return
            self.next()

    def _begins_statement(self, token: Token) -> bool:
        return token.value in ("if", "while", "for", "switch", "case", "default", "exit", "drop", "return", "break") or (
            self.peek().value == "(" and self.previous.value not in ("(", ",", "&&", "||", "!", "and", "or", "not")
        )

    def _skipped_block(self, owner: Token) -> None:
        """Read a block (for its errors) whose head was wrong, and the ``else`` after it."""
        self.breakable += 1
        while True:
            self.block(owner)
            if not self.accept_word("else"):
                break
            if self.token.value != "{" or self.token.kind == STRING:
                self._guarded()
                break
        self.breakable -= 1

    def _body(self, owner: Token) -> list[ast.Statement]:
        """A block or one statement."""
        if self.token.value == "{" and self.token.kind != STRING:
            return self.block(owner)
        return self._statement()

    # --- statements --------------------------------------------------------------------------------------------------

    def _statement(self) -> list[ast.Statement]:
        """One statement with its ``;``; an empty one is an empty list."""
        token = self.token
        if token.kind == VARIABLE:
            return self._ended([self.assignment()])
        if token.kind != ID:
            if self.accept(";"):
                return []
            if token.value == "{" and token.kind != STRING:
                self.error(token, "syntax error: a block may only follow if, else, while or for", "leave the braces out")
                return self.block(token)
            hint = COMMENTS if token.value == "/" else None
            self.fail(token, f"syntax error: {token.shown} cannot begin a statement", hint)
        word = str(token.value)
        rule = self._compound.get(word)
        if rule is not None:
            return [rule(self)]
        if word in _BLOCK_WORDS:
            if word == "else":
                self.fail(token, "syntax error: 'else' without 'if'", "the branch of an if without braces is one statement")
            self.fail(token, f"syntax error: '{word}' outside a switch")
        if word.lower() in _BLOCK_WORDS and self.peek().value == "(":
            self.fail(token, f"syntax error: unknown statement '{word}'", f"keywords are written in lower case: {word.lower()}")
        return self._ended([self.command()])

    def _ended(self, statement: list[ast.Statement]) -> list[ast.Statement]:
        if not self.accept(";"):
            token, before = self.token, self.previous
            if token.line != before.line or token.file != before.file or token.value == "}" or token.kind == END:
                where = f"the statement in line {before.line} does not end with ';'"
                self.error(token, f"syntax error: bad command: missing ';'? before {token.shown}", where)
                return statement
            message = f"syntax error: {token.shown} does not belong here"
            hint = "';' or an operator is missing"
            if isinstance(statement[0], ast.Drop | ast.Exit | ast.Break):
                hint = f"{before.value} takes no argument"
            elif token.value in ("+", "-") and before.kind == VARIABLE:
                hint = "write $var(i) += 1"
            self.fail(token, message, hint)
        return statement

    def _if(self) -> ast.If:
        start = self.next()
        condition = self._parenthesised(start)
        then = self._body(start)
        otherwise: list[ast.Statement] = []
        if self.token.value == "else" and self.token.kind == ID:
            otherwise = self._body(self.next())
        return ast.If(condition, then, otherwise, **self.span(start, start))

    def _while(self) -> ast.While:
        start = self.next()
        condition = self._parenthesised(start)
        self.breakable += 1
        body = self._body(start)
        self.breakable -= 1
        return ast.While(condition, body, **self.span(start, start))

    def _parenthesised(self, start: Token) -> ast.Condition:
        self.expect(
            "(",
            f"syntax error: '(' expected after {start.value}, not {self.token.shown}",
            f"write {start.value} (condition) {{ ... }}",
        )
        if self.token.value == ")" and self.token.kind != STRING:
            self.fail(self.token, "syntax error: the condition is empty")
        condition = self.condition()
        self.expect_close()
        return condition

    def _for(self) -> ast.ForEach:
        start = self.next()
        form = "write for ($var(it) in $(avp(list)[*])) { ... }"
        self.expect("(", "syntax error: '(' expected after for", form)
        iterator = self.variable(form)
        if not self.accept_word("in"):
            self.fail(self.token, f"syntax error: 'in' expected, not {self.token.shown}", form)
        values = self.variable(form)
        self.expect_close()
        self.breakable += 1
        body = self._body(start)
        self.breakable -= 1
        return ast.ForEach(iterator, values, body, **self.span(start, start))

    def _switch(self) -> ast.Switch:
        start = self.next()
        self.expect("(", "syntax error: '(' expected after switch")
        value = self.variable("switch takes one variable")
        self.expect_close()
        opening = self.token
        self.expect("{", f"syntax error: '{{' expected after switch, not {opening.shown}")
        cases: list[ast.Case] = []
        self.breakable += 1
        while not self.accept("}"):
            if self.token.kind == END:
                self.fail(self.token, f"syntax error: the switch in line {start.line} is not closed", "a '}' is missing")
            cases.append(self._case(cases))
        self.breakable -= 1
        if not cases or cases[0].label is None:
            self.error(start, "syntax error: a switch begins with a case")
        return ast.Switch(value, cases, **self.span(start, start))

    def _case(self, before: list[ast.Case]) -> ast.Case:
        start = self.token
        label: ast.Number | ast.String | None = None
        if self.accept_word("case"):
            if self.token.kind == VARIABLE:
                self.fail(self.token, "syntax error: a case label is a number or a string, not a variable")
            value = self.value()
            if not isinstance(value, ast.Number | ast.String):
                self.fail(self.previous, "syntax error: a case label is a number or a string")
            label = value
            if before and before[-1].label is None:
                self.error(start, "syntax error: 'case' after 'default'", "default comes last")
        elif self.accept_word("default"):
            if any(case.label is None for case in before):
                self.error(start, "syntax error: a second 'default' in this switch")
        else:
            self.fail(start, f"syntax error: 'case' or 'default' expected, not {start.shown}")
        self.expect(":", f"syntax error: ':' expected after the case label, not {self.token.shown}")
        body: list[ast.Statement] = []
        while self.token.kind != END and not (
            (self.token.kind == ID and self.token.value in ("case", "default"))
            or (self.token.value == "}" and self.token.kind != STRING)
        ):
            if self.token.value == "{" and self.token.kind != STRING:
                self.error(self.token, "syntax error: the body of a case is plain statements, without braces")
                body.extend(self._guarded(braces=True))
            else:
                body.extend(self._guarded())
        return ast.Case(label, body, **self.span(start, start))

    _compound: ClassVar[dict[str, Callable[[StatementParser], ast.Statement]]] = {
        "if": _if,
        "while": _while,
        "for": _for,
        "switch": _switch,
    }
