"""How the time for hostile input grows with its size: ``make bench-hostile``.

Every header, list, function over the message, transformation, variable and management input, filled with one thing repeated.
Prints CPU time by size, and fails when one grows faster than n·log n from 8 to 64 kB. Then a server is attacked with the like,
and it fails when somebody else waits longer than 50 ms, or when memory and store do not come back to where they were.

    python -m scripts.bench_hostile [--only TEXT] [--all]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from scripts.hostile import attack, messages, streams, values
from scripts.hostile.growth import Case, judge

FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    "reading a message": messages.reading,
    "functions over headers": messages.functions,
    "functions over bodies": messages.bodies,
    "transformations": values.transformations,
    "variables": values.read_variables,
    "streams": streams.streams,
    "management": streams.management,
    "DNS": streams.names,
}


def main() -> int:
    """Entry point: 1 when something grows too fast."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="families and cases whose name contains it")
    parser.add_argument("--all", action="store_true", help="print every case, not the slowest ten of each family")
    options = parser.parse_args()
    steep = 0
    for family, cases in FAMILIES.items():
        measured = [judge(case) for case in cases() if options.only in family or options.only in case.name]
        if not measured:
            continue
        measured.sort(key=lambda growth: (not growth.steep, -growth.seconds[-1]))
        bad = sum(growth.steep for growth in measured)
        steep += bad
        print(f"\n{family}: {len(measured)} inputs, {bad} steep; the slowest:")
        for growth in measured if options.all else measured[: max(10, bad)]:
            print(growth)
        sys.stdout.flush()
    if not options.only:
        steep += _attack()
    print(f"\n{steep} inputs take more than n·log n" if steep else "\nnothing takes more than n·log n")
    return 1 if steep else 0


def _attack() -> int:
    """Attack a server; how many attacks were felt by others."""
    running = attack.start()
    asker = attack.Asker(running.address)
    for _ in range(200):
        asker.ask()
    print("\na server under attack; the longest waits of another client:")
    results, felt = [], 0
    before = attack.figures(running)
    try:
        for name, carry_out in attack.attacks(running):
            result = attack.under_attack(asker, name, carry_out)
            for _ in range(TRIES):  # the machine has other things to do, too
                if max(result.waits) <= attack.ALLOWED:
                    break
                again = attack.under_attack(asker, name, carry_out)
                result = min(result, again, key=lambda one: max(one.waits))
            felt += max(result.waits) > attack.ALLOWED
            results.append(result)
        results.sort(key=lambda one: -max(one.waits))
        for result in results[: max(10, felt)]:
            print(result)
        after, end = attack.figures(running), time.monotonic() + SETTLED
        while after[0] > before[0] + ROOM and time.monotonic() < end:
            time.sleep(1)
            after = attack.figures(running)
        print(f"store {before[0] >> 10} -> {after[0] >> 10} KiB, memory {before[1] >> 20} -> {after[1] >> 20} MiB")
        if after[0] > before[0] + ROOM or after[1] > before[1] + MORE_MEMORY:
            print("store or memory did not come back")
            felt += 1
    finally:
        asker.close()
        running.kill()
        running.remove()
    return felt


TRIES = 3
"""How often an attack that was felt is repeated."""
SETTLED = 45
"""Seconds for transactions and contacts of the attacks to end."""
ROOM = 256 << 10
"""Bytes that may lie in the store in the end."""
MORE_MEMORY = 64 << 20
"""Bytes that all processes together may have grown by: caches fill up to their bounds."""


if __name__ == "__main__":
    sys.exit(main())
