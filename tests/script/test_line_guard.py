"""Line ends and NUL in values: they never begin a line of a message, and the script hears of it by -1."""

from __future__ import annotations

import pytest

from opensips_py.testing import Script

HEAD = """
loadmodule "sipmsgops.so"
loadmodule "textops.so"
loadmodule "rr.so"
loadmodule "uac_auth.so"
loadmodule "uac.so"
loadmodule "rest_client.so"
loadmodule "signaling.so"
modparam("uac", "restore_mode", "none")
"""


def run(statement: str, value: str = "a\r\nX-Evil: yes") -> tuple[object, list[str], list[str]]:
    """Return code of a statement with a hostile ``$var(x)``, what was sent, and the log."""
    text = f"""{HEAD}
route {{
    $var(x) = $(hdr(X-Value){{s.decode.hexa}});
    {statement}
    $var(rc) = $rc;
    xlog("code $var(rc)\\n");
    t_reply(200, "OK");
}}
"""
    with Script(text) as script:
        result = script.request("INVITE", headers={"X-Value": value.encode().hex(), "X-Folded": "a,\r\n b"})
        code = next(line.rpartition(" ")[2] for line in result.log if "code " in line)
        return int(code), [m.text for m in result.sent], result.log


@pytest.mark.parametrize(
    "statement",
    [
        'append_hf("X-A: $var(x)\\r\\n");',
        'insert_hf("X-A: $var(x)\\r\\n");',
        'append_to_reply("X-A: $var(x)\\r\\n");',
        'append_hf("X-A: <$var(x)>\\r\\nX-B: 1\\r\\n");',
        'replace("Max-Forwards", "X-A: $var(x)");',
        '$ru = "sip:" + $var(x) + "@h";',
        "$rU = $var(x);",
        "$rd = $var(x);",
        "$du = $var(x);",
        "$branch = $var(x);",
        "seturi($var(x));",
        'setuser("$var(x)");',
        'prefix("$var(x)");',
        'setdsturi("sip:$var(x)");',
        'append_branch("sip:$var(x)@h");',
        'record_route(";a=$var(x)");',
        'add_rr_param(";a=$var(x)");',
        'uac_replace_from("$var(x)", "sip:a@h");',
        'uac_replace_to("A", "sip:$var(x)@h");',
        'ruri_add_param("$var(x)");',
        't_reply(404, "$var(x)");',
        'send_reply(404, "No $var(x)");',
        'rest_get("http://127.0.0.1:9/$var(x)", $var(body));',
        'rest_append_hf("X-A: $var(x)");',
        't_new_request("OPTIONS", "sip:$var(x)@127.0.0.1", "sip:a@h", "sip:b@h");',
        "set_advertised_address($var(x));",
    ],
)
@pytest.mark.parametrize("value", ["a\r\nX-Evil: yes", "a\nX-Evil: yes", "a\0"])
def test_a_value_with_a_line_end_is_refused(statement: str, value: str) -> None:
    code, sent, log = run(statement, value)
    assert code == -1
    assert not any("Evil" in message or "\0" in message for message in sent)
    assert sum("line end" in line for line in log) == 1, log


@pytest.mark.parametrize(
    ("statement", "lines"),
    [
        ('append_to_reply("X-A: 1\\r\\nX-B: $rU\\r\\n");', "X-A: 1\r\nX-B: bob\r\n"),
        ('$var(h) = "X-A: 1\\r\\n"; append_to_reply("$var(h)");', "X-A: 1\r\n"),
        ('$var(h) = "X-A: 1\\r\\nX-B: 2\\r\\n"; append_to_reply($var(h));', "X-A: 1\r\nX-B: 2\r\n"),
        ('append_to_reply("X-A: $hdr(X-Folded)\\r\\n");', "X-A: a,\r\n b\r\n"),
    ],
)
def test_header_lines_of_the_script_itself_are_sent(statement: str, lines: str) -> None:
    code, sent, _ = run(statement)
    assert code == 1
    assert lines in sent[-1]
