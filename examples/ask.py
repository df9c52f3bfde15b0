"""Send one OPTIONS to the demonstration and show the answer: ``python examples/ask.py exec``."""

from __future__ import annotations

import socket
import sys
import time

HOST, PORT = "127.0.0.1", 5060


def ask(name: str, user: str = "alice") -> str:
    """The final reply to OPTIONS sip:``name``@server, with the time that it took."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((HOST, PORT))
        s.settimeout(10)
        own_host, own_port = s.getsockname()
        mark = time.monotonic_ns()
        start = time.monotonic()
        s.send(
            f"OPTIONS sip:{name}@{HOST}:{PORT} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {own_host}:{own_port};branch=z9hG4bK{mark}\r\n"
            "Max-Forwards: 70\r\n"
            f"From: <sip:{user}@{own_host}>;tag={mark}\r\n"
            f"To: <sip:{name}@{HOST}>\r\n"
            f"Call-ID: {mark}@{own_host}\r\n"
            "CSeq: 1 OPTIONS\r\n"
            f"Contact: <sip:{user}@{own_host}:{own_port}>\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        while True:
            reply = s.recv(65535).decode("latin-1")
            if not reply.startswith("SIP/2.0 1"):
                return f"{reply.strip()}\n\n({(time.monotonic() - start) * 1000:.0f} ms)"


if __name__ == "__main__":
    try:
        print(ask(sys.argv[1] if len(sys.argv) > 1 else "ping"))
    except OSError as error:
        sys.exit(f"no answer from {HOST}:{PORT}: {error}")
