"""Module maxfwd: a request may make only so many hops (RFC 3261 16.3)."""

from __future__ import annotations

import pytest

from opensips_py.modules import maxfwd
from opensips_py.script.context import Context, ListenSocket, Source
from opensips_py.script.declarations import ConfigError
from opensips_py.sip.message import parse

SOCKET = ListenSocket(0, "udp", "127.0.0.1", 20700)


def request(max_forwards: str | None) -> Context:
    line = "" if max_forwards is None else f"Max-Forwards: {max_forwards}\r\n"
    raw = (
        "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:20701;branch=z9hG4bKx\r\n"
        f"From: <sip:a@example.com>;tag=1\r\n{line}To: <sip:bob@example.com>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )
    return Context(parse(raw.encode()), Source("127.0.0.1", 20701), SOCKET)


def sent(ctx: Context) -> int | None:
    return parse(ctx.msg.serialise()).max_forwards


def test_each_hop_lowers_the_number() -> None:
    ctx = request("70")
    assert maxfwd.mf_process_maxfwd_header(ctx, 10) == 1
    assert sent(ctx) == 69


def test_every_call_counts_as_a_hop() -> None:
    ctx = request("2")
    assert [maxfwd.mf_process_maxfwd_header(ctx, 10) for _ in range(3)] == [1, 1, -1]
    assert sent(ctx) == 0


def test_the_last_hop_may_be_made_but_no_further_one() -> None:
    ctx = request("1")
    assert maxfwd.mf_process_maxfwd_header(ctx, 10) == 1
    assert sent(ctx) == 0
    assert maxfwd.mf_process_maxfwd_header(request("0"), 10) == -1


def test_a_request_without_the_header_gets_one() -> None:
    ctx = request(None)
    assert maxfwd.mf_process_maxfwd_header(ctx, 12) == 2
    assert sent(ctx) == 12


def test_more_than_the_limit_is_lowered_to_it() -> None:
    ctx = request("300")
    assert maxfwd.mf_process_maxfwd_header(ctx, 10) == 1
    assert sent(ctx) == 256


@pytest.mark.parametrize("value", ["abc", "-1", "", "1.5", "99999999999999999999", "\xb2"])
def test_what_is_no_number_is_an_error(value: str) -> None:
    ctx = request("70")
    ctx.msg = parse(request("@").msg.raw.replace(b"@\r", value.encode("latin-1") + b"\r", 1))
    assert maxfwd.mf_process_maxfwd_header(ctx, 10) == -2
    assert maxfwd.is_maxfwd_lt(ctx, 10) == -2
    assert ctx.msg.serialise() == ctx.msg.raw


def test_a_limit_out_of_range_is_an_error() -> None:
    assert maxfwd.mf_process_maxfwd_header(request(None), 0) == -2
    assert maxfwd.mf_process_maxfwd_header(request(None), 257) == -2


def test_is_maxfwd_lt_compares() -> None:
    assert maxfwd.is_maxfwd_lt(request("9"), 10) == 1
    assert maxfwd.is_maxfwd_lt(request("10"), 10) == -1
    assert maxfwd.is_maxfwd_lt(request(None), 10) == 2


def test_is_maxfwd_lt_gives_the_same_answer_every_time() -> None:
    ctx = request("9")
    assert [maxfwd.is_maxfwd_lt(ctx, 10) for _ in range(3)] == [1, 1, 1]


def test_max_limit_is_checked_when_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = maxfwd.module.config_hooks
    check()
    monkeypatch.setattr(maxfwd.max_limit, "value", 257)
    with pytest.raises(ConfigError, match="max_limit is a number from 1 to 256, not 257"):
        check()
