"""What the checker knows about names, arguments and the flow of a script."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.script.script_runner import FIRST, HEAD, Scripts


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ('noet("x");', "unknown command <noet>", 'did you mean "note"?'),
        ("loose_route();", "unknown command <loose_route>", 'add loadmodule "rr.so"'),
        ('rewriteuser("x");', "'rewriteuser()' is deprecated, use setuser() instead", None),
        ("route(otehr);", "route [otehr] is not defined", 'did you mean "other"?'),
        ('async(fetch("q"), otehr);', "route [otehr] is not defined", 'did you mean "other"?'),
        ('t_on_failure("nowhere");', "failure_route [nowhere] is not defined", "add failure_route[nowhere] { ... }"),
        ("$avpp(x) = 1;", "unknown variable $avpp", "did you mean $avp?"),
        ('xlog("$avpp(x)");', "unknown variable $avpp", "did you mean $avp?"),
        ('$rm = "x";', "invalid left operand in assignment", "$rm cannot be written"),
        ("$(var(a){s.len}) = 5;", "transformations not accepted in left side of assignment", None),
        ("$var(a) := NULL;", "invalid left operand in NULL assignment", None),
        ("in_branch();", "Command <in_branch> cannot be used in the block: route", "it may be used in branch_route"),
        ("note();", "too few parameters for command <note>", "note(str text[, str more])"),
        ('note("a", "b", "c");', "too many parameters for command <note>", None),
        ('note(, "b");', "mandatory parameter omitted for command <note>", None),
        ('give("5");', "Param [1] expected to be an integer or variable", "write 5"),
        ("is_myself(5);", "Param [1] expected to be a string or variable", 'write "5" in quotes'),
        ("t_on_reply(-1);", "Param [1] expected to be a string or variable", 'write "-1" in quotes'),
        ('into("x", "$var(a)");', "Param [2] expected to be a variable", "write $var(a) without quotes"),
        ('fetch("q", "$avp(a);$rm");', "$rm cannot be written", None),
        ('found("x", "(unclosed");', "bad regular expression", None),
        ('if ($rU =~ "[a") exit;', "bad regular expression", None),
        ("async(give(1), other);", "give() cannot be used in async(): it never waits", None),
        ("async(nosuch(1), other);", "unknown async command <nosuch>", None),
        ("await(give(1));", "give() cannot be used in await(): it never waits", "fetch"),
        ("await(nosuch(1));", "unknown async command <nosuch>", None),
        ("only_async();", "only_async() can only be used in async(), await() and launch()", None),
        ("if ($si == 10.0.0.0/99) exit;", "bad network", None),
        ("$var(x) = $(rU[5]);", "$rU has one value and takes no index", None),
        ("$(rU[*]) = 5;", "$rU has one value and takes no index", None),
        ("$var(x) = $(var(y)[0]);", "$var has one value and takes no index", None),
        ("$var(x) = $hdr();", "$hdr() needs a name", None),
        ("$avp() = 5;", "$avp() needs a name", None),
        ("$var(x) = $( rU);", "no blank is allowed after $(", None),
        ("$var(x) = $branch(x);", "$branch has no field x: uri, duri, q, path, flags, socket", None),
        ('setflag("");', "a message flag has a name", None),
        ("t_check_status(5);", "Param [1] expected to be a string or variable", 'write "5"'),
        ("send(5);", "Param [1] expected to be a string or variable", 'write "5"'),
        ("for ($ru in $(avp(x)[*])) exit;", "$ru cannot be the iterator", "use $var, $avp or $json"),
    ],
)
def test_error_names_the_thing_and_the_way_out(scripts: Scripts, body: str, message: str, hint: str | None) -> None:
    found = [d for d in scripts.findings(f"route {{\n  {body}\n}}\nroute[other] {{ exit; }}\n") if d.severity == "error"]
    assert len(found) == 1, found
    assert message in found[0].message
    assert found[0].line == HEAD.count("\n") + 2
    if hint is not None:
        assert hint in str(found[0].hint)


@pytest.mark.parametrize(
    ("body", "message", "line"),
    [
        ('exit;\nnote("x");', "never reached", 3),
        ('async(fetch("q"), other);\nnote("x");', "never reached: async() ends the run", 3),
        ('while (1) { async(fetch("q"), other); }', "async() in a loop", 2),
        ('exec("cmd", $var(out));', "the second parameter of exec() is the program's standard input", 2),
        ("if ($var(a) = 5) { exit; }", "assignment in a condition", 2),
        ('$var(a) = "$ru";', "is not expanded", 2),
        ('async(fetch("q"), other);\nreturn(1);', "never reached: async() ends the run", 3),
        ("for ($var(a) in $avp(b)) exit;", "never runs: for goes over the values of a variable with the index [*]", 2),
        ('if ($rU == "$tU") exit;', "is not expanded", 2),
        ('xlog("$argv(none)");', "$argv(none) is not set", 2),
        ('into("x", $rm);', "$rm cannot be written, and this parameter receives a value: the call fails with -1", 2),
    ],
)
def test_warning(scripts: Scripts, body: str, message: str, line: int) -> None:
    found = scripts.say(f"route {{\n{body}\n}}\nroute[other] {{ exit; }}\n")
    assert [(at, message in text) for at, _, text in found] == [(line, True)], found


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("if ($rc == -3) { exit; }\nif ($rc < 0) { exit; }", "$rc is 0"),
        ("if ($retcode == -3) exit;\nif ($retcode < 0) exit;", "$retcode is 0"),
        ("if ($var(a)) { exit; }\nif ($rc < 0) { exit; }", "$rc is 0"),
        ("if ($rc == -3) { exit; }\nswitch ($rc) { case -1: exit; }", "$rc is 0"),
        ("if ($rc == -3) { exit; } else if ($rc == -1) exit;\nif ($rc < 0) { exit; }", "$rc is 1"),
    ],
)
def test_rc_behind_an_if_that_was_false_is_warned_of(scripts: Scripts, body: str, value: str) -> None:
    found = scripts.say(f"route {{\n{body}\n}}\n")
    assert [(at, value in text) for at, _, text in found] == [(3, True)], found


@pytest.mark.parametrize(
    "body",
    [
        "if ($rc == -3) { exit; } else if ($rc < 0) { exit; }",
        "if ($rc == -3) { if ($rc < 0) { exit; } }",
        'if ($rc == -3) { exit; }\nnote("x");\nif ($rc < 0) { exit; }',
        'if (note("x")) { exit; }\nif ($rc < 0) { exit; }',
        'if ($var(a)) { note("x"); }\nif ($rc < 0) { exit; }',
        'if ($rc == -3) { exit; }\nif (note("x") && $rc < 0) { exit; }',
        "$var(rc) = $rc;\nif ($var(rc) == -3) { exit; }\nif ($var(rc) < 0) { exit; }",
    ],
)
def test_rc_that_is_what_was_meant(scripts: Scripts, body: str) -> None:
    assert scripts.say(f"route {{\n{body}\n}}\n") == []


def test_no_warning_when_the_variable_for_standard_input_is_set(scripts: Scripts) -> None:
    assert scripts.say('route {\n$var(in) = "x";\nexec("cmd", $var(in), $var(out));\n}\n') == []


def test_resume_route_that_reads_a_variable_set_before_the_suspension(scripts: Scripts) -> None:
    found = scripts.say(
        'route {\n$var(x) = 1; $avp(y) = 1;\nasync(fetch("q", "$var(z)"), go_on);\n}\n'
        'route[go_on] {\nxlog("$var(x) $avp(y) $var(z)");\n$var(w) = 1;\nxlog("$var(w)");\n}\n'
    )
    assert [(line, "$var(x) is not preserved" in text) for line, _, text in found] == [(6, True)]


def test_module_that_does_not_exist_here_is_one_error(scripts: Scripts) -> None:
    found = scripts.say('loadmodule "msilo.so"\nmodparam("msilo", "db_url", "x")\nroute {\nm_store();\nif (!m_dump()) exit;\n}\n')
    assert [(line, text) for line, _, text in found] == [(1, "not supported yet: module msilo")]


def test_misspelt_module(scripts: Scripts) -> None:
    found = scripts.findings('loadmodule "signalling.so"\nroute { exit; }\n')
    assert found[0].hint == 'did you mean "signaling"?'


def test_dependency_is_an_error_at_start_and_a_warning_for_the_syntax_check(scripts: Scripts) -> None:
    (scripts.directory / "needy.py").write_text(
        'from opensips_py.script.declarations import Module\nmodule = Module("needy", doc="", depends=["usrloc"])\n'
    )
    text = 'loadmodule "needy.py"\nroute { exit; }\n'
    assert [d.severity for d in scripts.findings(text)] == ["error"]
    assert [d.severity for d in scripts.findings(text, check=True)] == ["warning"]


def test_duplicate_route(scripts: Scripts) -> None:
    assert [(line, text) for line, _, text in scripts.say("route { exit; }\nroute[a] { exit; }\nroute[a] { exit; }\n")] == [
        (3, "Script route <a> is redefined")
    ]


def test_script_without_main_route(scripts: Scripts) -> None:
    assert "there is no route" in scripts.say("route[a] { exit; }\n")[0][2]


def test_script_without_transport(scripts: Scripts) -> None:
    assert scripts.say("route { exit; }\n", head="socket=udp:127.0.0.1:20100\n")[0][2] == "no transport protocol loaded"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('udp_workers="four"', "number expected", "without quotes"),
        ("check_via=maybe", "boolean value expected", "write yes or no"),
        ("xlog_print_level=-1", "number expected", None),
        ("debug=3", "unknown config variable 'debug'", "use log_level"),
        ("children=4", "unknown config variable 'children'", "use udp_workers"),
        ("udp_wokers=4", "unknown config variable", 'did you mean "udp_workers"?'),
        ("socket=foo:127.0.0.1:5061", "cannot handle protocol <foo>", None),
        ("socket=udp:127.0.0.1:999999", "port 999999 is out of range", None),
        ("socket=udp:127.0.0.1:20100", "is given twice", None),
        ("socket=udp:a..b:5060", "cannot resolve a..b", None),
        ("tos=0", "invalid tos value", "write IPTOS_LOWDELAY"),
        ("tos=IPTOS_LOWDELY", "invalid tos value", "did you mean"),
        ('modparam("probe", "limit", "five")', "type mismatch", None),
        ('modparam("probe", "limt", 5)', "Parameter <limt> not found", 'did you mean "limit"?'),
        ('modparam("rr", "append_fromtag", 0)', "Parameter <append_fromtag> not found in module <rr>", 'add loadmodule "rr.so"'),
    ],
)
def test_wrong_parameter(scripts: Scripts, line: str, message: str, hint: str | None) -> None:
    found = [d for d in scripts.findings(f"{line}\nroute {{ exit; }}\n") if d.severity == "error"]
    assert len(found) == 1, found
    assert message in found[0].message
    if hint:
        assert hint in str(found[0].hint)


@pytest.mark.parametrize(
    ("statement", "message", "hint"),
    [
        ("subst('/only one');", "has fewer than three", ""),
        ("subst_user('/a(/b/');", "bad regular expression", ""),
        ("subst_body('/a/b/x');", "unknown flag 'x'", ""),
        ("subst_uri('/a/$nothing/');", "unknown variable $nothing", ""),
        ('script_trace(1, "$nothing");', "unknown variable $nothing", ""),
        ('t_local_replied("never");', '"never" is not one of "all", "branch", "last"', ""),
        ('t_inject_branches("else");', '"else" is not a source of branches', ""),
        ('t_write_req("mail/none", "/tmp/x");', 'tw_append "none" is not defined', ""),
        ("t_anycast_replicate();", "not supported: function t_anycast_replicate()", "there is no cluster"),
        ('raise_event("E_X", "$avp(a)");', "Param [2] expected to be an AVP", "write $avp(a) without quotes"),
        ('raise_event("E_X", $avp($var(a)));', "Param [2] expected to be an AVP", ""),
    ],
)
def test_literals_that_functions_read_at_run_time_are_checked(scripts: Scripts, statement: str, message: str, hint: str) -> None:
    found = scripts.findings(f'loadmodule "textops.so"\nroute {{ {statement} }}\n')
    assert len(found) == 1, found
    assert found[0].severity == "error"
    assert message in found[0].message
    if hint:
        assert hint in str(found[0].hint)


def test_a_variable_may_stand_where_literals_are_checked(scripts: Scripts) -> None:
    calls = 't_local_replied($var(x)); t_inject_branches("$var(x)", $var(y)); t_write_req($var(x), "/tmp/x");'
    assert scripts.findings(f"route {{ {calls} }}\n") == []


def test_values_that_a_module_refuses_are_errors_at_their_modparam(scripts: Scripts) -> None:
    text = """loadmodule "tm.so"
