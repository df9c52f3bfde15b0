"""What OpenSIPS 3.1's modules add to the language, also those that do not exist here.

Read from ``data/exports-3.1.json`` when a script names something that is not here: a script is judged as a whole even if
modules are missing, and the checker can say which module a name belongs to. A line of that file is a module; its keys:

=============  ======================================================================================================
``functions``  by name: the routes (letters of the manual, ``-``: only in async()), then the parameters' types,
               optional ones in brackets
``async``      names of functions that may stand in async()
``int str``    names of parameters by type; one that is in both takes either
``variables events commands``  names; commands are those of the management interface
=============  ======================================================================================================
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from opensips_py.script.context import Context, RouteKind, Value
from opensips_py.script.declarations import Event, Function, Module, ModuleParameter, Parameter, VariableClass

RENAMED_FUNCTIONS = {
    "avp_printf": "$avp(x) = value",
    "setsflag": "setflag",
    "t_on_failure_route": "t_on_failure",
    "sl_reply": "sl_send_reply",
    "add_uri_param": "ruri_add_param",
    "check_from": "db_is_from_authorized",
    "check_to": "db_is_to_authorized",
    "db_check_from": "db_is_from_authorized",
    "db_check_to": "db_is_to_authorized",
    "del_uri_param": "ruri_del_param",
    "does_uri_exist": "db_does_uri_exist",
    "engage_rtp_proxy": "rtpproxy_engage",
    "exec_avp": "exec",
    "exec_dset": "exec",
    "exec_getenv": "$env(NAME)",
    "exec_msg": "exec",
    "issflagset": "isflagset",
    "registered": "is_registered",
    "resetsflag": "resetflag",
    "rtpproxy_manage": "rtpengine_manage",
    "sip_trace": "trace",
    "tel2sip": "ruri_tel2sip",
    "unforce_rtp_proxy": "rtpproxy_unforce",
    "uri_param": "ruri_has_param",
}
"""Names of older versions, or of other servers, and what 3.1 calls them."""

UNSUPPORTED_FUNCTIONS = {
    "rest_init_client_tls": "the domains of tls_mgm are not there yet; ssl_capath names the certificates that are trusted",
    "t_anycast_replicate": "transactions are those of one server; there is no cluster to pass the request to",
}
"""Functions that do not exist here, and why or what to do."""

_LETTERS = {
    "R": RouteKind.REQUEST,
    "F": RouteKind.FAILURE,
    "O": RouteKind.ONREPLY,
    "B": RouteKind.BRANCH,
    "L": RouteKind.LOCAL,
    "E": RouteKind.ERROR,
    "S": RouteKind.STARTUP,
    "T": RouteKind.TIMER,
    "V": RouteKind.EVENT,
}


@cache
def exports() -> dict[str, dict[str, Any]]:
    """The modules of OpenSIPS 3.1 by name, as in the file."""
    text = resources.files("opensips_py.script").joinpath("data/exports-3.1.json").read_text()
    found: dict[str, dict[str, Any]] = json.loads(text)
    found["proto_udp"] = {"int": "udp_port"}  # built into OpenSIPS
    found["proto_tcp"] = {"int": "tcp_port"}
    return found


def known(name: str) -> bool:
    """Is there such a module in OpenSIPS 3.1?"""
    return name in exports()


@cache
def modules_of(function: str) -> tuple[str, ...]:
    """The modules that have a function."""
    return tuple(name for name, module in exports().items() if function in module.get("functions", ()))


def kinds_of(module: str, function: str) -> list[str] | None:
    """The parameter types of a function in OpenSIPS 3.1; None when it has none of that name."""
    form = exports().get(module, {}).get("functions", {}).get(function)
    return None if form is None else form.split()[1:]


@cache
def _by_name(kind: str) -> dict[str, str]:
    return {name: module for module, found in exports().items() for name in found.get(kind, "").split()}


def module_of_variable(name: str) -> str | None:
    """The module that has a variable, named without its dollar sign."""
    return _by_name("variables").get(name)


def module_of_event(name: str) -> str | None:
    """The module that raises an event."""
    return _by_name("events").get(name)


def module_of_command(name: str) -> str | None:
    """The module that has a management command."""
    return _by_name("commands").get(name)


def functions() -> list[str]:
    """Names of all functions of all modules."""
    return [function for module in exports().values() for function in module.get("functions", ())]


def parameters(module: str) -> dict[str, type]:
    """The parameters of a module of OpenSIPS 3.1 with their types; ``object`` for one that takes both."""
    found = exports()[module]
    types: dict[str, type] = dict.fromkeys(found.get("int", "").split(), int)
    for name in found.get("str", "").split():
        types[name] = object if name in types else str
    return types


@cache
def modules_with(parameter: str) -> tuple[str, ...]:
    """The modules that have a parameter."""
    return tuple(name for name in exports() if parameter in parameters(name))


def declared(name: str) -> Module:
    """A module that does not exist here, as a declaration: scripts that use it can be judged, and not run."""
    module = Module(name, doc="")
    found = exports()[name]
    waiting = found.get("async", "").split()
    for function, form in found.get("functions", {}).items():
        routes, *kinds = form.split()
        module.functions[function] = Function(
            function,
            name,
            _not_here,
            [Parameter("", kind.strip("[]"), kind.startswith("["), written=False) for kind in kinds],
            _routes(routes),
            waits=function in waiting,
            async_only=routes == "-",
        )
    for parameter, type_ in parameters(name).items():
        module.params[parameter] = ModuleParameter(parameter, type_, None, "")
    for variable in found.get("variables", "").split():
        module.variables[variable] = VariableClass(variable, _not_read, _not_written, "optional", name)
    for event in found.get("events", "").split():
        module.events[event] = Event(event, (), name)
    return module


def _routes(letters: str) -> RouteKind:
    if letters in ("ALL", "-"):
        return RouteKind.ALL
    kinds = RouteKind(0)
    for letter in letters:
        kinds |= _LETTERS[letter]
    return kinds


def _not_here(ctx: Context, *arguments: Any) -> int:
    raise AssertionError("a script with missing modules is only checked")


def _not_read(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    raise AssertionError("a script with missing modules is only checked")


def _not_written(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    raise AssertionError("a script with missing modules is only checked")
