"""Real child processes for tests of what processes share."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable


def fork(work: Callable[[], object]) -> int:
    """Run ``work`` in a child process; its pid. The child's exit status is 0, or 1 when it raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        signal.alarm(30)  # a test that fails must not leave its children behind
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def succeeded(pid: int) -> bool:
    """Wait for a child; did it end with status 0?"""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def killed(pid: int) -> bool:
    """Wait for a child; was it killed by SIGKILL?"""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def die() -> None:
    """End this process as a crash would."""
    os.kill(os.getpid(), signal.SIGKILL)
