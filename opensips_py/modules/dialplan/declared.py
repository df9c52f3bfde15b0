"""What module dialplan declares: its parameters."""

from __future__ import annotations

from opensips_py.script.declarations import Module

module = Module("dialplan", doc="Translating strings by rules of a database (OpenSIPS module dialplan)")

_none: list[str] = []
partition = module.param(
    "partition",
    str,
    list(_none),
    multiple=True,
    doc='a further set of rules: "name: db_url=URL; table_name=TABLE"; what is left out is as in the default partition',
)
db_url = module.param("db_url", str, "", doc="database of the default partition; core parameter db_default_url if not set")
table_name = module.param("table_name", str, "dialplan", doc="table of the default partition")

COLUMNS = ("dpid", "pr", "match_op", "match_exp", "match_flags", "subst_exp", "repl_exp", "attrs", "timerec", "disabled")
"""What a rule consists of, in the order in which it is loaded."""

columns = {name: module.param(f"{name}_col", str, name, doc=f"column of {name}") for name in COLUMNS}
