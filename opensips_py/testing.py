"""Testing scripts and modules of one's own with pytest: a script runs in the test's process, on messages that the test makes.

::

    from opensips_py.testing import Script

    SCRIPT = '''
    loadmodule "crm.py"
    route { async(customer("$fU", $avp(name)), answer); }
    route[answer] { t_reply(200, "OK"); }
    '''


    def test_customer_is_found():
        with Script(SCRIPT, directory="modules") as script:
            run = script.request("INVITE", caller="sip:alice@example.com")
            assert run["$avp(name)"] == "Alice"
            assert run.replies == ["200 OK"]

Everything is the server's own: checker, compiler, transactions, async engine, store. Only sockets are missing: what the
server sends is kept for the test. Each request is served to its end, what ``async()`` and ``launch()`` wait for included.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from ipc.counters import Counters
from ipc.lmdb_store import LmdbStore
from opensips_py.core import core_statistics, mi_commands
from opensips_py.core.wiring import wire
from opensips_py.engine.engine import Engine
from opensips_py.engine.runtime import ScriptRuntime
from opensips_py.mi.dispatcher import Dispatcher
from opensips_py.script import program, variables
from opensips_py.script.context import Context, RouteKind, Value
from opensips_py.script.outputs import to_unicode
from opensips_py.script.pseudo_variables_storage import script_variables
from opensips_py.server import log as logging
from opensips_py.server.guard import report_error
from opensips_py.server.log import LogState
from opensips_py.server.process import this
from opensips_py.server.statistics import registry
from opensips_py.sip.message import SipMessage, parse
from opensips_py.tm.receive import receive_message
from workers.reactor import EpollReactor

_ADDRESS = ("192.0.2.10", 5060)
"""Where the server seems to be (RFC 5737), unless the script has ``socket=``."""
_MODULES = ("proto_udp", "tm", "sl")
"""Loaded in addition to those that the script loads."""
_numbers = itertools.count(1)


class Run:
    """What one message led to."""

    def __init__(self) -> None:
        self.sent: list[SipMessage] = []
        """Messages that the server sent, in order."""
        self.log: list[str] = []
        """Lines that it logged, without date and process."""
        self.context: Context | None = None
        """The context in which the main route ran; None when none ran."""

    @property
    def replies(self) -> list[str]:
        """Status and reason of the replies sent, without 100: ``["180 Ringing", "200 OK"]``."""
        return [f"{m.status} {to_unicode(m.reason)}" for m in self.sent if not m.is_request and m.status != 100]

    def __getitem__(self, variable: str) -> Value:
        """Value of a variable of the script after the run, as ``run["$avp(name)"]``."""
        if self.context is None:
            raise LookupError("no route ran, so there are no variables")
        value = variables.by_text(variable).get(self.context)
        return to_unicode(value) if isinstance(value, str) else value


class Script:
    """A script that runs. Use it in a ``with`` statement; there can be one at a time.

    ``text`` is as in a file in ``directory``: that is where its modules are. ``socket=`` and the modules proto_udp, tm and sl
    are added where they are missing. ``process`` is the kind of process that this one stands for: in ``timer`` run the functions
    of ``Module.every``. Raises ScriptErrors, with the findings of ``-C``, when the script is wrong.
    """

    def __init__(
        self, text: str, *, directory: str | os.PathLike[str] = ".", process: Literal["SIP receiver", "timer"] = "SIP receiver"
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="opensips-py-test-")
        self._before = dict(vars(this))
        self._log = logging.state
        self._run = Run()
        try:
            self._start(text, os.fspath(directory), process)
        except BaseException:
            self.close()
            raise

    def _start(self, text: str, directory: str, process: str) -> None:
        path = Path(self._folder.name) / "opensips.cfg"
        path.write_text(_completed(text, os.path.abspath(directory)), encoding="utf-8")
        loaded = program.load(str(path))
        logging.state = _Lines(lambda line: self._run.log.append(line))
        logging.state.level = loaded.settings.log_level
        logging.state.xlog_level = loaded.settings.xlog_level
        this.program = loaded
        if "mi_fifo" in loaded.modules:  # nobody serves it here, and a server that runs beside the test may be serving it
            loaded.modules["mi_fifo"].params["fifo_name"].value = os.path.join(self._folder.name, "fifo")
        for module in loaded.modules.values():
            for hook in module.config_hooks:
                hook()
        this.slot, this.incarnation, this.kind = 1, 1, process
        this.kinds = ["attendant", this.kind]
        this.sockets = loaded.sockets
        network: Any = _Wire(self._sent)
        this.handles = [network for _ in loaded.sockets]
        this.started_at, this.argv = this.clock.now(), []
        wire()
        core_statistics.collect(loaded.modules.values())
        this.counters = Counters.create(self._folder.name, 2)
        status = this.counters.status(1)
        status.pid = os.getpid()
        self._reactor = EpollReactor(status, lambda error: report_error(error, ""))
        this.reactor = self._reactor
        self._store = LmdbStore.create(self._folder.name, 64 << 20)
        this.store = self._store
        this.fd_keeper = _Keeper()
        registry.attach(this.counters, place_row=1)
        this.engine = engine = Engine(status)
        loaded.runtime = ScriptRuntime(engine)
        script_variables.clear()
        self._note_context(loaded)
        self._dispatcher = Dispatcher(mi_commands.modules())
        mi_commands.describe(self._dispatcher.commands)
        for module in loaded.modules.values():
            for hook in module.process_hooks:
                hook()

    def _note_context(self, loaded: program.Program) -> None:
        main = loaded.routes.get((RouteKind.REQUEST, "0"))
        if main is None:
            return
        run = main

        def noted(ctx: Context) -> int:
            self._run.context = ctx
            return run(ctx)

        loaded.routes[RouteKind.REQUEST, "0"] = noted

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End what still runs, and give everything back. Idempotent."""
        if "engine" in vars(this) and vars(this).get("store") is getattr(self, "_store", None) is not None:
            this.engine.answer_parked(503, "Service Unavailable")
            for module in this.program.modules.values():
                for hook in module.exit_hooks:
                    hook()
            self._store.close()
            self._reactor.close()
        vars(this).clear()
        vars(this).update(self._before)
        logging.state = self._log
        self._folder.cleanup()

    # --- messages ---------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str = "INVITE",
        uri: str = "sip:bob@example.com",
        *,
        caller: str = "sip:alice@example.com",
        callee: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: str = "",
        source: tuple[str, int] = ("192.0.2.1", 5060),
        seconds: float = 10.0,
    ) -> Run:
        """Have the server receive a request outside a dialog, and serve it to its end.

        ``caller`` and ``callee`` (default: ``uri``) are the URIs in From and To. Raises TimeoutError when something
        is still waited for after ``seconds``.
        """
        number = next(_numbers)
        content = body.replace("\r\n", "\n").replace("\n", "\r\n").encode()
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {source[0]}:{source[1]};branch=z9hG4bK-test-{number}",
            "Max-Forwards: 70",
            f"From: <{caller}>;tag=t{number}",
            f"To: <{callee or uri}>",
            f"Call-ID: test-{number}@{source[0]}",
            f"CSeq: {number} {method}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
            f"Content-Length: {len(content)}",
        ]
        return self.receive("\r\n".join(lines).encode() + b"\r\n\r\n" + content, source, seconds)

    def receive(self, data: bytes, source: tuple[str, int] = ("192.0.2.1", 5060), seconds: float = 10.0) -> Run:
        """Have the server receive a datagram, and serve it to its end."""
        self._run = run = Run()
        received: list[bool] = []

        def receive() -> None:
            receive_message(data, source, this.sockets[0])
            received.append(True)

        self._reactor.call_soon(receive)
        self.wait(lambda: bool(received) and len(this.engine) == 0, seconds)
        return run

    def wait(self, until: Callable[[], bool], seconds: float = 10.0) -> None:
        """Let the server do what is due until something is so. Raises TimeoutError."""
        end = this.clock.now() + seconds

        def look() -> None:
            now = this.clock.now()
            if until() or now > end:
                self._reactor.stop()
            else:
                self._reactor.call_at(now + 0.002, look)

        self._reactor.call_soon(look)
        self._reactor.run()
        if not until():
            raise TimeoutError(f"still waiting after {seconds} s; the log:\n" + "\n".join(self._run.log))

    def _sent(self, data: bytes) -> None:
        self._run.sent.append(parse(data))

    # --- management -------------------------------------------------------------------------------------------------

    def mi(self, command: str, params: Mapping[str, Any] | Iterable[Any] | None = None, seconds: float = 10.0) -> Any:
        """The answer to a management command: the object ``{"result": ...}`` or ``{"error": ...}``."""
        given = dict(params) if isinstance(params, Mapping) else list(params or ())
        answers: list[Any] = []
        request = {"jsonrpc": "2.0", "id": 1, "method": command, "params": given}
        self._dispatcher.dispatch(msgspec.json.encode(request), lambda data: answers.append(msgspec.json.decode(data)))
        self.wait(lambda: bool(answers), seconds)
        return {name: value for name, value in answers[0].items() if name in ("result", "error")}

    def statistic(self, name: str) -> int:
        """Value of a statistic, ``group:name``. Raises LookupError when there is none."""
        found = registry.find(name)
        if found is None:
            raise LookupError(f"there is no statistic {name}")
        return registry.value(found)


class _Wire:
    """Stands for the server's sockets."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        self._take(data)
        return len(data)


class _Keeper:
    """Stands for the attendant, which keeps descriptors for other processes: there are none."""

    def keep(self, key: str, fds: list[int]) -> None:
        pass

    def drop(self, key: str) -> None:
        pass


class _Lines(LogState):
    """A log that keeps its lines."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self._take = take

    def write(self, level: int, line: bytes, facility: int | None = None) -> bool:
        self._take(to_unicode(line.decode("latin-1")).rstrip("\n"))
        return True


def _completed(text: str, directory: str) -> str:
    """The script with what it needs and leaves out, at its end, so that its lines keep their numbers."""
    more = [] if "mpath" in text else [f'mpath="{directory}/"']
    if not any(line.lstrip().startswith("socket") for line in text.splitlines()):
        more.append(f"socket=udp:{_ADDRESS[0]}:{_ADDRESS[1]}")
    more += [f'loadmodule "{name}.so"' for name in _MODULES if f'"{name}.so"' not in text and f'"{name}"' not in text]
    return text + "\n" + "\n".join(more) + "\n"
