"""Any script of the grammar can be written out and read back; any bytes at all can be checked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opensips_py.script import ast, lexer, parser
from opensips_py.script.diagnostics import Findings, ScriptErrors
from opensips_py.script.preprocess import Source
from opensips_py.script.printer import script_text
from opensips_py.script.program import Defaults, load
from opensips_py.script.shape import shape
from tests.script import grammar

WHOLE = """
log_level = 3
socket = udp:127.0.0.1:5060
loadmodule "proto_udp.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cfgutils.so"
modparam("tm", "fr_timeout", 5)
route {
    if ($rU =~ "^[0-9]+$" && !($si == 10.0.0.0/8 || [$var(x) & 3] > 1)) {
        $var(x) = (1 + 2) * $var(y) << 1;
        async(sleep(1), resume, 10);
    } else if (is_method("INVITE|BYE"))
        sl_send_reply(200, "OK \\"quoted\\"");
    while ($var(i) < 10) { $var(i) += 1; if ($var(i) == 5) break; }
    switch ($rm) { case "INVITE": case 'BYE': route(one, $ru, NULL, 5); break; default: exit; }
    for ($var(v) in $(avp(list)[*])) xlog("L_INFO", "value $var(v)\\n");
    launch(sleep(1), resume, "text"); # comment
    launch(sleep(1), resume, "text", 0.05);
    async(sleep(1), resume, $var(limit));
}
route[resume] { t_reply(200, "OK"); return(-1); }
route[one] { /* nested /* comment */ */ drop; }
failure_route[1] { t_relay(); }
"""


def read(text: str) -> tuple[ast.Script, Findings]:
    findings = Findings()
    lines = text.split("\n")
    findings.sources["x.cfg"] = lines
    source = Source(text, [("x.cfg", n) for n in range(1, len(lines) + 1)])
    return parser.parse(lexer.tokens(source, findings), findings), findings


def whole(script: ast.Script) -> object:
    return [shape(part) for part in (script.settings, script.modules, script.parameters, script.routes)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(grammar.scripts)
def test_a_random_script_is_read_back_as_it_was_printed(script: ast.Script) -> None:
    text = script_text(script)
    again, findings = read(text)
    assert not findings.all, f"{findings.all}\n{text}"
    assert whole(again) == whole(script), text


def test_printing_and_reading_a_script_that_a_person_wrote_gives_the_same_tree() -> None:
    first, findings = read(WHOLE)
    assert not findings.all
    second, findings = read(script_text(first))
    assert not findings.all
    assert whole(first) == whole(second)
    assert script_text(first) == script_text(second)


def _check(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    began = time.process_time()
    try:
        load(str(path), Defaults(check=True, check_all=True))
    except ScriptErrors as failure:
        assert failure.errors
        for error in failure.diagnostics:
            lines = data.count(b"\n") + 1
            assert error.file == str(path) and 1 <= error.line <= lines and error.column >= 1, error
            error.render()
    assert time.process_time() - began < 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random") / "x.cfg"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_checked_within_a_second_and_errors_have_a_place(place: Path, data: bytes) -> None:
    _check(place, data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_script_with_a_piece_exchanged_is_checked_too(place: Path, data: st.DataObject) -> None:
    text = WHOLE.encode()
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 30)))
    pieces = st.sampled_from([b"{", b"}", b"(", b")", b'"', b"'", b"$", b"/*", b"*/", b";", b"[", b"]", b"\\", b"\n", b"route"])
    _check(place, text[:start] + b"".join(data.draw(st.lists(pieces | st.binary(max_size=3), max_size=4))) + text[stop:])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(WHOLE.split()), max_size=80))
def test_words_of_a_script_in_any_order_are_checked_too(place: Path, words: list[str]) -> None:
    _check(place, " ".join(words).encode())


_PIECES = [b"(", b"[", b"{", b"!", b"route{", b"if(1)", b"~", b"$(", b"/*", b'"', b"$a(", b"if($a){", b"1+", b"1&&", b"$x="]


@pytest.mark.parametrize("piece", _PIECES)
def test_endless_repetition_is_checked_within_a_second(place: Path, piece: bytes) -> None:
    for frame in (b"%s", b"route { %s", b"route { $var(x) = %s", b"route { if (%s"):
        _check(place, frame % (piece * (20_000 // len(piece))))
