"""Digest authentication against a table of accounts (OpenSIPS module auth_db).

``www_authorize(realm, table)`` and ``proxy_authorize()`` compare the credentials of a request with a row of the table;
challenges, nonces and the comparison itself are those of module auth. Every function asks the database in one operation: plain,
in ``async()`` (OpenSIPS has no such form), ``launch()`` and ``await()``.
"""

from __future__ import annotations

from opensips_py.modules.auth_db import authorize, uris  # noqa: F401  (their functions declare themselves)
from opensips_py.modules.auth_db.declared import module

__all__ = ["module"]
