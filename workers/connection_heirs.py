"""What becomes of the connections of a process that has died: the attendant gives them to others."""

from __future__ import annotations

from ipc.descriptors import FdStore
from ipc.mailbox import Mailboxes
from ipc.store import Store
from opensips_py.engine.take_over import Name
from opensips_py.net.tcp import ADOPT, FD_KEY, PREFIX, Adopt, Row, encode, forget_rest, read_row
from opensips_py.server.log import NOTICE, log
from opensips_py.server.process import this

NOT_TAKING = -1
"""``SlotStatus.connections`` of a process that is not there."""


def give_away(store: Store, held: FdStore, boxes: Mailboxes, alive: set[Name], takers: list[Name]) -> None:
    """Give every connection whose owner is not ``alive`` to one of ``takers``; those without a descriptor are forgotten.

    The packet goes first, then the rows change: whoever reads a changed row finds the connection at its new owner.
    """
    orphans: dict[Row, list[bytes]] = {}
    for key, value in store.scan(PREFIX):
        row = read_row(value)
        if Name(this.node, row.slot, row.incarnation) not in alive:
            orphans.setdefault(row, []).append(key)
    given = 0
    for number, (row, keys) in enumerate(orphans.items()):
        taker = takers[number % len(takers)]
        name = f"{FD_KEY}:{row.slot}:{row.incarnation}:{row.number}"
        fds = held.get(name)
        packet = ADOPT + encode(Adopt(row.number, taker.incarnation, row.accepted, row.keep_until, keys))
        if not fds or not boxes.post(taker.slot, packet, fds):
            held.drop(name)
            _forget(store, row, keys)
            continue
        given += 1
        held.rename(name, f"{FD_KEY}:{taker.slot}:{taker.incarnation}:{row.number}")
        heir = row._replace(slot=taker.slot, incarnation=taker.incarnation).pack()
        with store.batch() as batch:
            for key in keys:
                if batch.get(key) is not None:
                    batch.put(key, heir)
    if given:
        log(NOTICE, "core", "tcp", f"{given} connections go on in another process")
    _drop_left_over(held, alive)


def _forget(store: Store, row: Row, keys: list[bytes]) -> None:
    with store.batch() as batch:
        for key in keys:
            batch.delete(key)
        forget_rest(batch, row.number)


def _drop_left_over(held: FdStore, alive: set[Name]) -> None:
    """Descriptors of the dead that no row speaks of any more."""
    for name in held.names():
        kind, _, rest = name.partition(":")
        if kind == FD_KEY:
            slot, incarnation, _ = rest.split(":")
            if Name(this.node, int(slot), int(incarnation)) not in alive:
                held.drop(name)
