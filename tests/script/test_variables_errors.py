"""What a script writer is told about a variable that is wrong."""

from __future__ import annotations

import pytest

from opensips_py.script.variables import VariableError, compile_variable
from tests.support.script_context import registry


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("$rUU", "unknown variable $rUU; did you mean $rU?", 1),
        ("$avp", "$avp needs a name in parentheses: $avp(...)", 1),
        ("$avp(x", "( is not closed", 4),
        ("$(ru{s.lenn})", "unknown transformation {s.lenn}; did you mean {s.len}?", 5),
        ("$(ru{s.substr,1})", "{s.substr} takes 2 parameters, not 1", 5),
        ("$(ru{s.substr,a,b})", "{s.substr}: 'a' is not a number", 5),
        ("$(rb{sdp.line,a,-1})", "{sdp.line}: the number of the line cannot be negative", 5),
        ("$(ru{s.fill.right, ,5})", "{s.fill.right}: the pattern is empty", 5),
        ("$(avp(x)[one])", "[one] is not an index: a number, * or a variable is expected", 9),
        ("$(avp(x)[$no(x)])", "unknown variable $no; did you mean $mi?", 10),
        ("$(<replay>ru)", "unknown context <replay>: one of branch, reply, request is expected", 10),
        ("$rU x", "' x' does not belong into a variable", 3),
    ],
)
def test_errors_name_the_thing_and_the_place(text: str, message: str, offset: int) -> None:
    with pytest.raises(VariableError) as caught:
        compile_variable(text, registry())
    assert caught.value.message.partition(";")[0] == message.partition(";")[0]
    assert caught.value.offset == offset
