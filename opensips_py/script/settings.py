"""The rules for ``name = value`` at top level: core parameters, with sockets and aliases."""

from __future__ import annotations

import re

from opensips_py.script import ast
from opensips_py.script.diagnostics import Spot
from opensips_py.script.lexer import ADDRESS, END, ID, NUMBER, OPERATOR, STRING, VARIABLE, Token
from opensips_py.script.token_stream import TokenStream

PROTOCOLS = ("udp", "tcp", "tls", "sctp", "ws", "wss", "bin", "hep_udp", "hep_tcp", "smpp", "any")
_ENDPOINT = re.compile(
    r"(?:(?P<proto>[A-Za-z_]+):)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f]*(?::[0-9A-Fa-f]*){2,}|[^:]+)"
    r"(?::(?P<port>[0-9]+))?\Z"
)
_RESERVED = frozenset(
    (
        *("if", "else", "while", "for", "in", "switch", "case", "default", "break", "exit", "drop", "return"),
        *("log", "xlog", "xdbg", "error", "assert", "not", "and", "or", "null", "NULL"),
    )
)
"""Words that a host may have in quotes only."""
_SOCKETS = ("socket", "listen", "alias")


class SettingParser(TokenStream):
    """Core parameters."""

    def setting(self) -> ast.Setting:
        """``name = value``."""
        start = self.next()
        name = str(start.value)
        self.expect("=")
        if name in _SOCKETS:
            endpoint = self._endpoint(name)
            return ast.Setting(name, endpoint, **self.span(start))
        if name == "dst_blacklist":
            return self._blacklist(start)
        value = self.value()
        words: list[ast.Number | ast.String | ast.Word] = []
        while self.token.kind in (ID, NUMBER, STRING) and self._same_setting(name):
            if self.token.word:
                word: ast.Number | ast.String | ast.Word | ast.Network = ast.Word(self.token.word, **self.span(self.token))
                self.next()
            else:
                word = self.value()
            if name == "auto_scaling_profile":
                self.accept("%")
            if isinstance(word, ast.Number | ast.String | ast.Word):
                words.append(word)
        return ast.Setting(name, value, words, **self.span(start))

    def _same_setting(self, name: str) -> bool:
        if name == "auto_scaling_profile":
            following = self.peek()
            return (
                not ((following.value in ("=", "{", "[", "(")) and following.kind != STRING) and self.token.value != "loadmodule"
            )
        return name in ("udp_workers", "tcp_workers", "timer_workers") and (
            self.token.value == "use_auto_scaling_profile" or self.previous.value == "use_auto_scaling_profile"
        )

    def _blacklist(self, start: Token) -> ast.Setting:
        """``dst_blacklist = name : { (proto, net, port, "pattern"), … }``: kept by name only."""
        name = self.expect_kind(ID, "a name is expected: dst_blacklist = name : { ... }")
        self.expect(":")
        self.expect("{")
        while not self.accept("}"):
            if self.token.kind == END:
                self.fail(self.token, "syntax error: the blacklist is not closed", "a '}' is missing")
            self.next()
        return ast.Setting("dst_blacklist", ast.Word(str(name.value), **self.span(name)), **self.span(start))

    # --- sockets -----------------------------------------------------------------------------------------------------

    def _endpoint(self, name: str) -> ast.Endpoint:
        start = self.token
        proto, host, port = self._address()
        endpoint = ast.Endpoint(proto, host, port, **self.span(start))
        while self.token.kind == ID:
            option = self.token
            if self.accept_word("as") or self.accept_word("AS"):
                _, endpoint.advertised_host, endpoint.advertised_port = self._address()
            elif name == "alias":
                break
            elif self.accept_word("use_workers"):
                endpoint.workers = int(self.expect_kind(NUMBER, "use_workers needs a number").value)
            elif self.accept_word("use_auto_scaling_profile"):
                endpoint.scaling_profile = str(self.expect_kind(ID, "use_auto_scaling_profile needs a name").value)
            elif self.accept_word("anycast"):
                endpoint.anycast = True
            elif self.accept_word("tag"):
                token = self.token
                if token.kind not in (ID, STRING) and not token.word:
                    self.fail(token, "tag needs a name")
                endpoint.tag = self.next().written
            elif option.line == start.line and option.file == start.file:
                known = ("as", "use_workers", "use_auto_scaling_profile", "anycast", "tag")
                self.fail(option, f"syntax error: '{option.value}' cannot follow a socket", self.near(str(option.value), known))
            else:
                break
        return endpoint

    def _address(self) -> tuple[str | None, str, int | None]:
        """``[proto:]host[:port]``: tokens without blanks between them (a blank may surround a colon)."""
        start = self.token
        if start.kind in (END, VARIABLE) or start.value == ";":
            self.fail(start, f"syntax error: an address is expected, not {start.shown}", "write udp:127.0.0.1:5060")
        first = self.next()
        text = _written(first)
        if first.kind == STRING and ":" in text:
            self.error(start, "syntax error: an address is not put into quotes", 'quotes stand around the host: udp:"host":5060')
        while self.token.kind in (ID, NUMBER, ADDRESS, STRING, OPERATOR) and self.token.value != ";":
            adjoining = self.token.start == self.previous.stop
            if not (adjoining or self.token.value == ":" or text.endswith(":")) or self.token.line != start.line:
                break
            if self.token.kind == ID and self.token.value in _RESERVED:
                self.error(
                    self.token, f"syntax error: '{self.token.value}' is a word of the language", "put the host into quotes"
                )
            text += _written(self.next())
        m = _ENDPOINT.match(text)
        if m is None:
            self.findings.error(Spot(**self.span(start)), f"{text} is not an address", "write udp:127.0.0.1:5060")
            return None, "0.0.0.0", None
        proto = m["proto"]
        if proto is not None and proto.lower() not in PROTOCOLS:
            self.error(start, f"cannot handle protocol <{proto}>", self.near(proto, PROTOCOLS))
        port = None if m["port"] is None else int(m["port"])
        if port is not None and not 0 < port < 65536:
            self.error(self.previous, f"port {port} is out of range", "a port is a number from 1 to 65535")
            port = None
        return None if proto is None else proto.lower(), m["host"].strip("[]"), port


def _written(token: Token) -> str:
    return token.written
