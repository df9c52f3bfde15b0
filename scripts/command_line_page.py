"""Writes ``docs/command-line.md`` from the declarations of the options: ``python -m scripts.command_line_page``."""

from __future__ import annotations

from pathlib import Path

from workers.options import OPTIONS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "command-line.md"

HEAD = """\
# Command line

    opensips-py [options]
    python -m opensips_py [options]

The options are those of OpenSIPS 3.1, so that service files work as they are. Short options may be combined (`-FEf my.cfg`).

| option | |
|---|---|
"""

FOOT = """
## Exit status

| status | when |
|---|---|
| 0 | `-V`, `-h`, a script that passed `-c` or `-C`, an orderly end, a daemon that is ready |
| 255 | everything that goes wrong before the server is ready |

## Check

`-c` reads the script, loads its modules and sets their parameters; `-C` also compiles all routes. Both print the
sockets on standard output,
findings and the verdict on standard error, and open no socket. The last line says how many modules of OpenSIPS are missing
here, and how many lines use them; [migration.md](migration.md) says what to do. What such a module offers in OpenSIPS 3.1
(functions with their parameters and routes, module parameters, variables, events) is known, so that the first check finds all
that is wrong. With `--missing-modules=warn` a missing module is a warning, and the verdict is about the rest.

## Daemon

Without `-F` the command returns when all processes work, or with 255 when one could not start; errors until then are
shown on the terminal.
The daemon is a session of its own, in the directory `/` unless `-w` says otherwise. It logs to syslog unless `-E` or
`log_stderror=yes` asks for standard error (`stderror_enabled` and `syslog_enabled`, as in OpenSIPS 3.4, for either or both).
`-P` is refused when it names a living process; a file left over from a
dead one is replaced.

With `-u` and `-g` sockets are opened first, then all processes give up their rights. With `-t` the new root must
contain `/dev/shm`.

## Log

On standard error: `Mon DD HH:MM:SS [PID] LEVEL:module:function: text`, lines of the script (`xlog`) without the
middle part. Syslog gets the same
without date and process. Levels: ALERT -3, CRITICAL -2, ERROR -1, WARNING 1, NOTICE 2, INFO 3, DBG 4; `log_level` and
`xlog_level` are 2 by default.
"""


def page() -> str:
    """The page's text."""
    rows = []
    for option in OPTIONS:
        head = "`" + option.form.replace("|", "\\|") + "`"
        note = "accepted without effect: " if option.apply is None else ""
        rows.append(f"| {head} | {note}{option.help} |\n")
    return HEAD + "".join(rows) + FOOT


if __name__ == "__main__":
    PAGE.write_text(page())