loadmodule "usrloc.so"
loadmodule "cachedb_local.so"
modparam("tm", "wt_timer", 3)
modparam("tm", "fr_timeout", -3)
modparam("usrloc", "db_mode", 3)
modparam("cachedb_local", "cachedb_url", "local:///")
modparam("cachedb_local", "cachedb_url", "local:calls:///calls")
route { exit; }
"""
    found = scripts.say(text, head='socket=udp:127.0.0.1:20100\nloadmodule "proto_udp.so"\n', check=True)
    assert [line for line, _, _ in found] == [5, 6, 8], found
    assert "fr_timeout must be at least 1" in found[0][2]
    assert "add the collection calls to cache_collections" in found[2][2]


def test_module_parameters_get_their_values_and_their_defaults_back(scripts: Scripts) -> None:
    text = (
        'modparam("probe", "limit", 0x10)\nmodparam("prob.|tm", "label", "x")\nmodparam("probe", "many", "a")\n'
        'modparam("probe", "many", "b")\nroute { exit; }\n'
    ).replace('"prob.|tm"', '"prob.|nothing"')
    params = scripts.load(text).modules["probe"].params
    assert (params["limit"].value, params["label"].value, params["many"].value) == (16, "x", ["a", "b"])
    params = scripts.load("route { exit; }\n").modules["probe"].params
    assert (params["limit"].value, params["label"].value, params["many"].value) == (5, "none", [])


def test_parameter_without_effect_is_a_notice(scripts: Scripts) -> None:
    found = scripts.findings('modparam("probe", "nothing", 1)\nmem_warming=1\nroute { exit; }\n')
    assert [d.severity for d in found] == ["notice", "notice"]
    assert found[0].hint == "there is nothing to set"


def test_sockets(scripts: Scripts) -> None:
    program = scripts.load(
        "socket=udp:127.0.0.2:20101 as 192.0.2.1:5080 use_workers 3 tag far anycast\nsocket=udp:[::1]:20102\n"
        "alias=udp:example.org:5060\n"
        "route { exit; }\n",
        listen=["udp:127.0.0.3:20103"],
    )
    second = program.sockets[1]
    assert (second.host, second.port, second.advertised_host, second.advertised_port) == ("127.0.0.2", 20101, "192.0.2.1", 5080)
    assert (second.workers, second.tag) == (3, "far")
    assert [s.sent_by for s in program.sockets] == ["127.0.0.1:20100", "192.0.2.1:5080", "[::1]:20102", "127.0.0.3:20103"]
    assert program.aliases == [("udp", "example.org", 5060)]


def test_a_socket_of_the_command_line_may_be_one_of_the_script(scripts: Scripts) -> None:
    program = scripts.load("route { exit; }\n", listen=["udp:127.0.0.1:20100", "udp:127.0.0.1:20104", "127.0.0.1:20104"])
    assert [s.sent_by for s in program.sockets] == ["127.0.0.1:20100", "127.0.0.1:20104"]


def test_without_socket_the_server_listens_on_every_address(scripts: Scripts) -> None:
    program = scripts.load("route { exit; }\n", head=HEAD.partition("\n")[2])
    assert ("127.0.0.1", 5060) in [(s.host, s.port) for s in program.sockets]


def test_a_function_in_a_sub_route_that_a_kind_of_route_reaches_in_which_it_may_not_stand(scripts: Scripts) -> None:
    module = scripts.directory / "probe.py"
    module.write_text(
        module.read_text()
        + "\nfrom opensips_py.script.declarations import F, O\n\n"
        + "@module.function(routes=R | F)\ndef in_request(ctx) -> int:\n    return 1\n"
    )
    found = scripts.findings(
        "route { route(first); }\n"
        "route[first] { route(second); in_request(); }\n"
        "route[second] {\n    if (in_request())\n        exit;\n}\n"
        "route[third] { in_request(); }\n"
        "onreply_route[replies] { route(first); }\n"
        "failure_route[failed] { route(third); }\n"
    )
    assert [(d.severity, d.line - FIRST, d.message) for d in found] == [
        ("warning", 1, "in_request() is not for onreply_route, but onreply_route[replies] comes here"),
        ("warning", 3, "in_request() is not for onreply_route, but onreply_route[replies] by route[first] comes here"),
    ]


def test_a_function_in_a_resume_route_that_may_not_stand_in_the_route_that_is_suspended(scripts: Scripts) -> None:
    module = scripts.directory / "probe.py"
    module.write_text(module.read_text() + "\n@module.function(routes=R)\ndef in_request(ctx) -> int:\n    return 1\n")
    found = scripts.findings(
        'route { async(fetch("q"), resume); }\n'
        "route[resume] { in_request(); }\n"
        'failure_route[failed] { async(fetch("q"), again); }\n'
        'route[again] { async(fetch("q"), last); }\n'
        "route[last] { in_request(); }\n"
    )
    assert [(d.severity, d.line - FIRST, d.message) for d in found] == [
        ("warning", 4, "in_request() is not for failure_route, but failure_route[failed] by route[again] comes here"),
    ]


def test_await_where_it_holds_up_the_process_all_the_same(scripts: Scripts) -> None:
    found = scripts.findings(
        'route { await(fetch("q")); }\nevent_route[E_A] { await(fetch("q")); }\nevent_route[E_B, sync] { await(fetch("q")); }\n'
    )
    said = [(d.severity, d.line - FIRST, d.message) for d in found if "await" in d.message]
    assert [(severity, line) for severity, line, _ in said] == [("warning", 2)]
    assert "event_route[E_B, sync] holds up the process" in said[0][2]


def test_a_module_that_is_not_there_is_one_error_whatever_uses_it(scripts: Scripts) -> None:
    found = scripts.findings(
        'loadmodule "jabber.so"\nmodparam("jabber", "db_url", "x")\nmodparam("jabber|jabberx", "check_time", 7)\n'
        "route {\n    jab_send_message();\n    if (!jab_join_jconf()) exit;\n}\n"
    )
    assert [d.message for d in found if d.severity == "error"] == ["not supported yet: module jabber"]


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ('"5, exce=30"', "async_timeout: exce() is not a function that waits", "did you mean"),
        ('"soon"', 'async_timeout: "soon" is not a number of seconds', "write 5 or"),
        ('"5, exec=-1"', 'async_timeout: "-1" is not a number of seconds', None),
        ("soon", "a number of seconds is expected", None),
    ],
)
def test_a_wrong_async_timeout_is_found(scripts: Scripts, value: str, message: str, hint: str | None) -> None:
    found = [d for d in scripts.findings(f"async_timeout = {value}\nroute {{ exit; }}\n") if d.severity == "error"]
    assert len(found) == 1, found
    assert message in found[0].message
    if hint is not None:
        assert hint in str(found[0].hint)


def test_async_timeout_gives_limits_by_function(scripts: Scripts) -> None:
    deadlines = scripts.load('async_timeout = "2.5, exec=30"\nroute { exit; }\n').settings.async_timeout
    assert [deadlines.of(name) for name in ("exec", "fetch")] == [30, 2.5]
    assert scripts.load("async_timeout = 4\nroute { exit; }\n").settings.async_timeout.of("fetch") == 4
    assert scripts.load("route { exit; }\n").settings.async_timeout.of("fetch") == 0


def test_events_that_nothing_raises_are_warned_of(scripts: Scripts) -> None:
    head = 'loadmodule "usrloc.so"\nloadmodule "event_routing.so"\n'
    found = scripts.findings(
        head + "route { async(wait_for_event(\"E_UL_AOR_INSRT\", $avp(a), 5), r); }\nroute[r] { raise_event('E_MINE'); }\n"
        "event_route[E_MINE] { xlog('mine'); }\nevent_route[E_OTHER] { xlog('other'); }\n"
    )
    assert [(f.severity, f.line, f.message) for f in found] == [
        ("warning", 7, "there is no event E_UL_AOR_INSRT"),
        ("warning", 10, "there is no event E_OTHER"),
    ]
    assert found[0].hint == 'did you mean "E_UL_AOR_INSERT"?'


def test_a_notification_route_must_exist(scripts: Scripts) -> None:
    head = 'loadmodule "usrloc.so"\nloadmodule "event_routing.so"\n'
    (found,) = scripts.findings(head + 'route { notify_on_event("E_UL_AOR_INSERT", $avp(a), "noone", 5); }\n')
    assert (found.severity, found.message) == ("error", "route [noone] is not defined")


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("route { route(vm); }\nroute[vm { exit; }\n", 2, "']' expected", None),
        ("lodmodule x\nroute { some_function(); }\n", 1, "unexpected 'lodmodule'", None),
        ("// words\nroute { exit; }\n", 1, "'/' at top level", "comments begin with #"),
        ('route {\nnote("a);\nif ($rU == "b") exit;\nnote("c");\n}\n', 2, "string is never closed", 'the closing " is missing'),
        ('route {\nif (method == "INVITE") exit;\n}\n', 2, "bare word <method>", 'write $rm, or is_method("INVITE")'),
        ("route {\nasnyc(fetch(1), vm);\n}\n", 2, "bad arguments for command <asnyc>", 'did you mean "async"?'),
        ("route {\n$var(x) = async(fetch(1), r);\n}\n", 2, "async has no value", "it is a statement of its own"),
        (
            'modparam("dialog", "timeout_avp", "x")\nroute { exit; }\n',
            1,
            "Parameter <timeout_avp> not found",
            "module dialog, and is not supported yet",
        ),
        (
            'loadmodule "nowhere.py"\nmodparam("nowhere", "a", 1)\nroute { mine($mine(x)); async(mine(), a); }\nroute[a] {}\n',
            1,
            "nowhere",
            None,
        ),
    ],
)
def test_one_mistake_is_one_error(scripts: Scripts, text: str, line: int, message: str, hint: str | None) -> None:
    found = scripts.findings(text)
    assert [(d.line - HEAD.count("\n"), message in d.message) for d in found if d.severity == "error"] == [(line, True)], found
    assert hint is None or hint in str(found[0].hint)


def test_a_comment_of_another_language_hides_no_other_mistake(scripts: Scripts) -> None:
    found = scripts.say("// words\nroute { route(vm); }\n")
    assert [line for line, _, _ in found] == [1, 2], found


@pytest.mark.parametrize(("check", "severity"), [(True, "warning"), (False, "error")])
def test_a_number_where_text_belongs_keeps_the_server_from_starting(scripts: Scripts, check: bool, severity: str) -> None:
    found = scripts.findings("route { is_myself(5); }\n", check=check, check_all=check)
    assert [d.severity for d in found] == [severity]
    assert "expected to be a string or variable" in found[0].message


@pytest.mark.parametrize("end", ["exit", "drop", "exit()", "return"])
def test_the_habit_of_ending_a_script_behind_async_is_not_warned_of(scripts: Scripts, end: str) -> None:
    assert scripts.say(f'route {{\nasync(fetch("q"), other);\n{end};\n}}\nroute[other] {{ exit; }}\n') == []


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("msg:len > 5", "write $ml for its length"),
        ("t_relay", "write t_relay()"),
        ("t_relay && 1", "write t_relay()"),
        ("From", None),
        ("or 1", None),
        ("UAC == 1", None),
    ],
)
def test_the_hint_for_a_bare_word(scripts: Scripts, condition: str, hint: str | None) -> None:
    (found,) = scripts.findings(f"route {{\nif ({condition}) exit;\n}}\n")
    assert ("bare word" in found.message, found.hint) == (True, hint)


@pytest.mark.parametrize("text", ["$hdr()", "$(rU[*])", "$(var(a)[0])", "$( rU)", "$branch(x)", "$rm(x)", "to $ru(x)"])
def test_variables_in_texts_that_opensips_refuses_when_it_starts(scripts: Scripts, text: str) -> None:
    script = f'route {{\nxlog("{text}");\n}}\n'
    assert [(d.line - HEAD.count("\n"), d.severity) for d in scripts.findings(script)] == [(2, "error")]
    (found,) = scripts.findings(script, check=True)
    assert (found.severity, found.message.endswith("the server does not start with it")) == ("warning", True)


@pytest.mark.parametrize("text", ["$hdr(x)", "$(avp(a)[*])", "$(hdr(x)[0])", "$rm (x)", "$(rm)(x)", "$var(a)(x)", "$branch(uri)"])
def test_variables_in_texts_that_are_fine(scripts: Scripts, text: str) -> None:
    assert scripts.say(f'route {{\nxlog("{text}");\n}}\n') == []
