"""Modules mathops and json."""

from __future__ import annotations

import pytest

from opensips_py.modules import json, mathops
from opensips_py.script.variables import Variable, compile_variable
from tests.support.script_context import registry, request


def var(text: str) -> Variable:
    return compile_variable(text, registry(json.module))


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("math_eval", ("1 + 2 * 3",), "7.000000"),
        ("math_eval", ("-2 ^ 2 + 7 % 4",), "-1.000000"),
        ("math_eval", ("sqrt(16) + pow(2, 3) + abs(-3)",), "15.000000"),
        ("math_rpn", ("3 4 + 2 * dup -",), "0.000000"),
        ("math_trunc", ("-3.7",), "-3"),
        ("math_floor", ("-3.2",), "-4"),
        ("math_ceil", ("3.2",), "4"),
    ],
)
def test_arithmetic(name: str, arguments: tuple[str, ...], result: str) -> None:
    ctx, out = request(), var("$avp(out)")
    assert mathops.module.functions[name].call(ctx, *arguments, out) == 1
    assert out.get(ctx) == result


def test_rounding() -> None:
    ctx, out = request(), var("$(avp(out)[*])")
    assert (mathops.math_round(ctx, "2.5", out), out.get(ctx)) == (1, "3")
    assert (mathops.math_round(ctx, "3.14159", out, 2), out.get(ctx)) == (1, "3.14")
    assert (mathops.math_round_sf(ctx, "31415.9", out, 3), out.get(ctx)) == (1, "31400.000000")
    assert (mathops.math_compare(ctx, "2", "10", out), out.get(ctx)) == (1, "-1")


@pytest.mark.parametrize("expression", ["bad +", "1 / 0", "sqrt(-1)", "(1", "", "1 2", "__import__('os')", "9 ^ 999"])
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
    var("$json(o/list[0])").set(ctx, None)
    var("$json(o/text)").set(ctx, None)
    var("$json(o)").assign(ctx, "not json")
    assert var("$json_compact(o)").get(ctx) == '{"list":["5"]}'


def test_a_linked_object_is_the_same_object() -> None:
    ctx = request()
    json.objects.clear()
    var("$json(o)").assign(ctx, '{"inner": {"x": 1}}')
    assert json.json_link(ctx, var("$json(l)"), var("$json(o/inner)")) == 1
    var("$json(l/x)").set(ctx, 2)
    assert var("$json(o/inner/x)").get(ctx) == 2
    assert json.json_link(ctx, var("$json(l)"), var("$json(none)")) == -1
