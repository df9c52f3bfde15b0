"""Format strings."""

from __future__ import annotations

import pytest

from opensips_py.script.formats import compile_format, compile_string
from opensips_py.script.variables import VariableError
from tests.support.script_context import expand, put, registry, request


def test_text_without_variables_stays_text() -> None:
    assert compile_format("no variable", registry()) == "no variable"
    assert compile_format("a $$ sign", registry()) == "a $ sign"
    assert compile_string("5 $$", registry()) == "5 $"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("$rU$rd $rU@$rd <$rU>", "bobbiloxi.example bob@biloxi.example <bob>"),
        ("$si:$sp,$rm;$rU", "198.51.100.7:5061,INVITE;bob"),
        ("to $rU.", "to bob."),
        ("$fU.example $ruri.user.x", "alice.example bob.x"),
        ("$rU(x)", "bob(x)"),
        ("$(rU) $(rU{s.len}) {braces} [brackets]", "bob 3 {braces} [brackets]"),
        ("$$rU $$$rU", "$rU $bob"),
        ("$avp(none)!", "<null>!"),
        ("'quoted' \"$rU\" {0} %s \\", "'quoted' \"bob\" {0} %s \\"),
    ],
)
def test_variables_are_expanded(text: str, printed: str) -> None:
    assert expand(request(), text) == printed


def test_a_parameter_that_is_one_null_variable_is_null() -> None:
    ctx = request()
    alone, within = compile_string("$avp(none)", registry()), compile_string("x$avp(none)", registry())
    assert callable(alone) and alone(ctx) is None
    assert callable(within) and within(ctx) == "x<null>"


def test_a_number_becomes_text_in_a_parameter() -> None:
    ctx = request()
    put(ctx, "$avp(n)", 5)
    alone = compile_string("$avp(n)", registry())
    assert callable(alone) and alone(ctx) == "5"


@pytest.mark.parametrize(("text", "offset"), [("cost 5$", 6), ("x $nosuchthing", 3), ("ab $(rU", 4)])
def test_errors_have_their_place_in_the_text(text: str, offset: int) -> None:
    with pytest.raises(VariableError) as caught:
        compile_format(text, registry())
    assert caught.value.offset == offset
