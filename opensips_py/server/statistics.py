"""All statistics of the server: where they are counted, and how they are found by name.

Statistics are declared by modules (``Module.statistic``) before the fork and get a column each in the shared counters.
A script may make more while it runs (``update_stat("name", 1)``): the name's column is then noted in the shared store,
once for all processes, and remembered by each.

Names are ``group:name``, or ``name`` alone, which is looked for in every group and last in ``dynamic``, the group of
statistics that a script makes without naming one (OpenSIPS module statistics).
"""

from __future__ import annotations

from collections.abc import Iterable

from ipc.counters import Counters, CountersError
from ipc.prefixes import prefix
from opensips_py.script.declarations import Module, Statistic
from opensips_py.server import log
from opensips_py.server.process import this

DYNAMIC = "dynamic"
"""Group of what scripts make."""
SCRIPT = "script"
"""Group of what scripts declare (parameter ``variable`` of module statistics)."""
PREFIX = prefix(b"s", "name of a statistic made by a script", __name__)
"""Store keys: this, then ``group:name``; the value is the column in 8 bytes, big-endian."""
MAX_NAME = 200
"""Longest name of a statistic, group included."""


class StatisticError(Exception):
    """A statistic cannot be made; the text says why."""


class Registry:
    """The statistics, as one process knows them."""

    def __init__(self) -> None:
        self._all: dict[str, Statistic] = {}
        self._by_name: dict[str, Statistic] = {}
        self._unnamed: list[Statistic] = []
        """Counted, but not found by name: the figures by function of the async engine."""
        self._counted = 0
        self._counters: Counters | None = None
        self._slot = 0

    # --- set-up -------------------------------------------------------------------------------------------------

    def collect(self, modules: Iterable[Module], unnamed: Iterable[Statistic] = ()) -> None:
        """Take over what ``modules`` declare, and what is counted but not found by name. Called once, before the fork."""
        self._all.clear()
        self._by_name.clear()
        self._counted = 0
        for module in modules:
            for stat in module.statistics.values():
                self.declare(stat)
        self._unnamed = list(unnamed)
        for stat in self._unnamed:
            stat.index = self._counted
            self._counted += 1

    def declare(self, stat: Statistic) -> None:
        """Add one statistic. One that is there already (same group and name) is kept."""
        if self._all.setdefault(f"{stat.group}:{stat.name}", stat) is not stat:
            return
        self._by_name.setdefault(stat.name, stat)
        if stat.gauge is None:
            stat.index = self._counted
            self._counted += 1

    def __len__(self) -> int:
        """Number of columns that the statistics known before the fork need."""
        return self._counted

    def attach(self, counters: Counters, place_row: int) -> None:
        """Count into shared memory from now on, in the row of slot ``place_row``. Called once in each process."""
        self._counters = counters
        self._slot = place_row
        counters.reserve(self._counted)
        row = counters.row(place_row)
        for stat in (*self._all.values(), *self._unnamed):
            if stat.gauge is None:
                stat.cells = row
                if stat.level:
                    row[stat.index] = 0
        counters.status(place_row).log_level = log.state.level

    # --- finding ------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Statistic | None:
        """The statistic ``group:name`` or ``name``; None when there is none."""
        stat = self._all.get(name) if ":" in name else self._by_name.get(name)
        if stat is None and self._counters is not None:
            stat = self._made_elsewhere(name if ":" in name else f"{DYNAMIC}:{name}")
        return stat

    def select(self, names: Iterable[str]) -> list[Statistic]:
        """What a list of ``all``, ``group:``, ``group:name`` and ``name`` stands for, in order, without repetition."""
        out: dict[int, Statistic] = {}
        for name in names:
            if name == "all":
                self._learn(PREFIX)
                found = list(self._all.values())
            elif name.endswith(":"):
                found = self.group(name[:-1])
            else:
                stat = self.find(name)
                found = [] if stat is None else [stat]
            for stat in found:
                out[id(stat)] = stat
        return list(out.values())

    def group(self, group: str) -> list[Statistic]:
        """The statistics of one group."""
        self._learn(PREFIX + f"{group}:".encode("latin-1", "replace"))
        return [stat for stat in self._all.values() if stat.group == group]

    def made_by_script(self, name: str) -> Statistic:
        """The statistic, which is made if it does not exist. Raises StatisticError."""
        stat = self.find(name)
        if stat is not None:
            return stat
        full = name if ":" in name else f"{DYNAMIC}:{name}"
        if not 0 < len(name) <= MAX_NAME or full.endswith(":"):
            raise StatisticError(f'"{name[:MAX_NAME]}" cannot be the name of a statistic (1 to {MAX_NAME} characters)')
        if self._counters is None:
            raise StatisticError("this process has no shared counters yet")
        key = PREFIX + full.encode("latin-1", "replace")
        with this.store.batch() as batch:  # its exclusive right to write makes sure that each name is made once
            raw = batch.get(key)
            if raw is None:
                try:
                    raw = self._counters.add_column().to_bytes(8, "big")
                except CountersError as error:
                    raise StatisticError(f'"{name}": {error}') from error
                batch.put(key, raw)
        return self._enter(full, int.from_bytes(raw, "big"))

    def _made_elsewhere(self, full: str) -> Statistic | None:
        if len(full) > MAX_NAME + len(DYNAMIC) + 1:
            return None
        raw = this.store.get(PREFIX + full.encode("latin-1", "replace"))
        return None if raw is None else self._enter(full, int.from_bytes(raw, "big"))

    def _learn(self, prefix: bytes) -> None:
        """Get to know what scripts in other processes have made."""
        if self._counters is not None:
            for key, raw in this.store.scan(prefix):
                full = key[len(PREFIX) :].decode("latin-1")
                if full not in self._all:
                    self._enter(full, int.from_bytes(raw, "big"))

    def _enter(self, full: str, column: int) -> Statistic:
        assert self._counters is not None
        group, _, name = full.partition(":")
        stat = Statistic(name, group, "made by the script", cells=self._counters.row(self._slot), index=column)
        self._all[full] = stat
        self._by_name.setdefault(name, stat)
        return stat

    # --- values -------------------------------------------------------------------------------------------------

    def value(self, stat: Statistic) -> int:
        """The value over all processes."""
        if stat.gauge is not None:
            return stat.gauge()
        if self._counters is None:
            return int(stat.cells[stat.index]) if len(stat.cells) > stat.index else 0
        return self._counters.value(stat.index)

    def reset(self, stat: Statistic) -> bool:
        """Count from zero again; False for a statistic that is computed or protected."""
        if stat.gauge is not None or stat.no_reset or self._counters is None:
            return False
        self._counters.reset(stat.index)
        return True


registry = Registry()
