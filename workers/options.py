"""The command line: the options of OpenSIPS 3.1, each declared once.

The usage text, the parser and ``docs/command-line.md`` are drawn from :data:`OPTIONS`.
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(slots=True)
class Options:
    """What the command line says. None means: not given, the script's global parameter or its default holds."""

    config: str | None = None
    """Path of the script; ``-`` is standard input."""
    check: bool = False
    """``-c`` or ``-C``: check the script and exit."""
    check_all: bool = False
    """``-C``: check functions, parameters and routes too."""
    missing_modules: str = "error"
    """``warn``: a module that does not exist here is not an error, and what else the script says is judged (``-C`` only)."""
    listen: list[str] = field(default_factory=list)
    """``[proto:]address[:port]`` of sockets to add to those of the script."""
    udp_workers: int | None = None
    """SIP receivers per UDP socket."""
    tcp_workers: int | None = None
    """TCP receivers."""
    foreground: bool = False
    """Stay attached to the terminal (workers are forked all the same)."""
    log_stderr: bool = False
    debug_level: int = 0
    """How much is added to ``log_level``."""
    debug_mode: bool = False
    """Foreground, log level 4 on standard error, two workers per socket, core dumps."""
    max_buffer: int | None = None
    """Upper limit of a socket's receive buffer in bytes (``maxbuffer``)."""
    shared_memory: int | None = None
    """Size of the shared store in megabytes."""
    workdir: str | None = None
    chroot: str | None = None
    user: str | None = None
    group: str | None = None
    preprocessor: str | None = None
    """Shell command through which the script is read."""
    pid_file: str | None = None
    pgid_file: str | None = None
    argv: dict[str, str] = field(default_factory=dict)
    """Values of ``$argv(name)``."""
    argv_list: list[str] = field(default_factory=list)
    """The whole command line, word by word (MI ``arg``)."""
    notices: list[str] = field(default_factory=list)
    """One line for each option that was accepted and has no effect."""
    show: str | None = None
    """``version`` or ``help``: print that and exit."""


class UsageError(Exception):
    """The command line is wrong; the text is the line for the user."""


Setter = Callable[[Options, str], None]


class Option(NamedTuple):
    """One option. ``value`` names its argument; None: it has none."""

    letter: str
    """One letter, or the name of an option with two dashes."""
    value: str | None
    help: str
    apply: Setter | None
    """None: accepted without effect, ``help`` says why."""

    @property
    def form(self) -> str:
        """As it is written, with its argument."""
        if not self.value:
            return _dashed(self.letter)
        return f"{_dashed(self.letter)}{' ' if len(self.letter) == 1 else '='}{self.value}"


def _text(name: str) -> Setter:
    def apply(options: Options, value: str) -> None:
        setattr(options, name, value)

    return apply


def _on(*names: str) -> Setter:
    def apply(options: Options, value: str) -> None:
        for name in names:
            setattr(options, name, True)

    return apply


def _number(name: str, what: str, letter: str) -> Setter:
    def apply(options: Options, value: str) -> None:
        if not value.isascii() or not value.isdigit() or int(value) == 0:
            raise UsageError(f"bad {what}: -{letter} {value}")
        setattr(options, name, int(value))

    return apply


def _listen(options: Options, value: str) -> None:
    if not value:
        raise UsageError("bad -l parameter: empty")
    options.listen.append(value)


def _more(options: Options, value: str) -> None:
    options.debug_level += 1


def _debug(options: Options, value: str) -> None:
    options.debug_mode = options.foreground = options.log_stderr = True


def _argv(options: Options, value: str) -> None:
    name, equals, text = value.partition("=")
    if not name or not equals:
        raise UsageError(f"bad -o parameter: {value}, expected name=value")
    options.argv[name] = os.fsencode(text).decode("latin-1")


def _missing(options: Options, value: str) -> None:
    if value not in ("error", "warn"):
        raise UsageError(f"bad --missing-modules parameter: {value}, expected error or warn")
    options.missing_modules = value


def _show(what: str) -> Setter:
    def apply(options: Options, value: str) -> None:
        options.show = options.show or what

    return apply


