"""Statistics that are computed when somebody asks: groups ``core`` (the rest of it), ``net``, ``load`` and ``shmem``.

Names and meanings are those of OpenSIPS 3.1 (manual page "Core Statistics"). What has no counterpart here (private
memory pools, TLS queues without TLS) has no statistic.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator

from opensips_py.dns import resolver
from opensips_py.engine import statistics
from opensips_py.engine.operation import Operation
from opensips_py.script.declarations import Module
from opensips_py.server import traffic
from opensips_py.server.process import this
from opensips_py.server.statistics import registry

_started = this.clock.now()


def begin() -> None:
    """The server starts now: ``timestamp`` counts from here."""
    global _started
    _started = this.clock.now()


core = Module("core", doc="Statistics of the core that are computed")
core.statistic("timestamp", doc="seconds since the start", gauge=lambda: int(this.clock.now() - _started))

net = traffic.net
net.statistic("waiting_udp", doc="bytes received that no process has read yet", gauge=lambda: waiting("udp"))
net.statistic(
    "dropped_udp",
    doc="datagrams dropped by the kernel because no process read them and the buffer (maxbuffer) was full (ours)",
    gauge=lambda: dropped_datagrams(),
)
net.statistic("waiting_tcp", doc="the same, of accepted TCP connections", gauge=lambda: waiting("tcp"))

shmem = Module("shmem", doc="Room in the shared store")
shmem.statistic("total_size", doc="bytes that the store may hold", gauge=lambda: this.store.info().total_size)
shmem.statistic("used_size", doc="bytes in use", gauge=lambda: this.store.info().used_size)
shmem.statistic("real_used_size", doc="bytes in use, index included", gauge=lambda: this.store.info().used_size)
shmem.statistic("max_used_size", doc="most bytes ever in use", gauge=lambda: this.store.info().max_used_size)
shmem.statistic("free_size", doc="bytes left", gauge=lambda: (i := this.store.info()).total_size - i.used_size)
shmem.statistic("fragments", doc="entries in the store", gauge=lambda: this.store.info().entries)

WINDOWS = (("load", 1), ("load1m", 60), ("load10m", 600))
"""Statistics of load by the time in seconds that they look back."""
_RECEIVERS = ("SIP receiver", "TCP receiver")


def modules() -> list[Module]:
    """Every module object of the core that has statistics; needs ``this.kinds`` for the processes' load."""
    return [traffic.module, core, net, load(), shmem, resolver.statistics, statistics.module]


def collect(loaded: Iterable[Module]) -> None:
    """Give all that the core and the ``loaded`` modules count its place. Called once, before the fork."""
    registry.collect([*modules(), *loaded], statistics.lay_out(Operation.registry))


def load() -> Module:
    """Group ``load`` for the process table as it is (``this.kinds``)."""
    kinds = this.kinds
    receivers = [slot for slot, kind in enumerate(kinds) if kind.startswith(_RECEIVERS)]
    others = list(range(1, len(kinds)))
    module = Module("load", doc="Percentage of time that processes were busy")
    for name, seconds in WINDOWS:
        module.statistic(name, doc=f"SIP and TCP receivers, last {seconds} s", gauge=_average(receivers, seconds))
    for name, seconds in WINDOWS:
        module.statistic(f"{name}-all", doc=f"all processes, last {seconds} s", gauge=_average(others, seconds))
    module.statistic("processes_number", doc="processes", gauge=lambda: len(this.kinds))
    for slot in others:
        for name, seconds in WINDOWS:
            module.statistic(f"{name}-proc-{slot}", doc=f"{kinds[slot]}, last {seconds} s", gauge=_average([slot], seconds))
    return module


def _average(slots: list[int], seconds: int) -> Callable[[], int]:
    def average() -> int:
        if not slots:
            return 0
        return round(sum(this.counters.load(slot, seconds) for slot in slots) / len(slots))

    return average


_LISTENING = "0A"
"""State of a socket in ``/proc/net/tcp`` whose "queue" counts connections, not bytes."""


def waiting(proto: str) -> int:
    """Bytes in the receive queues of the server's sockets of a protocol."""
    return sum(int(row[4].partition(":")[2], 16) for row in _rows_of_sockets(proto) if proto == "udp" or row[3] != _LISTENING)


def dropped_datagrams() -> int:
    """Datagrams that the kernel has thrown away because the receive buffer of the server's UDP socket was full."""
    return sum(int(row[12]) for row in _rows_of_sockets("udp"))


def _rows_of_sockets(proto: str) -> Iterator[list[str]]:
    """What the kernel tells of the server's sockets of a protocol in ``/proc/net/PROTO`` (proc(5)), by columns."""
    wanted = {(_kernel_form(s.host), s.port) for s in this.sockets if s.proto == proto}
    for table in (f"/proc/net/{proto}", f"/proc/net/{proto}6"):
        try:
            with open(table, encoding="ascii") as rows:
                next(rows)
                for row in rows:
                    fields = row.split()
                    address, _, port = fields[1].partition(":")
                    if (address, int(port, 16)) in wanted:
                        yield fields
        except OSError:
            continue  # no IPv6


def _kernel_form(host: str) -> str:
    """An address as ``/proc/net/udp`` writes it: 32-bit words in native order, hexadecimal."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))
