"""Functions, parameters, statistics, management commands, variables of a module that a user has written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opensips_py.script.diagnostics import ScriptErrors
from tests.own_modules.conftest import OWN, Own


def said(own: Own, code: str, text: str) -> list[str]:
    """What the checker says about a script, without the file's name."""
    own.write(code)
    with pytest.raises(ScriptErrors) as found:
        own.start(f'loadmodule "own.py"\n{text}')
    return [f"{d.line}:{d.column}: {d.message}" + (f"; {d.hint}" if d.hint else "") for d in found.value.errors]


@pytest.mark.parametrize(
    ("returns", "rc"), [("7", 7), ("-3", -3), ("True", 1), ("False", -1), ("None", 1), ("-2147483648", -2147483648)]
)
@pytest.mark.parametrize("kind", ["function", "blocking", "coroutine"])
def test_what_a_function_returns_is_the_return_code(own: Own, kind: str, returns: str, rc: int) -> None:
    declared = (
        f"@module.{'blocking' if kind == 'blocking' else 'function'}\n{'async ' if kind == 'coroutine' else ''}def give():\n"
    )
    script = own.script(f"{declared}    return {returns}\n", "route { give(); $avp(rc) = $rc; }")
    assert script.request()["$avp(rc)"] == rc


@pytest.mark.parametrize("returns", ["'text'", "1.5", "1 << 31"])
def test_a_result_that_is_no_return_code_is_an_error_of_the_function(own: Own, returns: str) -> None:
    script = own.script(f"@module.function\ndef give():\n    return {returns}\n", "route { give(); $avp(rc) = $rc; }")
    run = script.request()
    assert run["$avp(rc)"] == -1
    assert "give() returned" in "\n".join(run.log)


def test_arguments_come_with_the_types_of_the_annotations_and_omitted_ones_with_their_defaults(own: Own) -> None:
    code = """
got = []

@module.function
def take(text: str, number: int = 5, fixed: Static = "none", more: str | None = None):
    got.append((text, number, fixed, more))
"""
    script = own.script(code, 'route { $var(n) = 3; take("$rU-x", $var(n), "$rU"); take("a", , , "b"); take("only"); }')
    script.request()
    assert own.python.got == [("bob-x", 3, "$rU", None), ("a", 5, "none", "b"), ("only", 5, "none", None)]


@pytest.mark.parametrize("declared", ["@module.function\ndef", "@module.blocking\ndef", "@module.function\nasync def"])
def test_texts_are_unicode_in_functions_and_bytes_in_scripts(own: Own, declared: str) -> None:
    code = f"""
got = []

{declared} turn(text: str, out: Out[str]):
    got.append(text)
    out.set(text[::-1])
"""
    script = own.script(code, 'route { turn("$hdr(X)", $avp(out)); $avp(length) = $(avp(out){s.len}); }')
    run = script.request(headers={"X": "Müßig €"})
    assert own.python.got == ["Müßig €"]
    assert run["$avp(out)"] == "€ gißüM"
    assert run["$avp(length)"] == len("Müßig €".encode())


def test_bytes_that_are_not_utf8_come_back_unchanged(own: Own) -> None:
    code = "@module.function\ndef same(text: str, out: Out[str]):\n    out.set(text)\n"
    script = own.script(code, 'route { same("$hdr(X)", $avp(out)); if ($avp(out) == $hdr(X)) xlog("same\\n"); }')
    data = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
    data += b"Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nX: \xff\xe4\xc3\xa4\r\nContent-Length: 0\r\n\r\n"
    run = script.receive(data)
    assert "same" in run.log
    assert own.python.module.functions["same"]


