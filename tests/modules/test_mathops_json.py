"""Modules mathops and json."""

from __future__ import annotations

import pytest

from opensips_py.modules import json, mathops
from opensips_py.script.context import Value, ValueRefused
from opensips_py.script.variables import Variable, compile_variable
from tests.support.script_context import registry, request


def var(text: str) -> Variable:
    return compile_variable(text, registry(json.module))


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("math_eval", ("1 + 2 * 3",), "7.000000"),
        ("math_eval", ("-2 ^ 2 + 7 % 4",), "-1.000000"),
        ("math_eval", ("sqrt(16) + 2^3 + abs(-3)",), "15.000000"),
        ("math_eval", ("0xF",), "15.000000"),
        ("math_eval", ("1 / 0",), "inf"),
        ("math_eval", ("sqrt(-1)",), "-nan"),
        ("math_eval", ("9 ^ 999",), "inf"),
        ("math_rpn", ("2 3 pow e * e / 3.7 trunc +",), "11.000000"),
        ("math_round", ("x", 2), "0.00"),
        ("math_round_sf", ("x", 2), "-nan"),
        ("math_floor", ("99999999999.7",), -0x80000000),
        ("math_ceil", (" 2.2x",), 3),
        ("math_floor", ("",), 0),
        ("math_rpn", ("3 4 + 2 * dup -",), "0.000000"),
        ("math_trunc", ("-3.7",), -3),
        ("math_floor", ("-3.2",), -4),
        ("math_ceil", ("3.2",), 4),
    ],
)
def test_arithmetic(name: str, arguments: tuple[object, ...], result: str | int) -> None:
    ctx, out = request(), var("$avp(out)")
    first, *more = arguments
    assert mathops.module.functions[name].call(ctx, first, out, *more) == 1
    assert out.get(ctx) == result


def test_rounding() -> None:
    ctx, out = request(), var("$(avp(out)[*])")
    assert (mathops.math_round(ctx, "2.5", out), out.get(ctx)) == (1, "3")
    assert (mathops.math_round(ctx, "3.14159", out, 2), out.get(ctx)) == (1, "3.14")
    assert (mathops.math_round_sf(ctx, "31415.9", out, 3), out.get(ctx)) == (1, "31400.000000")
    assert (mathops.math_compare(ctx, "2", "10", out), out.get(ctx)) == (1, "-1")


@pytest.mark.parametrize("expression", ["bad +", "(1", "", "1 2", "__import__('os')", "pi", "pow(2,3)", " 1", "1 "])
def test_what_cannot_be_computed_leaves_the_variable(expression: str) -> None:
    ctx, out = request(), var("$avp(out)")
    assert mathops.math_eval(ctx, expression, out) == -1
    assert out.get(ctx) is None


def test_json_is_read_and_printed() -> None:
    ctx = request()
    json.objects.clear()
    var("$json(a)").assign(ctx, '{"x": [1, "two", {"y": "/z"}], "f": 1.5, "n": null}')
    assert var("$json(a/x[2]/y)").get(ctx) == "/z"
    assert var("$(json(a/x)[1])").get(ctx) == "two"
    assert var("$json(a/x[-3])").get(ctx) == 1
    assert (var("$json(a/n)").get(ctx), var("$json(a/none)").get(ctx), var("$json(none/x)").get(ctx)) == (None, None, None)
    assert var("$json(a)").get(ctx) == '{ "x": [ 1, "two", { "y": "\\/z" } ], "f": 1.5, "n": null }'
    assert var("$json_compact(a/x)").get(ctx) == '[1,"two",{"y":"\\/z"}]'
    assert list(var("$(json(a/x)[*])").values(ctx))[:2] == [1, "two"]


