"""The rules for commands: function calls, and the words with a syntax of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

from opensips_py.script import ast
from opensips_py.script.diagnostics import Findings
from opensips_py.script.expressions import ASSIGNING, ExpressionParser
from opensips_py.script.lexer import ADDRESS, ID, NUMBER, STRING, VARIABLE, Token
from opensips_py.script.semantics import LEVELS
from opensips_py.script.token_stream import SyntaxFault

_OLD_WORDS = {
    "method": '$rm, or is_method("INVITE")',
    "msg": "$ml for its length",
    "uri": "$ru",
    "from_uri": "$fu",
    "to_uri": "$tu",
    "src_ip": "$si",
    "src_port": "$sp",
    "dst_ip": "$Ri",
    "dst_port": "$Rp",
    "proto": "$proto",
    "status": "$rs",
    "retcode": "$rc",
}
"""What scripts for OpenSIPS 2 and older have in their conditions, and how it is written now."""
_ELSE_IF = ("elsif", "elseif", "elif")
"""How other languages write it."""


_ONE_VARIABLE = re.compile(r"\$(?:[A-Za-z0-9_.]+(?:\([^()]*\))?|\(.*\))\Z")


def _level(level: ast.Number) -> str:
    """A level of the log as it is written."""
    return next((f'"{name}"' for name, number in LEVELS.items() if number == level.value), '"L_INFO"')


class CommandParser(ExpressionParser):
    """Commands and assignments, without the ``;`` after them."""

    def __init__(self, tokens: list[Token], findings: Findings) -> None:
        super().__init__(tokens, findings)
        self.breakable = 0
        """How many loops and switches surround the current statement."""

    def assignment(self) -> ast.Assign:
        """``$pv op expression``."""
        start = self.token
        target = self.variable("")
        op = self.token
        if op.value not in ASSIGNING or op.kind == STRING:
            hint = "write $var(i) += 1" if op.value in ("+", "-") else "an assignment is written $var(x) = value;"
            self.fail(op, f"syntax error: an assignment operator is expected after {target.text}, not {op.shown}", hint)
        self.next()
        value: ast.Expression
        if self.token.kind == ID and str(self.token.value) in ("NULL", "null"):
            null = self.next()
            value = ast.Null(**self.span(null))
            if op.value not in ("=", ":="):
                self.error(op, f"invalid operator {op.value} in NULL assignment", "NULL can only be assigned with = or :=")
        else:
            value = self.assigned()
        return ast.Assign(target, str(op.value), value, **self.span(start))

    def command(self) -> ast.Statement:
        """A command without its ``;``: a function call or one of the words with a syntax of their own."""
        token = self.token
        word = str(token.value)
        rule = self._special.get(word)
        if rule is not None:
            return rule(self)
        return self.call()

    def call(self) -> ast.Call:
        """``name(arguments)``."""
        start = self.expect_kind(ID, f"syntax error: a function is expected, not {self.token.shown}")
        name = str(start.value)
        if name.lower() in _ELSE_IF:
            self.fail(start, f"syntax error: there is no '{name}'", "write else if (...)")
        if not (self.token.value == "(" and self.token.kind != STRING):
            self._bare(start)
        self.next()
        arguments = self._arguments(name)
        return ast.Call(name, arguments, **self.span(start))

    def _bare(self, start: Token) -> None:
        word = str(start.value)
        if self.token.value == "=":
            self.fail(start, f"syntax error: core parameter '{word}' cannot be set in a route")
        if word in ("continue", "break"):
            self.fail(start, f"syntax error: there is no '{word}' here")
        hint = f"write {_OLD_WORDS[word]}" if word in _OLD_WORDS else None
        if hint is None and word.islower() and word not in ("and", "or", "not") and self._may_be_call():
            hint = f"write {word}()"
        self.error(self.token, f"syntax error: bare word <{word}> found, command calls need '()'", hint)
        raise SyntaxFault

    def _may_be_call(self) -> bool:
        """Could the word before be a function whose parentheses are missing?"""
        return self.token.kind != STRING and self.token.value in (";", ")", "&&", "||", "and", "or", "}")

    def _arguments(self, name: str) -> list[ast.Argument]:
        """What stands in the parentheses, up to and with the closing one. ``f(,x)`` omits the first."""
        arguments: list[ast.Argument] = []
        if self.accept(")"):
            return arguments
        while True:
            if self.token.value in (",", ")") and self.token.kind != STRING:
                arguments.append(None)
            else:
                arguments.append(self._argument(name))
            if self.accept(","):
                continue
            if not self.accept(")"):
                hint = (
                    "arguments are strings, numbers or variables; an expression is assigned to a variable first"
                    if self.token.value in (*"+-*/%", "==", "&", "|")
                    else None
                )
                self.fail(self.token, f"syntax error: bad arguments for command <{name}>: {self.token.shown}", hint)
            return arguments

    def _argument(self, name: str) -> ast.Argument:
        token = self.token
        if token.kind == STRING:
            self.next()
            return ast.String(str(token.value), **self.span(token))
        if token.kind == VARIABLE:
            return self.variable("")
        if token.kind == NUMBER or token.value in ("-", "+"):
            return self.number()
        if token.kind == ADDRESS:
            self.fail(token, f"syntax error: bad arguments for command <{name}>", f'write "{token.value}" in quotes')
        if token.kind == ID:
            if token.value in ("NULL", "null") and name == "route":
                self.next()
                return ast.Null(**self.span(token))
            hint: str | None = f'write "{token.value}" in quotes'
            if self.peek().value == "(" and self.peek().kind != STRING:
                hint = self.near(name, ("async", "await", "launch")) or f"assign it first: $var(x) = {token.value}(...);"
            self.fail(token, f"syntax error: bad arguments for command <{name}>: {token.shown}", hint)
        self.fail(token, f"syntax error: bad arguments for command <{name}>: {token.shown}")

    def _plain(self) -> Token:
        start = self.next()
        if self.accept("("):
            self.expect(")", f"syntax error: {start.value} takes no argument")
        return start

    def _exit(self) -> ast.Statement:
        return ast.Exit(**self.span(self._plain()))

    def _drop(self) -> ast.Statement:
        return ast.Drop(**self.span(self._plain()))

    def _break(self) -> ast.Statement:
        start = self.next()
        if not self.breakable:
            self.fail(start, "syntax error: 'break' outside a loop or switch")
        return ast.Break(**self.span(start))

    def _return(self) -> ast.Statement:
        start = self.next()
        value: ast.Number | ast.Variable | None = None
        if self.accept("("):
            if not self.accept(")"):
                value = self._return_value()
                self.expect(")", f"syntax error: ')' expected, not {self.token.shown}", "return takes a number or a variable")
        elif self.token.kind in (NUMBER, VARIABLE) or self.token.value in ("-", "+"):
            value = self._return_value()
        return ast.Return(value, **self.span(start))

    def _return_value(self) -> ast.Number | ast.Variable:
        if self.token.kind == VARIABLE:
            return self.variable("")
        if self.token.kind == NUMBER or self.token.value in ("-", "+"):
            return self.number()
        self.fail(self.token, f"syntax error: return takes a number or a variable, not {self.token.shown}")

    def _route_call(self) -> ast.Statement:
        start = self.next()
        self.expect("(", "syntax error: missing '(' or ')' ?", "write route(name)")
        target: ast.String | ast.Number | ast.Variable
        token = self.token
        if token.kind == VARIABLE:
            target = self.variable("")
        elif token.kind in (ID, STRING) or token.word:
            self.next()
            target = ast.String(token.written, **self.span(token))
        elif token.kind == NUMBER:
            target = self.number()
        else:
            self.fail(token, f"syntax error: route name expected, not {token.shown}")
        arguments: list[ast.Argument] = []
        if self.accept(","):
            arguments = self._arguments("route")
            if None in arguments:
                self.fail(token, "syntax error: bad route argument: an argument of route() cannot be left out", "write NULL")
        else:
            self.expect(")", f"syntax error: ')' expected, not {self.token.shown}")
        return ast.RouteCall(target, arguments, **self.span(start))

    def _text(self, what: str) -> ast.String | ast.Variable:
        """A string (adjacent ones are one) or a variable."""
        if self.token.kind == VARIABLE:
            return self.variable("")
        start = self.expect_kind(STRING, f"syntax error: {what} expects a string, not {self.token.shown}")
        text = str(start.value)
        while self.token.kind == STRING:
            text += str(self.next().value)
        return ast.String(text, **self.span(start))

    def _xlog(self) -> ast.Statement:
        start = self.next()
        self.expect("(", "syntax error: missing '(' or ')' ?")
        level: ast.Argument = None
        if start.value == "xdbg":
            level = ast.Number(4, **self.span(start))
            fmt = self._text("xdbg")
        elif self.token.kind == NUMBER or self.token.value in ("-", "+"):
            sign = self.token
            level = self.number()
            if sign.value == "-":
                self.error(sign, "syntax error: the level of xlog() is a name or a variable", f"write xlog({_level(level)}, ...)")
            self.expect(",", "syntax error: xlog takes a level and a string")
            fmt = self._text("xlog")
        else:
            fmt = self._text("xlog")
            if self.accept(","):
                level, fmt = fmt, self._text("xlog")
                if isinstance(level, ast.String) and _ONE_VARIABLE.match(level.value):
                    level = ast.Variable(level.value, file=level.file, line=level.line, column=level.column, end=level.end)
        self.expect(")", f"syntax error: ')' expected, not {self.token.shown}")
        return ast.Xlog(level, fmt, **self.span(start))

    def _log(self) -> ast.Statement:
        start = self.next()
        self.expect("(", "syntax error: missing '(' or ')' ?")
        level = 4
        if self.token.kind == NUMBER or self.token.value in ("-", "+"):
            level = self.number().value
            self.expect(",", "syntax error: log takes a level and a string")
        text = self.expect_kind(STRING, f"syntax error: log expects a string, not {self.token.shown}", "xlog() takes variables")
        self.expect(")", f"syntax error: ')' expected, not {self.token.shown}")
        return ast.Log(level, str(text.value), **self.span(start))

    def _error(self) -> ast.Statement:
        start = self.next()
        self.expect("(", "syntax error: missing '(' or ')' ?")
        self._arguments("error")
        return ast.Noop(**self.span(start))

    def _assert(self) -> ast.Statement:
        start = self.next()
        self.expect("(", "syntax error: missing '(' or ')' ?")
        condition = self.condition()
        self.expect(",", f"syntax error: ',' expected, not {self.token.shown}", 'write assert(condition, "what is expected")')
        info = self.expect_kind(STRING, "syntax error: assert needs a text in quotes")
        self.expect(")", f"syntax error: ')' expected, not {self.token.shown}")
        return ast.Assert(condition, str(info.value), **self.span(start))

    def _async(self) -> ast.Statement:
        start = self.next()
        form = "write async(function(...), resume_route)"
        self.expect("(", "syntax error: '(' expected after async", form)
        call = self.call()
        self.expect(",", f"syntax error: async() needs the route that goes on, ',' expected, not {self.token.shown}", form)
        route = self._route_word()
        seconds = self._seconds("async") if self.accept(",") else None
        self.expect(")", f"syntax error: ')' expected, not {self.token.shown}", form)
        return ast.Async(call, route, seconds, **self.span(start))

    def _await(self) -> ast.Statement:
        start = self.next()
        form = "write await(function(...)) or await(function(...), seconds)"
        self.expect("(", "syntax error: '(' expected after await", form)
        call = self.call()
        seconds = self._seconds("await") if self.accept(",") else None
        self.expect(")", f"syntax error: ')' expected, not {self.token.shown}", form)
        return ast.Await(call, seconds, **self.span(start))

    def _launch(self) -> ast.Statement:
        start = self.next()
        form = "write launch(function(...)) or launch(function(...), report_route)"
        self.expect("(", "syntax error: '(' expected after launch", form)
        call = self.call()
        route: ast.String | None = None
        text: ast.String | ast.Variable | None = None
        seconds: float | ast.Variable | None = None
        if self.accept(","):
            route = self._route_word()
            if self.accept(","):
                text = self._text("launch")
                if self.accept(","):
                    seconds = self._seconds("launch")
        self.expect(")", f"syntax error: ')' expected, not {self.token.shown}", form)
        return ast.Launch(call, route, text, seconds, **self.span(start))

    def _seconds(self, word: str) -> float | ast.Variable:
        """A time limit: ``5``, ``0.25`` or a variable. (OpenSIPS: a whole number.)"""
        if self.token.kind == VARIABLE:
            variable: ast.Variable = self.variable("")
            return variable
        whole = self.expect_kind(NUMBER, f"syntax error: the timeout of {word}() is a number of seconds")
        if self.token.value != "." or self.token.kind == STRING:
            return int(whole.value)
        self.next()
        part = self.expect_kind(NUMBER, f"syntax error: the timeout of {word}() is a number of seconds")
        return int(whole.value) + int(part.value) / 10.0 ** (part.stop - part.start)

    def _route_word(self) -> ast.String:
        token = self.token
        name = self.route_name()
        return ast.String(name, **self.span(token))

    _special: ClassVar[dict[str, Callable[[CommandParser], ast.Statement]]] = {
        "exit": _exit,
        "drop": _drop,
        "break": _break,
        "return": _return,
        "route": _route_call,
        "xlog": _xlog,
        "xdbg": _xlog,
        "log": _log,
        "error": _error,
        "assert": _assert,
        "async": _async,
        "await": _await,
        "launch": _launch,
    }

    def route_name(self) -> str:
        """The name of a route."""
        token = self.token
        if token.kind not in (ID, NUMBER, STRING):
            self.fail(token, f"syntax error: route name expected, not {token.shown}")
        self.next()
        return token.written
