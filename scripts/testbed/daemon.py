"""What the private servers of the tests have in common: they are frozen, killed and removed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path


class Daemon:
    """A server with a temporary directory of its own. Subclasses start it, and say so in ``process``."""

    def __init__(self, name: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix=f"opensips-py-{name}-"))
        self.process: subprocess.Popen[bytes] | None = None

    def freeze(self) -> None:
        """Stop answering, with connections open (SIGSTOP); returns when every thread has stopped."""
        self._signal(signal.SIGSTOP)
        end = time.monotonic() + 20
        while not self._stopped():
            assert time.monotonic() < end, f"{type(self).__name__} does not stop"
            time.sleep(0.001)

    def _stopped(self) -> bool:
        if self.process is None:
            return True
        stats = list(Path(f"/proc/{self.process.pid}/task").glob("*/stat"))
        try:
            return all(stat.read_text().rsplit(")", 1)[1].split()[0] == "T" for stat in stats)
        except OSError:  # a thread has ended meanwhile
            return False

    def thaw(self) -> None:
        """Let it answer again."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._signal(signal.SIGKILL, wait=True)

    def remove(self) -> None:
        """Kill it and delete its directory."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def _signal(self, number: int, wait: bool = False) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(number)
        if wait:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
