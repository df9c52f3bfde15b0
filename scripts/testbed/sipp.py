"""sipp as caller and callee, and the figures that it leaves."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.testbed.ports import port_open

SCENARIOS = Path(__file__).parent.parent / "sipp"
BUILT_IN = ("uac", "uas")
"""Scenarios that sipp brings along: INVITE, 180, 200, ACK, BYE."""


@dataclass
class Figures:
    """What one run of calls came to."""

    offered: int = 0
    completed: int = 0
    failed: int = 0
    retransmissions: int = 0
    seconds: float = 0.0
    response_ms: list[float] = field(default_factory=list)
    """Response times of the calls in ms, sorted."""

    def percentile(self, share: float) -> float:
        """Response time in ms that ``share`` (0 … 1) of the calls did not exceed; NaN without calls."""
        if not self.response_ms:
            return float("nan")
        return self.response_ms[min(len(self.response_ms) - 1, int(share * len(self.response_ms)))]


class Sipp:
    """One sipp process. ``scenario`` is the name of a file in ``scripts/sipp``, a path, or ``uac`` or ``uas``: sipp's own."""

    def __init__(
        self, scenario: str | Path, arguments: Sequence[str], *, port: int, wait_port: bool = False, transport: str = "u1"
    ) -> None:
        if shutil.which("sipp") is None:
            raise RuntimeError("sipp is missing: apt-get install sip-tester")
        path = SCENARIOS / f"{scenario}.xml" if isinstance(scenario, str) else scenario
        chosen = ["-sn", str(scenario)] if scenario in BUILT_IN else ["-sf", str(path)]
        self.port = port
        self.home = Path(tempfile.mkdtemp(prefix="opensips-py-sipp-"))
        with open(self.home / "screen", "wb") as screen:
            self.process = subprocess.Popen(
                ["sipp", *chosen, "-i", "127.0.0.1", "-p", str(port), "-nostdin", "-trace_stat", "-stf",
                 str(self.home / "statistics.csv"), "-fd", "1", "-trace_err", "-error_file", str(self.home / "errors"),
                 "-buff_size", "8388608", "-t", transport, *arguments],
                stdout=screen, stderr=screen, stdin=subprocess.DEVNULL, cwd=self.home,
                env=os.environ | {"TERM": "dumb"},
            )  # fmt: skip
        end = time.monotonic() + 20
        while wait_port and not port_open(port, "udp" if transport.startswith("u") else "tcp"):
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"sipp does not start: {self.screen}")
            time.sleep(0.01)

    @property
    def screen(self) -> str:
        return (self.home / "screen").read_text("latin-1") + self.errors

    @property
    def errors(self) -> str:
        """What sipp says about unexpected messages."""
        try:
            return (self.home / "errors").read_text("latin-1")
        except FileNotFoundError:
            return ""

    def wait(self, seconds: float) -> int:
        """Wait for its end; 0: every call completed, 1: at least one failed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            return 255

    def stop(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def current(self) -> dict[str, str]:
        """The last line of its statistics file, by column name; empty before the first."""
        try:
            with open(self.home / "statistics.csv", newline="") as file:
                rows = list(csv.reader(file, delimiter=";"))
        except FileNotFoundError:
            return {}
        return dict(zip(rows[0], rows[-1], strict=False)) if len(rows) > 1 and len(rows[-1]) > 10 else {}

    def figures(self) -> Figures:
        """Figures of a finished run (response times need ``-trace_rtt`` in the arguments)."""
        last = self.current()
        figures = Figures(
            offered=int(last.get("OutgoingCall(C)", 0)),
            completed=int(last.get("SuccessfulCall(C)", 0)),
            failed=int(last.get("FailedCall(C)", 0)),
            retransmissions=int(last.get("Retransmissions(C)", 0)),
        )
        hours, minutes, seconds = (last.get("ElapsedTime(C)") or "0:0:0").split(":")[:3]
        figures.seconds = int(hours) * 3600 + int(minutes) * 60 + float(seconds.split(".")[0])
        for file in self.home.glob("*_rtt.csv"):
            with open(file, newline="") as lines:
                for row in list(csv.reader(lines, delimiter=";"))[1:]:
                    if len(row) >= 2:
                        figures.response_ms.append(float(row[1]))
        figures.response_ms.sort()
        return figures


UDP, ONE_CONNECTION, CONNECTION_PER_CALL = "u1", "t1", "tn"
"""Transports of sipp (``-t``)."""


def callee(port: int, scenario: str = "callee", transport: str = UDP) -> Sipp:
    """A sipp that answers calls on ``port`` until it is stopped."""
    return Sipp(scenario, [], port=port, wait_port=True, transport=transport)


def caller(
    target: tuple[str, int],
    scenario: str,
    *,
    port: int,
    calls: int,
    rate: float,
    arguments: Sequence[str] = (),
    transport: str = UDP,
) -> Sipp:
    """A sipp that makes ``calls`` calls to ``target`` at ``rate`` per second."""
    period = ["-rp", "1000"] if rate >= 1 else ["-rp", str(int(1000 / rate))]
    return Sipp(
        scenario,
        [f"{target[0]}:{target[1]}", "-m", str(calls), "-r", str(max(1, int(rate))), *period, "-l", "15000",
         "-inf", str(SCENARIOS / "users.csv"), "-trace_rtt", "-rtt_freq", "1",
         "-timer_resol", "1", "-recv_timeout", "8000", *arguments],
        port=port,
        transport=transport,
    )  # fmt: skip
