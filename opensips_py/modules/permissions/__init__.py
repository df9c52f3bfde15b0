"""Who may do what, by addresses in a table and by files of rules (OpenSIPS module permissions).

``check_source_address(group)`` and ``check_address()`` look an address up in a table that every process keeps in memory;
``address_reload`` reads it again for all of them at one moment. ``allow_routing()``, ``allow_register()`` and ``allow_uri()``
compare URIs with the rules of files ``NAME.allow`` and ``NAME.deny``.
"""

from __future__ import annotations

from opensips_py.modules.permissions import checks, uris  # noqa: F401  (their functions declare themselves)
from opensips_py.modules.permissions.declared import module

__all__ = ["module"]
