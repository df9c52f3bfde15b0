"""An HTTP/1.1 server that can be slow and broken on purpose, on raw sockets: a correct library could not misbehave.

==================  ==============================================================================================
path                behaviour
==================  ==============================================================================================
``/hello``          200 ``hello``
``/delay/MS``       200 after MS milliseconds
``/status/CODE``    that status, body = the code
``/headers``        200, body = the request's headers as received
``/echo``           200, body = the request's body, its Content-Type
``/chunked``        200, three chunks ``one two three``
``/until-close``    200 without length, connection closed at the end
``/never``          accepts and never answers
``/early``          closes before anything is sent
``/half``           announces 100 bytes, sends 10, closes
``/garbage``        a status line that is none
``/redirect``       302 to ``/hello``
``/huge/N``         200 with N bytes of body
``/drip/MS``        200, one byte of ten every MS milliseconds
==================  ==============================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading

Headers = list[tuple[str, str]]


class HttpServer:
    """Runs on a thread; ``requests`` and ``connections`` tell what came."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, str, Headers, bytes]] = []
        """(method, path, headers, body) of every request."""
        self.connections = 0
        self.open = 0
        """Connections that are open now."""
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT`` or with TLS ``https://localhost:PORT``."""
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening and cut all connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self._tls, backlog=2000, limit=1 << 20)
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            while await self._one(reader, writer):
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = [(k.strip(), v.strip()) for k, _, v in (line.partition(":") for line in lines[1:] if line)]
        named = {k.lower(): v for k, v in headers}
        body = await reader.readexactly(int(named.get("content-length", "0")))
        self.requests.append((method, path, headers, body))
        word, _, argument = path.lstrip("/").partition("/")

        def answer(content: bytes, status: str = "200 OK", kind: str = "text/plain", more: str = "") -> None:
            head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n{more}\r\n"
            writer.write(head.encode() + content)

        match word:
            case "delay":
                await asyncio.sleep(int(argument) / 1000)
                answer(b"late")
            case "status":
                answer(argument.encode(), f"{argument} Status")
            case "headers":
                answer("\n".join(lines[1:]).encode("latin-1"))
            case "echo":
                answer(body, kind=named.get("content-type", "application/octet-stream"))
            case "chunked":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
                for part in (b"one ", b"two ", b"three"):
                    writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                    await writer.drain()
                    await asyncio.sleep(0.01)
                writer.write(b"0\r\n\r\n")
            case "until-close":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil close")
                return False
            case "never":
                await asyncio.sleep(3600)
            case "early":
                return False
            case "half":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
                return False
            case "garbage":
                writer.write(b"this is not HTTP\r\n\r\n")
                return False
            case "redirect":
                answer(b"", "302 Found", more="Location: /hello\r\n")
            case "huge":
                size = int(argument)
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
                block = b"x" * 65536
                while size > 0:
                    writer.write(block[:size])
                    size -= len(block)
                    await writer.drain()
            case "drip":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
                for _ in range(10):
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(int(argument) / 1000)
            case _:
                answer(b"hello")
        return named.get("connection", "").lower() != "close"