def test_outputs_that_are_not_set_keep_the_variable_and_none_makes_it_null(own: Own) -> None:
    code = """
@module.function
def outputs(first: Out[str], second: Out[int], third: Out[str | int], many: Out[str]):
    second.set(None)
    third.set("once")
    third.set(1 << 40)
    many.append("low")
    many.append("high")
"""
    script = own.script(code, 'route { $avp(a) = "kept"; $var(b) = 5; outputs($avp(a), $var(b), $var(c), $avp(d)); }')
    run = script.request()
    assert run["$avp(a)"] == "kept"
    assert run["$var(b)"] in (None, 0)
    assert run["$var(c)"] == str(1 << 40), "beyond 32 bits a number is text"
    assert run["$(avp(d)[*])"] == "high, low"


def test_a_function_with_context_sees_the_message_and_writes_variables(own: Own) -> None:
    code = """
@module.function(routes=R)
def method(ctx: Context, out: Var):
    out.set(ctx, ctx.msg.method)

@module.function
def optional(ctx: Context, first: Var | None = None, second: Out[str] | None = None):
    if first is not None:
        first.set(ctx, ctx.msg.method.lower())
    if second is not None:
        second.set("out")

@module.function
def matches(text: str, pattern: Pattern) -> bool:
    return pattern.search(text) is not None
"""
    script = own.script(
        code,
        "route { method($avp(m)); optional(); optional($avp(o)); optional(, $avp(p)); "
        'if (matches("$rU", "^B[o]b$")) xlog("matches\\n"); }',
    )
    run = script.request("MESSAGE")
    assert (run["$avp(m)"], run["$avp(o)"], run["$avp(p)"]) == ("MESSAGE", "message", "out")
    assert run.log == ["matches"]


def test_patterns_match_characters_too(own: Own) -> None:
    code = "@module.function\ndef found(text: str, pattern: Pattern) -> bool:\n    return pattern.search(text) is not None\n"
    script = own.script(code, 'route { if (found("$hdr(X)", "^M[üÜ].$") && !found("$hdr(X)", "^M....$")) xlog("found\\n"); }')
    assert script.request(headers={"X": "mÜ€"}).log == ["found"]


def test_an_exception_is_logged_with_both_places_and_the_script_goes_on_with_minus_one(own: Own) -> None:
    code = "@module.function\ndef fail(text: str):\n    raise KeyError(text)\n"
    script = own.script(code, 'route {\n  fail("why");\n  $avp(rc) = $rc;\n  sl_send_reply(200, "OK");\n}')
    run = script.request("OPTIONS")
    line = OWN.count("\n") + 3
    assert run["$avp(rc)"] == -1
    assert run.replies == ["200 OK"]
    text = "\n".join(run.log)
    assert "opensips.cfg:3: KeyError: 'why'" in text
    assert f'own.py", line {line}, in fail' in text
    assert "python_function" not in text, "the server's own frames are left out"


def test_parameters_statistics_commands_and_variables(own: Own) -> None:
    code = """
limit = module.param("limit", int, 10, doc="most")
label = module.param("label", str, "none")
counted = module.statistic("counted")
started = []

@module.on_config
def check():
    started.append(("config", limit.value))

@module.on_process
def begin():
    started.append(("process", label.value))

@module.function
def count():
    counted.add(limit.value)

@module.variable("own_label")
def read_label(ctx, argument, index):
    return label.value

@module.mi("own_show", ("name",), ())
def show(name: str = "nobody") -> dict[str, str]:
    return {"Name": name}
"""
    script = own.script(
        code, 'modparam("own", "limit", 3)\nmodparam("own", "label", "x")\nroute { count(); count(); $avp(l) = $own_label; }'
    )
    assert script.request()["$avp(l)"] == "x"
    assert script.statistic("own:counted") == 6
    assert own.python.started == [("config", 3), ("process", "x")]
    assert script.mi("own_show", {"name": "Zoë"}) == {"result": {"Name": "Zoë"}}
    assert script.mi("own_show", ["a", "b"])["error"]["code"] == -32602


def test_a_check_that_fails_is_told_where_the_module_is_loaded(own: Own) -> None:
    own.write('@module.on_check\ndef check():\n    raise LookupError("nothing there")\n', "file.py")
    with pytest.raises(ScriptErrors) as found:
        own.start('route { exit; }\nloadmodule "file.py"\n')
    [error] = found.value.errors
    line = OWN.count("\n") + 3
    assert (error.line, error.message) == (2, f"{own.directory}/file.py:{line}: LookupError: nothing there")


