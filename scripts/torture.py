"""``make torture``: send the torture messages of RFC 4475 to a server, and compare what it does.

Twice: with a script that answers whatever reaches it, and with one that checks what a careful script checks. The former may do as
the RFC or as the C server does, the latter has to do as the RFC says.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.testbed.server import Server

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "torture"

PROFILES = {"plain": "either", "checked": "rfc"}
"""Scripts of the corpus, and who is right."""


def main(arguments: list[str]) -> int:
    if not CORPUS.is_dir():
        print(f"torture: {CORPUS} is not there, nothing to send")
        return 0
    return max(run(profile, mode, arguments) for profile, mode in PROFILES.items())


def run(profile: str, mode: str, arguments: list[str]) -> int:
    """Send all messages to one server; 0 when it passes and ends well."""
    print(f"torture: {profile} script, mode {mode}", flush=True)
    script = (CORPUS / f"torture-{profile}.cfg").read_text()
    server = Server("log_stderror=yes\nsocket=udp:127.0.0.1:{port}\nudp_workers={workers}\n" + script)
    try:
        command = [sys.executable, str(CORPUS / "torture.py"), "--data", str(CORPUS.parent / "rfc4475")]
        command += ["--profile", profile, "--mode", mode, "--target", f"127.0.0.1:{server.port}"]
        status = subprocess.run([*command, *arguments]).returncode
        if server.stop() != 0 or "Traceback" in server.log:
            print(server.log)
            status = 1
        return status
    finally:
        if server.process.poll() is None:
            server.kill()
        server.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
