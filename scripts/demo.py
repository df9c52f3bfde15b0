"""``make run``: the demonstration server with the web server that its script asks; Ctrl-C ends both."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from scripts.testbed.ports import port_open

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SIP_PORT, HTTP_PORT = 5060, 8088

WELCOME = """
opensips-py serves {script} on udp:127.0.0.1:{port}. In another terminal:

    .venv/bin/python examples/ask.py exec      waits for a program, the worker does not
    .venv/bin/python examples/ask.py http      waits for a web server
    .venv/bin/python examples/ask.py credit    one wait after the other
    .venv/bin/python examples/ask.py launch    a program runs in parallel, and is counted
    .venv/bin/opensips-py-mi ps                the processes
    .venv/bin/opensips-py-mi get_statistics statistics=[programs-ended]

Ctrl-C ends it.
"""


def main() -> int:
    """Run both until the server ends; its exit status."""
    script = EXAMPLES / "demo.cfg"
    if port_open(SIP_PORT):
        print(f"UDP port {SIP_PORT} is in use: end that program first", file=sys.stderr)
        return 1
    if _tcp_in_use(HTTP_PORT):
        print(f"TCP port {HTTP_PORT} is in use: end that program first", file=sys.stderr)
        return 1
    web = subprocess.Popen([sys.executable, str(EXAMPLES / "http_server.py"), str(HTTP_PORT)], start_new_session=True)
    # its own session: Ctrl-C comes here, and the server gets one orderly signal instead of one per process
    server = subprocess.Popen([sys.executable, "-m", "opensips_py", "-F", "-E", "-f", str(script)], start_new_session=True)

    def end(number: int, frame: object) -> None:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        while server.poll() is None and not port_open(SIP_PORT):
            time.sleep(0.05)
        if server.poll() is None:
            print(WELCOME.format(script=os.path.relpath(script), port=SIP_PORT), flush=True)
        return server.wait()
    finally:
        web.terminate()
        web.wait()


def _tcp_in_use(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
