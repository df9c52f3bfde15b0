"""``make load``: calls whose routing decision takes 50 ms of I/O, with async() and without, on the same workers.

Starts everything itself on 127.0.0.1: the server, a callee, a private MariaDB, a web server. Each row of the table is
one run: sipp calls at a fixed rate, every INVITE waits for MySQL, a web server or a program, then goes to the callee.
CPU is user and system time of all processes of the server over the calls completed; programs of exec() stand apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from scripts.testbed.http_server import DelayServer
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from scripts.testbed.sipp import Figures, Sipp, callee, caller

SCRIPT = """\
db_max_async_connections=400
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "sipmsgops.so"
{modules}
route {
    if (!mf_process_maxfwd_header(10)) {
        sl_send_reply(483, "Too Many Hops");
        exit;
    }
    if (has_totag()) {
        loose_route();
        t_relay();
        exit;
    }
    if (is_method("CANCEL")) {
        if (t_check_trans())
            t_relay();
        exit;
    }
    t_check_trans();
    record_route();
    $du = "sip:127.0.0.1:{callee}";
    {decision}
}

route[decided] {
    if ($rc < 0) {
        t_reply(500, "No decision");
        exit;
    }
    t_relay();
}
"""

MYSQL_MODULES = """\
loadmodule "db_mysql.so"
loadmodule "avpops.so"
modparam("avpops", "db_url", "{url}")
"""
HTTP_MODULES = """\
loadmodule "rest_client.so"
modparam("rest_client", "max_async_transfers", 2000)
modparam("rest_client", "connection_timeout", 2)
modparam("rest_client", "curl_timeout", 5)
"""
EXEC_MODULES = 'loadmodule "exec.so"\n'


@dataclass(frozen=True)
class Work:
    """One kind of I/O in the middle of a call."""

    name: str
    modules: str
    function: str
    rate: int
    """Calls per second that are offered to both scripts."""


WORKS = {
    "mysql": Work(
        "MySQL",
        MYSQL_MODULES,
        """avp_db_query("SELECT credit, SLEEP(0.05) FROM users WHERE uid='$(fU{s.escape.common})'", """
        """"$avp(credit);$avp(slept)")""",
        400,
    ),
    "http": Work("HTTP", HTTP_MODULES, 'rest_get("http://127.0.0.1:{http}/d/50", $avp(body), $avp(type), $avp(code))', 400),
    "exec": Work("exec", EXEC_MODULES, 'exec("sleep 0.05; echo 5", , $avp(credit))', 100),
}


@dataclass
class Row:
    """One line of the table."""

    name: str
    rate: int
    figures: Figures
    cpu_us: float
    children_us: float
    uss_mb: float


COLUMNS = (
    "decision by",
    "calls/s offered",
    "calls",
    "completed",
    "failed",
    "retransmissions",
    "p50 ms",
    "p99 ms",
    "CPU µs/call",
    "programs µs/call",
    "USS MB",
)


def line(row: Row) -> str:
    f = row.figures
    cells = [row.name, f"{row.rate}", f"{f.offered}", f"{f.completed}", f"{f.failed}", f"{f.retransmissions}"]
    cells += [f"{f.percentile(0.5):.0f}", f"{f.percentile(0.99):.0f}"]
    per_call = [f"{row.cpu_us:.0f}", f"{row.children_us:.0f}"] if f.completed else ["-", "-"]
    cells += [*per_call, f"{row.uss_mb:.0f}"]
    return "| " + " | ".join(cells) + " |"


def script_for(work: Work, asynchronous: bool, places: dict[str, str]) -> str:
    """The routing script: the same decision inside async(), or in line."""
    if asynchronous:
        decision = f"async({work.function}, decided);"
    else:
        decision = f"{work.function};\n    route(decided);"
    text = SCRIPT.replace("{modules}", work.modules).replace("{decision}", decision)
    for name, value in places.items():
        text = text.replace("{" + name + "}", value)
    return text


def progress(name: str, running: Sipp, seconds: float) -> Callable[[], None]:
    """A function that redraws one line about the calls so far (nothing when the output is not a terminal)."""
    start = time.monotonic()

    def show() -> None:
        if not sys.stderr.isatty():
            return
        now = running.current()
        done = min(1.0, (time.monotonic() - start) / seconds)
        bar = "#" * int(done * 30)
        text = f"{now.get('SuccessfulCall(C)', 0)} completed, {now.get('FailedCall(C)', 0)} failed, "
        text += f"{now.get('CurrentCall', 0)} open, {now.get('Retransmissions(C)', 0)} retransmissions"
        sys.stderr.write(f"\r\033[K{name:16} [{bar:30}] {text}")
        sys.stderr.flush()

    return show


def measure(name: str, script: str, rate: int, seconds: float, workers: int, callee_port: int) -> Row:
    """Run calls at ``rate`` for ``seconds`` through a server of its own."""
    server = Server(script, workers)
    client: Sipp | None = None
    answering = callee(callee_port)
    try:
        warm_up = caller(server.address, "caller", port=free_port(), calls=20, rate=20)
        warm_up.wait(20)
        warm_up.remove()
        before = server.cpu_seconds()
        client = caller(server.address, "caller", port=free_port(), calls=int(rate * seconds), rate=rate)
        show = progress(name, client, seconds)
        limit = time.monotonic() + seconds + 45
        while client.process.poll() is None and time.monotonic() < limit:
            show()
            time.sleep(0.2)
        client.stop()
        after = server.cpu_seconds()
        figures = client.figures()
        calls = max(1, figures.completed)
        row = Row(
            name,
            rate,
            figures,
            (after[0] - before[0]) / calls * 1e6,
            (after[1] - before[1]) / calls * 1e6,
            server.uss() / 1e6,
        )
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        return row
    finally:
        answering.remove()
        if client is not None:
            client.remove()
        try:
            server.stop(20)
        except AssertionError as error:
            print(error, file=sys.stderr)
        server.remove()


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a call of an asynchronous script failed."""
    parser = argparse.ArgumentParser(prog="make load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="length of each run (20)")
    parser.add_argument("--rate", type=int, help="calls per second (default: 400 for mysql and http, 100 for exec)")
    parser.add_argument("--workers", type=int, default=2, help="SIP receivers (2)")
    parser.add_argument("--only", choices=sorted(WORKS), action="append", help="only this kind; may be repeated")
    parser.add_argument("--async-only", action="store_true", help="leave out the scripts without async()")
    chosen = parser.parse_args(arguments)
    failed = 0
    with ExitStack() as stack:
        places = {"callee": str(free_port())}
        names = chosen.only or list(WORKS)
        if "mysql" in names:
            database = MariaDB()
            stack.callback(database.remove)
            database.execute("CREATE TABLE users (uid VARCHAR(64) PRIMARY KEY, credit INT)")
            database.execute("INSERT INTO users VALUES ('alice', 100), ('bob', 50), ('carol', 20), ('dave', 5)")
            places["url"] = database.url
        if "http" in names:
            web = DelayServer()
            stack.callback(web.close)
            places["http"] = str(web.port)
        print(f"{chosen.workers} workers, {chosen.seconds:.0f} s each, decisions take 50 ms\n")
        print("| " + " | ".join(COLUMNS) + " |")
        print("|---|" + "--:|" * (len(COLUMNS) - 1), flush=True)
        for key in names:
            work = WORKS[key]
            for asynchronous in (True,) if chosen.async_only else (True, False):
                name = f"async {work.name}" if asynchronous else work.name
                script = script_for(work, asynchronous, places)
                row = measure(name, script, chosen.rate or work.rate, chosen.seconds, chosen.workers, int(places["callee"]))
                print(line(row), flush=True)
                if asynchronous:
                    failed += row.figures.failed + (row.figures.offered - row.figures.completed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
