"""Several databases as one (OpenSIPS module db_virtual): ``virtual://NAME``.

::

    modparam("db_virtual", "db_urls", "define main FAILOVER")
    modparam("db_virtual", "db_urls", "mysql://opensips:secret@db1/opensips")
    modparam("db_virtual", "db_urls", "mysql://opensips:secret@db2/opensips")
    modparam("auth_db", "db_url", "virtual://main")

``FAILOVER`` uses the first database that answers, ``ROUND`` one after the other, ``PARALLEL`` makes changes in all of them and
asks the first one that answers. A database that does not answer comes last for ``db_probe_time`` seconds. They may be of
different kinds.
"""

from __future__ import annotations

from typing import Any

from opensips_py.db import database as databases
from opensips_py.db import virtual
from opensips_py.db.virtual import MODES, DatabaseSet, VirtualDatabase
from opensips_py.script.declarations import ConfigError, MIError, Module
from opensips_py.server.process import this

module = Module("db_virtual", doc="Several databases as one (OpenSIPS module db_virtual)")

db_urls = module.param(
    "db_urls",
    str,
    list[str](),
    multiple=True,
    doc='"define NAME MODE" begins a set, mode FAILOVER, PARALLEL or ROUND; the URLs of its databases follow, one each',
)
db_probe_time = module.param("db_probe_time", int, 10, doc="seconds for which a database that did not answer comes last")
module.param(
    "db_max_consec_retrys",
    int,
    10,
    doc="attempts to use a database again that did not answer",
    no_effect="it is tried again as long as it does not answer",
)

_sets: dict[str, DatabaseSet] = {}
_made_from: list[list[str]] = []
"""The value of ``db_urls`` from which the sets are made; empty: from none yet."""


def _made() -> dict[str, DatabaseSet]:
    """The sets, made when they are first asked for: modules that are checked before this one may have such a URL."""
    if _made_from != [db_urls.value]:
        _made_from.clear()
        _sets.clear()
        current: DatabaseSet | None = None
        for text in db_urls.value:
            current = _read(text, current)
        _made_from.append(list(db_urls.value))
    return _sets


def _read(text: str, current: DatabaseSet | None) -> DatabaseSet:
    words = text.split()
    if words[:1] == ["define"]:
        if len(words) != 3 or words[2].upper() not in MODES:
            raise ValueError(f"[{text}] is not of the form: define NAME {'|'.join(MODES)}")
        if words[1] in _sets:
            raise ValueError(f"there are two sets {words[1]}")
        _sets[words[1]] = DatabaseSet(words[1], words[2].upper())
        return _sets[words[1]]
    if current is None:
        raise ValueError(f'[{text}] belongs to no set: "define NAME FAILOVER" goes before it')
    current.add(text.strip())
    return current


virtual.settings.sets = _made
databases.register("virtual", VirtualDatabase)


@module.on_check
@module.on_config
def configure() -> None:
    """Read the parameters."""
    if db_probe_time.value < 1:
        raise ConfigError(f"db_virtual: db_probe_time is {db_probe_time.value}; it must be at least 1 second")
    virtual.settings.probe_time = float(db_probe_time.value)
    _made_from.clear()
    try:
        for one in _made().values():
            if not one.members:
                raise ValueError(f"the set {one.name} has no databases")
    except ValueError as error:
        raise ConfigError(f"db_virtual: db_urls: {error}", "db_urls") from None


@module.mi("db_get")
def db_get() -> dict[str, Any]:
    """The sets and their databases, as this process sees them."""
    return {
        "Sets": [
            {
                "Index": index,
                "Name": one.name,
                "Mode": one.mode,
                "Databases": [
                    {
                        "Index": number,
                        "URL": member.database.name,
                        "May use": int(member.switched_on),
                        "Can use": int(not member.down_until),
                    }
                    for number, member in enumerate(one.members)
                ],
            }
            for index, one in enumerate(_made().values())
        ]
    }


@module.mi("db_set", ("set_index", "db_url_index", "may_use_db_flag"))
def db_set(set_index: int, db_url_index: int, may_use_db_flag: int) -> str:
    """Switch a database of a set on (1) or off (0), for all processes."""
    chosen = list(_made().values())
    if not 0 <= set_index < len(chosen):
        raise MIError(404, "No such set")
    if not 0 <= db_url_index < len(chosen[set_index].members):
        raise MIError(404, "No such database")
    key = chosen[set_index].members[db_url_index].key
    if may_use_db_flag:
        this.store.delete(key)
    else:
        this.store.put(key, b"off")
    return "OK"
