"""Random scripts, as hypothesis strategies that follow the grammar (docs/grammar.md)."""

from __future__ import annotations

from typing import TypedDict

from hypothesis import strategies as st

from opensips_py.script import ast
from opensips_py.script.context import RouteKind
from opensips_py.script.statements import ROUTE_KEYWORDS


class Place(TypedDict):
    file: str
    line: int
    column: int
    end: int


P = Place(file="", line=1, column=1, end=2)

_VARIABLES = ["$var(x)", "$avp(list)", "$rU", "$(avp(list)[*])", "$(hdr(Via)[-1])", "$(ru{uri.user}{s.len})", "$T_reply_code"]
_FUNCTIONS = ["sl_send_reply", "is_method", "t_relay", "f", "abc", "elsewhere", "routes"]
_ROUTES = ["resume", "a1", "7", "two words", "x-y", "NULL", "010"]

variables = st.sampled_from(_VARIABLES).map(lambda text: ast.Variable(text, **P))
numbers = st.integers(-(2**31), 2**31).map(lambda n: ast.Number(n, **P))
texts = st.text(st.characters(max_codepoint=255), max_size=12)
strings = texts.map(lambda text: ast.String(text, **P))
networks = st.sampled_from(["10.0.0.0/8", "127.0.0.1", "10.0.0.0/255.0.0.0", "2001:db8::1", "fe80::/10"]).map(
    lambda text: ast.Network(text, **P)
)
nulls = st.just(ast.Null(**P))
arguments = st.lists(st.none() | strings | numbers | variables, max_size=4).filter(lambda a: a != [None])
calls = st.builds(lambda name, given: ast.Call(name, given, **P), st.sampled_from(_FUNCTIONS), arguments)
route_names = st.sampled_from(_ROUTES).map(lambda text: ast.String(text, **P))


_route_calls = st.builds(
    lambda target, given: ast.RouteCall(target, given, **P),
    route_names | st.integers(0, 99).map(lambda n: ast.Number(n, **P)) | variables,
    st.lists(strings | numbers | variables | nulls, max_size=3),
)


def _ran(command: ast.Statement) -> ast.Condition:
    return ast.Ran(command, **P)


def _comparisons_of(values: st.SearchStrategy[ast.Expression]) -> st.SearchStrategy[ast.Comparison]:
    def compare(ops: list[str], right: st.SearchStrategy[ast.Expression]) -> st.SearchStrategy[ast.Comparison]:
        return st.builds(lambda op, a, b: ast.Comparison(op, a, b, **P), st.sampled_from(ops), values, right)

    return st.one_of(
        compare(["==", "!=", "<", ">", "<=", ">="], values),
        compare(["==", "!="], nulls | networks),
        compare(["=~", "!~"], strings | variables),
    )


def _joined(inner: st.SearchStrategy[ast.Condition]) -> st.SearchStrategy[ast.Condition]:
    return st.builds(lambda op, a, b: ast.Logical(op, a, b, **P), st.sampled_from(["and", "or"]), inner, inner) | inner.map(
        lambda a: ast.Not(a, **P)
    )


def _arithmetic(inner: st.SearchStrategy[ast.Expression]) -> st.SearchStrategy[ast.Expression]:
    ops = st.sampled_from(["+", "-", "*", "/", "%", "|", "&", "^", "<<", ">>"])
    return st.builds(lambda op, a, b: ast.Arithmetic(op, a, b, **P), ops, inner, inner) | inner.map(
        lambda a: ast.Complement(a, **P)
    )


_plain_expressions = st.recursive(variables | numbers | strings, _arithmetic, max_leaves=3)
_decisions = st.recursive(
    _comparisons_of(_plain_expressions) | _plain_expressions.map(lambda e: ast.Truth(e, **P)) | calls.map(_ran),
    _joined,
    max_leaves=3,
).filter(lambda condition: not isinstance(condition, ast.Truth | ast.Ran))
expressions: st.SearchStrategy[ast.Expression] = st.recursive(
    variables
    | numbers
    | strings
    | (calls | _route_calls).map(lambda command: ast.CodeOf(command, **P))
    | _decisions.map(lambda condition: ast.TruthOf(condition, **P)),
    _arithmetic,
    max_leaves=6,
)
assignments = st.builds(
    lambda target, op, value: ast.Assign(target, op, value, **P),
    variables,
    st.sampled_from(["=", ":=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^="]),
    expressions,
) | st.builds(lambda target, op: ast.Assign(target, op, ast.Null(**P), **P), variables, st.sampled_from(["=", ":="]))

