"""How a module declares what it adds to the language.

A module is one Python file with one :class:`Module` object; each function, parameter, statistic, MI command and
variable is declared once, at the code itself, and everything else (the script checker, ``which``, the reference
pages) is drawn from that declaration::

    module = Module("maxfwd", doc="Max-Forwards check (OpenSIPS module maxfwd)")
    max_limit = module.param("max_limit", int, 256, doc="highest value accepted")

    @module.function(routes=R)
    def mf_process_maxfwd_header(ctx: Context, limit: int) -> int:
        '''...'''

Parameter types of a script function come from its annotations: ``int``, ``str``, :class:`Var` (a variable to read
and write), ``Pattern`` (a regular expression: POSIX extended syntax, matched ignoring case), :data:`Static` (a
literal that is not expanded), :data:`VarList` (a literal list of variables, ``"$avp(a);$avp(b)"``). ``T | None = None``
makes one optional (``T | None`` where a mandatory one follows); an omitted argument (``f(, x)``) arrives as None. A
value that is NULL for a ``str`` or ``int`` parameter that was given makes the call fail with return code -1 without
calling the function.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Protocol, TypeVar

from opensips_py.script.context import Context, RouteKind, Value
from opensips_py.script.flag_words import FlagWords
from opensips_py.script.outputs import Out
from opensips_py.script.posix_regex import Regex

R, F, O, B, L, E, S, T, V = (  # noqa: E741  (the letters of the OpenSIPS manual)
    RouteKind.REQUEST,
    RouteKind.FAILURE,
    RouteKind.ONREPLY,
    RouteKind.BRANCH,
    RouteKind.LOCAL,
    RouteKind.ERROR,
    RouteKind.STARTUP,
    RouteKind.TIMER,
    RouteKind.EVENT,
)
ALL = RouteKind.ALL


class Doubt(str):
    """What the check of a literal argument finds strange, but not wrong: a warning instead of an error."""

    __slots__ = ()


class Var(Protocol):
    """A variable as it stands in a script, ready to read and write."""

    text: str
    """Source text, e.g. ``$avp(credit)``; the same text gives an equal variable in every process."""
    writable: bool

    def get(self, ctx: Context) -> Value: ...

    def set(self, ctx: Context, value: Value) -> None: ...


ReadVar = Annotated[Var, "read"]
"""A variable that is only read."""
Pattern = Regex
Static = Annotated[str, "static"]
"""A literal that is not expanded. ``Annotated[str, "static", f]``: ``f(text, registry)`` tells when the script is checked
what is wrong with it, or None. ``Annotated[str, "str", f]``: the same of a literal that stands where variables may, too.
``Annotated[int, "mask", words]`` and ``Annotated[str, "letters", words]``: flags by name (see ``script.flag_words``)."""
Given = Annotated[Value, "value"]
"""A text, a number or NULL, as the script has it. ``*values: Given`` takes any number of them at the end."""
LooseInt = Annotated[int, "loose_int"]
"""A number, which a literal may also have in quotes: ``"+1"``."""
Line = Annotated[str, "line"]
"""Text that becomes part of a line of a message: with a line end or NUL in it the call fails with -1."""
HeaderLines = Annotated[str, "lines"]
"""Header lines: what variables bring into them may not end a line."""
VarList = Annotated[Sequence[Var], "varlist"]
FlagName = Annotated[int, "flag"]
"""A literal name of a message flag; the function gets its mask (see ``script.flag_names``)."""
BranchFlagName = Annotated[int, "branch_flag"]
"""The same for branch flags."""
AvpName = Annotated[str, "avp"]
"""An AVP with a fixed name, ``$avp(name)`` without quotes; the function gets its name."""
RouteName = Annotated[str, "route"]
"""A literal name of a ``route[name]`` block."""
EventName = Annotated[str, "event"]
"""Text that names an event; a literal that names none is warned of."""
RaisedEvent = Annotated[str, "raised_event"]
"""A literal name of an event that the function raises."""

ParamValue = TypeVar("ParamValue")


@dataclass(slots=True)
class Parameter:
    """One parameter of a script function."""

    name: str
    kind: str
    """One of ``int str value var regex static varlist flag branch_flag avp route event raised_event mask letters loose_int``."""
    optional: bool
    written: bool = True
    """False: a ``var`` that the function only reads."""
    fault: Callable[[str, Any], str | None] | None = None
    """Of a ``static``, ``str`` or ``var`` one: ``fault(text, registry)`` tells what is wrong with a literal or a variable."""
    repeated: bool = False
    """The last one: it may be given any number of times."""
    own: bool = False
    """A ``var`` that is an ``Out``, of a user's module: that it can be written is checked more strictly than OpenSIPS does."""
    guard: str = ""
    """Of a ``str`` one: ``line`` or ``lines`` when it becomes part of a line of a message, or lines of it."""
    words: FlagWords | None = None
    """Of a ``mask`` or ``letters`` one: its flags by name."""


