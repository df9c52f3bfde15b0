"""Tokens: strings, numbers, variables, comments, and their places."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensips_py.script.diagnostics import Findings
from opensips_py.script.lexer import ADDRESS, END, ID, NUMBER, STRING, VARIABLE, tokens
from opensips_py.script.preprocess import Source
from tests.script.script_runner import HEAD, Scripts


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def lex(text: str) -> tuple[list[tuple[str, str | int]], Findings]:
    findings = Findings()
    lines = [("t.cfg", n) for n in range(1, text.count("\n") + 2)]
    found = tokens(Source(text, lines), findings)
    assert found[-1].kind == END
    return [(t.kind, t.value) for t in found[:-1]], findings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"tab[\t] nl[\n] q[\"] b[\\]"', 'tab[\t] nl[\n] q["] b[\\]'),
        (r'"\x41\x62 \101\60"', "Ab A0"),
        (r'"unknown \q\z"', r"unknown \q\z"),
        ('"joined \\\nline"', "joined line"),
        ('"two\nlines"', "two\nlines"),
        (r"'no \t escape \x41'", r"no \t escape \x41"),
        ("'double \" inside'", 'double " inside'),
        ('"# no /* comment"', "# no /* comment"),
    ],
)
def test_string_value(text: str, value: str) -> None:
    found, findings = lex(text)
    assert found == [(STRING, value)]
    assert not findings.failed


@pytest.mark.parametrize(("text", "value"), [("10", 10), ("0x1F", 31), ("010", 8), ("0", 0)])
def test_number_value(text: str, value: int) -> None:
    assert lex(text)[0] == [(NUMBER, value)]


def test_upper_case_hexadecimal_is_no_number() -> None:
    assert lex("0X10")[0] == [(NUMBER, 0), (ID, "X10")]


@pytest.mark.parametrize(
    "text",
    [
        "$ru",
        "$avp(x)",
        "$(hdr(X-A b)[-1]{s.len})",
        "$ct.fields(uri)",
        "$T_branch_idx",
        "$(var(l){s.select,$var(i),|})",
        "$msg.flag(X)",
    ],
)
def test_variable_is_one_token(text: str) -> None:
    assert lex(f"{text};")[0] == [(VARIABLE, text), ("operator", ";")]


def test_variable_ends_at_an_operator() -> None:
    assert [v for _, v in lex("$var(a)+$var(b)-1")[0]] == ["$var(a)", "+", "$var(b)", "-", 1]


def test_comments_nest_and_vanish() -> None:
    assert lex("a /* b /* c */ d */ e # f\ng")[0] == [(ID, "a"), (ID, "e"), (ID, "g")]


@pytest.mark.parametrize("text", ["10.0.0.0", "2001:db8::1", "::1"])
def test_address_is_one_token(text: str) -> None:
    assert lex(text)[0] == [(ADDRESS, text)]


def test_place_of_a_token_behind_a_long_comment() -> None:
    findings = Findings()
    found = tokens(Source("/* x\n y */ exit;\n", [("t.cfg", 1), ("t.cfg", 2)]), findings)
    assert (found[0].line, found[0].column, found[0].end) == (2, 7, 11)


@pytest.mark.parametrize(("text", "message"), [('xlog("a', "string"), ("$(var(a)", "variable"), ("/* /* */", "comment")])
def test_what_is_never_closed_is_reported_where_it_begins(text: str, message: str) -> None:
    _, findings = lex(f"\n{text}\nexit;\n")
    assert [(d.line, message in d.message) for d in findings.all] == [(2, True)]


@pytest.mark.parametrize("blank", ["\xa0", "\xc2\xa0", "\xef\xbb\xbf", "\xe2\x80\x8b", " \xc2\xa0\t"])
def test_invisible_characters_are_blanks(scripts: Scripts, blank: str) -> None:
    prog = scripts.load(f'route {{\nxlog({blank}"a{blank}b"){blank};{blank}\n{blank}exit;\n}}\n', head=blank + HEAD)
    assert prog.warnings == []


@pytest.mark.parametrize(
    ("body", "column", "message"),
    [
        ("$var(x) ?= 1;", 9, "unexpected character '?' is ignored"),
        ("exit; \xc2\xa7\xc2\xa7", 7, "unexpected character '\xa7\xa7' is ignored"),
        ('xlog("a") \\ ;', 11, "unexpected character '\\\\' is ignored"),
        ('$var(x) = "a" + $si" + "&u=";', 17, '" after $si is ignored'),
        ("$var(x) = $rU{s.len};", 11, "{s.len} after $rU is ignored"),
    ],
)
def test_what_means_nothing_is_ignored_with_a_warning(scripts: Scripts, body: str, column: int, message: str) -> None:
    prog = scripts.load(f"route {{\n{body}\n}}\n")
    assert [(d.line - HEAD.count("\n"), d.column, d.message) for d in prog.warnings] == [(2, column, message)]


def test_a_quote_glued_to_a_variable_does_not_begin_a_string(scripts: Scripts) -> None:
    assert scripts.logged('$var(q) = "a" + $si" + "&u=" + $fU; xlog("$var(q)");') == ["a127.0.0.1&u=alice"]
