"""Module textops: search and replace in the text of the message."""

from __future__ import annotations

from opensips_py.modules.textops import module
from opensips_py.script.context import Context
from opensips_py.script.posix_regex import Regex, compile_regex
from tests.support.script_context import REQUEST, registry, request, value


def call(ctx: Context, name: str, *arguments: object) -> int:
    registry()
    return int(module.functions[name].call(ctx, *arguments))


def like(text: str) -> Regex:
    return compile_regex(text, True)


def sent(ctx: Context) -> str:
    return ctx.msg.serialise().decode("latin-1")


def test_searching() -> None:
    ctx = request()
    assert [call(ctx, "search", like(text)) for text in ("^call-id: call", "^bob", "m=audio")] == [1, -1, 1]
    assert [call(ctx, "search_body", like(text)) for text in ("^m=video", "Call-ID")] == [1, -1]


def test_replacing_is_visible_only_when_sent() -> None:
    ctx = request()
    assert call(ctx, "replace", like("X-Multi"), "X-M") == 1
    assert call(ctx, "replace", like("nothing-here"), "x") == -1
    assert value(ctx, "$hdrcnt(X-Multi)") == 3
    assert (sent(ctx).count("X-M:"), sent(ctx).count("X-Multi:")) == (1, 2)


def test_replacing_every_match_leaves_the_first_line_alone() -> None:
    ctx = request()
    assert call(ctx, "replace_all", like("biloxi"), "elsewhere") == 1
    assert sent(ctx).startswith("INVITE sip:bob@biloxi.example")
    assert "To: Bob <sips:bob@elsewhere.example" in sent(ctx)


def test_replacing_in_the_body_corrects_the_content_length() -> None:
    ctx = request()
    assert call(ctx, "replace_body_all", like("8000"), "16000") == 1
    head, _, body = sent(ctx).partition("\r\n\r\n")
    assert body.count("16000") == 2
    assert f"Content-Length: {len(body)}" in head


def test_every_line_of_the_body() -> None:
    ctx = request()
    assert call(ctx, "replace_body_all", like("^m="), "m=") == 1
    whole = request()
    assert call(whole, "replace_body_atonce", like("^nothing"), "x") == -1
    assert call(whole, "replace_body_atonce", like("^v=0"), "v=9") == 1
    assert "v=9\r\n" in sent(whole)


def test_appending_behind_a_match() -> None:
    ctx = request()
    assert call(ctx, "search_append", like("Phone/1.0"), " (patched)") == 1
    assert call(ctx, "search_append_body", like("mode=20"), "0") == 1
    assert "User-Agent: Phone/1.0 (patched)\r\n" in sent(ctx)
    assert "mode=200\r\n" in sent(ctx)


def test_substitution_in_message_body_and_ruri() -> None:
    ctx = request()
    assert call(ctx, "subst", r"/^(User-Agent: )(.*)$/\1My \2/") == 1
    assert call(ctx, "subst_body", "/audio/AUDIO/") == 1
    assert call(ctx, "subst", "/zzz/x/") == -1
    assert "User-Agent: My Phone/1.0\r\n" in sent(ctx)
    assert "m=AUDIO" in sent(ctx)
    assert call(ctx, "subst_user", r"/^b(.*)/\1-$rm/") == 1
    assert ctx.ruri == "sip:ob-INVITE@biloxi.example:5080;transport=udp;lr?X=1"
    assert call(ctx, "subst_uri", r"/sip:(.*)@(.*)/sip:pre-\1@\2/") == 1
    assert ctx.ruri == "sip:pre-ob-INVITE@biloxi.example:5080;transport=udp;lr?X=1"
    assert call(ctx, "subst_uri", "/zzz/x/") == -1


def test_an_expression_that_matches_nothing_at_all_does_not_match_in_a_body_that_is_not_there() -> None:
    ctx = request(REQUEST)
    assert call(ctx, "search_body", like("^$")) == -1
    assert call(ctx, "search_append_body", like("^$"), "x") == -1