@dataclass(slots=True)
class Function:
    """A function that scripts may call."""

    name: str
    module: str
    call: Callable[..., Any]
    """``call(ctx, *arguments)``: an int return code, or, when ``waits``, an int or an Operation."""
    parameters: list[Parameter]
    routes: RouteKind
    waits: bool = False
    """May be used in async() and launch(): ``call`` may return an Operation."""
    async_only: bool = False
    doc: str = ""
    given_fault: Callable[[str, int], str | None] | None = None
    """Of a function with repeated parameters: ``fault(first argument, number of those)``, when the first is a literal."""

    def parameters_for(self, count: int) -> list[Parameter]:
        """The parameters of a call with ``count`` arguments."""
        parameters = self.parameters
        if count > len(parameters) and parameters and parameters[-1].repeated:
            return parameters + parameters[-1:] * (count - len(parameters))
        return parameters

    @property
    def required(self) -> int:
        """How many leading parameters must be given."""
        return max((i + 1 for i, p in enumerate(self.parameters) if not p.optional), default=0)


@dataclass(slots=True)
class ModuleParameter(Generic[ParamValue]):
    """A ``modparam``. Read ``value``; with ``multiple`` it is a list to which each modparam line appends."""

    name: str
    type: type
    value: ParamValue
    doc: str
    multiple: bool = False
    no_effect: str | None = None
    """Why the parameter has no effect here (accepted, with a notice at check unless it asks for the default), or None."""
    not_yet: str | None = None
    """What it would need (only its default is accepted), or None."""
    convert: Callable[[Any], Any] | None = None
    """What a value of the script becomes; None: as it is."""


@dataclass(slots=True)
class Statistic:
    """A 64-bit counter in shared memory, one row per process.

    ``add`` is a plain memory write. Until the process attaches shared memory, counts go to a private cell.
    """

    name: str
    group: str
    doc: str = ""
    gauge: Callable[[], int] | None = None
    """Computes the value on reading, for statistics that are not counted (``inuse_transactions`` …)."""
    cells: Any = field(default_factory=lambda: [0])
    index: int = 0
    no_reset: bool = False
    """``reset_statistics`` and ``reset_stat()`` leave it alone."""
    level: bool = False
    """It goes up and down with what the process has: a new process in the place of a dead one begins at zero."""

    def add(self, n: int = 1) -> None:
        """Count ``n`` more."""
        self.cells[self.index] += n


@dataclass(slots=True)
class Event:
    """Something that happens in the server and that scripts and other programs can be told of (OpenSIPS event interface)."""

    name: str
    parameters: tuple[str, ...]
    """Names of what is told with it."""
    module: str
    doc: str = ""


@dataclass(slots=True)
class MICommand:
    """A management command. ``handler(**params)`` returns what becomes the JSON result, or raises MIError."""

    name: str
    handler: Callable[..., Any]
    recipes: list[tuple[str, ...]]
    """Accepted parameter-name lists, one per calling form; ``[()]`` for a command without parameters."""
    module: str
    doc: str = ""
    later: bool = False
    """Its result always comes after the handler has returned (``core.mi.Later``)."""


