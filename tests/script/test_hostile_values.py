"""Nothing that a sender writes makes a variable or a transformation raise, or costs more than its length."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from opensips_py.core import functions
from opensips_py.modules import cfgutils, json, rr, statistics
from opensips_py.modules import tm as tm_module
from opensips_py.script.context import Context, RouteKind, Source, Value, ValueRefused
from opensips_py.script.transformations import DECLARED
from opensips_py.script.variable_kinds import CORE, Number
from opensips_py.script.variables import Registry, VariableError, compile_variable
from opensips_py.server.process import this
from opensips_py.sip.message import BadMessage, ParseError, parse
from tests.support.script_context import REQUEST, SDP, SOCKET, registry, wire

MODULES = [functions.module, cfgutils.module, json.module, rr.module, statistics.module, tm_module.module]
LONG = 5_000
"""How often hostile pieces are repeated: what is quadratic takes seconds then."""
MOST_CPU = 0.5
"""Seconds of CPU time that one reading may take; what is linear takes some milliseconds."""

TEXTS = [
    *("", " ", "\0", "\r\n", "\xff\xfe", "%", "%0", "$", "None", "true", "-", "+", "--1", "\xb2", "-\xb9", "1_0",),
    *("nan", "inf", "1e999", "9" * 5000, "-" + "9" * 5000, "0" * 5000, "f" * 5000, "18446744073709551616",),
    *("-2147483649", "sip:", "sip:@", "sip:a@", "sip::@h", "sip:a@h:99999999999", "sip:a@[", "sip:[::1", "urn:",),
    *("urn:service:", "tel:", "SIP:%@%", '"', '""', '"a', "<", "<>", "<sip:a@b", '"a" <sip:b>x', "*", ",", ",,",),
    *(";", ";;", "=", "a=", "=;", ";=", '"\\', "a=\"", "(", "((", ")", "SIP/2.0/UDP", "SIP/2.0/UDP h:",),
    *("SIP/2.0/UDP h;rport=" + "9" * 5000, "SIP/9/UDP h", "1.2.3", "::", "1::2::3", "fe80::1%x", "[", "[]", "v=0",),
    *("m=", "m=audio", "v=0\r\no=\r\nc=\r\nm=\r\nm=", "o=\nc=\nm=\nm=audio", "{", "[" * 5000, '{"a":' * 5000,),
    *("[1," * 5000, "(" * LONG, ")" * LONG, '"' * LONG, '\\"' * LONG, "<" * LONG, "," * LONG, ";" * LONG,),
    *("=" * LONG, "a=b;" * LONG, '"a",' * LONG, "%41" * LONG, "m=a\n" * LONG, "o=\nc=\n" + "m=a\n" * LONG,),
    *("\n" * LONG, " " * LONG, "a " * LONG, "/" * LONG, "@" * LONG, ":" * LONG, "sip:" + "a" * LONG + "@h",),
    *("sip:h;" + "x;" * LONG, "sip:h?" + "x=y&" * LONG, '"' + "a" * LONG + '" <sip:h>', "<sip:h>;" + "x=" * LONG,),
]  # fmt: skip
VALUES: list[Value] = [*TEXTS, 0, -1, 2**31 - 1, -(2**31), Number(5, "5x"), None]

HEADERS = (
    *("From", "To", "Contact", "Via", "CSeq", "Call-ID", "Route", "Authorization", "Proxy-Authorization",),
    *("Content-Type", "Diversion", "P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Refer-To",),
    *("User-Agent", "Max-Forwards", "X-Odd",),
)  # fmt: skip
HOSTILE_HEADERS = [
    *("", " ", ",", ";", '"', "<", "*", "1 " + "9" * 5000, "9" * 5000 + " INVITE", "-1 INVITE", "\xb2 INVITE",),
    *("Digest", "Digest ,", "Digest a", "Digest username", 'Digest username="' + "a" * LONG,),
    *("Digest " + "a=b," * LONG, "multipart/mixed;boundary=", 'multipart/x;boundary="',),
    *("multipart/mixed;boundary=b", "garbage", "a/" * LONG, "(" * LONG, "<sip:a>," * LONG,),
    *('"a" <sip:b>;q=' + "9" * 5000 + ",", "," * LONG, "<sip:h>;" + "x;" * LONG, '"' + '\\"' * LONG,),
    *("SIP/2.0/UDP h;rport=" + "9" * 5000, "sip:" + "9" * 5000, "<sip:h:" + "9" * 5000 + ">",),
]  # fmt: skip
BODIES = ["", SDP, "--b\n\n" * 2000, "--b\nContent-Type: x/y\n\n1\n--b--", "m=\n" * LONG]


def messages() -> Iterator[Context]:
    """Contexts over requests with one odd header each, odd bodies and odd R-URIs, and over a reply."""
    head = REQUEST.partition("\n\n")[0]
    texts = [f"{head}\n\n{body}" for body in BODIES]
    for name in HEADERS:
        lines = [line for line in head.split("\n") if not line.startswith(f"{name}:")]
        texts += ["\n".join([*lines[:1], f"{name}: {value}", *lines[1:]]) + "\n\n--b\n\nx" for value in HOSTILE_HEADERS]
    texts += [
        head.replace("sip:bob@biloxi.example:5080;transport=udp;lr?X=1", uri) + "\n\n" for uri in TEXTS if " " not in uri.strip()
    ]
    texts.append(head.replace(head.partition("\n")[0], "SIP/2.0 200 OK") + "\n\n")
    this.sockets = [SOCKET]
    for text in texts:
        try:
            msg = parse(wire(text))
        except BadMessage as error:  # error_route sees it
            msg = error.message
        except ParseError:
            continue
        kind = RouteKind.REQUEST if msg.is_request else RouteKind.ONREPLY
        yield Context(msg, Source("198.51.100.7", 5061), SOCKET, kind)


ARGUMENTS = {
    "C": ["(rg)"],
    "hdr": ["(From)", "(x)", "($fU)"],
    "rb": ["", "(text/plain)", "($cT)"],
    "ct.fields": ["(uri)", "(q)", "(params)", "(expires)"],
    "param": ["(1)", "(\xb2)", "(99999999999999999999)", "($fU)"],
    "time": ["(%H)", "($fU)", "(%)"],
    "branch": ["", "(uri)", "(duri)", "(q)", "(path)", "(flags)", "(socket)", "($fU)"],
    "socket_in": ["", "(ip)", "(port)", "(anycast)"],
    "socket_out": ["", "(ip)", "(port)"],
    "json": ["(o)", "(o/a[0])", "(o[])", "($fU)", "(o/$rb)"],
}
SKIPPED = ("stat", "shv", "log_level", "xlog_level", "env")
"""Those that need a running server, or change the process; none of them is about a message."""
INDEXES = ["", "[-1]", "[99999999999]", "[*]", "[$fU]"]


def variables(known: Registry) -> list[str]:
    """Every variable of the core and of the modules, in every form."""
    found = []
    for name, kind in known.kinds.items():
        given = ARGUMENTS.get(name) or {"no": [""], "optional": ["", "(x)"], "required": ["(x)", "($fU)"]}[kind.argument]
        for argument in given if name not in SKIPPED else ():
            for index in INDEXES:
                text = f"$({name}{argument}{index})"
                try:
                    compile_variable(text, known)
                except VariableError:
                    continue
                found.append(text)
    return found


def is_value(value: object) -> bool:
    """Whether it is something that a script may get: nothing of Python's own, and bytes only."""
    if value is None or value.__class__ is int or isinstance(value, Number):
        return True
    return isinstance(value, str) and value.__class__ is str and (value.isascii() or max(value) < "\u0100")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(this, "sockets", [SOCKET], raising=False)
    json.objects.clear()
    return registry(*MODULES[1:])


