"""The tree of a routing script.

Every node knows where it stands: ``file``, ``line``, ``column`` (both from 1) and ``end``, the column after its last
character when it ends on the same line. Nothing here knows what a name means; that is the checker's job.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from opensips_py.script.context import RouteKind


@dataclass(slots=True, kw_only=True)
class Node:
    """A piece of the script and its place."""

    file: str
    line: int
    column: int
    end: int


# --- expressions -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Number(Node):
    """An integer literal, with its sign."""

    value: int


@dataclass(slots=True)
class String(Node):
    """A quoted string, escapes already resolved."""

    value: str


@dataclass(slots=True)
class Variable(Node):
    """A pseudo-variable as written: ``$avp(x)``, ``$(hdr(x)[-1]{s.len})``."""

    text: str


@dataclass(slots=True)
class Null(Node):
    """``NULL``."""


@dataclass(slots=True)
class Network(Node):
    """An IP address or network, unquoted: ``10.0.0.0/8``, ``127.0.0.0/255.0.0.0``."""

    text: str


@dataclass(slots=True)
class Arithmetic(Node):
    """``left op right`` with ``+ - * / % | & ^ << >>``."""

    op: str
    left: Expression
    right: Expression


@dataclass(slots=True)
class Complement(Node):
    """``~ operand``."""

    operand: Expression


@dataclass(slots=True)
class CodeOf(Node):
    """A command where a value stands, ``$var(x) = f()``: its return code."""

    command: Statement


@dataclass(slots=True)
class TruthOf(Node):
    """A condition where a value stands, ``$var(x) = $var(y) > 3``: 1 or 0."""

    condition: Condition


Expression = Number | String | Variable | Null | Network | Arithmetic | Complement | CodeOf | TruthOf
Argument = Number | String | Variable | Null | None
"""An argument of a call; None is an omitted one."""


# --- conditions --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Comparison(Node):
    """``left op right`` with ``== != < > <= >= =~ !~``."""

    op: str
    left: Expression
    right: Expression


@dataclass(slots=True)
class Truth(Node):
    """A bare value as condition: ``$var(x)``, ``1``, ``[$var(x) & 2]``."""

    value: Expression
    bracketed: bool = False
    """In ``[ ]``, where a variable alone is true unless it is NULL."""


@dataclass(slots=True)
class Logical(Node):
    """``left and right``, ``left or right``: one precedence, from the left."""

    op: str
    left: Condition
    right: Condition


@dataclass(slots=True)
class Not(Node):
    """``! operand``."""

    operand: Condition


@dataclass(slots=True)
class Ran(Node):
    """A command as condition: true when its return code is positive."""

    command: Statement


Condition = Comparison | Truth | Logical | Not | Ran


# --- statements --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Call(Node):
    """A core or module function."""

    name: str
    arguments: list[Argument]


@dataclass(slots=True)
class RouteCall(Node):
    """``route(name, …)``: run another route block as a subroutine; the arguments are ``$param(1)``, ``$param(2)`` … there."""

    target: String | Number | Variable
    arguments: list[Argument]


@dataclass(slots=True)
class Xlog(Node):
    """``xlog([level,] format)``, ``xdbg(format)``: write a line to the log; variables are put in."""

    level: Argument
    format: String | Variable


@dataclass(slots=True)
class Log(Node):
    """``log([level,] "text")``: write a line to the log; variables are not put in."""

    level: int
    text: str


@dataclass(slots=True)
class Noop(Node):
    """``error("a", "b")``: kept by OpenSIPS for old scripts, does nothing."""


@dataclass(slots=True)
class Return(Node):
    """``return``, ``return(n)``, ``return($var(x))``: back to the caller with ``$rc`` 1 or the value; 0 ends the script."""

    value: Number | Variable | None


@dataclass(slots=True)
class Exit(Node):
    """``exit``: end the run of the script."""


@dataclass(slots=True)
class Drop(Node):
    """``drop``: end the run of the script, and the action that would follow (a branch, a reply) is not carried out."""


@dataclass(slots=True)
class Break(Node):
    """``break``: leave the loop or switch."""


@dataclass(slots=True)
class If(Node):
    """``if (condition) then [else otherwise]``."""

    condition: Condition
    then: list[Statement]
    otherwise: list[Statement]


@dataclass(slots=True)
class While(Node):
    """``while (condition) body``; left after max_while_loops passes."""

    condition: Condition
    body: list[Statement]


@dataclass(slots=True)
class ForEach(Node):
    """``for ($var(it) in $(avp(list)[*])) body``: once for each value."""

    iterator: Variable
    values: Variable
    body: list[Statement]


@dataclass(slots=True)
class Case(Node):
    """``case label: body``; ``label`` None is ``default``."""

    label: Number | String | None
    body: list[Statement]


@dataclass(slots=True)
class Switch(Node):
    """``switch ($pv) { … }``: goes on in the next case where no ``break`` stands."""

    value: Variable
    cases: list[Case]


@dataclass(slots=True)
class Assign(Node):
    """``$pv op value``; ``op`` is one of ``= := += -= /= *= %= &= |= ^=``. ``:=`` replaces all values of an AVP."""

    target: Variable
    op: str
    value: Expression


@dataclass(slots=True)
class Async(Node):
    """``async(f(…), route[, seconds])``: suspend the request until ``f`` is done, then run ``route``."""

    call: Call
    route: String
    seconds: float | Variable | None
    """None: as the core parameter ``async_timeout`` says; 0: none."""


@dataclass(slots=True)
class Await(Node):
    """``await(f(…)[, seconds])``: the script waits for ``f`` and goes on after it, with its return code. (Ours.)"""

    call: Call
    seconds: float | Variable | None
    """None: as the core parameter ``async_timeout`` says; 0: none."""


@dataclass(slots=True)
class Launch(Node):
    """``launch(f(…)[, route[, "text"[, seconds]]])``: start ``f`` and go on; ``route`` runs when it is done,
    ``text`` is ``$param(1)``."""

    call: Call
    route: String | None
    text: String | Variable | None
    seconds: float | Variable | None = None


@dataclass(slots=True)
class Assert(Node):
    """``assert(condition, "info")``: with enable_asserts, end the run of the script when the condition is false."""

    condition: Condition
    info: str


Statement = (
    Call
    | RouteCall
    | Xlog
    | Log
    | Noop
    | Return
    | Exit
    | Drop
    | Break
    | If
    | While
    | ForEach
    | Switch
    | Assign
    | Async
    | Await
    | Launch
    | Assert
)


# --- top level ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Word(Node):
    """An unquoted word as value of a core parameter: ``yes``, ``LOG_DAEMON``."""

    text: str


@dataclass(slots=True)
class Endpoint(Node):
    """``[proto:]host[:port]`` with what may follow in ``socket=`` and ``alias=``."""

    proto: str | None
    host: str
    port: int | None
    advertised_host: str | None = None
    advertised_port: int | None = None
    workers: int | None = None
    scaling_profile: str | None = None
    anycast: bool = False
    tag: str | None = None


@dataclass(slots=True)
class Setting(Node):
    """``name = value``: a core parameter. ``words`` are further words after the value (scaling profiles)."""

    name: str
    value: Number | String | Word | Endpoint | Network
    words: list[Number | String | Word] = field(default_factory=list)


@dataclass(slots=True)
class LoadModule(Node):
    """``loadmodule "name.so"``."""

    path: str


@dataclass(slots=True)
class ModParam(Node):
    """``modparam("module", "name", value)``."""

    module: str
    name: str
    value: Number | String


@dataclass(slots=True)
class Route(Node):
    """A route block."""

    kind: RouteKind
    name: str
    """``0`` for a block without a name."""
    body: list[Statement]
    interval: int = 0
    """Seconds, of a timer route."""
    keyword: str = "route"
    sync: bool = False
    """Of an event route: it runs inside what raises the event (``event_route[NAME, sync]``)."""


@dataclass(slots=True)
class Script:
    """A whole script, in the order written."""

    settings: list[Setting] = field(default_factory=list)
    modules: list[LoadModule] = field(default_factory=list)
    parameters: list[ModParam] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
