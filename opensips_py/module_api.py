"""What a module of one's own needs: everything that may be imported from the server, in one place.

::

    from opensips_py.module_api import Module, Out

    module = Module("crm", doc="Customers by number")


    @module.blocking(seconds=5)
    def customer(number: str, name: Out[str]) -> bool:
        '''Who calls?'''
        name.set(look_it_up(number))
        return True

A script loads it with ``loadmodule "crm.py"`` and writes ``async(customer("$fU", $avp(name)), answer);``. The manual is
``docs/modules.md``. These names stay as they are from version to version.
"""

from __future__ import annotations

from opensips_py.engine.operation import BUSY, CANCELLED, LOST, TIMEOUT
from opensips_py.engine.outbox import Outbox
from opensips_py.script.context import Context, RouteKind, Value
from opensips_py.script.declarations import (
    ALL,
    B,
    ConfigError,
    E,
    F,
    L,
    MIError,
    ModuleParameter,
    O,
    Pattern,
    R,
    S,
    Static,
    Statistic,
    T,
    V,
    Var,
    VarList,
)
from opensips_py.script.outputs import Out, to_script, to_unicode
from opensips_py.server.log import ALERT, CRITICAL, DBG, ERROR, INFO, NOTICE, WARNING, log
from opensips_py.tm.callbacks import Moment, When
from opensips_py.tm.transaction_data import TransactionData
from opensips_py.user_modules.own_request import Reply, RequestFailed, send_request
from opensips_py.user_modules.python_module import Module
from opensips_py.user_modules.shared_data import Shared

__all__ = [
    "ALERT",
    "ALL",
    "BUSY",
    "CANCELLED",
    "CRITICAL",
    "DBG",
    "ERROR",
    "INFO",
    "LOST",
    "NOTICE",
    "TIMEOUT",
    "WARNING",
    "B",
    "ConfigError",
    "Context",
    "E",
    "F",
    "L",
    "MIError",
    "Module",
    "ModuleParameter",
    "Moment",
    "O",
    "Out",
    "Outbox",
    "Pattern",
    "R",
    "Reply",
    "RequestFailed",
    "RouteKind",
    "S",
    "Shared",
    "Static",
    "Statistic",
    "T",
    "TransactionData",
    "V",
    "Value",
    "Var",
    "VarList",
    "When",
    "log",
    "send_request",
    "to_script",
    "to_unicode",
]
