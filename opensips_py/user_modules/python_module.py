"""Modules that users write: :class:`Module` with functions that may block or are coroutines.

One declaration serves the plain call, ``async()`` and ``launch()``. A function that waits never sees the message or the
script's variables: its arguments are computed before, its outputs are assigned after, both in the process' own thread.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from opensips_py.engine.coroutine_job import CoroutineJob, Slots, loop
from opensips_py.engine.thread_job import ThreadJob, Threads
from opensips_py.evi.events import raise_event
from opensips_py.script import declarations
from opensips_py.script.context import Context, RouteKind, Value
from opensips_py.script.declarations import ALL, ConfigError, ModuleParameter
from opensips_py.script.outputs import to_script, to_unicode
from opensips_py.script.own_modules import describe
from opensips_py.server.guard import report_error
from opensips_py.server.process import this
from opensips_py.user_modules import own_request, script_thread, shared_data
from opensips_py.user_modules.python_call import Job, PythonCall
from opensips_py.user_modules.python_command import at_once, later
from opensips_py.user_modules.python_function import Signature, immediate, reader, waiting, writer
from opensips_py.user_modules.shared_data import Shared
from opensips_py.user_modules.timed_call import TimedCall

F = TypeVar("F", bound=Callable[..., Any])
Hook = Callable[[], None]
P = TypeVar("P")
V = TypeVar("V")

SECONDS = 30.0
"""Default deadline of a function that waits."""
THREADS = 8
COROUTINES = 1000
QUEUE = 1000
CLEAN_SECONDS = 60.0
"""How often shared data that have expired are removed."""


class Module(declarations.Module):
    """A module of one's own: ``module = Module("crm", doc="Customers")`` in a file that scripts load.

    ``name`` is the one that ``modparam`` uses, and the group of its statistics. ``depends`` names modules that a script must
    load too.
    """

    own = True

    def __init__(self, name: str, *, doc: str = "", depends: Sequence[str] = ()) -> None:
        super().__init__(name, doc=doc, depends=depends)
        self._threads = Threads(THREADS, QUEUE, name)
        self._slots = Slots(COROUTINES, QUEUE)
        self._sizes: dict[str, ModuleParameter[int]] = {}

    # --- functions --------------------------------------------------------------------------------------------------

    @overload
    def function(self, call: F, /) -> F: ...

    @overload
    def function(
        self,
        call: None = None,
        /,
        *,
        routes: RouteKind = ALL,
        name: str | None = None,
        seconds: float | ModuleParameter[int] | None = SECONDS,
    ) -> Callable[[F], F]: ...

    def function(
        self,
        call: Any = None,
        /,
        *,
        routes: RouteKind = ALL,
        name: str | None = None,
        seconds: float | ModuleParameter[int] | None = SECONDS,
    ) -> Any:
        """Declare a script function: a ``def`` that returns at once, or an ``async def``.

        A ``def`` runs where the script runs and must not block; its first parameter may be ``ctx: Context``. An ``async def``
        runs on the process' asyncio loop and can be called plainly (the worker waits), in async() and in launch();
        after ``seconds`` (also a module parameter; None: any time) it is cancelled.

        Returns an int (>0 true, <0 false, 0 ends the script), a bool (1 or -1) or None (1). An exception is logged
        with the script's line, and ``$rc`` is -1.
        """

        def declare(body: F) -> F:
            if inspect.iscoroutinefunction(body):
                self._size("coroutines", COROUTINES, "coroutines of one process that run at the same time; more of them wait")
                self._waiting(body, routes, name, seconds, self._coroutine)
                self._needs_loop()
            else:
                signature = Signature(body, waits=False)
                self._new(body, immediate(body, signature, name or body.__name__), signature, routes, name, waits=False)
            return body

        return declare if call is None else declare(call)

    @overload
    def blocking(self, call: F, /) -> F: ...

    @overload
    def blocking(
        self,
        call: None = None,
        /,
        *,
        routes: RouteKind = ALL,
        name: str | None = None,
        seconds: float | ModuleParameter[int] | None = SECONDS,
    ) -> Callable[[F], F]: ...

    def blocking(
        self,
        call: Any = None,
        /,
        *,
        routes: RouteKind = ALL,
        name: str | None = None,
        seconds: float | ModuleParameter[int] | None = SECONDS,
    ) -> Any:
        """Declare a script function that may block (a library for a database, ``requests``, files): it runs on a thread.

        Scripts can call it plainly (the worker waits), in async() and in launch(). After ``seconds`` (also a module
        parameter; None: any time) the script goes on with :data:`TIMEOUT`, and what the thread comes up with later is
        thrown away. For the result see :meth:`function`.
        """

        def declare(body: F) -> F:
            if inspect.iscoroutinefunction(body):
                raise TypeError(f"{body.__name__}() is async: declare it with @{self.name}.function, it needs no thread")
            self._size("threads", THREADS, "threads of one process; more calls wait")
            self._waiting(body, routes, name, seconds, lambda run, held: ThreadJob(run, threads=self._threads))
            return body

        return declare if call is None else declare(call)

    def _waiting(
        self,
        body: Callable[..., Any],
        routes: RouteKind,
        name: str | None,
        seconds: float | ModuleParameter[int] | None,
        begin: Callable[[Callable[[], Any], bool], Job],
    ) -> None:
        self._size("queue", QUEUE, "calls of one process that may wait for their turn; one more gets $rc -4 at once")
        signature = Signature(body, waits=True)
        shown = name or body.__name__
        if shown in self.functions:
            raise ValueError(f"function {shown}() is declared twice in module {self.name}")
        operation = type(f"{shown} of {self.name}", (PythonCall,), {"name": shown, "module": self.name})
        self._new(body, waiting(body, signature, operation, begin, seconds), signature, routes, name, waits=True)

    def _coroutine(self, run: Callable[[], Any], held: bool) -> Job:
        context = contextvars.copy_context()
        context.run(own_request.held.set, held)
        return CoroutineJob(run, self._slots, context)

    def _needs_loop(self) -> None:
        self.on_exit(loop.stop)
        self._needs_script_thread()

    def _needs_script_thread(self) -> None:
        self.on_process(script_thread.begin)
        self.on_exit(script_thread.end)

    def _new(self, body: Any, call: Any, signature: Signature, routes: RouteKind, name: str | None, *, waits: bool) -> None:
        shown = name or body.__name__
        if shown in self.functions:
            raise ValueError(f"function {shown}() is declared twice in module {self.name}")
        self._add(functools.wraps(body)(call), routes, name, waits=waits, parameters=signature.parameters)

    def _size(self, name: str, default: int, doc: str) -> None:
        """A module parameter that exists in modules that need it."""
        if name in self._sizes:
            return
        if not self._sizes:
            self.on_config(self._sized)
        self._sizes[name] = self.param(name, int, default, doc=doc)

    def _sized(self) -> None:
        for name, parameter in self._sizes.items():
            if parameter.value < (0 if name == "queue" else 1):
                raise ConfigError(f"{self.name}: {name} is {parameter.value}; it must be at least {int(name != 'queue')}")
            if name == "threads":
                self._threads.most = parameter.value
            elif name == "coroutines":
                self._slots.most = parameter.value
            else:
                self._threads.queue = self._slots.queue = parameter.value

    # --- management commands and variables ------------------------------------------------------------------------------

    def mi(self, name: str, *recipes: tuple[str, ...], blocking: bool = False) -> Callable[[F], F]:
        """Declare a management command with its accepted parameter lists (none given: no parameters).

        The function returns what becomes the JSON result, or raises MIError. It runs in the process of the
        management interface: an ``async def`` on its asyncio loop, a ``def`` there itself or, with ``blocking``, on a thread.
        """

        def declare(body: F) -> F:
            if name in self.mi_commands:
                raise ValueError(f"management command {name} is declared twice in module {self.name}")
            handler: Callable[..., Any]
            if inspect.iscoroutinefunction(body):
                self._needs_loop()
                handler = later(body, lambda run: CoroutineJob(run, self._slots))
            elif blocking:
                handler = later(body, lambda run: ThreadJob(run, threads=self._threads))
            else:
                handler = at_once(body)
            super(Module, self).mi(name, *recipes)(functools.wraps(body)(handler))
            self.mi_commands[name].later |= blocking or inspect.iscoroutinefunction(body)
            return body

        return declare

    def variable(
        self,
        name: str,
        *,
        argument: str = "no",
        write: Callable[[Context, str | None, Any, Value], None] | None = None,
        assign: Callable[[Context, str | None, Any, Value], None] | None = None,
        values: Callable[[Context, str | None], Sequence[Value]] | None = None,
        fields: Sequence[str] = (),
        doc: str | None = None,
    ) -> Callable[[F], F]:
        """Declare a pseudo-variable. The decorated function reads it: ``read(ctx, argument, index)``.

        ``argument`` says whether ``$name`` takes one in parentheses: ``no``, ``optional`` or ``required``. ``write(ctx, argument,
        index, value)`` is called for ``=`` and ``assign`` for ``:=``; a variable without them cannot be written. ``values(ctx,
        argument)`` gives what ``for`` runs over; without it, what ``read`` gives for the indexes from 0.
        ``fields`` is all that may stand in the parentheses, if that is known.
        """

        def declare(read: F) -> F:
            if name in self.variables:
                raise ValueError(f"variable ${name} is declared twice in module {self.name}")
            super(Module, self).variable(
                name,
                argument=argument,
                write=None if write is None else writer(write),
                assign=None if assign is None else writer(assign),
                values=values,
                fields=fields,
                doc=doc,
            )(functools.wraps(read)(reader(read)))
            return read

        return declare

    # --- events -----------------------------------------------------------------------------------------------------

    def event(self, name: str, *parameters: str, doc: str = "") -> OwnEvent:
        """Declare an event, ``E_…``, for ``event_route``, ``wait_for_event()`` and subscribers; ``emit`` raises it."""
        if name in self.events:
            raise ValueError(f"event {name} is declared twice in module {self.name}")
        if not self.events:
            self._needs_script_thread()
        made = self.events[name] = OwnEvent(name, parameters, self.name, doc)
        return made

    # --- start and end ----------------------------------------------------------------------------------------------

    def on_config(self, hook: Hook) -> Hook:
        """Run ``hook`` once, before the processes are forked, when all parameters are known.

        ConfigError, and any other exception, keeps the server from starting; its text is for who starts it.
        """

        super().on_config(_told(hook))
        return hook

    def on_check(self, hook: Hook) -> Hook:
        """Run ``hook`` when the script has been read, also by ``-C``: it may look at parameters. May raise ConfigError."""
        super().on_check(_told(hook))
        return hook

    # --- parameters, data, time -------------------------------------------------------------------------------------

    def param(
        self,
        name: str,
        type: type,
        default: P,
        *,
        doc: str = "",
        multiple: bool = False,
        no_effect: str | None = None,
        not_yet: str | None = None,
    ) -> ModuleParameter[P]:
        """Declare a module parameter, a number or a text: ``modparam("module", "name", value)``. Read its ``value``."""
        if type not in (int, str):
            raise TypeError(f"parameter {name} of module {self.name}: scripts have int and str, not {type!r}")
        if name in self.params:
            raise ValueError(f"parameter {name} is declared twice in module {self.name}")
        made = super().param(name, type, default, doc=doc, multiple=multiple, no_effect=no_effect, not_yet=not_yet)
        made.convert = _unicode
        return made

    @overload
    def shared(self, name: str, kind: type[V]) -> Shared[V]: ...

    @overload
    def shared(self, name: str, kind: Any = Any) -> Shared[Any]: ...

    def shared(self, name: str, kind: Any = Any) -> Shared[Any]:
        """A table in shared memory that all processes see; ``kind`` is the type of its values, which is checked on reading."""
        if not any(hook is _clean_shared for hook in self.process_hooks):
            self.on_process(_clean_shared)
        return Shared(self.name, name, kind)

    def every(self, seconds: float | ModuleParameter[int]) -> Callable[[F], F]:
        """Call the decorated function every ``seconds``, in one process of the server.

        A ``def`` runs on a thread, an ``async def`` on the asyncio loop. It is never run twice at the same time.
        """

        def declare(body: F) -> F:
            if inspect.signature(body).parameters:
                raise TypeError(f"{body.__name__}() has parameters, and runs without any")
            run: Callable[[], Any] = body
            if inspect.iscoroutinefunction(body):
                self._needs_loop()
                begin: Callable[[], Job] = lambda: CoroutineJob(run, self._slots)  # noqa: E731
            else:
                begin = lambda: ThreadJob(run, threads=self._threads)  # noqa: E731
            self.on_process(TimedCall(self.name, body.__name__, begin, seconds).begin)
            return body

        return declare


class OwnEvent(declarations.Event):
    """An event of a user's module."""

    def emit(self, **values: str | int) -> None:
        """Tell it to everybody who wants to know, on any thread. Raises TypeError for a parameter that it does not have."""
        unknown = set(values) - set(self.parameters)
        if unknown:
            raise TypeError(f"event {self.name} has no parameter {', '.join(sorted(unknown))}")
        told = [(key, to_script(value) if isinstance(value, str) else value) for key, value in values.items()]
        script_thread.call(lambda: raise_event(self.name, told))


def _told(hook: Hook) -> Hook:
    """The same, with every exception as one for who starts the server."""

    def guarded() -> None:
        try:
            hook()
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(describe(error)) from error

    return guarded


def _unicode(value: Any) -> Any:
    return to_unicode(value) if isinstance(value, str) else value


def _clean_shared() -> None:
    """The timer process removes what has expired, whichever modules it is of."""
    if this.kind != "timer" or _cleaning:
        return
    _cleaning.append(True)

    def tick() -> None:
        try:
            shared_data.remove_expired()
        except Exception as error:  # the next turn may succeed
            report_error(error, "shared data")
        this.reactor.call_at(this.clock.now() + CLEAN_SECONDS, tick)

    this.reactor.call_at(this.clock.now() + CLEAN_SECONDS, tick)


_cleaning: list[bool] = []
