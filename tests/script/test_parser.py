"""The grammar: what is accepted, what is refused, and that one run reports every error."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.script.script_runner import HEAD, Scripts


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def errors(scripts: Scripts, text: str) -> list[tuple[int, int, str]]:
    return [(line, column, message) for line, column, message in scripts.say(text)]


@pytest.mark.parametrize(
    "body",
    [
        ";;;",
        'if ($rU == "x") { } else { }',
        'if ($rU == "x") exit; else if ($rU == "y") exit; else exit;',
        "while ($var(i) < 3) { $var(i) += 1; }",
        'switch ($rU) { case "a": note("x"); break; case -1: note("y"); default: note("z"); }',
        'for ($var(it) in $(avp(l)[*])) { note("x"); break; }',
        "$avp(x) := NULL; $avp(x) = NULL; $var(x) = ~ 1 & (2 | 3) << 1;",
        "if (not $var(a) and ($var(b) or !$var(c)) && [ $var(a) & 1 ] && $si == 10.0.0.0/8) exit;",
        'route(other, "a", -1, $ru, NULL); return(-1);',
        'note("a"); note("a", "b"); note("a", ); fetch("q");',
        'xlog("a" "b"); xlog("L_INFO", "x"); xlog(1, "x"); xlog("$var(l)", "x"); xdbg("x");',
        'log("x"); log(-1, "x"); error("a", "b");',
        'assert($rU == "bob", "bob");',
        'async(fetch("q"), other, 5);',
        'await(fetch("q")); await(fetch("q"), 0.5); await(fetch("q"), $var(s));',
        'if (await(fetch("q")) && !await(fetch("q"), 1)) exit; while (await(fetch("q"))) { ; }',
        'launch(fetch("q")); launch(fetch("q"), other); launch(fetch("q"), other, "$ru");',
        'if (launch(fetch("q"))) exit;',
        "exit(); ",
    ],
)
def test_accepted(scripts: Scripts, body: str) -> None:
    said = [d for d in scripts.findings(f"route {{\n{body}\n}}\nroute[other] {{ exit; }}\n") if d.severity == "error"]
    assert said == []


def test_every_kind_of_route_block(scripts: Scripts) -> None:
    program = scripts.load(
        'route { exit; }\nroute[1] { exit; }\nroute["a-b"] { exit; }\nfailure_route[f] { exit; }\nonreply_route { exit; }\n'
        "onreply_route[o] { exit; }\nbranch_route[b] { exit; }\nerror_route { exit; }\n"
        "local_route { exit; }\nstartup_route { exit; }\n"
        "timer_route[t, 60] { exit; }\nevent_route[E_X] { exit; }\n"
    )
    assert len(program.routes) == 12
    assert program.timer_routes == {"t": 60}


@pytest.mark.parametrize(
    ("body", "line", "column", "message"),
    [
        ('xlog("a")\nexit;', 3, 1, "missing ';'"),
        ("hello;", 2, 6, "bare word <hello>"),
        ('if ($rU == "a") { exit; } elsif ($rU == "b") { exit; }', 2, 27, "no 'elsif'"),
        ("elif { exit; }", 2, 1, "no 'elif'"),
        ("// comment", 2, 1, "cannot begin a statement"),
        ('IF ($rU == "x") { exit; }', 2, 1, "unknown statement 'IF'"),
        ("$var(a) = 0X10;", 2, 12, "'X10'"),
        ("route(x, 1 + 2);", 2, 12, "bad arguments"),
        ("else { exit; }", 2, 1, "'else' without 'if'"),
        ("break;", 2, 1, "'break' outside"),
        ("{ exit; }", 2, 1, "a block may only follow if, else, while or for"),
        ("if (1) exit; { exit; }", 2, 14, "a block may only follow"),
        ("switch ($rU) { }", 2, 1, "a switch begins with a case"),
        ("switch ($rU) { default: exit; }", 2, 1, "a switch begins with a case"),
        ("route(x, , 1);", 2, 7, "cannot be left out"),
        ('xlog(-1, "x");', 2, 6, "the level of xlog() is a name or a variable"),
        ("$var(x) = exit;", 2, 11, "a value is expected"),
        ("$var(x) = return(1);", 2, 11, "return has no value"),
        ("$var(x) = route(x) == 1;", 2, 20, "a command cannot be compared"),
        ("$var(x) = 5 == $var(y);", 2, 13, "the left side of a comparison is a variable"),
        ('switch ($rU) { case "a": exit; default: exit; default: exit; }', 2, 47, "second 'default'"),
        ("switch ($rU) { case $var(x): exit; }", 2, 21, "not a variable"),
        ('switch ($rU) { case "a": { exit; } }', 2, 26, "without braces"),
        ("while $var(i) < 3 { exit; }", 2, 7, "'(' expected"),
        ("if () { exit; }", 2, 5, "empty"),
        ("note(FA);", 2, 6, "bad arguments for command <note>"),
        ("$var(i)++;", 2, 8, "assignment operator"),
        ("$var(i) = - $var(x);", 2, 13, "a number is expected"),
        ("if ($var(a) == 1 & $var(b) == 2) { exit; }", 2, 18, "')' expected"),
        ("if ($var(a) <> 1) { exit; }", 2, 14, "cannot stand on the right"),
        ("$var(a) = 1 + ;", 2, 15, "a value is expected"),
        ("drop(1);", 2, 6, "takes no argument"),
        ("exit(1);", 2, 6, "takes no argument"),
        ("udp_workers=4;", 2, 1, "cannot be set in a route"),
        ("await(5);", 2, 7, "a function is expected"),
        ('async(fetch("q"));', 2, 17, "needs the route that goes on"),
        ('if ("a" == $rU) exit;', 2, 9, "left side"),
    ],
)
def test_syntax_error_has_place_and_reason(scripts: Scripts, body: str, line: int, column: int, message: str) -> None:
    said = errors(scripts, f"route {{\n{body}\n}}\n")
    assert [(at, col) for at, col, _ in said] == [(line, column)], said
    assert message in said[0][2]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("route { exit; }\n}\n", 2, "'}' closes nothing"),
        ("route[abc { exit; }\nroute { exit; }\n", 1, "']' expected"),
        ("route { exit; }\nmagic_route[a] { exit; }\n", 2, "unknown kind of route"),
        ("route { exit; }\nfailure_route { exit; }\n", 2, "needs a name"),
        ("route { exit; }\ntimer_route[a] { exit; }\n", 2, "interval"),
        ('xlog("hi");\nroute { exit; }\n', 1, "statements stand inside a route block"),
        ('modparam("probe", "limit")\nroute { exit; }\n', 1, "three arguments"),
        ("loadmodule tm.so\nroute { exit; }\n", 1, "string expected"),
    ],
)
def test_error_at_top_level(scripts: Scripts, text: str, line: int, message: str) -> None:
    said = errors(scripts, text)
    assert [at for at, _, _ in said] == [line], said
    assert message in said[0][2]


def test_one_run_reports_every_error(scripts: Scripts) -> None:
    said = errors(
        scripts,
        'route {\n  $var(a) = ;\n  xlog("x");\n  foo_bar();\n  if ($var(a) ==) { hello; }\n'
        "  note(1 2);\n}\nroute[x] {\n  drop(1);\n}\n",
    )
    assert [line for line, _, _ in said] == [2, 4, 5, 5, 6, 9]


def test_missing_brace_is_reported_once_and_the_next_route_is_read(scripts: Scripts) -> None:
    said = errors(scripts, "route {\n  if ($rU) {\n    exit;\n}\nroute[x] {\n  foo_bar();\n}\n")
    assert [line for line, _, _ in said] == [5, 6]
    assert "begins inside the block" in said[0][2]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("route { exit; };\n", 1, "';' at top level"),
        ("log_level=1;\nroute { exit; }\n", 1, "';' at top level"),
        ("error_route[x] { exit; }\nroute { exit; }\n", 1, "error_route has no name"),
        ('socket="udp:127.0.0.1:20101"\nroute { exit; }\n', 1, "an address is not put into quotes"),
        ("alias=udp:else.example:20101\nroute { exit; }\n", 1, "'else' is a word of the language"),
        ("route { exit; }\nroute[x] { { exit; } }\n", 2, "a block may only follow"),
    ],
)
def test_what_the_grammar_does_not_have(scripts: Scripts, text: str, line: int, message: str) -> None:
    found = [d for d in scripts.findings(text) if d.severity == "error"]
    assert [(d.line - HEAD.count("\n"), message in d.message) for d in found] == [(line, True)], found


def test_a_host_that_is_a_word_of_the_language_stands_in_quotes(scripts: Scripts) -> None:
    prog = scripts.load('alias=udp:"else.example":20101\nalias=udp:on.example\nroute { exit; }\n')
    assert [alias.host for alias in prog.settings.alias] == ["else.example", "on.example"]


def test_a_scaling_profile_with_per_cent(scripts: Scripts) -> None:
    profile = "auto_scaling_profile = P\n scale up to 6 on 70% for 4 cycles within 5\n scale down to 2 on 20% for 5 cycles\n"
    said = scripts.findings(profile + "udp_workers = 4 use_auto_scaling_profile P\nroute { exit; }\n")
    assert [d.severity for d in said] == ["notice"], said


def test_a_timer_route_with_an_interval_of_0_never_runs(scripts: Scripts) -> None:
    prog = scripts.load("route { exit; }\ntimer_route[t, 0] { exit; }\n")
    assert prog.timer_routes == {}
    assert ["never runs" in d.message for d in prog.warnings] == [True]
