"""How the time for hostile input grows with its size: ``make bench-hostile``.

Every header, list, function over the message, transformation, variable and management input, filled with one thing repeated.
Prints CPU time by size, and fails when one grows faster than n·log n from 8 to 64 kB.

    python -m scripts.bench_hostile [--only TEXT] [--all]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

from scripts.hostile import messages, streams, values
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
    print(f"\n{steep} inputs take more than n·log n" if steep else "\nnothing takes more than n·log n")
    return 1 if steep else 0


if __name__ == "__main__":
    sys.exit(main())
