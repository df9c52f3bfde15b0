"""Scripts that use modules which do not exist here: everything else is judged in the first run."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from opensips_py.script import known_modules, migration, modules
from opensips_py.script.declarations import Module
from opensips_py.script.diagnostics import ScriptErrors
from tests.script.script_runner import Scripts

HIDDEN = ("acc", "dialog", "dispatcher", "pike", "proto_tls", "regex", "tls_mgm")
"""Modules that are missing in these tests, whether or not they exist by now."""


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripts:
    exists, available = modules.exists, modules.available()
    monkeypatch.setattr(modules, "exists", lambda name: name not in HIDDEN and exists(name))
    monkeypatch.setattr(modules, "available", lambda: [name for name in available if name not in HIDDEN])
    return Scripts(tmp_path)


def _summary(scripts: Scripts, text: str) -> str | None:
    with pytest.raises(ScriptErrors) as raised:
        scripts.load(text)
    return raised.value.summary


@pytest.mark.parametrize(
    ("statement", "message", "hint"),
    [
        (
            'rl_check("a", 1, "RED", 1);',
            "too many parameters for command <rl_check>",
            "rl_check(str, int[, str])",
        ),
        ("rl_check();", "too few parameters for command <rl_check>", None),
        ('ds_select_dst("1", 4);', "Param [1] expected to be an integer", "write 1"),
        ('pcre_match("x", "y", 1);', "too many parameters", None),
        ("rl_chekc();", "unknown command <rl_chekc>", 'did you mean "rl_check"?'),
        ("async(rl_check(), other);", "rl_check() cannot be used in async()", None),
        ('xlog("$rl_cuont(a)");', "unknown variable $rl_cuont", "did you mean $rl_count?"),
        ('pike_check_req("x");', "too many parameters", None),
    ],
)
def test_what_missing_modules_offer_is_checked(scripts: Scripts, statement: str, message: str, hint: str | None) -> None:
    loads = "".join(f'loadmodule "{name}.so"\n' for name in ("ratelimit", "dispatcher", "regex", "pike"))
    found = scripts.findings(f"{loads}route {{\n{statement}\n}}\nroute[other] {{ exit; }}\n")
    errors = [d for d in found if d.severity == "error" and not d.message.startswith("not supported yet: module")]
    assert len(errors) == 1, errors
    assert message in errors[0].message
    if hint is not None:
        assert hint in str(errors[0].hint)


def test_a_function_of_a_missing_module_stands_only_where_it_may(scripts: Scripts) -> None:
    found = scripts.findings('loadmodule "pike.so"\nroute { exit; }\nfailure_route[a] {\npike_check_req();\n}\n')
    assert "cannot be used in the block: failure_route" in found[-1].message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('modparam("ratelimit", "window_siez", 1)', "Parameter <window_siez> not found in module <ratelimit>"),
        ('modparam("ratelimit", "window_size", "1")', "type mismatch for parameter <window_size>"),
        ('modparam("ratelimit", "db_prefix", 3)', "type mismatch for parameter <db_prefix>"),
    ],
)
def test_parameters_of_missing_modules_are_checked(scripts: Scripts, line: str, message: str) -> None:
    found = scripts.findings(f'loadmodule "ratelimit.so"\n{line}\nroute {{ exit; }}\n')
    assert [d.message for d in found if message in d.message], found


def test_parameters_that_take_numbers_and_texts_take_both(scripts: Scripts) -> None:
    lines = "".join(f'modparam("mi_datagram", "unix_socket_user", {value})\n' for value in ('"root"', "0"))
    found = scripts.findings(f'loadmodule "mi_datagram.so"\n{lines}route {{ exit; }}\n', missing_modules="warn")
    assert [d.message for d in found] == ["not supported yet: module mi_datagram"]


def test_all_that_is_wrong_is_found_at_once(scripts: Scripts) -> None:
    text = (
        'loadmodule "ratelimit.so"\nloadmodule "usrloc.so"\nmodparam("usrloc", "db_mode", 3)\n'
        'route {\nnoet("x");\nxlog("$nothing");\n}\n'
    )
    assert [line for line, _, _ in scripts.say(text)] == [1, 3, 5, 6]


def test_with_missing_modules_warn_the_verdict_is_about_the_rest(scripts: Scripts) -> None:
    text = (
        'loadmodule "ratelimit.so"\nloadmodule "dialog.so"\nloadmodule "pike.so"\nmodparam("ratelimit", "window_size", 1)\n'
        'route {\ncreate_dialog("B");\nif (rl_check("a", 1)) { $var(x) = $DLG_did; }\nxlog("$DLG_status");\n}\n'
        "event_route[E_PIKE_BLOCKED] { exit; }\n"
    )
    program = scripts.load(text, missing_modules="warn")
    assert [(d.severity, d.message) for d in program.warnings] == [
        ("warning", "not supported yet: module ratelimit"),
        ("warning", "not supported yet: module dialog"),
        ("warning", "not supported yet: module pike"),
    ]
    assert program.missing is not None
    assert program.missing.startswith("3 modules are missing, which 5 lines use: dialog (3), ratelimit (2), pike (1); what to do")
    assert scripts.findings(text.replace("create_dialog", "creat_dialog"), missing_modules="warn")[-1].severity == "error"


def test_the_summary_counts_lines_once_and_names_the_page(scripts: Scripts) -> None:
    text = 'loadmodule "ratelimit.so"\nroute {\nrl_check("a", 1); rl_check("b", 1);\n}\n'
    summary = _summary(scripts, text)
    assert summary == f"1 module is missing, which 1 line uses: ratelimit (1); what to do about each is in {migration.PAGE}"
    assert _summary(scripts, "route { noet(1); }\n") is None


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ('route { rl_check("a", 1); }\n', "ratelimit"),
        ('route { xlog("$DLG_did"); }\n', "dialog"),
        ('modparam("ratelimit", "x", 1)\nroute { exit; }\n', "ratelimit"),
    ],
)
def test_no_advice_to_load_a_module_that_is_not_there(scripts: Scripts, text: str, module: str) -> None:
    found = scripts.findings(text)
    assert f"module {module}, and is not supported yet" in str(found[0].hint)
    assert "loadmodule" not in str(found[0].hint)


def test_a_name_of_several_modules_is_said_to_be_of_all(scripts: Scripts) -> None:
    text = 'route { async(pn_process_purr("location"), other); }\nroute[other] { exit; }\n'
    assert "mid_registrar or registrar" in str(scripts.findings(text)[0].hint)
    loaded = scripts.findings('loadmodule "usrloc.so"\nloadmodule "registrar.so"\n' + text)
    assert loaded[0].message == "not supported yet: function pn_process_purr() of module registrar"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("prometheus", "module prometheus, which came with OpenSIPS 3.2", None),
        ("proto_ipsec", "module proto_ipsec, which came with OpenSIPS 3.5", None),
        ("siptrace", "OpenSIPS 3.1 has no module siptrace", "tracer"),
        ("mi_json", "OpenSIPS 3.1 has no module mi_json", "mi_http"),
        ("seas", "OpenSIPS 3.1 has no module seas", "leave the line out"),
        ("dispacher", "there is no such module", 'did you mean "dispatcher"?'),
        ("db_oracle", "not supported yet: module db_oracle", "use db_mysql"),
    ],
)
def test_modules_of_other_versions_are_named_as_such(scripts: Scripts, name: str, message: str, hint: str | None) -> None:
    found = scripts.findings(f'loadmodule "{name}.so"\nroute {{ exit; }}\n')
    assert len(found) == 1, found
    assert message in found[0].message
    if hint is not None:
        assert hint in str(found[0].hint)


def test_a_module_of_older_versions_causes_no_other_errors(scripts: Scripts) -> None:
    text = 'loadmodule "siptrace.so"\nmodparam("siptrace", "trace_on", 1)\nroute {\nsip_trace("tid");\nfoo_bar();\n}\n'
    assert [(line, text) for line, _, text in scripts.say(text)] == [
        (1, "failed to load module siptrace.so: OpenSIPS 3.1 has no module siptrace"),
        (4, "'sip_trace()' is deprecated"),
        (5, "unknown command <foo_bar>, missing loadmodule?"),
    ]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ('modparam("proto_tls", "verify_cert", "1")', "it is a parameter of module tls_mgm"),
        ('modparam("acc", "log_missed_flag", "X")', "module acc of OpenSIPS 3.1 has no such parameter: leave it out"),
        ('modparam("usrloc", "nothing_like_it", "X")', "module usrloc of OpenSIPS 3.1 has no such parameter: leave it out"),
        ('modparam("acc", "ealry_media", 0)', 'did you mean "early_media"?'),
    ],
)
def test_an_unknown_parameter_says_whose_it_is(scripts: Scripts, line: str, hint: str) -> None:
    loads = "".join(f'loadmodule "{name}.so"\n' for name in ("proto_tls", "acc", "usrloc"))
    found = [d for d in scripts.findings(f"{loads}{line}\nroute {{ exit; }}\n") if "Parameter" in d.message]
    assert [d.hint for d in found] == [hint]


@pytest.mark.parametrize("name", ["uri", "tls_openssl", "tls_wolfssl"])
def test_modules_of_which_nothing_is_needed_are_accepted(scripts: Scripts, name: str) -> None:
    found = scripts.findings(f'loadmodule "{name}.so"\nmodparam("{name}", "x", 1)\nroute {{ exit; }}\n')
    assert [d.severity for d in found] == ["notice", "notice"]


def test_a_database_that_is_missing_is_not_said_to_be_another_one(scripts: Scripts) -> None:
    found = scripts.findings('loadmodule "db_oracle.so"\nloadmodule "dialplan.so"\nroute { exit; }\n')
    assert [d.message for d in found] == ["not supported yet: module db_oracle"]


@pytest.mark.parametrize("load", ["", 'loadmodule "db_sqlite.so"'])
def test_a_database_needs_the_module_of_its_kind(scripts: Scripts, load: str) -> None:
    text = f'loadmodule "avpops.so"\n{load}\nmodparam("avpops", "db_url", "mysql://u:p@h/d")\nroute {{ exit; }}\n'
    [found] = scripts.findings(text)
    assert found.message.endswith('needs module db_mysql, which is not loaded: add loadmodule "db_mysql.so"')
    assert scripts.findings(text.replace('loadmodule "avpops.so"', 'loadmodule "avpops.so" loadmodule "db_mysql.so"')) == []


def test_a_database_whose_module_is_missing_causes_no_other_error(scripts: Scripts) -> None:
    text = (
        'loadmodule "db_oracle.so"\nloadmodule "avpops.so"\nmodparam("avpops", "db_url", "oracle://u:p@h/d")\nroute { exit; }\n'
    )
    assert [d.message for d in scripts.findings(text)] == ["not supported yet: module db_oracle"]


def test_sockets_of_a_missing_transport_are_not_errors_of_their_own(scripts: Scripts) -> None:
    found = scripts.findings('loadmodule "proto_tls.so"\nsocket=tls:127.0.0.1:5061\nroute { exit; }\n')
    assert [d.message for d in found] == ["not supported yet: module proto_tls"]


def test_an_event_of_a_module_says_who_raises_it(scripts: Scripts) -> None:
    found = scripts.findings("event_route[E_PIKE_BLOCKED] { exit; }\nroute { exit; }\n")
    assert "module pike" in str(found[0].hint)
    found = scripts.findings('loadmodule "usrloc.so"\nevent_route[E_UL_CONTACT_REFRESH] { exit; }\nroute { exit; }\n')
    assert found[0].message == "not supported yet: module usrloc does not raise E_UL_CONTACT_REFRESH"


def test_every_module_of_3_1_can_be_declared_and_none_is_in_two_tables() -> None:
    here = set(modules.available())
    for name in known_modules.exports():
        declared = known_modules.declared(name)
        assert all(function.routes for function in declared.functions.values()), name
    assert len(known_modules.exports()) >= 162
    tables = [migration.NOT_PLANNED, migration.INSTEAD]
    assert not set(migration.NOT_PLANNED) & set(migration.INSTEAD)
    for table in tables:
        assert set(table) <= set(known_modules.exports())
        assert not set(table) & here, "they exist now: what to use instead of them goes from script/migration.py"
    assert not (set(migration.LATER) | set(migration.GONE)) & set(known_modules.exports())


def test_what_3_1_has_and_this_module_lacks_is_not_forgotten() -> None:
    """The names of 3.1 are a subset of what the modules here offer, apart from those listed."""
    lacking = set()
    for name in set(modules.available()) & set(known_modules.exports()):
        here, there = modules_of(name), known_modules.declared(name)
        lacking |= {f"{name}.{thing}" for thing in there.functions if thing not in here.functions}
        lacking |= {f"{name}.{thing}" for thing in there.params if thing not in here.params}
        lacking |= {f"{name}.${thing}" for thing in there.variables if thing not in here.variables}
    assert lacking == LACKING


LACKING = {
    "acc.acc_aaa_request",
    "acc.acc_load_ctx_from_dlg",
    "acc.acc_unload_ctx_from_dlg",
    "group.aaa_is_user_in",
    "group.get_user_group",
    "group.is_user_in",
    "registrar.pn_process_purr",
    "rest_client.rest_init_client_tls",
    "tm.t_anycast_replicate",
}


def modules_of(name: str) -> Module:
    module: Module = importlib.import_module(f"opensips_py.modules.{name}").module
    return module
