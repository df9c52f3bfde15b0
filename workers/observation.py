"""Coverage and profiles of the server's processes, for whoever sets an environment variable (docs/debugging.md).

``OPENSIPS_PY_COVERAGE`` names coverage.py's configuration file: each process measures and writes a data file of its own
when it ends. ``OPENSIPS_PY_PROFILE`` names a directory: each process writes a profile there, for ``pstats``.
"""

from __future__ import annotations

import cProfile
import os
from collections.abc import Callable
from importlib.util import find_spec

from opensips_py.script.program import Program
from opensips_py.server.process import this

COVERAGE = "OPENSIPS_PY_COVERAGE"
PROFILE = "OPENSIPS_PY_PROFILE"
_PLUGIN = "opensips_py.script.coverage_plugin"


def refusal(directory: str) -> str | None:
    """Why a server whose script lies in ``directory`` cannot be observed as the environment asks; None: it can."""
    if os.environ.get(COVERAGE):
        if find_spec("coverage") is None:
            return f"{COVERAGE} needs coverage.py: pip install coverage"
        configuration = os.path.join(directory, os.environ[COVERAGE])
        if not os.path.isfile(configuration):
            return f"{COVERAGE}: there is no configuration file {configuration}: create it (docs/debugging.md)"
    if os.environ.get(PROFILE):
        profiles = os.path.join(directory, os.environ[PROFILE])
        if not os.path.isdir(profiles):
            return f"{PROFILE}: there is no directory {profiles}: create it"
    return None


def observe(program: Program, kind: str) -> Callable[[], None]:
    """Begin what the environment asks for, in this process; what ends it and writes the results down."""
    ends = []
    if os.environ.get(COVERAGE):
        ends.append(_coverage(program, os.environ[COVERAGE]))
    if os.environ.get(PROFILE):
        ends.append(_profile(os.path.join(program.directory, os.environ[PROFILE]), kind))

    def end() -> None:
        for one in ends:
            one()

    return end


def _coverage(program: Program, configuration: str) -> Callable[[], None]:
    from coverage import Coverage

    from opensips_py.script.coverage_plugin import finish

    path = os.path.join(program.directory, configuration)
    measured = Coverage(config_file=path, data_suffix=True)
    plugins = measured.get_option("run:plugins")
    if not isinstance(plugins, list) or _PLUGIN not in plugins:
        measured.set_option("run:plugins", [*(plugins if isinstance(plugins, list) else []), _PLUGIN])
    if not measured.get_option("run:include") and not measured.get_option("run:source"):
        measured.set_option("run:include", [os.path.join(program.directory, file) for file in program.files])
    data = str(measured.get_option("run:data_file"))
    measured.set_option("run:data_file", os.path.join(os.path.dirname(path), data))
    concurrency = measured.get_option("run:concurrency")
    known = list(concurrency) if isinstance(concurrency, list) else []
    if not {"greenlet", "eventlet", "gevent"} & set(known):  # a script that waits in line stands still on a greenlet
        measured.set_option("run:concurrency", [*known, "greenlet"])
    measured.set_option("run:branch", False)  # a branch that goes on in an included file could not be told
    measured.start()

    def end() -> None:
        measured.stop()
        files = this.program.files  # the routes may have been reloaded
        finish(measured.get_data(), [os.path.join(program.directory, file) for file in files])
        measured.save()

    return end


def _profile(directory: str, kind: str) -> Callable[[], None]:
    profile = cProfile.Profile()
    profile.enable()

    def end() -> None:
        profile.disable()
        name = "".join(c if c.isalnum() else "-" for c in kind)
        profile.dump_stats(os.path.join(directory, f"{name}.{os.getpid()}.prof"))

    return end
