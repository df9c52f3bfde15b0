"""Module uac_redirect: the Contacts of 3xx replies as new destinations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opensips_py.modules import uac_redirect
from opensips_py.script.context import Branch, Context
from opensips_py.script.declarations import ConfigError
from opensips_py.tm import relay
from tests.tm.conftest import world  # noqa: F401
from tests.tm.world import UAC, UAS1, World, find, reply_to, request

CONTACTS = (
    "Contact: <sip:high@127.0.1.2:15062>;q=0.9, <sip:low@127.0.1.3:15063>;q=0.1\r\nContact: <sip:mid@127.0.1.2:15062>;q=0.5\r\n"
)


def redirected(world: World, failure: Callable[[Context], int], contacts: str = CONTACTS) -> list[str]:  # noqa: F811
    """What goes out when the one branch of a call is redirected, the ACK left out."""

    def script(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    world.script(script, failure_f=failure)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    answer = reply_to(invite, 302).replace(b"Content-Length", contacts.encode() + b"Content-Length")
    out = world.receive(answer, UAS1)
    return [f"{msg.method} {msg.ruri}" if msg.is_request else str(msg.status) for _, msg in out if msg.method != "ACK"]


@pytest.mark.parametrize(
    ("limits", "users"),
    [((), "low mid high"), ((1,), "low"), ((0, 2), "low mid"), ((2,), "low mid"), ((None, 2), "low mid"), ((5, 1), "low")],
)
def test_contacts_are_followed_within_limits(world: World, limits: tuple[int | None, ...], users: str) -> None:  # noqa: F811
    def failure(ctx: Context) -> int:
        assert uac_redirect.get_redirects(ctx, *limits) == 1
        return relay.relay(ctx)

    sent = redirected(world, failure)
    assert [line.split(":")[1].split("@")[0] for line in sent] == users.split()


def test_the_contacts_of_all_redirecting_branches_count(world: World) -> None:  # noqa: F811
    def script(ctx: Context) -> int:
        ctx.armed_failure = "f"
        ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
        return relay.relay(ctx)

    def failure(ctx: Context) -> int:
        assert uac_redirect.get_redirects(ctx, None, 1) == 1
        return relay.relay(ctx)

    world.script(script, failure_f=failure)
    out = world.receive(request("INVITE"), UAC)
    for name, target in (("INVITE>UAS1", "one"), ("INVITE>UAS2", "two")):
        contact = f"Contact: <sip:{target}@127.0.1.2:15062>, <sip:not{target}@127.0.1.2:15062>\r\n"
        answer = reply_to(find(out, name), 302).replace(b"Content-Length", contact.encode() + b"Content-Length")
        last = world.receive(answer, UAS1)
    assert [msg.ruri for _, msg in last if msg.method == "INVITE"] == ["sip:one@127.0.1.2:15062", "sip:two@127.0.1.2:15062"]


def test_filters_choose(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(uac_redirect.deny_filter, "value", "HIGH@")
    uac_redirect.configure()

    def failure(ctx: Context) -> int:
        assert uac_redirect.set_deny_filter(ctx, "^sip:low") == 1
        assert uac_redirect.get_redirects(ctx) == 1
        assert (ctx.ruri, ctx.branches) == ("sip:mid@127.0.1.2:15062", [])
        assert uac_redirect.set_deny_filter(ctx, "mid", "reset_all") == 1
        assert uac_redirect.get_redirects(ctx) == 1
        assert (ctx.ruri, [b.uri for b in ctx.branches]) == ("sip:low@127.0.1.3:15063", ["sip:high@127.0.1.2:15062"])
        assert uac_redirect.set_deny_filter(ctx, "(") == -1
        assert uac_redirect.set_deny_filter(ctx, "x", "reset") == -1
        assert uac_redirect.set_deny_filter(ctx, ".") == 1
        assert uac_redirect.get_redirects(ctx) == -1
        return 1

    def only_low(ctx: Context) -> int:
        assert uac_redirect.set_accept_filter(ctx, "^sip:low", "reset_added") == 1
        assert uac_redirect.get_redirects(ctx) == 1
        return relay.relay(ctx)

    try:
        assert redirected(world, failure) == ["302"]
        world.receive(request("ACK", to_tag="uas"), UAC)
        world.pass_time(60)
        assert redirected(world, only_low) == ["INVITE sip:low@127.0.1.3:15063"]
        monkeypatch.setattr(uac_redirect.deny_filter, "value", "")
        monkeypatch.setattr(uac_redirect.default_filter, "value", "deny")
        uac_redirect.configure()

        def only_accepted(ctx: Context) -> int:
            assert uac_redirect.get_redirects(ctx) == -1
            uac_redirect.set_accept_filter(ctx, "127.0.1.3")
            assert uac_redirect.get_redirects(ctx) == 1
            return relay.relay(ctx)

        world.receive(request("ACK", to_tag="uas"), UAC)
        world.pass_time(60)
        assert redirected(world, only_accepted) == ["INVITE sip:low@127.0.1.3:15063"]
    finally:
        monkeypatch.undo()
        uac_redirect.configure()


def test_without_contacts_there_is_nothing_to_follow(world: World) -> None:  # noqa: F811
    codes = []

    def failure(ctx: Context) -> int:
        codes.extend([uac_redirect.get_redirects(ctx), uac_redirect.get_redirects(ctx, -1)])
        return 1

    assert redirected(world, failure, "") == ["302"]
    assert codes == [-1, -1]


def test_a_filter_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uac_redirect.default_filter, "value", "maybe")
    with pytest.raises(ConfigError, match="default_filter"):
        uac_redirect.configure()
