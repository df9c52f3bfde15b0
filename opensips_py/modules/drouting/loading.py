"""Reading the tables: before the processes are forked, and again for ``dr_reload``, beside other work."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ipc.store import StoreError
from opensips_py import db
from opensips_py.dns.lookup import Location
from opensips_py.dns.rfc3263 import Abilities, Hop, Located
from opensips_py.engine.blocking_wait import drive
from opensips_py.modules.drouting import declared, partitions, rows, states
from opensips_py.modules.drouting.declared import module
from opensips_py.modules.drouting.partitions import Partition
from opensips_py.modules.drouting.tables import Address, Tables, canonical
from opensips_py.script import variables
from opensips_py.script.declarations import ConfigError
from opensips_py.script.variable_syntax import VariableError
from opensips_py.server.log import ERROR, INFO, log
from opensips_py.server.process import this

_PATIENCE = 60.0
"""Seconds that reading a table may take at the start."""
ABLE = Abilities(("udp", "tcp", "tls"), True, True)
"""A gateway is known by every address that it has, whatever this server has sockets for."""

Rows = tuple[list[db.Row], list[db.Row], list[db.Row]]
"""Of gateways, carriers and rules."""


def _questions(partition: Partition) -> list[db.Statement]:
    state = (rows.STATE_COLUMN,) if declared.persistent_state.value else ()
    return [
        db.select([*rows.GATEWAY_COLUMNS, *state], partition.gateways),
        db.select([*rows.CARRIER_COLUMNS, *state], partition.carriers),
        db.select(rows.RULE_COLUMNS, partition.rules, order="ruleid"),
    ]


def _packing(partition: Partition, found: Rows, located: rows.Located | None) -> Iterator[bytes | None]:
    names = (partition.gateways, partition.carriers, partition.rules)
    return rows.packing(found, names, located, declared.extra_prefix_chars.value, this.clock.wall())


def _addresses(found: dict[Hop, Located]) -> rows.Located:
    return {hop: tuple(Address(canonical(ip), port, proto) for ip, port, proto in one.targets) for hop, one in found.items()}


def _tell(partition: Partition, tables: Tables) -> None:
    counts = f"{len(tables.gateways)} gateways, {len(tables.carriers)} carriers and {tables.rules} rules"
    log(INFO, "drouting", "load", f"partition {partition.name}: {counts}")


# --- at the start ---------------------------------------------------------------------------------------------------


@module.on_config
def load() -> None:
    """Check the tables and read them."""
    declared.configure()
    _check_variable()
    partitions.configure()
    for partition in partitions.partitions.values():
        _check_versions(partition)
        try:
            answers = [partition.database.read(question, _PATIENCE).rows for question in _questions(partition)]
        except (db.DatabaseError, db.StatementError) as error:
            raise ConfigError(f"drouting: cannot read the tables of partition {partition.name}: {error}") from None
        found = (answers[0], answers[1], answers[2])
        located = None
        if declared.force_dns.value:
            hops = rows.hops_of(found[0])
            operation = Location(hops, ABLE, 0)
            if hops:
                drive(operation)
            located = _addresses(operation.found)
        [data] = filter(None, _packing(partition, found, located))
        _tell(partition, partition.exchanged.hold(data))


def _check_variable() -> None:
    text = declared.partition_id_pvar.value
    if not text:
        return
    try:
        writable = variables.compile_variable(text, this.program.registry).writable
    except VariableError as error:
        raise ConfigError(f"drouting: partition_id_pvar: {error}", "partition_id_pvar") from None
    if not writable:
        raise ConfigError(f"drouting: partition_id_pvar: {text} cannot be written", "partition_id_pvar")


def _check_versions(partition: Partition) -> None:
    for kind, table, version in (
        ("dr_gateways", partition.gateways, rows.GATEWAYS_VERSION),
        ("dr_groups", partition.groups, rows.GROUPS_VERSION),
        ("dr_carriers", partition.carriers, rows.CARRIERS_VERSION),
        ("dr_rules", partition.rules, rows.RULES_VERSION),
    ):
        try:
            partition.database.check_version(table, version)
        except ConfigError as error:
            raise ConfigError(f"drouting: partition {partition.name}, {kind} table {table}: {error}") from None


# --- again ----------------------------------------------------------------------------------------------------------


class Reload:
    """Reads partitions anew, without waiting. All processes get all of them at one moment, or stay as they were."""

    def __init__(self, chosen: list[Partition], then: Callable[[str | None], None]) -> None:
        """``then`` gets None, or what has failed."""
        self._left = list(chosen)
        self._then = then
        self._ready: list[tuple[Partition, bytes, Tables]] = []
        self._next()

    def _next(self) -> None:
        if self._left:
            self._read(self._left.pop(0), [])
        else:
            self._put()

    def _fail(self, text: str) -> None:
        log(ERROR, "drouting", "dr_reload", f"the tables stay as they were: {text}")
        self._then(text)

    def _read(self, partition: Partition, answers: list[list[db.Row]]) -> None:
        questions = _questions(partition)
        if len(answers) == len(questions):
            self._locate(partition, (answers[0], answers[1], answers[2]))
            return

        def answered(result: db.Result | None) -> None:
            if result is None:
                self._fail(f"partition {partition.name}: the database refuses or cannot be reached")
            else:
                self._read(partition, [*answers, result.rows])

        db.ask(partition.database, questions[len(answers)], answered)

    def _locate(self, partition: Partition, found: Rows) -> None:
        if not declared.force_dns.value:
            self._pack(partition, _packing(partition, found, None))
            return
        hops = rows.hops_of(found[0])
        if not hops:
            self._pack(partition, _packing(partition, found, {}))
            return
        Location(hops, ABLE, 0).then(lambda got: self._pack(partition, _packing(partition, found, _addresses(got))))

    def _pack(self, partition: Partition, steps: Iterator[bytes | None]) -> None:
        data = next(steps)
        if data is None:  # other work has its turn
            this.reactor.call_at(this.clock.now(), lambda: self._pack(partition, steps))
            return
        self._ready.append((partition, data, Tables(data)))
        self._next()

    def _put(self) -> None:
        before = {partition.name: partition.tables for partition, _, _ in self._ready}
        try:
            with this.store.batch() as batch:
                for partition, data, tables in self._ready:
                    states.carry_over(batch, partition, before[partition.name], tables)
                    partition.exchanged.exchange(batch, data)
        except StoreError as error:
            self._fail(str(error))
            return
        for partition, _, tables in self._ready:
            _tell(partition, tables)
        self._then(None)
