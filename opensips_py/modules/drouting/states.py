"""Which gateways and carriers work: kept in the shared store, so that every process knows, whichever has changed it.

With ``persistent_state`` a change is noted as unwritten in the same record; the timer process writes it into column ``state``
within a second, again until the database takes it, and what is left when the server stops.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ipc.prefixes import prefix
from ipc.store import Batch, StoreError
from opensips_py import db
from opensips_py.evi import events
from opensips_py.modules.drouting import declared, rows
from opensips_py.modules.drouting.declared import module
from opensips_py.modules.drouting.partitions import Partition, partitions
from opensips_py.modules.drouting.tables import ACTIVE, DISABLED, PROBE_INACTIVE, Gateway, States, Tables
from opensips_py.server.guard import report_error
from opensips_py.server.log import ERROR, INFO, log
from opensips_py.server.process import this

STATUS = module.event(
    "E_DROUTING_STATUS", "partition", "gwid", "address", "status", doc="when a gateway has been enabled, disabled, or has failed"
)

_PREFIX = prefix(b"mdrouting_states:", "states of gateways and carriers of a partition of module drouting", __name__)
_WRITE_SECONDS = 1.0
_LONGEST_PAUSE = 60.0
"""Seconds between two attempts to write while the database does not answer."""


class Record(msgspec.Struct, array_like=True):
    """The states of a partition."""

    gateways: States
    carriers: States
    unwritten: list[tuple[bool, str]] = []
    """What the database does not know yet: whether it is a carrier, and its id."""

    def of(self, carrier: bool) -> States:
        """Those of carriers, or of gateways."""
        return self.carriers if carrier else self.gateways


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode
_seen: dict[str, tuple[bytes, Record]] = {}
"""By partition: the bytes in the store, and what they mean."""


def _key(partition: Partition) -> bytes:
    return _PREFIX + partition.name.encode("latin-1")


def _at_first(tables: Tables) -> Record:
    """The states that the tables have."""
    return Record(
        {one.id: one.state for one in tables.gateways.values() if one.state != ACTIVE},
        {one.id: one.state for one in tables.carriers.values() if one.state != ACTIVE},
    )


def current(partition: Partition) -> Record:
    """The states at this moment; not to be changed."""
    value = this.store.get(_key(partition)) or b""
    seen = _seen.get(partition.name)
    if seen is not None and value and seen[0] == value:
        return seen[1]
    record = _decode(value) if value else _at_first(partition.tables)
    _seen[partition.name] = (value, record)
    return record


def carry_over(batch: Batch, partition: Partition, before: Tables, after: Tables) -> None:
    """New tables are about to hold: what was there keeps its state, what is new has that of the table."""
    value = batch.get(_key(partition))
    old = _decode(value) if value else _at_first(before)
    new = _at_first(after)
    for kept, known, there, now in (
        (old.gateways, before.gateways.keys(), after.gateways.keys(), new.gateways),
        (old.carriers, before.carriers.keys(), after.carriers.keys(), new.carriers),
    ):
        for name in known & there:
            if kept.get(name, ACTIVE) == ACTIVE:
                now.pop(name, None)
            else:
                now[name] = kept[name]
    new.unwritten = [one for one in old.unwritten if one[1] in (after.carriers if one[0] else after.gateways)]
    batch.put(_key(partition), _encode(new))


# --- changes --------------------------------------------------------------------------------------------------------


def change_gateway(partition: Partition, gateway: Gateway, decide: Callable[[int], int], why: str) -> bool:
    """Give a gateway the state that ``decide`` makes of its present one; whether that is another. The event tells of it."""
    state = _change(partition, False, gateway.id, decide)
    if state is None:
        return False
    log(INFO, "drouting", "status", f"gateway {gateway.id} ({gateway.address}) is {event_status(gateway, state)}: {why}")
    if events.wanted(STATUS.name):
        values = (partition.name, gateway.id, gateway.address, event_status(gateway, state))
        events.raise_event(STATUS.name, list(zip(STATUS.parameters, values, strict=True)))
    return True


def change_carrier(partition: Partition, carrier: str, state: int) -> None:
    """Enable or disable a carrier."""
    _change(partition, True, carrier, lambda before: state)


def _change(partition: Partition, carrier: bool, name: str, decide: Callable[[int], int]) -> int | None:
    """The new state; None when it is the old one."""
    tables = partition.tables
    with this.store.batch() as batch:
        value = batch.get(_key(partition))
        record = _decode(value) if value else _at_first(tables)
        states = record.of(carrier)
        before = states.get(name, ACTIVE)
        after = decide(before)
        if after == before:
            return None
        if after == ACTIVE:
            del states[name]
        else:
            states[name] = after
        if declared.persistent_state.value and (carrier, name) not in record.unwritten:
            record.unwritten.append((carrier, name))
        batch.put(_key(partition), _encode(record))
    return after


def shown_status(gateway: Gateway, state: int) -> str:
    """For management."""
    if state == ACTIVE:
        return "Active"
    if state == DISABLED:
        return "Disabled MI"
    return "Probing" if gateway.probe_mode == PROBE_INACTIVE else "Inactive"


def event_status(gateway: Gateway, state: int) -> str:
    """For the event."""
    return "disabled MI" if state == DISABLED else shown_status(gateway, state).lower()


# --- into the database ----------------------------------------------------------------------------------------------


def _statement(partition: Partition, record: Record, carrier: bool, name: str) -> tuple[db.Statement, int]:
    """How a state is written, and which."""
    state = record.of(carrier).get(name, ACTIVE)
    table, column = (partition.carriers, "carrierid") if carrier else (partition.gateways, "gwid")
    return db.update(table, {rows.STATE_COLUMN: state}, {column: name}), state


def _written(partition: Partition, carrier: bool, name: str, state: int) -> None:
    """The database knows a state. It stays unwritten when it has changed meanwhile."""
    with this.store.batch() as batch:
        value = batch.get(_key(partition))
        if value is None:
            return
        record = _decode(value)
        if record.of(carrier).get(name, ACTIVE) == state and (carrier, name) in record.unwritten:
            record.unwritten.remove((carrier, name))
            batch.put(_key(partition), _encode(record))


class Writer:
    """In the timer process: writes the states of one partition, one after the other."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._failures = 0

    def start(self) -> None:
        """Look now and then whether there is something to write."""
        this.reactor.call_at(this.clock.now() + _WRITE_SECONDS, self._tick)

    def _tick(self) -> None:
        try:
            self._next()
        except Exception as error:  # the next turn may succeed
            report_error(error, "drouting")
            self._again(False)

    def _again(self, good: bool) -> None:
        self._failures = 0 if good else self._failures + 1
        pause = min(_WRITE_SECONDS * 2 ** min(self._failures, 10), _LONGEST_PAUSE)
        this.reactor.call_at(this.clock.now() + pause, self._tick)

    def _next(self) -> None:
        record = current(self._partition)
        if not record.unwritten:
            self._again(True)
            return
        carrier, name = record.unwritten[0]
        statement, state = _statement(self._partition, record, carrier, name)

        def answered(result: db.Result | None) -> None:
            if result is None:
                self._again(False)
                return
            try:
                _written(self._partition, carrier, name, state)
                self._failures = 0
                self._next()
            except StoreError as error:
                log(ERROR, "drouting", "status", str(error))
                self._again(False)

        db.ask(self._partition.database, statement, answered)


@module.on_process
def _start() -> None:
    _seen.clear()
    if this.kind == "timer" and declared.persistent_state.value:
        for partition in partitions.values():
            Writer(partition).start()


@module.on_exit
def write_the_rest() -> None:
    """The timer process is the last one."""
    if this.kind != "timer" or not declared.persistent_state.value:
        return
    for partition in partitions.values():
        record = current(partition)
        try:
            for carrier, name in list(record.unwritten):
                statement, state = _statement(partition, record, carrier, name)
                partition.database.read(statement)
                _written(partition, carrier, name, state)
        except (db.DatabaseError, db.StatementError) as error:
            log(ERROR, "drouting", "destroy", f"states of partition {partition.name} are not written: {error}")
