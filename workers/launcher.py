"""``opensips-py``: from the command line to a running server, in the order of OpenSIPS' ``main()``.

Options, script, checks (where ``-c`` ends), daemon, pid file, attendant. Everything that fails before the server is
ready ends with status 255 and says why on standard error, also in daemon mode.
"""

from __future__ import annotations

import codecs
import platform
import resource
import sys
from collections.abc import Callable, Sequence

from opensips_py import __version__
from opensips_py.core import functions_debugger
from opensips_py.script.context import ListenSocket
from opensips_py.script.diagnostics import ScriptErrors, render
from opensips_py.script.program import Program, load
from opensips_py.server import log as logging
from opensips_py.server.log import CRITICAL, NOTICE, WARNING, log
from opensips_py.server.secret import SecretError, given_secret
from opensips_py.tm import identity
from workers import observation
from workers.daemon import (
    FAILED,
    DaemonError,
    change_directories,
    check_pid_file,
    daemonize,
    remove_pid_files,
    write_pid_files,
)
from workers.options import Options, UsageError, parse_command_line, usage
from workers.privileges import PrivilegeError, check_account

COMPATIBLE = "3.1"
"""The OpenSIPS version whose scripts are understood."""
DESCRIPTORS = 1 << 20
"""Open files per process that are asked for without ``open_files_limit``: every parked operation holds some."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    try:
        options = parse_command_line(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    if options.show is not None:
        sys.stdout.write(usage("opensips-py") if options.show == "help" else version())
        return 0
    for notice in options.notices:
        sys.stderr.write(f"opensips-py: {notice}\n")
    try:
        return _start(options)
    except (DaemonError, PrivilegeError, SecretError) as error:
        log(CRITICAL, "core", "main", str(error))
    log(NOTICE, "core", "main", "Exiting....")
    return FAILED


def version() -> str:
    """The text of ``-V``, in the form that scripts around OpenSIPS parse."""
    machine = f"{platform.machine()}/{platform.system().lower()}"
    return (
        f"version: opensips-py {__version__} ({machine})\n"
        f"flags: STATS: On, scripts of OpenSIPS {COMPATIBLE}\n"
        "poll method support: epoll.\n"
        f"main.py run by {platform.python_implementation()} {platform.python_version()}\n"
    )


def _start(options: Options) -> int:
    program = _load(options)
    if program is None:
        log(NOTICE, "core", "main", "Exiting....")
        return FAILED
    identity.derive_secrets(given_secret(program.settings))
    if options.check:
        sys.stdout.write(_listening(program))
        sys.stdout.flush()
        log(NOTICE, "core", "main", "config file ok, exiting...")
        return 0
    sys.stdout.write(_listening(program))
    sys.stdout.flush()
    _complete(options, program)
    if options.pid_file is not None:
        check_pid_file(options.pid_file)
    if functions_debugger.wanted():
        receivers = sum(listen.workers or program.settings.udp_workers for listen in program.sockets if listen.proto == "udp")
        if any(listen.proto == "tcp" for listen in program.sockets):
            receivers += program.settings.tcp_workers
        refused = functions_debugger.refusal(options.foreground, receivers)
        if refused is not None:
            raise DaemonError(refused)
    unobservable = observation.refusal(program.directory)
    if unobservable is not None:
        raise DaemonError(unobservable)
    check_account(options.user, options.group)
    _set_up_log(options, program)
    if options.foreground:
        return _serve(program, options, _say_ready)

    def serve(tell_launcher: Callable[[int], None]) -> int:
        def ready(status: int) -> None:
            _say_ready(status)
            tell_launcher(status)

        return _serve(program, options, ready)

    return daemonize(serve)


def _load(options: Options) -> Program | None:
    """The compiled script; None when it is wrong, which has then been said."""
    assert options.config is not None
    try:
        program = load(options.config, options)
    except ScriptErrors as failure:
        for line in failure.render().splitlines():
            _say(line)
        count = len(failure.errors)
        log(logging.ERROR, "core", "main", f"bad config file ({count} error{'' if count == 1 else 's'})")
        log(logging.ERROR, "core", "main", f"failed to parse config file {options.config}")
        return None
    except OSError as error:
        log(logging.ERROR, "core", "main", f"loading config file {options.config}: {error.strerror or error}")
        return None
    if options.check:
        for line in render(program.warnings, program.missing).splitlines():
            _say(line)
    else:
        for finding in program.warnings:  # one line each: a log is not the place for source lines and carets
            _say(finding.log_line())
    return program


def _say(line: str) -> None:
    """One line of the checker: a log line, or what a person reads (source line, caret, hint) as it is."""
    if line.startswith(("CRITICAL:", "WARNING:", "NOTICE:")):
        logging.state.write(WARNING, logging.to_bytes(line + "\n"))
    else:
        sys.stderr.buffer.write(logging.to_bytes(line + "\n"))
        sys.stderr.flush()


def _complete(options: Options, program: Program) -> None:
    """What the script says about options that the command line leaves open."""
    settings = program.settings
    if settings.debug_mode:
        options.debug_mode = options.foreground = options.log_stderr = True
    options.workdir = options.workdir or settings.workdir
    options.chroot = options.chroot or settings.chroot


def _set_up_log(options: Options, program: Program) -> None:
    settings = program.settings
    state = logging.state
    state.level = logging.DBG if options.debug_mode else settings.log_level + options.debug_level
    state.xlog_level = settings.xlog_level
    state.most_lines, state.most_bytes = settings.log_max_lines, settings.log_max_bytes
    state.stderr = options.log_stderr or bool(settings.log_stderror or settings.stderror_enabled)
    if settings.given & {"stderror_enabled", "syslog_enabled"}:
        state.syslog = bool(settings.syslog_enabled)
    else:
        state.syslog = not state.stderr
    state.facility = logging.FACILITIES[settings.syslog_facility or settings.log_facility]
    if settings.log_name:
        state.name = settings.log_name


def _serve(program: Program, options: Options, ready: Callable[[int], None]) -> int:
    """Become the attendant; its exit status."""
    # not needed to check a script; all of it now, because another root or user may not reach the files later
    from opensips_py.core import core_statistics  # noqa: F401
    from workers import mi_process  # noqa: F401
    from workers.startup import run

    _set_limits(options, program)
    for encoding in ("ascii", "idna", "latin-1", "utf-8"):
        codecs.lookup(encoding)  # loaded at first use otherwise
    try:
        change_directories(options.chroot, options.workdir or "/")
        write_pid_files(options.pid_file, options.pgid_file)
    except DaemonError as error:
        log(CRITICAL, "core", "main", str(error))
        ready(FAILED)
        return FAILED
    try:
        return run(program, options, ready)
    finally:
        remove_pid_files(options.pid_file, options.pgid_file)


def _say_ready(status: int) -> None:
    if status == 0:
        log(NOTICE, "core", "main", "all processes are ready")


def _set_limits(options: Options, program: Program) -> None:
    """Open files and core dumps."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = program.settings.open_files_limit or max(soft, min(hard, DESCRIPTORS))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (OSError, ValueError):
        log(WARNING, "core", "main", f"cannot raise the limit of open files to {wanted}, the administrator's is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if not program.settings.disable_core_dump:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def _listening(program: Program) -> str:
    lines = ["Listening on "]
    lines += [f"             {_socket_line(s)}" for s in program.sockets]
    lines.append("Aliases: ")
    lines += [f"             {proto or '*'}: {host}:{port or '*'}" for proto, host, port in program.aliases]
    return "\n".join(lines) + "\n\n"


def _socket_line(listen: ListenSocket) -> str:
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{listen.proto}: {host} [{listen.host}]:{listen.port}"
