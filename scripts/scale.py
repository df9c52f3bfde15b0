"""``make scale``: decisions per second, and operations parked at once, through async() on two workers.

Each row is one run of requests (OPTIONS) at a fixed rate, every one of which waits for something and is answered 200 by
its resume route. *Added* latency is what the answer took beyond the time of the thing waited for. Requests are not
repeated: what is not answered has failed. CPU is user and system time of all processes of the server over the requests
answered, programs apart.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from scripts.testbed.http_server import DelayServer
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server

SCRIPT = """\
db_max_async_connections=400
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cfgutils.so"
loadmodule "exec.so"
loadmodule "rest_client.so"
modparam("rest_client", "max_async_transfers", {transfers})
modparam("rest_client", "curl_timeout", 300)
{modules}
route {
    if ($rU == "block") {
        xlog("L_NOTICE", "process $pp is stuck now\\n");
        sleep(2);
        exit;
    }
    async({function}, decided);
}

route[decided] {
    if ($rc < 0)
        t_reply(500, "No decision");
    else
        t_reply(200, "OK");
}
"""
MYSQL_MODULES = 'loadmodule "db_mysql.so"\nloadmodule "avpops.so"\nmodparam("avpops", "db_url", "{url}")\n'


@dataclass(frozen=True)
class Scenario:
    """One kind of waiting."""

    function: str
    rate: int
    """Requests per second."""
    wait: float
    """Seconds that each waits."""
    count: int = 0
    """Requests; 0: as many as the seconds of a run allow."""
    modules: str = ""
    transfers: int = 2000
    """Transfers of one worker at the same time."""
    turns: int = 1
    """How often ``transfers`` goes into ``count``: those that find no place wait as many times."""


SCENARIOS = {
    "pause": Scenario("usleep(50000)", 1000, 0.05),
    "mysql": Scenario('avp_db_query("SELECT 5, SLEEP(0.05)", "$avp(x);$avp(y)")', 1000, 0.05, modules=MYSQL_MODULES),
    "mysql-200ms": Scenario('avp_db_query("SELECT 5, SLEEP(0.2)", "$avp(x);$avp(y)")', 1000, 0.2, modules=MYSQL_MODULES),
    "http": Scenario('rest_get("http://127.0.0.1:{http}/d/50", $avp(x))', 1000, 0.05),
    "exec": Scenario('exec("sleep 0.05; echo 5", , $avp(x))', 300, 0.05),
    "parked-pause": Scenario("sleep(60)", 1000, 60.0, count=50_000),
    "parked-http": Scenario(
        'rest_get("http://127.0.0.1:{http}/d/55000", $avp(x))', 1000, 55.0, count=50_000, transfers=7000, turns=4
    ),
}


@dataclass
class Outcome:
    """What one run came to."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    """Answered, but not with 200."""
    took: list[float] = field(default_factory=list)
    """Seconds, sorted."""
    most_parked: int = 0
    uss_empty: int = 0
    uss_full: int = 0
    cpu: float = 0.0

    def added(self, share: float, wait: float) -> float:
        """Added latency in ms that ``share`` of the requests did not exceed."""
        if not self.took:
            return float("nan")
        return (self.took[min(len(self.took) - 1, int(share * len(self.took)))] - wait) * 1000


class Requests:
    """Sends requests at a rate over one socket, and takes their answers."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, 33):  # 33: SO_RCVBUFFORCE, for who may
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, 64 << 20)
            except OSError:
                continue
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(server.address)
        self._socket.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        port = self._socket.getsockname()[1]
        self._text = (
            f"OPTIONS sip:{{user}}@127.0.0.1:{server.port} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK-{time.monotonic_ns():x}-{{n}}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:alice@example.org>;tag=a{{n}}\r\nTo: <sip:bob@example.com>\r\nCall-ID: {{n}}-{port}\r\n"
            f"CSeq: 1 OPTIONS\r\nContact: <sip:alice@127.0.0.1:{port}>\r\nContent-Length: 0\r\n\r\n"
        )
        self.at: dict[int, float] = {}
        """When each that is not answered was sent."""

    def send(self, n: int, user: str = "decide") -> None:
        """Send request ``n``."""
        self.at[n] = time.monotonic()
        self._socket.send(self._text.replace("{user}", user).replace("{n}", str(n)).encode())

    def take(self, outcome: Outcome, seconds: float) -> None:
        """Take answers for a while."""
        if not self._selector.select(max(0.0, seconds)):
            return
        while True:
            try:
                data = self._socket.recv(4096)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            status = data[8:11]
            at = self.at.pop(int(data.split(b"Call-ID: ", 1)[1].split(b"-", 1)[0]), None)
            if at is None or status[:1] == b"1":
                continue
            outcome.answered += 1
            if status == b"200":
                outcome.took.append(time.monotonic() - at)
            else:
                outcome.refused += 1

    def run(self, outcome: Outcome, count: int, rate: float, patience: float, look: Callable[[], None], first: int = 0) -> None:
        """``count`` requests, numbered from ``first``, at ``rate`` per second; until all are answered, or nothing has
        come for ``patience`` seconds."""
        begin = last = time.monotonic()
        answered = outcome.answered
        looked = begin
        while True:
            now = time.monotonic()
            while outcome.sent < count and now >= begin + outcome.sent / rate:
                self.send(first + outcome.sent)
                outcome.sent += 1
                last = now
            if outcome.sent == count and (not self.at or now - last > patience):
                break
            self.take(outcome, min(0.05, begin + outcome.sent / rate - now) if outcome.sent < count else 0.05)
            if outcome.answered != answered:
                answered, last = outcome.answered, time.monotonic()
            if now - looked > 1.0:
                looked = now
                look()
        outcome.took.sort()

    def close(self) -> None:
        self._selector.close()
        self._socket.close()