class MIError(Exception):
    """A management command failed: becomes the JSON-RPC error object."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class ConfigError(Exception):
    """A module refuses its configuration; the text says what is wrong and the way out."""

    def __init__(self, text: str, parameter: str | None = None, value: str | int | None = None) -> None:
        """``parameter`` and ``value``: the ``modparam`` that is wrong, to show its place in the script."""
        super().__init__(text)
        self.parameter, self.value = parameter, value


@dataclass(slots=True)
class VariableClass:
    """A kind of pseudo-variable: ``$name`` or ``$name(argument)``."""

    name: str
    read: Callable[[Context, str | None, int | str | None], Value]
    """``read(ctx, argument, index)``: the text in parentheses, already expanded, and an int, ``"*"`` or None."""
    write: Callable[[Context, str | None, int | str | None, Value], None] | None
    argument: str
    """``no``, ``optional`` or ``required``."""
    module: str
    doc: str = ""
    assign: Callable[[Context, str | None, int | str | None, Value], None] | None = None
    """The operator ``:=`` where it differs from ``=`` (``$json`` parses the value); None: as ``write``."""
    values: Callable[[Context, str | None], Sequence[Value]] | None = None
    """Every value, for ``for ($var(i) in $(…[*]))``; None: those that ``read`` gives for the indexes from 0."""
    fields: tuple[str, ...] = ()
    """All that may stand in the parentheses; empty: anything."""


@dataclass(slots=True, frozen=True)
class ModuleTransformation:
    """A transformation ``{class.operation}`` of text, without parameters."""

    name: str
    call: Callable[[str], Value]
    doc: str


class Module:
    """Everything that one module offers."""

    own = False
    """Written by a user."""

    def __init__(self, name: str, *, doc: str, depends: Sequence[str] = ()) -> None:
        self.name = name
        self.doc = doc
        self.depends = tuple(depends)
        """Modules that must be loaded too."""
        self.functions: dict[str, Function] = {}
        self.params: dict[str, ModuleParameter[Any]] = {}
        self.statistics: dict[str, Statistic] = {}
        self.mi_commands: dict[str, MICommand] = {}
        self.variables: dict[str, VariableClass] = {}
        self.events: dict[str, Event] = {}
        self.transformations: dict[str, ModuleTransformation] = {}
        self.check_hooks: list[Callable[[], None]] = []
        self.config_hooks: list[Callable[[], None]] = []
        self.process_hooks: list[Callable[[], None]] = []
        self.exit_hooks: list[Callable[[], None]] = []

    def function(self, *, routes: RouteKind, name: str | None = None) -> Callable[[Callable[..., int]], Callable[..., int]]:
        """Declare a script function that returns at once with a return code (>0 true, <0 false, 0 ends the script)."""

        def declare(call: Callable[..., int]) -> Callable[..., int]:
            self._add(call, routes, name, waits=False)
            return call

        return declare

    def operation(
        self, *, routes: RouteKind, name: str | None = None, async_only: bool = False
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a function that may wait: it returns an Operation, or an int when there is nothing to wait for.

        Scripts may call it plainly (the worker waits), in async() and in launch().
        """

        def declare(call: Callable[..., Any]) -> Callable[..., Any]:
            self._add(call, routes, name, waits=True, async_only=async_only)
            return call

        return declare

    def _add(
        self,
        call: Callable[..., Any],
        routes: RouteKind,
        name: str | None,
        *,
        waits: bool,
        async_only: bool = False,
        parameters: list[Parameter] | None = None,
    ) -> None:
        spec = Function(
            name=name or call.__name__,
            module=self.name,
            call=call,
            parameters=parameters_of(call) if parameters is None else parameters,
            routes=routes,
            waits=waits,
            async_only=async_only,
            doc=inspect.getdoc(call) or "",
        )
        self.functions[spec.name] = spec

    def param(
        self,
        name: str,
        type: type,
        default: ParamValue,
        *,
        doc: str,
        multiple: bool = False,
        no_effect: str | None = None,
        not_yet: str | None = None,
    ) -> ModuleParameter[ParamValue]:
        """Declare a module parameter (``modparam("module", "name", value)``); ``type`` object: a number or a text."""
        param = ModuleParameter(name, type, default, doc, multiple, no_effect=no_effect, not_yet=not_yet)
        self.params[name] = param
        return param

    def statistic(
        self, name: str, *, doc: str = "", group: str | None = None, gauge: Callable[[], int] | None = None
    ) -> Statistic:
        """Declare a statistic of this module's group."""
        stat = Statistic(name, group or self.name, doc, gauge)
        self.statistics[name] = stat
        return stat

    def event(self, name: str, *parameters: str, doc: str) -> Event:
        """Declare an event that ``evi.events.raise_event`` is called for."""
        event = self.events[name] = Event(name, parameters, self.name, doc)
        return event

    def mi(self, name: str, *recipes: tuple[str, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a management command with its accepted parameter lists (none given: no parameters)."""

        def declare(handler: Callable[..., Any]) -> Callable[..., Any]:
            later = str(handler.__annotations__.get("return", "")) == "Later"
            doc = inspect.getdoc(handler) or ""
            self.mi_commands[name] = MICommand(name, handler, list(recipes) or [()], self.name, doc, later)
            return handler

        return declare

    def variable(
        self,
        name: str,
        *,
        argument: str = "no",
        write: Callable[[Context, str | None, int | str | None, Value], None] | None = None,
        assign: Callable[[Context, str | None, int | str | None, Value], None] | None = None,
        values: Callable[[Context, str | None], Sequence[Value]] | None = None,
        fields: Sequence[str] = (),
        doc: str | None = None,
    ) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
        """Declare a pseudo-variable; the decorated function reads it, and its docstring (or ``doc``) says what it is.

        ``fields``: all that may stand in its parentheses, if that is known.
        """

        def declare(read: Callable[..., Value]) -> Callable[..., Value]:
            told = doc or inspect.getdoc(read) or ""
            self.variables[name] = VariableClass(name, read, write, argument, self.name, told, assign, values, tuple(fields))
            return read

        return declare

    def transformation(self, name: str) -> Callable[[Callable[[str], Value]], Callable[[str], Value]]:
        """Declare a transformation of text: the decorated function gets the value's text; None is NULL."""

        def declare(call: Callable[[str], Value]) -> Callable[[str], Value]:
            self.transformations[name] = ModuleTransformation(name, call, inspect.getdoc(call) or "")
            return call

        return declare

    def on_check(self, hook: Callable[[], None]) -> Callable[[], None]:
        """Run ``hook`` when the script has been read, also when it is only checked (``-C``): it reads parameters, and may
        look at files. May raise ConfigError."""
        self.check_hooks.append(hook)
        return hook

    def on_config(self, hook: Callable[[], None]) -> Callable[[], None]:
        """Run ``hook`` once, before the fork, when all parameters are known (OpenSIPS mod_init). May raise ConfigError."""
        self.config_hooks.append(hook)
        return hook

    def on_process(self, hook: Callable[[], None]) -> Callable[[], None]:
        """Run ``hook`` in every process after the fork (OpenSIPS child_init)."""
        self.process_hooks.append(hook)
        return hook

    def on_exit(self, hook: Callable[[], None]) -> Callable[[], None]:
        """Run ``hook`` in every process on orderly shutdown."""
        self.exit_hooks.append(hook)
        return hook


def parameters_of(call: Callable[..., Any], skip: int = 1) -> list[Parameter]:
    """Script parameters of ``call``, read from its annotations after the first ``skip`` arguments (the Context).

    Raises TypeError for what a script cannot give.
    """
    hints = typing.get_type_hints(call, include_extras=True)
    out = []
    for p in list(inspect.signature(call).parameters.values())[skip:]:
        if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and hints.get(p.name) != Given:
            raise TypeError(f"{call.__name__}(): parameter {p.name} cannot be given by a script, which gives arguments in order")
        if p.name not in hints:
            raise TypeError(f"{call.__name__}(): parameter {p.name} has no type annotation; scripts are checked by it")
        hint = hints[p.name]
        # one before a mandatory one cannot have a default: its type alone says that it may be omitted
        optional = p.default is not inspect.Parameter.empty or type(None) in typing.get_args(hint)
        kind = _kind(hint, call, p.name)
        guard = kind if kind in ("line", "lines") else ""
        read = kind == "read"
        kind = "str" if guard else "var" if read else kind
        fault, words, repeated = _fault(hint), _words(hint), p.kind is p.VAR_POSITIONAL
        optional = optional or repeated
        own = is_output(hint)
        out.append(Parameter(p.name, kind, optional, not read, fault, own=own, guard=guard, words=words, repeated=repeated))
    return out


def _fault(hint: Any) -> Callable[[str, Any], str | None] | None:
    """The check of a literal that an annotation carries."""
    check: Callable[[str, Any], str | None] | None = _extra(hint)
    return None if isinstance(check, FlagWords) else check


def _words(hint: Any) -> FlagWords | None:
    """The flags that an annotation carries."""
    words = _extra(hint)
    return words if isinstance(words, FlagWords) else None


def _extra(hint: Any) -> Any:
    for part in (hint, *typing.get_args(hint)):
        if typing.get_origin(part) is Annotated and len(typing.get_args(part)) > 2:
            return typing.get_args(part)[2]
    return None


def is_output(hint: Any) -> bool:
    """Whether an annotation is ``Out[str]``, ``Out[int]`` or ``Out[str | int]``, also with ``| None``."""
    if typing.get_origin(hint) is Out:
        (held,) = typing.get_args(hint)
        return held in (int, str) or set(typing.get_args(held)) == {int, str}
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    return typing.get_origin(hint) in (types.UnionType, typing.Union) and len(parts) == 1 and is_output(parts[0])


def _kind(hint: Any, call: Callable[..., Any], name: str) -> str:
    args = [a for a in typing.get_args(hint) if a is not type(None)]
    if typing.get_origin(hint) is not Annotated and type(None) in typing.get_args(hint):
        hint = args[0]
    if hint is int:
        return "int"
    if hint is str:
        return "str"
    if hint is Var or is_output(hint):
        return "var"
    if hint == Pattern:
        return "regex"
    if typing.get_origin(hint) is Annotated:
        return str(typing.get_args(hint)[1])
    shown = hint.__name__ if isinstance(hint, type) else str(hint)
    raise TypeError(
        f"{call.__name__}(): parameter {name} has the type {shown}, which scripts do not have; "
        "there are int, str, Pattern, Static, Out[str], Out[int], Var, VarList, each also with '| None = None'"
    )
