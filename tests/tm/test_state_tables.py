"""The state machines as tables: complete, unambiguous, each row with its RFC section."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from opensips_py.tm import record, relay, server_transaction
from opensips_py.tm.machine import replied
from opensips_py.tm.states import (
    EVENT_OF_CLASS,
    OURS,
    UAC_INVITE_MACHINE,
    UAS_INVITE_MACHINE,
    UAS_NON_INVITE_MACHINE,
    Event,
    Ignored,
    Machine,
    Uac,
    Uas,
)
from scripts.state_diagrams import MACHINES, page
from tests.tm.world import UAC, UAS1, World, find, reply_to, request, summary

each = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.title)


@each
def test_no_pair_of_state_and_event_has_two_rows(machine: Machine[Any]) -> None:
    assert len(machine.table()) == len(machine.transitions)


@each
def test_every_row_names_an_rfc_section(machine: Machine[Any]) -> None:
    for row in machine.transitions:
        ours = row.event in (Event.RELEASED, Event.ENDED_HERE, Event.GIVEN_UP) or row.state < Uas.COMPLETED <= row.next
        assert re.fullmatch(r"RFC (3261 1[367]|3263 4|6026 7)\.[\d.]+", row.rfc) or (ours and row.rfc == OURS and row.note), row


@each
def test_every_state_is_reached_from_the_start_and_none_goes_back(machine: Machine[Any]) -> None:
    reached = {machine.start}
    for row in machine.transitions:  # rows are in the order in which the states are reached
        assert row.state in reached, row
        reached.add(row.next)
        back = row.next < row.state
        assert not back, row


@each
def test_a_final_reply_is_final(machine: Machine[Any]) -> None:
    """But for a 2xx to an INVITE: the branch may have been given up before, and the call is there (RFC 3261 16.7 step 5)."""
    table = machine.table()
    passes = (Uac.COMPLETED, Event.SUCCESS)
    invite = {UAC_INVITE_MACHINE.title: Uac.ACCEPTED, UAS_INVITE_MACHINE.title: Uas.COMPLETED}
    assert table.pop(passes, None) == invite.get(machine.title)
    for row in machine.transitions:
        if row.event in (Event.SUCCESS, Event.FAILURE):
            assert (row.next, Event.PROVISIONAL) not in table
            other = Event.FAILURE if row.event is Event.SUCCESS else Event.SUCCESS
            assert table.get((row.next, other), row.next) == row.next


def test_a_server_transaction_always_ends_by_a_timer() -> None:
    for machine in MACHINES:
        for row in machine.transitions:
            if isinstance(row.next, Uas) and Uas.COMPLETED <= row.next < Uas.TERMINATED:
                assert machine.table()[row.next, Event.TIMEOUT] == Uas.TERMINATED


def test_a_branch_without_final_reply_always_ends_by_a_timer() -> None:
    for machine in MACHINES:
        if isinstance(machine.start, Uac):
            assert machine.table()[Uac.CALLING, Event.TIMEOUT] == Uac.COMPLETED
            assert machine.table()[Uac.PROCEEDING, Event.TIMEOUT] == Uac.COMPLETED


def test_the_page_has_every_arrow_in_diagram_and_table() -> None:
    text = "".join(page(""))
    assert text.count(" --> ") == sum(len(m.transitions) + 2 for m in MACHINES)  # and each a start and an end
    for machine in MACHINES:
        for row in machine.transitions:
            assert f"| {row.state.name.capitalize()} | " in text
            assert row.rfc in text


def test_no_two_flags_of_a_record_share_a_bit() -> None:
    """Those of transactions and those of branches."""
    source = Path(record.__file__).read_text()
    of_record, of_branch = source.split("# Branch.flags")
    for part in (of_record, of_branch):
        flags = {name: int(value) for name, value in re.findall(r"^([A-Z_]+) = (\d+)$", part, re.M) if name != "MAX_BRANCHES"}
        assert len(set(flags.values())) == len(flags) > 3, flags
        assert all(value.bit_count() == 1 for value in flags.values()), flags


def test_states_change_nowhere_but_by_the_tables() -> None:
    """Whoever makes a record gives it the first state; after that only the four functions that look into a table change it."""
    package = Path(record.__file__).parent
    found = {}
    for file in [*package.glob("*.py"), *(package.parent / "modules" / "tm").glob("*.py")]:
        count = len(re.findall(r"^ +\w+\.state\b(?:, [\w.]+)* = ", file.read_text(), re.M))
        if count:
            found[file.name] = count
    assert found == {"machine.py": 4}


def test_an_event_that_the_state_does_not_allow_is_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[Event] = []
    monkeypatch.setattr(Ignored, "count", ignored.append)
    world.script(lambda ctx: relay.relay(ctx))
    sent = find(world.receive(request("MESSAGE"), UAC), "MESSAGE.*")
    assert summary(world.receive(reply_to(sent, 200), UAS1)) == ["200>UAC"]
    assert ignored == []
    assert world.receive(reply_to(sent, 200), UAS1) == world.receive(reply_to(sent, 100), UAS1) == []
    assert ignored == [Event.SUCCESS, Event.PROVISIONAL]


@pytest.mark.parametrize(("method", "final"), [("INVITE", 200), ("INVITE", 486), ("MESSAGE", 200), ("MESSAGE", 486)])
def test_after_the_final_reply_one_that_the_state_does_not_allow_changes_nothing(world: World, method: str, final: int) -> None:
    world.script(lambda ctx: server_transaction.reply(ctx, final, "Reason"))
    world.receive(request(method), UAC)
    (rec,) = world.records()
    table = (UAS_INVITE_MACHINE if method == "INVITE" else UAS_NON_INVITE_MACHINE).table()
    for state in (rec.state, *(Uas.CONFIRMED,) * (method == "INVITE"), Uas.TERMINATED):
        rec.state = state
        before = record.encode(rec)
        for code in (180, 200, 404, 603):
            if (state, EVENT_OF_CLASS[code // 100]) not in table:
                assert not replied(rec, code, b"another", world.now, local=True)
                assert record.encode(rec) == before
