"""Rows in text files, for accounting (OpenSIPS module db_flatstore): ``flatstore:/var/log/opensips``.

Each table has its files in the directory, one for each process (``acc_3.log``) or, with ``single_file``, one for all
(``acc.log``). A row is a line of fields. Nothing can be read, changed or deleted. A backslash stands before a delimiter or
backslash that is part of a field, and line ends are written ``\\n`` and ``\\r``.
"""

from __future__ import annotations

from collections.abc import Callable

from opensips_py import db
from opensips_py.db.flatstore import FlatDatabase, settings
from opensips_py.script import environment
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError, Module, ModuleParameter
from opensips_py.script.formats import compile_format
from opensips_py.script.variables import VariableError
from opensips_py.server.process import this

module = Module("db_flatstore", doc="Rows in text files, for accounting (OpenSIPS module db_flatstore)")

flush = module.param("flush", int, 1, doc="0: lines may wait in memory", no_effect="every line is written at once")
delimiter = module.param("delimiter", str, "|", doc="what stands between two fields; one character")
prefix = module.param("prefix", str, "", doc="what file names begin with; may hold variables, such as `$time(%F)`")
suffix = module.param("suffix", str, ".log", doc="what the names of the files end with")
single_file = module.param("single_file", int, 0, doc="1: one file for all processes")

db.register("flatstore", FlatDatabase)


@module.on_check
@module.on_config
def configure() -> None:
    """Read the parameters once."""
    if len(delimiter.value) != 1 or delimiter.value in "\\\r\n\0":
        raise ConfigError(f"db_flatstore: delimiter is [{delimiter.value}]; it must be one character that is not a backslash")
    for parameter in (prefix, suffix):
        if "/" in parameter.value or "\0" in parameter.value:
            raise ConfigError(f"db_flatstore: {parameter.name} is part of the name of a file: it cannot have a /", parameter.name)
    settings.delimiter, settings.single_file = delimiter.value, bool(single_file.value)
    settings.prefix, settings.suffix = _format(prefix), _format(suffix)


def _format(parameter: ModuleParameter[str]) -> str | Callable[[Context], str]:
    """Its text, in which there may be variables."""
    script = environment.checked()
    try:
        return compile_format(parameter.value, this.program.registry if script is None else script.registry)
    except VariableError as error:
        raise ConfigError(f"db_flatstore: {parameter.name}: {error}", parameter.name) from None


@module.mi("flat_rotate")
def flat_rotate() -> str:
    """To be called when files have been moved away. They are opened for each line, so the next line goes to a new file anyway."""
    return "OK"
