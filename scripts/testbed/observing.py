"""What a server holds, seen from outside: parked operations, descriptors, programs, rows of the shared store."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil

from ipc.lmdb_store import LmdbStore
from ipc.rundir import ROOT
from scripts.testbed.server import Server

PER_MESSAGE = b"tipjd"
"""Kinds of rows that live for a message: transactions, their index, parked operations, journals, timers."""


def run_directory(running: Server) -> Path:
    """Where the processes of the server share memory."""
    for path in Path(ROOT).glob(f"opensips-py-{os.geteuid()}-*"):
        try:
            if (path / "alive").read_text().strip() == str(running.process.pid):
                return path
        except OSError:
            continue
    raise AssertionError("the server has no run directory")


def rows(running: Server, kinds: bytes = PER_MESSAGE) -> dict[str, int]:
    """How many rows of each kind are in the shared store; kinds without a row are left out."""
    store = LmdbStore.open(str(run_directory(running)))
    try:
        counted = {chr(kind): store.count(bytes((kind,))) for kind in kinds}
    finally:
        store.close()
    return {kind: count for kind, count in counted.items() if count}


def parked(running: Server) -> list[dict[str, Any]]:
    """What ``async_list`` shows."""
    operations: list[dict[str, Any]] = running.mi("async_list")["Operations"]
    return operations


def wait_parked(running: Server, count: int = 1, seconds: float = 20) -> list[dict[str, Any]]:
    """Wait until so many operations are parked."""
    end = time.monotonic() + seconds
    while len(found := parked(running)) != count:
        assert time.monotonic() < end, f"{len(found)} operations are parked, not {count}:\n{running.log}"
        time.sleep(0.01)
    return found


def programs(running: Server) -> list[psutil.Process]:
    """Programs that the server has started and that still run, or wait to be reaped."""
    own = set(running.pids())
    return [process for process in running.processes() if process.pid not in own]


def descriptors(running: Server) -> dict[int, int]:
    """Open descriptors of the attendant and of every receiver, by pid, once they do not change any more."""
    last: dict[int, int] = {}
    while (now := _descriptors(running)) != last:
        last = now
        time.sleep(0.3)  # after the start the processes are still connecting with each other
    return now


def _descriptors(running: Server) -> dict[int, int]:
    pids = running.pids("attendant") + running.pids("SIP receiver")
    return {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pids}


def assert_nothing_is_left(running: Server, before: dict[int, int] | None, seconds: float = 20) -> None:
    """Within the time for which transactions absorb retransmissions, everything that a request needed is gone.

    ``before`` are the descriptors held then; None: processes have been replaced since, they are not compared.
    """
    end = time.monotonic() + seconds
    while True:
        held = {pid: n for pid, n in _descriptors(running).items() if before is not None and n > before[pid]}
        left = (parked(running), rows(running), [p.pid for p in programs(running)], held)
        if not any(left):
            return
        assert time.monotonic() < end, f"left: parked {left[0]}, rows {left[1]}, programs {left[2]}, descriptors {left[3]}"
        time.sleep(0.05)
