"""OpenSIPS module registrar: REGISTER requests, and finding the users that have registered (RFC 3261 10)."""

from __future__ import annotations

from opensips_py.modules.registrar import lookup, save  # noqa: F401  (their functions declare themselves)
from opensips_py.modules.registrar.declared import module

__all__ = ["module"]