_levels = st.integers(0, 4).map(lambda n: ast.Number(n, **P)) | strings.filter(lambda s: not s.value.startswith("$")) | variables
_xlogs = st.builds(lambda level, text: ast.Xlog(level, text, **P), st.none() | _levels, strings | variables)
simple = st.one_of(
    calls,
    assignments,
    _route_calls,
    _xlogs,
    st.builds(lambda level, text: ast.Log(level, text, **P), st.integers(-3, 4), texts),
    st.builds(lambda value: ast.Return(value, **P), st.none() | numbers | variables),
    st.sampled_from([ast.Exit, ast.Drop, ast.Noop]).map(lambda cls: cls(**P)),
    st.builds(lambda call, route, s: ast.Async(call, route, s, **P), calls, route_names, st.none() | st.integers(0, 99)),
    st.builds(lambda call, s: ast.Await(call, s, **P), calls, st.none() | st.integers(0, 99) | variables),
    calls.map(lambda call: ast.Launch(call, None, None, **P)),
    st.builds(lambda call, route, text: ast.Launch(call, route, text, **P), calls, route_names, st.none() | strings | variables),
)

conditions: st.SearchStrategy[ast.Condition] = st.recursive(
    _comparisons_of(expressions) | expressions.map(lambda e: ast.Truth(e, **P)) | simple.map(lambda s: ast.Ran(s, **P)),
    _joined,
    max_leaves=4,
)


def _compound(inner: st.SearchStrategy[ast.Statement]) -> st.SearchStrategy[ast.Statement]:
    body = st.lists(inner, max_size=3)
    in_loop = st.lists(inner | st.just(ast.Break(**P)), max_size=3)
    labels = st.lists(st.builds(lambda label, b: ast.Case(label, b, **P), numbers | strings, in_loop), min_size=1, max_size=3)
    default = st.lists(in_loop.map(lambda b: ast.Case(None, b, **P)), max_size=1)
    return st.one_of(
        st.builds(lambda c, a, b: ast.If(c, a, b, **P), conditions, body, body),
        st.builds(lambda c, b: ast.While(c, b, **P), conditions, in_loop),
        st.builds(lambda v, b: ast.ForEach(v, ast.Variable("$(avp(list)[*])", **P), b, **P), variables, in_loop),
        st.builds(lambda v, a, b: ast.Switch(v, a + b, **P), variables, labels, default),
    )


_asserts = st.builds(lambda c, info: ast.Assert(c, info, **P), conditions, texts)
blocks = st.lists(st.recursive(simple | _asserts, _compound, max_leaves=6), max_size=4)


@st.composite
def routes(draw: st.DrawFn) -> ast.Route:
    """A route block of any kind."""
    keyword = draw(st.sampled_from(sorted(ROUTE_KEYWORDS)))
    kind = ROUTE_KEYWORDS[keyword]
    named = kind not in (RouteKind.LOCAL, RouteKind.STARTUP, RouteKind.ERROR)
    name = draw(st.sampled_from([*_ROUTES, "0"])) if named else "0"
    interval = draw(st.integers(1, 3600)) if kind is RouteKind.TIMER else 0
    sync = draw(st.booleans()) if kind is RouteKind.EVENT else False
    return ast.Route(kind, name, draw(blocks), interval, keyword, sync, **P)


endpoints = st.builds(
    lambda proto, host, port, advertised, workers, tag: ast.Endpoint(
        proto, host, port, advertised[0], advertised[1], workers, None, False, tag, **P
    ),
    st.none() | st.sampled_from(["udp", "tcp"]),
    st.sampled_from(["127.0.0.1", "2001:db8::1", "example.com", "*", "eth0"]),
    st.none() | st.integers(1, 65535),
    st.sampled_from([(None, None), ("192.0.2.1", None), ("sip.example.com", 5080)]),
    st.none() | st.integers(1, 9),
    st.none() | st.sampled_from(["inside", "out side"]),
)
settings = st.one_of(
    st.builds(lambda name, v: ast.Setting(name, v, **P), st.sampled_from(["log_level", "x_y"]), numbers | strings | networks),
    st.sampled_from(["maybe", "LOG_DAEMON"]).map(lambda w: ast.Setting("log_facility", ast.Word(w, **P), **P)),
    endpoints.map(lambda e: ast.Setting("socket", e, **P)),
)
scripts = st.builds(
    lambda s, m, p, r: ast.Script(s, m, p, r),
    st.lists(settings.filter(lambda s: not (isinstance(s.value, ast.Network) and "/" in s.value.text)), max_size=3),
    st.lists(texts.map(lambda path: ast.LoadModule(path, **P)), max_size=3),
    st.lists(st.builds(lambda m, n, v: ast.ModParam(m, n, v, **P), texts, texts, numbers | strings), max_size=3),
    st.lists(routes(), max_size=3),
)