def test_every_variable_of_every_message_can_be_read(known: Registry) -> None:
    compiled = [
        (text, compile_variable(text, known))
        for text in variables(known)
        if not text.startswith(tuple(f"$({n}" for n in SKIPPED))
    ]
    assert len(compiled) > len(CORE)
    for ctx in messages():
        for text, variable in compiled:
            started = time.process_time()
            value = variable.get(ctx)
            assert time.process_time() - started < MOST_CPU, (text, ctx.msg.text[:120])
            assert is_value(value), (text, value)


def test_for_runs_over_every_variable_and_ends(known: Registry) -> None:
    for number, ctx in enumerate(messages()):
        if number % 10 == 0:
            for text in variables(known):
                if "[*]" in text:
                    assert all(map(is_value, compile_variable(text, known).values(ctx))), text


def test_every_variable_takes_or_refuses_every_value(known: Registry) -> None:
    for text in variables(known):
        variable = compile_variable(text, known)
        if not variable.writable:
            continue
        ctx = next(messages())
        for value in VALUES:
            for write in (variable.set, variable.assign):
                try:
                    write(ctx, value)
                except ValueRefused:
                    pass
                assert is_value(variable.get(ctx)), (text, value)


PARAMETERS = {
    "s.index": [",a", ",(,-3", ",$var(v)", ",a,$var(v)"],
    "s.rindex": [",a", ",(,-3", ",$var(v),5"],
    "s.substr": [",0,5", ",-3,-2", ",$var(v),$var(v)"],
    "s.select": [",0,a", ",-1,(", ",5,$var(v)"],
    "s.fill.left": [",ab,9", ",$var(v),9", ",a,$var(n)"],
    "s.fill.right": [",ab,9", ",$var(v),9", ",a,$var(n)"],
    "s.width": [",5", ",$var(n)"],
    "s.xor": [",k", ",$var(v)"],
    "re.subst": [",/a/b/g", ",/(.)(.)/\\2\\1/g", ",$var(v)"],
    "csv.value": [",0", ",-1", ",$var(n)"],
    "param.valueat": [",0", ",-1", ",$var(n)"],
    "param.name": [",0", ",-1", ",$var(n)"],
    "sdp.line": [",m", ",a,1", ",m,$var(n)"],
    "ip.matches": [",10.0.0.0/8", ",$var(v)"],
}


def transformations() -> list[str]:
    """Every transformation with parameters; {ip.resolve} asks a name server."""
    found = []
    for name, declared in DECLARED.items():
        default = [",a", ",$var(v)"] if declared.form.startswith(",") else [""]
        found += [f"{name}{parameters}" for parameters in PARAMETERS.get(name, default) if name != "ip.resolve"]
    return found


@pytest.mark.parametrize("transformation", transformations())
def test_a_transformation_takes_every_value(known: Registry, transformation: str) -> None:
    ctx = next(messages())
    given, number = compile_variable("$var(v)", known), compile_variable("$var(n)", known)
    variable = compile_variable(f"$(var(v){{{transformation}}})", known)
    for value in VALUES:
        given.set(ctx, value)
        for n in (0, 2_000_000_000, -2_000_000_000) if "$var(n)" in transformation else (0,):
            number.set(ctx, n)
            started = time.process_time()
            assert is_value(variable.get(ctx)), value
            assert time.process_time() - started < MOST_CPU, str(value)[:60]