OPTIONS = [
    Option("f", "file", "routing script (default /etc/opensips/opensips.cfg); - is standard input", _text("config")),
    Option("c", None, "check the script's syntax and modules, then exit", _on("check")),
    Option("C", None, "check the script with all functions, parameters and routes, then exit", _on("check", "check_all")),
    Option(
        "missing-modules",
        "error|warn",
        "with -C: a module that does not exist here is an error (default), or a warning while the rest of the script is judged",
        _missing,
    ),
    Option("l", "address", "listen on [proto:]address[:port]; may be repeated; IPv6 in brackets", _listen),
    Option("n", "processes", "SIP receivers per UDP socket (default 8)", _number("udp_workers", "process number", "n")),
    Option("N", "processes", "TCP receivers (default 8)", _number("tcp_workers", "process number", "N")),
    Option("r", None, "source addresses are compared as they are: names are not looked up", None),
    Option("R", None, "source addresses are compared as they are: names are not looked up", None),
    Option("v", None, "addresses in Via headers are never looked up", None),
    Option("d", None, "log more; may be repeated", _more),
    Option("D", None, "debug mode: foreground, log level 4 on standard error, two workers per socket, core dumps", _debug),
    Option("F", None, "stay in the foreground (workers are forked all the same)", _on("foreground")),
    Option("E", None, "log to standard error instead of syslog", _on("log_stderr")),
    Option("b", "bytes", "upper limit of a socket's receive buffer", _number("max_buffer", "buffer size", "b")),
    Option(
        "m",
        "megabytes",
        "size of the shared store, at least 16 (default 8192, or half of what /dev/shm has free)",
        _number("shared_memory", "shared memory size", "m"),
    ),
    Option("M", "megabytes", "private memory grows as it is needed", None),
    Option("a", "allocator", "Python allocates memory itself", None),
    Option("k", "allocator", "Python allocates memory itself", None),
    Option("s", "allocator", "Python allocates memory itself", None),
    Option("w", "directory", "working directory (default / for a daemon)", _text("workdir")),
    Option("t", "directory", "change the root directory", _text("chroot")),
    Option("u", "user", "run as this user (name or number)", _text("user")),
    Option("g", "group", "run as this group (name or number)", _text("group")),
    Option("p", "command", "read the script through this shell command", _text("preprocessor")),
    Option("P", "file", "write the attendant's process id there", _text("pid_file")),
    Option("G", "file", "write the process group id there", _text("pgid_file")),
    Option("W", "method", "events are always waited for with epoll", None),
    Option("o", "name=value", "set $argv(name); may be repeated", _argv),
    Option("V", None, "print the version and exit", _show("version")),
    Option("h", None, "print this text and exit", _show("help")),
]

_BY_LETTER = {option.letter: option for option in OPTIONS}


def default_config() -> str:
    """The script that is used without ``-f``: under the installation's prefix if there, else in /etc."""
    here = os.path.join(sys.prefix, "etc", "opensips", "opensips.cfg")
    return here if os.path.exists(here) else "/etc/opensips/opensips.cfg"


def parse_command_line(arguments: Sequence[str]) -> Options:
    """Options from the command line's arguments (without the program's name). Raises :class:`UsageError`."""
    letters = "".join(o.letter + (":" if o.value else "") for o in OPTIONS if len(o.letter) == 1)
    words = [o.letter + ("=" if o.value else "") for o in OPTIONS if len(o.letter) > 1]
    try:
        given, rest = getopt.gnu_getopt(list(arguments), letters, [*words, "help", "version"])
    except getopt.GetoptError as error:
        if error.opt in _BY_LETTER:
            raise UsageError(f"Option `{_dashed(error.opt)}' requires an argument.") from None
        raise UsageError(f"Unknown option `{_dashed(error.opt)}'.") from None
    options = Options(argv_list=[sys.argv[0], *arguments])
    for flag, value in given:
        letter = {"--help": "h", "--version": "V"}.get(flag, flag.lstrip("-"))
        option = _BY_LETTER[letter]
        if option.apply is None:
            options.notices.append(f"option {flag} has no effect: {option.help}")
        else:
            option.apply(options, value)
    options.notices.extend(f"argument {word} is not an option and has no effect" for word in rest)
    if options.missing_modules == "warn" and not options.check_all:
        raise UsageError("--missing-modules=warn needs -C: a script whose modules are missing cannot run")
    if options.config is None:
        options.config = default_config()
    return options


def _dashed(letter: str) -> str:
    return ("-" if len(letter) == 1 else "--") + letter


def usage(program: str) -> str:
    """The text of ``-h``."""
    lines = [f"Usage: {program} -l address [-l address ...] [options]", "Options:"]
    for option in OPTIONS:
        note = "accepted without effect: " if option.apply is None else ""
        lines.append(f"    {option.form:<14} {note}{option.help}")
    return "\n".join(lines) + "\n"
