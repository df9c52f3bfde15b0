"""The management interface (MI): JSON-RPC 2.0 requests to commands, whatever transport they came by.

A command is declared with its *recipes*, the parameter lists that it accepts (``Module.mi``). Parameters by name choose
the recipe with exactly these names; parameters by position the only one of this length. Values are converted to the
types of the handler's annotations: numbers may come as text and text as numbers.

Texts of the server are byte strings carried as ``str`` (latin-1); JSON is UTF-8. Both conversions happen here.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from opensips_py.script.declarations import MICommand, MIError, Module
from opensips_py.server.log import DBG, ERROR, log

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
SERVER_ERROR = -32000

COUNT = "Too few or too many parameters"
AMBIGUOUS = "Ambiguous call, use named parameters instead"
NAMES = "Named parameters do not match"
VALUE = "Failed to handle parameter"

Reply = Callable[[bytes], None]
"""Takes the answer's JSON text; called once at most, unless the command has answers before its outcome."""


class ParseError(Exception):
    """The request is not JSON."""


class Later:
    """Returned by a handler whose result comes later: the answer is sent when :meth:`done` or :meth:`failed` is called."""

    def __init__(self) -> None:
        self._deliver: Callable[[Any, MIError | None], None] | None = None
        self._outcome: tuple[Any, MIError | None] | None = None

    @property
    def ended(self) -> bool:
        """Whether the outcome is there."""
        return self._outcome is not None

    def progress(self, result: Any) -> None:
        """An answer before the outcome: the client gets one more than it may expect."""
        if self._outcome is None and self._deliver is not None:
            self._deliver(result, None)

    def done(self, result: Any) -> None:
        """The command has succeeded."""
        self._end(result, None)

    def failed(self, error: MIError) -> None:
        """The command has failed."""
        self._end(None, error)

    def _end(self, result: Any, error: MIError | None) -> None:
        if self._outcome is None:
            self._outcome = (result, error)
            if self._deliver is not None:
                self._deliver(result, error)

    def deliver(self, to: Callable[[Any, MIError | None], None]) -> None:
        """Where the outcome goes; at once when it is there already."""
        self._deliver = to
        if self._outcome is not None:
            to(*self._outcome)


class Dispatcher:
    """Runs commands."""

    def __init__(self, modules: Iterable[Module], *, pretty: bool = False) -> None:
        self.commands: dict[str, MICommand] = {}
        """All commands by name."""
        self.pretty = pretty
        """Indented answers instead of compact ones."""
        for module in modules:
            for name, command in module.mi_commands.items():
                self.commands.setdefault(name, command)
        self._types = {name: _parameter_types(command) for name, command in self.commands.items()}

    def dispatch(self, text: bytes, reply: Reply) -> None:
        """Run one request. A request without ``id`` gets no answer. Raises ParseError when ``text`` is not JSON."""
        try:
            request = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ParseError(str(error)) from None
        wanted = not isinstance(request, dict) or "id" in request
        number = request.get("id") if isinstance(request, dict) else None
        if isinstance(number, bool) or not isinstance(number, int | float | str | None):
            number, valid = None, False
        else:
            valid = isinstance(request, dict)

        def deliver(result: Any, error: MIError | None) -> None:
            if wanted:
                reply(self._answer(number, result, error))

        try:
            if not valid:
                raise MIError(INVALID_REQUEST, "Invalid Request")
            result = self._run(request)
        except MIError as error:
            deliver(None, error)
            return
        if isinstance(result, Later):
            result.deliver(deliver)
        else:
            deliver(result, None)

    def _run(self, request: dict[str, Any]) -> Any:
        method, given = request.get("method"), request.get("params")
        if request.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(given, list | dict | None):
            raise MIError(INVALID_REQUEST, "Invalid Request")
        return self.run(method, given)

    def run(self, method: str, given: list[Any] | dict[str, Any] | None) -> Any:
        """Run a command with parameters by position or by name, texts in Unicode; its result, or Later. Raises MIError."""
        command = self.commands.get(method)
        if command is None:
            raise MIError(METHOD_NOT_FOUND, "Method not found")
        arguments = _match(command, given)
        kinds = self._types[method]
        converted = {name: _convert(value, kinds.get(name, str)) for name, value in arguments.items()}
        log(DBG, "mi", "run", f"command {method}")
        try:
            result = command.handler(**converted)
        except MIError:
            raise
        except Exception as error:
            log(ERROR, command.module, method, f"management command {method} failed: {type(error).__name__}: {error}")
            raise MIError(SERVER_ERROR, "Server error", "Command handler returned null") from error
        if result is None:
            raise MIError(SERVER_ERROR, "Server error", "Command handler returned null")
        return result

    def _answer(self, number: Any, result: Any, error: MIError | None) -> bytes:
        answer: dict[str, Any] = {"jsonrpc": "2.0"}
        if error is None:
            answer["result"] = to_json(result)
        else:
            answer["error"] = {"code": error.code, "message": to_json(error.message)}
            if error.data is not None:
                answer["error"]["data"] = to_json(error.data)
        answer["id"] = number
        text = msgspec.json.encode(answer)
        return msgspec.json.format(text, indent=4) if self.pretty else text


def _match(command: MICommand, given: list[Any] | dict[str, Any] | None) -> dict[str, Any]:
    """Arguments by name, by the recipe that fits."""
    if not given:
        given = []
    fitting = [recipe for recipe in command.recipes if len(recipe) == len(given)]
    if not fitting:
        raise MIError(INVALID_PARAMS, "Invalid params", COUNT)
    if isinstance(given, dict):
        for recipe in fitting:
            if all(name in given for name in recipe):
                return given
        raise MIError(INVALID_PARAMS, "Invalid params", NAMES)
    if len(fitting) > 1:
        raise MIError(INVALID_PARAMS, "Invalid params", AMBIGUOUS)
    return dict(zip(fitting[0], given, strict=True))


def _parameter_types(command: MICommand) -> dict[str, Any]:
    hints = typing.get_type_hints(command.handler)
    out = {}
    for name in inspect.signature(command.handler).parameters:
        hint = hints.get(name, str)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
            hint = next(a for a in typing.get_args(hint) if a is not type(None))
        out[name] = hint
    return out


def _convert(value: Any, kind: Any) -> Any:
    """A parameter's value as the handler wants it."""
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            try:
                return int(value)
            except ValueError:
                pass
    elif typing.get_origin(kind) is list:
        if isinstance(value, list):
            item = typing.get_args(kind)[0]
            return [_convert(v, item) for v in value]
    elif kind is str:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass").decode("latin-1")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    elif kind is Any:
        return value
    raise MIError(INVALID_PARAMS, "Invalid params", VALUE)


def to_json(value: Any) -> Any:
    """A result with its texts as Unicode."""
    if isinstance(value, str):
        if value.isascii():
            return value
        try:
            return value.encode("latin-1").decode("utf-8")
        except UnicodeError:  # not UTF-8 on the wire, or a text of Python's own
            return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {to_json(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    return value
