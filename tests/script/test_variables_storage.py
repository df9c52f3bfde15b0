"""``$var`` belongs to the process, ``$avp`` to the transaction."""

from __future__ import annotations

import pytest

from opensips_py.script import pseudo_variables_storage
from opensips_py.script.context import Value
from tests.support.script_context import expand, put, refused, request, value, variable


@pytest.fixture(autouse=True)
def _no_script_variables() -> None:
    pseudo_variables_storage.script_variables.update(dict.fromkeys(pseudo_variables_storage.script_variables))


def test_var_outlives_the_message_and_avp_does_not() -> None:
    first, second = request(), request()
    put(first, "$var(x)", 5)
    put(first, "$avp(x)", 5)
    assert expand(second, "$var(x) $avp(x)") == "5 <null>"


def test_null_deletes_a_var() -> None:
    ctx = request()
    put(ctx, "$var(x)", "set")
    put(ctx, "$var(x)", None)
    assert value(ctx, "$var(x)") is None


def test_an_avp_is_a_stack_that_prints_the_last_added_first() -> None:
    ctx = request()
    for text in ("a", "b", "c"):
        put(ctx, "$avp(s)", text)
    assert expand(ctx, "$avp(s) | $(avp(s)[*]) | $(avp(s)[2]) | $(avp(s)[-1]) | $(avp(s)[3])") == "c | c, b, a | a | a | <null>"


def test_writing_an_element_of_an_avp_replaces_it() -> None:
    ctx = request()
    for text in ("a", "b", "c"):
        put(ctx, "$avp(s)", text)
    put(ctx, "$(avp(s)[1])", "B")
    put(ctx, "$(avp(s)[2])", None)
    assert expand(ctx, "$(avp(s)[*])") == "c, B"


def test_null_takes_the_top_of_an_avp_and_star_takes_all() -> None:
    ctx = request()
    put(ctx, "$avp(s)", "a")
    put(ctx, "$avp(s)", "b")
    put(ctx, "$avp(s)", None)
    assert value(ctx, "$avp(s)") == "a"
    put(ctx, "$(avp(s)[*])", None)
    assert ctx.avps == {}


def test_append_adds_below() -> None:
    ctx = request()
    put(ctx, "$avp(s)", "top")
    put(ctx, "$(avp(s)[append])", "bottom")
    assert value(ctx, "$(avp(s)[append])") is None
    assert expand(ctx, "$(avp(s)[*])") == "top, bottom"


@pytest.mark.parametrize(
    ("target", "new", "left", "taken"),
    [
        ("$avp(s)", "B", "B", True),
        ("$avp(s)", None, "<null>", True),
        ("$(avp(s)[*])", "B", "B", True),
        ("$(avp(s)[append])", "B", "B", True),
        ("$(avp(s)[append])", None, "<null>", True),
        ("$(avp(s)[0])", "B", "<null>", False),
        ("$(avp(s)[3])", None, "<null>", True),
    ],
)
def test_colon_equals_deletes_all_values_first(target: str, new: Value, left: str, taken: bool) -> None:
    ctx = request()
    put(ctx, "$avp(s)", "a")
    put(ctx, "$avp(s)", "b")
    assert refused(ctx, target, new, replacing=True) != taken
    assert expand(ctx, "$(avp(s)[*])") == left


@pytest.mark.parametrize(
    ("target", "new", "left", "taken"),
    [
        ("$(avp(s)[0])", "B", "B, a", True),
        ("$(avp(s)[-1])", "A", "b, A", True),
        ("$(avp(s)[2])", "c", "b, a", False),
        ("$(avp(s)[2])", None, "b, a", True),
        ("$(avp(s)[append])", "c", "b, a, c", True),
        ("$(avp(s)[append])", None, "a", True),
    ],
)
def test_a_value_at_an_index_is_written(target: str, new: Value, left: str, taken: bool) -> None:
    ctx = request()
    put(ctx, "$avp(s)", "a")
    put(ctx, "$avp(s)", "b")
    assert refused(ctx, target, new) != taken
    assert expand(ctx, "$(avp(s)[*])") == left


def test_a_number_is_not_the_string_of_its_digits() -> None:
    ctx = request()
    put(ctx, "$avp(n)", 5)
    put(ctx, "$avp(s)", "5")
    assert (value(ctx, "$avp(n)"), value(ctx, "$avp(s)")) == (5, "5")


def test_names_and_indexes_may_be_computed() -> None:
    ctx = request()
    put(ctx, "$var(i)", 1)
    put(ctx, "$var(1)", "one")
    assert value(ctx, "$var($var(i))") is None  # only the names of $var are as they are written
    put(ctx, "$avp(x_1)", "old")
    put(ctx, "$avp(x_1)", "new")
    assert expand(ctx, "$avp(x_$var(i)) $(avp(x_1)[$var(i)])") == "new old"


def test_for_sees_every_value() -> None:
    ctx = request()
    put(ctx, "$avp(s)", "a")
    put(ctx, "$avp(s)", "b")
    assert list(variable("$(avp(s)[*])").values(ctx)) == ["b", "a"]
    assert list(variable("$(hdr(X-Multi)[*])").values(ctx)) == ["one", "two", "three"]
    assert list(variable("$(hdr(X-None)[*])").values(ctx)) == []


def test_a_value_with_its_own_text_is_stored_as_a_number() -> None:
    ctx = request()
    put(ctx, "$var(s)", "42x")
    put(ctx, "$var(n)", value(ctx, "$(var(s){s.int})"))
    assert value(ctx, "$var(n)") == 42
    assert expand(ctx, "$(var(s){s.int}) $var(n)") == "42x 42"