def test_json_is_changed() -> None:
    ctx = request()
    json.objects.clear()
    var("$json(o)").assign(ctx, "{}")
    var("$json(o/list)").assign(ctx, "[]")
    var("$json(o/list[])").set(ctx, 5)
    var("$json(o/list[])").set(ctx, "5")
    var("$json(o/text)").set(ctx, "[1]")
    assert var("$json_compact(o)").get(ctx) == '{"list":[5,"5"],"text":"[1]"}'
    var("$json(o/list[1])").set(ctx, None)  # the whole array, as in OpenSIPS
    var("$json(o/text)").set(ctx, None)
    var("$json(o/null)").assign(ctx, "null")
    assert var("$json_compact(o)").get(ctx) == '{"list":[]}'


def test_a_linked_object_is_the_same_object() -> None:
    ctx = request()
    json.objects.clear()
    var("$json(o)").assign(ctx, '{"inner": {"x": 1}}')
    assert json.json_link(ctx, var("$json(l)"), var("$json(o/inner)")) == 1
    var("$json(l/x)").set(ctx, 2)
    assert var("$json(o/inner/x)").get(ctx) == 2
    assert json.json_link(ctx, var("$json(l)"), var("$json(none)")) == -1


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("true", "true"),
        ("false", "false"),
        ("12345678901", 2147483647),
        ("-12345678901", -2147483648),
        ("9" * 5000, 2147483647),
        ("1e3", "1e3"),
        ("0.0", "0.0"),
        ("[]", "[ ]"),
        ('{"big":12345678901}', '{ "big": 12345678901 }'),
        ("null", None),
        ("[" * 32 + "]" * 32, "[ " * 32 + "]" + " ]" * 31),
    ],
)
def test_json_values_as_a_script_sees_them(text: str, seen: Value) -> None:
    ctx = request()
    json.objects.clear()
    var("$json(o)").assign(ctx, text)
    assert var("$json(o)").get(ctx) == seen


@pytest.mark.parametrize("text", ["", "bad{", "[1", "[" * 33 + "]" * 33, "[" * 100_000, '{"a":' * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    ctx = request()
    json.objects.clear()
    var("$json(o)").assign(ctx, '{"a":1,"b":2}')
    with pytest.raises(ValueRefused):
        var("$json(o/a)").assign(ctx, text)
    assert var("$json_compact(o)").get(ctx) == '{"b":2}'


@pytest.mark.parametrize("path", ["none/a", "o/a/b", "o/list[9]", "o/x/y", "o/list/x", "o[0]", "o/list[x]"])
def test_a_path_into_nothing_is_refused(path: str) -> None:
    ctx = request()
    json.objects.clear()
    var("$json(o)").assign(ctx, '{"a":1,"list":[]}')
    with pytest.raises(ValueRefused):
        var(f"$json({path})").set(ctx, 5)
    assert var("$json_compact(o)").get(ctx) == '{"a":1,"list":[]}'


def test_for_runs_over_objects_and_their_keys() -> None:
    ctx = request()
    json.objects.clear()
    var("$json(o)").assign(ctx, '{"a":{"f":true,"n":null,"g":1.5},"b":[1,null,"x"]}')
    assert list(var("$(json(o/a)[*])").values(ctx)) == ["true", "1.5"]
    assert list(var("$(json(o/a.keys)[*])").values(ctx)) == ["f", "n", "g"]
    assert list(var("$(json(o/b)[*])").values(ctx)) == [1, "x"]
    assert list(var("$(json(o/b.keys)[*])").values(ctx)) == []


def test_empty_brackets_are_printed_on_two_lines() -> None:
    ctx = request()
    json.objects.clear()
    var("$json(o)").assign(ctx, '{"a":[],"b":{}}')
    assert var("$json_pretty(o)").get(ctx) == '{\n  "a":[\n  ],\n  "b":{\n  }\n}'


def test_an_object_is_not_linked_into_itself() -> None:
    ctx = request()
    json.objects.clear()
    var("$json(o)").assign(ctx, '{"a":{"b":1}}')
    assert json.json_link(ctx, var("$json(o/a/self)"), var("$json(o)")) == -1
    assert json.json_link(ctx, var("$json(k)"), var("$json(o/a)")) == 1
