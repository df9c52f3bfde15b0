"""Database queries into AVPs, and operations on AVPs (OpenSIPS module avpops).

``avp_db_query(query[, "$avp(a);$avp(b)"[, db_id][, value for each ? …]])``: the columns go to the variables in order, to
``$avp(1)``, ``$avp(2)`` … when none are named. Several rows make stacks, the first row on top; NULL of the database is the text
``<null>``. Return code 1: there are rows, -2: there are none (also after INSERT and the like), -1: error.

Write ``?`` where a value from outside belongs, and give the values after it: in the text of the query they would have to be
escaped (``{s.escape.common}``). ``avp_db_load``, ``avp_db_store`` and
``avp_db_delete`` quote their values themselves. All of them may be used in ``async()`` (in OpenSIPS ``avp_db_query`` alone).
"""

from __future__ import annotations

from opensips_py.modules.avpops.database import avp_db_delete, avp_db_load, avp_db_query, avp_db_store
from opensips_py.modules.avpops.declared import configure, db_url, module, preferences
from opensips_py.modules.avpops.values import (
    avp_check,
    avp_copy,
    avp_delete,
    avp_op,
    avp_print,
    avp_pushto,
    avp_subst,
    is_avp_set,
)

__all__ = [
    "avp_check",
    "avp_copy",
    "avp_db_delete",
    "avp_db_load",
    "avp_db_query",
    "avp_db_store",
    "avp_delete",
    "avp_op",
    "avp_print",
    "avp_pushto",
    "avp_subst",
    "configure",
    "db_url",
    "is_avp_set",
    "module",
    "preferences",
]
