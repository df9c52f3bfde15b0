"""Which reply goes upstream when several branches fail."""

from __future__ import annotations

import itertools

import pytest

from opensips_py.script.context import Branch, Context
from opensips_py.tm import relay
from opensips_py.tm.picking import pick, priority
from opensips_py.tm.record import MINOR, UacBranch
from opensips_py.tm.states import Uac
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary

BEST_FIRST = [603, 302, 401, 407, 415, 420, 484, 400, 404, 480, 486, 500, 504, 408, 503]


@pytest.mark.parametrize(("better", "worse"), list(itertools.pairwise(BEST_FIRST)))
def test_order(better: int, worse: int) -> None:
    assert priority(better, False) < priority(worse, False)


def test_487_wins_when_the_caller_has_cancelled() -> None:
    assert priority(487, True) < priority(302, True)
    assert priority(487, False) > priority(404, False)


@pytest.mark.parametrize(("first", "second", "wins"), [(500, 404, 404), (503, 480, 480), (407, 401, 401), (404, 404, 404)])
def test_the_best_reply_is_relayed_when_all_have_come(world: World, first: int, second: int, wins: int) -> None:
    def forks(ctx: Context) -> int:
        ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
        return relay.relay(ctx)

    world.script(forks)
    out = world.receive(request("MESSAGE"), UAC)
    one, two = find(out, "MESSAGE>UAS1"), find(out, "MESSAGE>UAS2")
    assert world.receive(reply_to(one, first, "First"), UAS1) == []
    out = world.receive(reply_to(two, second, "Second"), UAS2)
    assert summary(out) == [f"{wins}>UAC"]
    assert out[0][1].reason == ("First" if first == wins else "Second")


def branch(code: int, state: int, flags: int = 0) -> UacBranch:
    return UacBranch("sip:x", "h", 5060, "udp:127.0.0.1:5060", "v", b"", state, code, flags)


def test_minor_branches_are_not_waited_for() -> None:
    done, ringing, minor = branch(486, Uac.COMPLETED), branch(180, Uac.PROCEEDING), branch(180, Uac.PROCEEDING, MINOR)
    assert pick([done, ringing], False) is None
    assert pick([done, minor], False) == 0
    assert pick([minor], False) is None
