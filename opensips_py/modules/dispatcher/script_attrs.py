"""ds_push_script_attrs(), ds_get_script_attrs(): a text that scripts keep with a destination, in the shared store."""

from __future__ import annotations

from collections.abc import Sequence

from opensips_py.modules.dispatcher.live import attrs_key_of
from opensips_py.modules.dispatcher.partitions import Partition
from opensips_py.modules.dispatcher.sets import Destination
from opensips_py.server.process import this

LONGEST = 4096
"""Bytes that the text of a destination may have."""


def of(partition: Partition, destinations: Sequence[Destination]) -> list[str]:
    """The texts of destinations, if the script wants to see them at all; empty ones otherwise."""
    if not partition.avps["script_attrs_avp"]:
        return [""] * len(destinations)
    return [read(partition, one) for one in destinations]


def read(partition: Partition, destination: Destination) -> str:
    """The text of a destination; empty: it has none."""
    data = this.store.get(attrs_key_of(partition.name, destination))
    return "" if data is None else data.decode("latin-1")


def put(partition: Partition, destinations: Sequence[Destination], text: str) -> None:
    """Set the text of destinations."""
    with this.store.batch() as batch:
        for one in destinations:
            batch.put(attrs_key_of(partition.name, one), text.encode("latin-1"))
