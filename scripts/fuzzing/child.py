"""One target in a process of its own: libFuzzer never returns. Arguments: the target's name, then libFuzzer's own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

INSTRUMENTED = ["ipc.fifo", "dns"]
INSTRUMENTED += [f"opensips_py.{name}" for name in ("sip", "mi", "dns", "db", "modules.rest_client", "modules.cachedb_redis")]
"""Where reaching something new counts."""
CPU_SECONDS = 1.0
"""Processor time that an input may take; measured code takes a hundred times less uninstrumented."""


class TooSlow(Exception):
    """An input takes more than CPU_SECONDS."""


def main() -> None:
    """Fuzz, or run the files that are named."""
    import atheris

    name, arguments = sys.argv[1], sys.argv[2:]
    with atheris.instrument_imports(include=INSTRUMENTED):
        from scripts.fuzzing.targets import TARGETS
    target = TARGETS[name]

    def one_input(data: bytes) -> None:
        begun = time.thread_time()
        target(data)
        taken = time.thread_time() - begun
        if taken > CPU_SECONDS:
            raise TooSlow(f"{len(data)} bytes took {taken:.1f} s of processor time")

    atheris.Setup([str(Path(__file__)), *arguments], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
