"""Changes of a destination's state: stored for all processes, told as an event, written to the table."""

from __future__ import annotations

import msgspec

from opensips_py import db
from opensips_py.engine.operation import Done, Operation
from opensips_py.engine.outbox import Outbox, deliver
from opensips_py.evi import events
from opensips_py.modules.dispatcher import declared, live
from opensips_py.modules.dispatcher.live import Kept
from opensips_py.modules.dispatcher.partitions import Partition, partitions
from opensips_py.modules.dispatcher.sets import State
from opensips_py.server.log import NOTICE, log
from opensips_py.server.process import this


class Changed(msgspec.Struct, array_like=True):
    """A destination whose state is to be written to the table: the one that it then has."""

    partition: str
    group: int
    uri: str


_written = Outbox(declared.module, Changed)


def change(partition: Partition, group: int, uri: str, decide: live.Decide) -> bool:
    """Change the state of a destination as ``decide`` says; False: there is no such destination."""
    destination = partition.sets.find(group, uri)
    if destination is None:
        return False
    row = None
    with this.store.batch() as batch:
        entry = live.read_in(batch, partition.name, group)
        before = live.state_of(entry, destination)
        kept = entry.of(destination)
        counted = kept.failures
        after = decide(kept, before)
        if after == before and kept.failures == counted:
            return True
        if after != before:
            kept.state = after
            if declared.persistent_state.value:
                row = _written.row(Changed(partition.name, group, uri))
                batch.put(*row)
        live.put(batch, partition.name, group, entry)
    if after != before:
        log(NOTICE, "dispatcher", "state", f"{uri} of set {group}, partition {partition.name}: {before.name} -> {after.name}")
        _tell(partition.name, group, uri, before, after)
    if row is not None:
        deliver(*row)
    return True


def _tell(partition: str, group: int, uri: str, before: State, after: State) -> None:
    """E_DISPATCHER_STATUS, when requests go there again, or no more."""
    active = after == State.ACTIVE
    if active != (before == State.ACTIVE) and events.wanted(declared.status_event.name):
        status = "active" if active else "inactive"
        told: events.Parameters = [("partition", partition), ("group", group), ("address", uri), ("status", status)]
        events.raise_event(declared.status_event.name, told)


def to(state: State) -> live.Decide:
    """A state that a person or a script gives."""

    def decide(kept: Kept, before: State) -> State:
        kept.failures = 0
        return state

    return decide


def failed(kept: Kept, before: State) -> State:
    """It has failed once more: an active one is to be probed when that was often enough."""
    if before != State.ACTIVE:
        return before
    kept.failures += 1
    if kept.failures < declared.threshold():
        return before
    kept.failures = 0
    return State.PROBING


def worked(kept: Kept, before: State) -> State:
    """It has answered a probe. One that a person has switched off stays so."""
    kept.failures = 0
    return State.ACTIVE if before == State.PROBING else before


class _WriteState(db.Query):
    """The change of a row."""

    name = "dispatcher"

    def answer(self, result: db.Result) -> Done:
        return Done(1)


@_written.deliver
def _write(item: Changed, again: bool) -> Operation | None:
    partition = partitions.get(item.partition)
    destination = None if partition is None else partition.sets.find(item.group, item.uri)
    if partition is None or destination is None:
        return None
    state = live.state_of(live.read(partition.name, item.group), destination)
    where: dict[str, db.SqlValue] = {declared.setid_col.value: item.group, declared.destination_col.value: item.uri}
    return _WriteState(db.open(partition.url), db.update(partition.table, {declared.state_col.value: int(state)}, where))
