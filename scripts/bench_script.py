"""``make bench-script``: how long a long script takes to check, and what a compiled route costs beside Python written by hand.

The route has 100 statements, half of them assignments and half tests. Written by hand, it is the same on a dict,
without what the language asks for: numbers of 32 bits, strings that are not numbers, ``$rc``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from opensips_py.engine.dummy_request import report_context
from opensips_py.script import program
from opensips_py.script.context import RouteKind
from opensips_py.server.process import this

HEAD = 'socket=udp:127.0.0.1:5060\nloadmodule "proto_udp.so"\n'
MODULES = 'loadmodule "sl.so"\nloadmodule "tm.so"\nloadmodule "sipmsgops.so"\nloadmodule "textops.so"\n'
BLOCK = """    $var(a) = $var(a) + {n};
    if ($rU =~ "^{n}[0-9]+$" && is_method("INVITE")) {{
        $ru = "sip:" + $rU + "@10.0.0.{n}";
    }}
    append_hf("X-Caller: $fu $(ru{{uri.user}}) {n}\\r\\n");
    xlog("call $ci from $si:$sp to $ru\\n");
"""
LINES = 3000
STATEMENTS = 100


def long_script(lines: int) -> str:
    """A script of about that many lines: assignments, tests, function calls, log lines."""
    text, routes = [HEAD, MODULES], 0
    while sum(part.count("\n") for part in text) < lines - 12:
        text.append(f"route[r{routes}] {{\n" + "".join(BLOCK.format(n=n) for n in range(4)) + "}\n")
        routes += 1
    return "".join(text) + 'route {\n    route(r0);\n    sl_send_reply(200, "OK");\n}\n'


def check_seconds(text: str, path: Path) -> float:
    """How long it takes to read, check and compile a script."""
    path.write_text(text, encoding="latin-1")
    began = time.perf_counter()
    program.load(str(path))
    return time.perf_counter() - began


def compiled(path: Path) -> Callable[[], int]:
    """The route, ready to be called."""
    pairs = range(STATEMENTS // 2)
    body = "".join(
        f'$var(a) = $var(a) + {n};\nif ($var(a) > {n * 10}) {{ $var(b) = {n}; }} else {{ $var(c) = "x{n}"; }}\n' for n in pairs
    )
    path.write_text(HEAD + "route {\n$var(a) = 1;\n" + body + "}\n", encoding="latin-1")
    loaded = program.load(str(path))
    this.sockets = loaded.sockets
    route, ctx = loaded.routes[RouteKind.REQUEST, "0"], report_context()
    return lambda: route(ctx)


def by_hand() -> Callable[[], None]:
    """The same in Python."""
    pairs = range(STATEMENTS // 2)
    body = "".join(f' v["a"] = v["a"] + {n}\n if v["a"] > {n * 10}:\n  v["b"] = {n}\n else:\n  v["c"] = "x{n}"\n' for n in pairs)
    namespace: dict[str, Callable[[dict[str, object]], None]] = {}
    exec('def route(v):\n v["a"] = 1\n' + body, namespace)  # written out, as the compiled one is
    route, values = namespace["route"], dict[str, object]()
    return lambda: route(values)


def main(arguments: list[str] | None = None) -> int:
    """Print two lines."""
    parser = argparse.ArgumentParser(prog="make bench-script", description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES, help=f"length of the script to check ({LINES})")
    parser.add_argument("--runs", type=int, default=100_000, help="how often the route runs (100,000)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "opensips.cfg"
        text = long_script(chosen.lines)
        print(f"check of {text.count(chr(10)):,} lines: {check_seconds(text, path):.2f} s")
        route, own = compiled(path), by_hand()
        rounds = 10
        each = max(1, chosen.runs // rounds)
        # in turn, and the best of each: what else the machine does would otherwise count for one of them
        times = [(timeit.timeit(route, number=each), timeit.timeit(own, number=each)) for _ in range(rounds)]
        script, python = (min(column) / each * 1e6 for column in zip(*times, strict=True))
        print(f"a route of {STATEMENTS} statements: {script:.1f} µs; by hand: {python:.1f} µs; ratio {script / python:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
