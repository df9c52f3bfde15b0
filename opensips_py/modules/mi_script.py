"""Management commands run by the script (module mi_script, which OpenSIPS has since version 3.2).

``mi("get_statistics", $var(json), $avp(names), $avp(values))``: the result is JSON text, as a management client gets it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from opensips_py.core import mi_commands
from opensips_py.engine.operation import LOST, TIMEOUT, Done, Operation
from opensips_py.mi.dispatcher import Dispatcher, Later, to_json
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import ALL, MIError, Module, Var
from opensips_py.script.environment import stored_name
from opensips_py.script.outputs import to_script, to_unicode
from opensips_py.server.log import ERROR, WARNING, log

module = Module("mi_script", doc="Management commands run by the script (module mi_script of OpenSIPS 3.2)")

pretty_printing = module.param("pretty_printing", int, 0, doc="1: the result is indented")
module.param("trace_destination", str, "", doc="where commands are traced to", no_effect="commands are not traced")
module.param("trace_bwlist", str, "", doc="which commands are traced", no_effect="commands are not traced")

UNKNOWN = -1
"""``$rc`` when there is no such command."""
PARAMETERS = -2
"""``$rc`` when the AVPs do not fit together."""
NO_RESULT = -3
"""``$rc`` when there is no result: the command has none, or it takes time and the call does not wait."""


def _no_avp(text: str, registry: Any) -> str | None:
    name = stored_name(text)
    return None if name is not None and name[0] == "avp" and "[" not in text and "{" not in text else "Parameter must be an AVP"


Avp = Annotated[Var, "var", _no_avp]

_dispatcher: list[Dispatcher] = []


def _commands() -> Dispatcher:
    """The commands of this server; collected when the first one is run."""
    if not _dispatcher:
        _dispatcher.append(Dispatcher(mi_commands.modules()))
        mi_commands.describe(_dispatcher[0].commands)
    return _dispatcher[0]


@module.on_config
def configure() -> None:
    """Another script may have other modules."""
    _dispatcher.clear()


class MiCommand(Operation):
    """One command. Most are done at once; one whose result comes later is waited for here, in the process that began it."""

    name = "mi"
    bound = True

    def __init__(
        self,
        out: str | None,
        command: str = "",
        given: list[Any] | dict[str, Any] | None = None,
        problem: tuple[int, str] | None = None,
    ) -> None:
        self._out = out
        self._command = command
        self._given = given
        self._problem = problem
        self._outcome: Done | None = None

    def start(self) -> Done | None:
        if self._problem is not None:
            return self._failed(*self._problem)
        commands = _commands()
        command = commands.commands.get(self._command)
        if command is None:
            log(ERROR, "mi_script", "mi", f"there is no management command {self._command[:100]}")
            return Done(UNKNOWN)
        if self.mode == "plain" and command.later:
            return self._failed(NO_RESULT, f"{self._command} takes time: write async(mi(...), route)")
        try:
            result = commands.run(self._command, self._given)
        except MIError as error:
            return self._error(error)
        if not isinstance(result, Later):
            return self._success(result)
        later = result

        def deliver(result: Any, error: MIError | None) -> None:
            if later.ended:  # and not only an answer on the way
                self._outcome = self._success(result) if error is None else self._error(error)
                if self.changed is not None:
                    self.changed()

        later.deliver(deliver)
        if self._outcome is None and self.mode == "plain":
            return self._failed(
                NO_RESULT, f"{self._command} has begun and takes time: write async(mi(...), route) for its result"
            )
        return self._outcome

    def _success(self, result: Any) -> Done:
        text = msgspec.json.encode(to_json(result))
        return Done(1, self._assigned((msgspec.json.format(text, indent=4) if pretty_printing.value else text).decode("latin-1")))

    def _error(self, error: MIError) -> Done:
        return Done(-abs(error.code) or NO_RESULT, self._assigned(to_script(to_json(error.message))))

    def _failed(self, rc: int, text: str) -> Done:
        log(ERROR, "mi_script", "mi", text)
        return Done(rc, self._assigned(to_script(text)))

    def _assigned(self, value: Value) -> list[tuple[str, Value]]:
        return [] if self._out is None else [(self._out, value)]

    def fileno(self) -> int:
        return -1

    def advance(self) -> Done | None:
        return self._outcome

    def expire(self) -> Done:
        return Done(TIMEOUT)

    def freeze(self) -> bytes:
        return b""

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        return _Lost(None)


class _Lost(MiCommand):
    """A command whose process has died: nobody knows whether it was run."""

    def start(self) -> Done:
        return Done(LOST)


@module.operation(routes=ALL)
def mi(
    ctx: Context, command: str, ret_var: Var | None = None, params_avp: Avp | None = None, vals_avp: Avp | None = None
) -> MiCommand | int:
    """Run a management command; its result goes to ``ret_var`` as JSON, or the text of the error.

    ``command`` is the name, and after it, separated by spaces, its parameters in order. With ``params_avp`` these
    are the values of that AVP instead, in the order in which they were added; with ``vals_avp`` too, ``params_avp`` has
    the names of the parameters and ``vals_avp`` their values. A value ``__array(a b)`` is a list.

    1: done. -1: there is no such command; -2: not as many values as names; -3: no result; otherwise the error code of
    the management interface as a negative number. In ``async()`` commands whose result comes later (``t_uac_dlg``,
    ``reload_routes``) are waited for; a plain call of these gives -3.
    """
    name, _, rest = command.strip().partition(" ")
    out = None if ret_var is None else ret_var.text
    given: list[Any] | dict[str, Any] = [to_unicode(word) for word in rest.split()]
    first, second = params_avp or vals_avp, vals_avp if params_avp is not None else None
    if first is not None:
        names = _values(ctx, first)
        given = [_parameter(value) for value in names]
        if second is not None:
            values = _values(ctx, second)
            if len(values) < len(names):
                return MiCommand(out, problem=(PARAMETERS, "could not parse script params!"))
            if len(values) > len(names):
                log(WARNING, "mi_script", "mi", f"{name}: {len(values)} values for {len(names)} parameters, the last are ignored")
            given = {to_unicode(str(key)): _parameter(value) for key, value in zip(names, values, strict=False)}
    return MiCommand(out, name, given)


# the AVPs are read, not written
for _parameter_of_mi in module.functions["mi"].parameters[2:]:
    _parameter_of_mi.written = False


def _values(ctx: Context, avp: Var) -> list[str | int]:
    """Values of an AVP in the order in which they were added."""
    name = stored_name(avp.text)
    assert name is not None
    return list(ctx.avps.get(name[1], ()))


def _parameter(value: str | int) -> Any:
    if isinstance(value, int):
        return value
    text = to_unicode(value)
    if text.startswith("__array(") and text.endswith(")"):
        return text[len("__array(") : -1].split()
    return text