def measure(scenario: Scenario, seconds: float, workers: int, places: dict[str, str]) -> Outcome:
    """One run on a server of its own."""
    text = SCRIPT.replace("{modules}", scenario.modules).replace("{function}", scenario.function)
    for name, value in {**places, "transfers": str(scenario.transfers)}.items():
        text = text.replace("{" + name + "}", value)
    server = Server(text, workers)
    requests = Requests(server)
    outcome = Outcome()
    try:
        warm_up = Outcome()
        if scenario.wait < 5:
            requests.run(warm_up, 50, 100, 5, lambda: None, 10_000_000)
        outcome.uss_empty = server.uss()
        before = server.cpu_seconds()[0]

        def look() -> None:
            parked = server.statistics("async:in_flight")["async:in_flight"]
            outcome.most_parked = max(parked, outcome.most_parked)
            if scenario.count and outcome.sent == scenario.count and not outcome.uss_full:  # once: it holds processes up
                outcome.uss_full = server.uss()

        count = scenario.count or int(scenario.rate * seconds)
        requests.at.clear()
        requests.run(outcome, count, scenario.rate, scenario.wait + 15, look)
        outcome.cpu = (server.cpu_seconds()[0] - before) / max(1, outcome.answered)
        told = [line for line in server.log.splitlines() if re.search("ERROR|CRITICAL|busy for|go on in another", line)]
        for text in told[:10]:
            print(text, file=sys.stderr)
    finally:
        requests.close()
        try:
            server.stop(30)
        except AssertionError as error:
            print(error, file=sys.stderr)
        server.remove()
    return outcome


def take_over_ms(rounds: int = 5) -> list[float]:
    """How long after a worker has got stuck its operations are given to another, in ms, sorted.

    While it is made to get the request that blocks it, the others are stopped.
    """
    text = SCRIPT.replace("{modules}", "").replace("{function}", "sleep(5)").replace("{transfers}", "10")
    found = []
    for _ in range(rounds):
        server = Server(text, 2)
        requests = Requests(server)
        try:
            requests.send(0)
            while not (listed := server.mi("async_list")["Operations"]):
                time.sleep(0.01)
            others = [pid for pid in server.pids("SIP receiver") if pid != listed[0]["PID"]]
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            requests.send(1, "block")
            server.wait_log("is stuck now")
            for pid in others:
                os.kill(pid, signal.SIGCONT)
            server.wait_log("has been busy for", pause=0.001)
            found.append((time.monotonic() - began) * 1000)
        finally:
            requests.close()
            server.stop(30)
            server.remove()
    return sorted(found)


COLUMNS = (
    "waits for",
    "requests/s",
    "sent",
    "answered 200",
    "failed",
    "most parked",
    "added p50 ms",
    "added p99 ms",
    "CPU µs",
    "KB each",
)


def line(name: str, scenario: Scenario, outcome: Outcome) -> str:
    each = (outcome.uss_full - outcome.uss_empty) / 1024 / outcome.most_parked if outcome.uss_full and outcome.most_parked else 0
    good = len(outcome.took)
    cells = [name, f"{scenario.rate}", f"{outcome.sent}", f"{good}", f"{outcome.sent - good}", f"{outcome.most_parked}"]
    if scenario.turns == 1:
        cells += [f"{outcome.added(0.5, scenario.wait):.1f}", f"{outcome.added(0.99, scenario.wait):.1f}"]
    else:
        cells += ["-", "-"]
    return "| " + " | ".join([*cells, f"{outcome.cpu * 1e6:.0f}", f"{each:.1f}" if each else "-"]) + " |"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a request failed."""
    parser = argparse.ArgumentParser(prog="make scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="length of a run with a rate (20)")
    parser.add_argument("--workers", type=int, default=2, help="SIP receivers (2)")
    parser.add_argument("--count", type=int, help="requests of the runs that park (50,000)")
    parser.add_argument("--only", choices=[*SCENARIOS, "take-over"], action="append", help="only this; may be repeated")
    chosen = parser.parse_args(arguments)
    names = chosen.only or [*SCENARIOS, "take-over"]
    failed = 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the web server is a child
    with ExitStack() as stack:
        places = {}
        if any(name.startswith("mysql") for name in names):
            database = MariaDB()
            stack.callback(database.remove)
            places["url"] = database.url
        if any("http" in name for name in names):
            web = DelayServer()
            stack.callback(web.close)
            places["http"] = str(web.port)
        print(f"{chosen.workers} workers, load average before: {os.getloadavg()[0]:.1f}\n")
        print("| " + " | ".join(COLUMNS) + " |")
        print("|---|" + "--:|" * (len(COLUMNS) - 1), flush=True)
        for name in names:
            if name == "take-over":
                continue
            scenario = SCENARIOS[name]
            if scenario.count and chosen.count:
                scenario = Scenario(**{**scenario.__dict__, "count": chosen.count})
            outcome = measure(scenario, chosen.seconds, chosen.workers, places)
            print(line(name, scenario, outcome), flush=True)
            failed += outcome.sent - len(outcome.took)
        if "take-over" in names:
            found = take_over_ms()
            print(
                f"\na stuck worker is noticed, and its operations handed over, after {', '.join(f'{ms:.0f}' for ms in found)} ms"
            )
        print(f"\nload average after: {os.getloadavg()[0]:.1f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
