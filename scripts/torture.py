"""``make torture``: send the torture messages (RFC 4475 and others) to a server and compare what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.testbed.server import Server

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "torture"

PROFILES = ("plain",)
"""Scripts of the corpus whose functions are all there."""


def main(arguments: list[str]) -> int:
    if not CORPUS.is_dir():
        print(f"torture: {CORPUS} is not there, nothing to send")
        return 0
    status = 0
    for profile in PROFILES:
        script = (CORPUS / f"torture-{profile}.cfg").read_text()
        server = Server("log_stderror=yes\nsocket=udp:127.0.0.1:{port}\nudp_workers={workers}\n" + script)
        try:
            command = [sys.executable, str(CORPUS / "torture.py"), "--data", str(CORPUS.parent / "rfc4475"), "--profile", profile]
            status |= subprocess.run([*command, "--target", f"127.0.0.1:{server.port}", *arguments]).returncode
            if server.stop() != 0 or "Traceback" in server.log:
                print(server.log)
                status = 1
        finally:
            if server.process.poll() is None:
                server.kill()
            server.remove()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
