"""The checker warns where what the sender has written would be read as SQL, a command, a filter, a URL or a header."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from opensips_py.script.diagnostics import Diagnostic
from opensips_py.script.injection import SINKS, quoted
from tests.script.script_runner import Scripts
from tests.support.script_context import put, request, value

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = "avpops db_mysql sqlops rest_client ldap sipmsgops sl json tm exec"
HEAD = 'socket=udp:127.0.0.1:20100\nloadmodule "proto_udp.so"\n' + "".join(f'loadmodule "{m}.so"\n' for m in MODULES.split())


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def warned(scripts: Scripts, body: str, more: str = "") -> list[Diagnostic]:
    (scripts.directory / "ldap.ini").write_text('[l]\nldap_server_url = "ldap://127.0.0.1"\n')
    config = f'modparam("ldap", "config_file", "{scripts.directory}/ldap.ini")\n'
    found = scripts.findings(f"{config}route {{\n{body}\n}}\nroute[r] {{ exit; }}\n{more}", head=HEAD)
    assert not [d for d in found if d.severity == "error"], found
    return [d for d in found if "sender" in d.message or "quotes" in d.message]


@pytest.mark.parametrize(
    ("statement", "context", "hint"),
    [
        ("""avp_db_query("SELECT a FROM t WHERE u='$fU'", "$avp(x)");""",
         "$fU is what the sender has written, and stands unescaped in SQL",
         "write ? and give $fU after it, or '$(fU{s.escape.common})'"),
        ("""async(avp_db_query("SELECT a FROM t WHERE u='$(hdr(X-A)[-1])'"), r);""", "$(hdr(X-A)[-1])",
         "'$(hdr(X-A)[-1]{s.escape.common})'"),
        ("""sql_query("SELECT a FROM t WHERE u='$ci'", "$avp(x)");""", "in SQL", None),
        ("""sql_query_one("SELECT a FROM t WHERE u='$ua'", "$avp(x)");""", "in SQL", None),
        ('exec("/bin/say $fU");', "in a shell command", "write $(fU{s.escape.shell})"),
        ("exec(\"/bin/say '$fU'\");", "in a shell command", None),
        ('launch(exec("/bin/say $tn"), r);', "in a shell command", None),
        ('if (exec("/bin/say $rU")) exit;', "in a shell command", None),
        ('$var(rc) = exec("/bin/say $rU");', "in a shell command", None),
        ('ldap_search("ldap://l/dc=x?a?sub?(uid=$fU)");', "in an LDAP filter", 'ldap_filter_url_encode("$fU", $var(f))'),
        ('rest_get("http://h/u?x=$fU", $var(b));', "in a URL", "write $(fU{rest.escape})"),
        ('async(rest_post("http://h/$rU", "x", , $avp(b)), r);', "in a URL", None),
        ('append_hf("X-A: $hdr(X-B)\\r\\n");', "in a header", "write $(hdr(X-B){s.escape.user})"),
        ('append_to_reply("X-A: $rb\\r\\n");', "in a header", None),
        ('sl_send_reply(404, "$ua");', "in a header", None),
        ('append_hf("X-A: $(fU{s.decode.hexa})\\r\\n");', "in a header", None),
    ],
)  # fmt: skip
def test_unescaped_text_of_the_message(scripts: Scripts, statement: str, context: str, hint: str | None) -> None:
    found = warned(scripts, statement)
    assert len(found) == 1, found
    assert found[0].severity == "warning"
    assert context in found[0].message
    if hint is not None:
        assert hint in str(found[0].hint)


@pytest.mark.parametrize(
    "statement",
    [
        """avp_db_query("SELECT a FROM t WHERE u='$(fU{s.escape.common})' AND ip='$si' AND n=$(rU{s.int})");""",
        """avp_db_query("SELECT a FROM t WHERE h='$(ci{s.md5})' AND p=$sp");""",
        """avp_db_query("SELECT a FROM t WHERE u='$(fU{rest.escape})' OR v='$(rb{s.b64encode})'");""",
        'exec("/bin/say $(fU{s.escape.shell}) $si $rs");',
        'exec("/bin/say", "$fU");',
        'ldap_filter_url_encode("$fU", $avp(f)); ldap_search("ldap://l/dc=x?a?sub?(uid=$avp(f))");',
        'rest_get("http://h/u?x=$(fU{rest.escape})&ip=$si", $var(b));',
        'append_hf("P-Asserted-Identity: <sip:$fU@$fd>\\r\\nX-C: $ci\\r\\n");',
        'append_hf("X-A: $(hdr(X-B){s.escape.user})\\r\\n");',
        'xlog("$fU $hdr(X-A) $rb");',
        """avp_db_query("SELECT a FROM t WHERE u='$var(unknown)'");""",
        "avp_db_query(\"SELECT a FROM t WHERE u='$$fU'\");",
    ],
)
def test_what_cannot_be_misread_is_not_warned_of(scripts: Scripts, statement: str) -> None:
    assert warned(scripts, statement) == []


def test_an_escaped_text_without_quotes_in_sql(scripts: Scripts) -> None:
    found = warned(scripts, 'avp_db_query("SELECT a FROM t WHERE u=$(fU{s.escape.common})");')
    assert [d.message for d in found] == ["$(fU{s.escape.common}) stands in SQL without quotes: escaping does not help there"]


@pytest.mark.parametrize(
    ("before", "dangerous"),
    [
        ("$var(x) = $fU;", True),
        ("$avp(y) = $fU; $var(x) = $avp(y);", True),
        ('$var(x) = "a" + $hdr(X-A);', True),
        ('$var(x) = "a"; $var(x) += $fU;', True),
        ("$var(x) = $(fU{s.escape.shell});", False),
        ("$var(x) = $(fU{s.escape.common});", True),
        ("$var(x) = $fU; $var(x) = 1;", False),
        ("$var(x) = $fU; $var(x) = NULL;", False),
        ("$var(x) = $fU; if ($si == 10.0.0.0/8) { $var(x) = 1; }", True),
        ("if ($si == 10.0.0.0/8) { $var(x) = $fU; }", True),
        ("if ($si == 10.0.0.0/8) { $var(x) = $fU; exit; }", False),
        ("if ($si == 10.0.0.0/8) { $var(x) = $fU; exit; } else { $var(x) = $tU; }", True),
        ("$var(x) = $cs + 1;", False),
        ("$json(j) := $rb; $var(x) = $json(j/user);", True),
        ('$var(x) = $fU; avp_db_query("SELECT 1", "$var(x)");', False),
        ('$var(x) = $fU; rest_get("http://h/", $var(x));', False),
        ('switch ($rm) { case "INVITE": $var(x) = $fU; break; }', True),
        ("for ($var(x) in $(hdr(X-A)[*])) { }", True),
        ('$var(x) = $fU; if (!($var(x) =~ "^[0-9]+$")) { exit; }', False),
        ('$var(x) = $fU; if ($var(x) !~ "^[0-9a-z]{1,8}$") { return(-1); }', False),
        ('$var(x) = $fU; if ($var(x) =~ "^[0-9]+$") { xlog("number"); }', True),
        ('$var(x) = $fU; if ($var(x) !~ "^sip:.*$") { exit; }', True),
        ('$var(x) = $fU; if ($var(x) !~ "[0-9]+") { exit; }', True),
        ('$var(x) = $fU; if ($var(x) !~ "^[^ ]+$") { exit; }', True),
    ],
)
def test_a_variable_is_as_dangerous_as_what_it_was_set_from(scripts: Scripts, before: str, dangerous: bool) -> None:
    assert bool(warned(scripts, f'{before}\nexec("/bin/say $var(x)");')) is dangerous


@pytest.mark.parametrize(
    ("body", "dangerous"),
    [
        ('if ($rU =~ "^[0-9]+$") { exec("/bin/dial $rU"); }', False),
        ('if ($rU =~ "^[0-9]+$" && $si == 10.0.0.1) { exec("/bin/dial $rU"); }', False),
        ('if ($rU =~ "^[0-9]+$" || $si == 10.0.0.1) { exec("/bin/dial $rU"); }', True),
        ('if (!($rU =~ "^\\+?[0-9]{3,15}$")) { send_reply(404, "No"); exit; } exec("/bin/dial $rU");', False),
        ('if (!($rU =~ "^[0-9]+$")) { xlog("no"); } exec("/bin/dial $rU");', True),
        ('$rU = "100"; exec("/bin/dial $rU");', False),
        ('$ru = "sip:" + $fU + "@h"; exec("/bin/dial $rU");', True),
        ('$ru = "sip:100@h"; exec("/bin/dial $rU $ru $rd");', False),
    ],
)
def test_what_has_been_looked_at_is_not_warned_of(scripts: Scripts, body: str, dangerous: bool) -> None:
    assert bool(warned(scripts, body.replace("send_reply", "sl_send_reply"))) is dangerous


def test_a_variable_that_holds_the_whole_statement_is_mended_where_it_is_put_together(scripts: Scripts) -> None:
    found = warned(scripts, '$var(q) = "SELECT a FROM t WHERE u=\'" + $fU + "\'";\navp_db_query($var(q));')
    assert found[0].message.startswith("$var(q) (from $fU) is what the sender has written")
    assert found[0].hint == "put $(fU{s.escape.common}) into $var(q)"


@pytest.mark.parametrize(
    ("before", "inside"), [("a='", True), ("a='b' and c=", False), ("a='it\\'s ", True), ('a="x" b="', True), ("`a", False)]
)
def test_where_quotes_are_open(before: str, inside: bool) -> None:
    assert quoted(before) is inside


NASTY = [
    "a b",
    "x'; touch /tmp/no; '",
    'x"; id; "',
    "$(id) `id`",
    "a\\",
    "*?[!]~#",
    "-rf",
    "",
    "\t|&;<>(){}",
    "\xe9\xff",
    "a'b'c\"d",
]


@pytest.mark.parametrize("text", NASTY)
def test_escape_shell_gives_one_word(text: str) -> None:
    ctx = request()
    put(ctx, "$var(x)", text)
    word = str(value(ctx, "$(var(x){s.escape.shell})"))
    done = subprocess.run(["/bin/sh", "-c", f"printf '%s|' {word} end".encode("latin-1")], capture_output=True)
    assert done.stdout == text.encode("latin-1") + b"|end|"


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_escape_shell_runs_nothing_inside_quotes(tmp_path: Path, text: str, quote: str) -> None:
    ctx = request()
    put(ctx, "$var(x)", text.replace("id", f"touch {tmp_path}/ran").replace("/tmp/no", f"{tmp_path}/ran"))
    word = str(value(ctx, "$(var(x){s.escape.shell})"))
    subprocess.run(["/bin/sh", "-c", f"echo {quote}{word}{quote}".encode("latin-1")], capture_output=True)
    assert list(tmp_path.iterdir()) == []


def _examples() -> list[str]:
    calls = re.compile(rf"\b(?:{'|'.join(SINKS)})\(")
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [block for file in files for block in re.findall(r"^```[a-z]*\n(.*?)^```", file.read_text(), re.M | re.S)]
    return [line.strip() for block in blocks for line in block.splitlines() if calls.search(line) and "$" in line]


@pytest.mark.parametrize("line", _examples())
def test_examples_of_the_documentation_are_free_of_it(line: str) -> None:
    sent = re.compile(r"\$(?:[frt]U|[frt]u|[frt]d|hdr\(|ua\b|ci\b|rb\b|tn\b|fn\b)")
    assert not any(sent.search(text) for text in re.findall(r'"[^"]*"', line)), (
        "write it with {s.escape.common}, {s.escape.shell} or {rest.escape}"
    )