def test_what_is_checked_is_checked_by_the_checker(own: Own) -> None:
    code = """
limit = module.param("limit", int, 1)

@module.on_check
def check():
    if limit.value > 9:
        raise ConfigError("own: limit is more than 9", "limit")
"""
    code = "from opensips_py.module_api import ConfigError\n" + code
    assert said(own, code, 'modparam("own", "limit", 10)\nroute { exit; }') == ["2:1: own: limit is more than 9"]


CHECKED = """
@module.function(routes=R)
def typed(text: str, number: int, out: Out[str], pattern: Pattern | None = None):
    return 1

@module.blocking
def slow(number: int, out: Out[int] | None = None):
    return 1
"""


@pytest.mark.parametrize(
    ("call", "place", "words"),
    [
        ('typed("a", "b", $avp(x))', "2:20", "expected to be an integer"),
        ('typed("a", 1, $rm)', "2:23", "$rm cannot be written"),
        ('typed("a", 1, "x")', "2:23", "expected to be a variable"),
        ('typed("a", 1)', "2:9", "too few parameters"),
        ('typed("a", 1, $avp(x), "a", "b")', "2:9", "too many parameters"),
        ('typed("a", 1, $avp(x), "(")', "2:32", "bad regular expression"),
        ("typed(, 1, $avp(x))", "2:9", "mandatory parameter omitted"),
        ('typd("a", 1, $avp(x))', "2:9", "unknown command <typd>"),
        ("async(slow(1, $(ru{uri.user})), r)", "2:23", "cannot be written"),
        ("async(slow(1, $fU), r)", "2:23", "$fU cannot be written"),
        ('async(slow("1"), r)', "2:20", "expected to be an integer"),
        ('async(typed("a", 1, $avp(x)), r)', "2:15", "cannot be used in async(): it never waits"),
        ('launch(typed("a", 1, $avp(x)), r)', "2:16", "cannot be used in launch(): it never waits"),
    ],
)
def test_wrong_calls_are_found_before_the_server_runs(own: Own, call: str, place: str, words: str) -> None:
    errors = said(own, CHECKED, f"route {{ {call}; }}\nroute[r] {{ exit; }}")
    assert any(error.startswith(place) and words in error for error in errors), errors


def test_a_function_may_stand_only_in_its_routes(own: Own) -> None:
    [error] = said(own, CHECKED, 'route { exit; }\nfailure_route[f] { typed("a", 1, $avp(x)); }')
    assert error.startswith("3:20: Command <typed> cannot be used in the block: failure_route")


def test_the_error_for_async_names_the_functions_that_can_wait(own: Own) -> None:
    [error] = said(own, CHECKED, 'route { async(typed("a", 1, $avp(x)), r); }\nroute[r] { exit; }')
    assert "slow" in error.partition("functions that can: ")[2]
    assert error.endswith("; if it takes time, declare it with @module.blocking or as async def")


def test_a_wrong_module_parameter_is_found(own: Own) -> None:
    code = 'limit = module.param("limit", int, 1)\n'
    errors = said(own, code, 'modparam("own", "limit", "x")\nmodparam("own", "limits", 1)\nroute { exit; }')
    assert "type mismatch for parameter <limit>" in errors[0]
    assert 'did you mean "limit"?' in errors[1]


def test_a_script_is_tested_beside_the_server_that_runs_it(own: Own, tmp_path: Path) -> None:
    """The server has its FIFO; the test needs none."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    served = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        script = own.start(
            f'loadmodule "mi_fifo.so"\nmodparam("mi_fifo", "fifo_name", "{path}")\nroute {{ sl_send_reply(200, "OK"); }}'
        )
        assert script.request().replies == ["200 OK"]
    finally:
        os.close(served)
