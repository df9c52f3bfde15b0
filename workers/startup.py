"""The start of the server: sockets, privileges, run directory and the modules' settings; then the attendant takes over."""

from __future__ import annotations

from collections.abc import Callable

from ipc.counters import CountersError
from ipc.rundir import RunDir, RunDirError
from ipc.store import StoreError
from opensips_py.core import core_statistics
from opensips_py.script.declarations import ConfigError
from opensips_py.script.program import Program
from opensips_py.server.log import CRITICAL, WARNING, log
from opensips_py.server.process import this
from workers.attendant import Attendant
from workers.options import Options
from workers.privileges import PrivilegeError, drop_privileges
from workers.sockets import SocketError, open_sockets


def run(program: Program, options: Options, ready: Callable[[int], None]) -> int:
    """Serve until SIGTERM or SIGINT; the exit status for the launcher.

    ``ready(status)`` is called once: 0 when all processes work, 255 when the server could not start.
    """
    this.clock.start()
    this.node = program.settings.node_id
    core_statistics.begin()
    try:
        handles = open_sockets(program.sockets, program.settings)
    except SocketError as error:
        log(CRITICAL, "core", "udp_init", str(error))
        ready(255)
        return 255
    try:
        drop_privileges(options.user, options.group)
        rundir = RunDir.acquire([f"{s.proto}:{s.host}:{s.port}" for s in program.sockets])
    except (RunDirError, PrivilegeError) as error:
        log(CRITICAL, "core", "main", str(error))
        ready(255)
        return 255
    try:
        this.program = program  # what modules configure themselves from
        try:
            for module in program.modules.values():
                for hook in module.config_hooks:
                    hook()
        except ConfigError as error:
            log(CRITICAL, module.name, "mod_init", str(error))
            ready(255)
            return 255
        try:
            attendant = Attendant(program, options, rundir, handles, ready)
        except (StoreError, CountersError) as error:
            log(CRITICAL, "core", "main", str(error))
            ready(255)
            return 255
        if rundir.displaced is not None:
            log(WARNING, "core", "main", rundir.displaced)
        return attendant.serve()
    finally:
        rundir.release()
