"""External programs (OpenSIPS module exec).

``exec(command[, stdin[, $out[, $err[, $avp(env)]]]])`` runs ``/bin/sh -c command``. What the function waits for:

============================  =====================================================  ===========================
call                          waits for                                              return code
============================  =====================================================  ===========================
with ``$out`` or ``$err``     the end of these streams (not of the program)          1
no variable, plain            nothing                                                1
no variable, ``async()``      nothing                                                2
no variable, ``launch()``     the end of the program                                 1 for exit status 0, else -1
============================  =====================================================  ===========================

-1 whenever the program cannot be started or writes more than ``max_output_size``. A process runs at most ``max_children``
programs at the same time; beyond that ``async()`` and ``launch()`` wait for one of them to end, within their time limit, and
-4 is returned to plain calls and when ``max_waiting_programs`` calls wait already. With ``rc_from_exit_status``, calls with a
variable wait for the program's end too and return as ``launch()`` does. A program that outlives its call goes on alone, and
is reaped when it ends.

A plain call gives a variable the whole output, with its line ends, as one value. In ``async()``, ``await()`` and
``launch()`` each line is one assignment: an AVP becomes a stack with the last line on top, any other variable keeps the
last line. Empty lines are values there, and a last line without line end counts. No output leaves the variable alone.
Lines are not cut (OpenSIPS cuts them after 1024 bytes), bytes pass unchanged.

When the program has ended while something that it started still holds its output open, output is awaited for
``output_grace`` more milliseconds.
"""

from __future__ import annotations

import os
import re

from opensips_py.modules.exec import child_places
from opensips_py.modules.exec.child_places import places
from opensips_py.modules.exec.program_run import ExecOperation, Limits
from opensips_py.script import variables
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import ConfigError, F, L, Module, O, R, S, T, V, Var
from opensips_py.server.log import ERROR, log

module = Module("exec", doc="External programs (OpenSIPS module exec)")

time_to_kill = module.param(
    "time_to_kill",
    int,
    0,
    doc="seconds that a program may run; then its process group gets SIGTERM, and SIGKILL one second later; 0: any time",
)
setvars = module.param(
    "setvars", int, 0, doc="1: put the message into the environment (SIP_HF_<name>, SIP_TID, SIP_SRCIP and so on)"
)
rc_from_exit_status = module.param(
    "rc_from_exit_status", int, 0, doc="1: with an output variable too, $rc is 1 for exit status 0 and -1 for any other"
)
max_output_size = module.param(
    "max_output_size",
    int,
    16384,
    doc="KB of output that a program may write, else it is killed ($rc -1); a line for an AVP counts 128 bytes more; 0: any",
)
max_children = module.param(
    "max_children",
    int,
    256,
    doc="programs that one process may have at the same time, those that run on alone included; 0: any number (ours)",
)
max_waiting_programs = module.param(
    "max_waiting_programs",
    int,
    4096,
    doc="calls in async() and launch() of one process that may wait for another program to end; more: $rc -4 (ours)",
)
output_grace = module.param(
    "output_grace",
    int,
    1000,
    doc="milliseconds for which output is awaited when the program has ended and its output is still open",
)

for _stat in (child_places.running, child_places.waiting, child_places.refused):
    module.statistics[_stat.name] = _stat

_limits = Limits()
_environment: dict[bytes, bytes] = {}
_AVP = re.compile(r"\$\(?avp\(([^()]+)\)(?:\[\*\])?\)?")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@module.on_check
@module.on_config
def configure() -> None:
    """Read the parameters once."""
    global _limits
    for parameter in (time_to_kill, max_output_size, output_grace, max_children, max_waiting_programs):
        if parameter.value < 0:
            raise ConfigError(f"exec: {parameter.name} is {parameter.value}; it cannot be negative")
    places.most, places.queue = max_children.value, max_waiting_programs.value
    _limits = Limits(
        seconds=float(time_to_kill.value),
        output=max_output_size.value * 1024,
        grace=output_grace.value / 1000,
        rc_from_exit_status=bool(rc_from_exit_status.value),
    )


@module.operation(routes=R | F | L | S | T | V | O)
def exec(
    ctx: Context, command: str, stdin: str | None = None, out: Var | None = None, err: Var | None = None, env: Var | None = None
) -> ExecOperation | int:
    """Run a shell command.

    ``stdin`` is what the program reads. ``out`` and ``err`` receive its output. Each value of the AVP ``env``
    is a ``NAME=value`` for its environment; whatever the form, the values are also there as ``OSIPS_EXEC_0`` (the
    topmost), ``OSIPS_EXEC_1`` and so on.
    """
    if env is not None and "[append]" in env.text:
        log(ERROR, "exec", "exec", f"{env.text} has no value: it names a place for a new one")
        return -1
    environment = _environment or _server_environment()
    if env is not None or setvars.value:
        environment = dict(environment)
        if setvars.value:
            environment.update(message_environment(ctx))
        if env is not None:
            environment.update(given_environment(_values(ctx, env)))
    return ExecOperation(
        command.replace("\0", "").encode("latin-1"),
        b"" if stdin is None else stdin.encode("latin-1"),
        None if out is None else out.text,
        None if err is None else err.text,
        environment,
        _limits,
    )


module.functions["exec"].parameters[4].written = False


def _server_environment() -> dict[bytes, bytes]:
    _environment.update(os.environb)
    return _environment


def _values(ctx: Context, var: Var) -> list[Value]:
    """All values of an AVP, the oldest first; the value of any other variable."""
    avp = _AVP.fullmatch(var.text)
    if avp is not None and avp[1] in ctx.avps:
        return list(ctx.avps[avp[1]])
    value = var.get(ctx)
    return [] if value is None else [value]


def given_environment(values: list[Value]) -> dict[bytes, bytes]:
    """Environment from the values of an AVP, the oldest first: of two values for one name the newer holds."""
    given: dict[bytes, bytes] = {}
    for i, value in enumerate(reversed(values)):
        given[b"OSIPS_EXEC_%d" % i] = _clean(str(value))
    for value in values:
        text = str(value)
        if _ASSIGNMENT.match(text):
            name, _, content = text.partition("=")
            given[name.encode("latin-1")] = _clean(content)
    return given


def message_environment(ctx: Context) -> dict[bytes, bytes]:
    """The message for ``setvars``. Header names are upper case with ``_`` for ``-``; several values are joined by commas."""
    values: dict[str, list[str]] = {}
    for header in ctx.msg.headers:
        values.setdefault(header.kind.upper().replace("-", "_"), []).append(header.value.strip())
    environment = {f"SIP_HF_{name}": ",".join(found) for name, found in values.items()}
    if "SIP_HF_CALL_ID" in environment:
        environment["SIP_HF_CALLID"] = environment["SIP_HF_CALL_ID"]
    environment["SIP_SRCIP"] = ctx.source.ip
    environment["SIP_TID"] = ctx.msg.via.branch or ""
    environment["SIP_DID"] = "" if ctx.msg.to is None else ctx.msg.to.tag or ""
    if ctx.msg.is_request:
        environment["SIP_ORURI"], environment["SIP_RURI"] = ctx.msg.ruri, ctx.ruri
        for name, text in (("SIP_OUSER", "$oU"), ("SIP_USER", "$rU")):
            user = variables.by_text(text).get(ctx)
            environment[name] = "" if user is None else str(user)
    return {name.encode("latin-1"): _clean(value) for name, value in environment.items()}


def _clean(value: str) -> bytes:
    return value.replace("\0", "").encode("latin-1")
