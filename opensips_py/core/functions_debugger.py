"""breakpoint(): Python's debugger in a route. Not an OpenSIPS function; see docs/debugging.md.

A server does nothing while somebody looks at it, so the function works only in one that was started for that, with
``OPENSIPS_PY_DEBUGGER=1`` in its environment (:func:`refusal` says what else is needed). In any other it does nothing.
"""

from __future__ import annotations

import os
import pdb
import sys

from opensips_py.core.core_module import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL
from opensips_py.script.variables import VariableError, by_text
from opensips_py.server.log import NOTICE, log

SWITCH = "OPENSIPS_PY_DEBUGGER"
"""Environment variable."""


def wanted() -> bool:
    """The server was started to be debugged."""
    return os.environ.get(SWITCH, "") not in ("", "0")


def refusal(foreground: bool, receivers: int) -> str | None:
    """Why a server that is to be debugged cannot start like this; None: it can."""
    if not foreground:
        return f"{SWITCH} needs a server in the foreground: start it with -F"
    if receivers != 1:
        return f"{SWITCH} needs a single SIP receiver, there are {receivers}: one UDP socket, and -n 1"
    try:
        if os.path.samestat(os.fstat(0), os.stat(os.devnull)):
            return f"{SWITCH} needs a standard input to read commands from, not {os.devnull}"
    except OSError:
        return f"{SWITCH} needs a standard input to read commands from: it is closed"
    return None


class RouteDebugger(pdb.Pdb):
    """pdb, with a command for variables of the script; its end is not the end of the route."""

    def __init__(self) -> None:
        super().__init__(nosigint=True, readrc=False)
        self.prompt = "(route) "

    def do_pv(self, text: str) -> None:
        """pv $variable: print a variable of the script."""
        frame = self.curframe
        ctx = None if frame is None else frame.f_locals.get("ctx")
        if not isinstance(ctx, Context):
            self.error("no route is running here")
            return
        try:
            self.message(repr(by_text(text.strip()).get(ctx)))
        except VariableError as error:
            self.error(error.message)

    def do_quit(self, arg: str) -> bool | None:
        """q(uit): go on without the debugger, until the next breakpoint()."""
        self.set_continue()
        return True

    do_q = do_exit = do_EOF = do_quit


@module.function(routes=ALL, name="breakpoint")
def stop_here(ctx: Context) -> int:
    """Stop in Python's debugger at the next statement. Works in a server that was started with
    ``OPENSIPS_PY_DEBUGGER=1`` in its environment, in the foreground and with one SIP receiver; elsewhere it only
    says so in the log. Always 1. An addition of opensips-py."""
    if wanted():
        RouteDebugger().set_trace(sys._getframe(1))
    else:
        log(NOTICE, "core", "breakpoint", f"passed a breakpoint(): start the server with {SWITCH}=1 to stop here")
    return 1
