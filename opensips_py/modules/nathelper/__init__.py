"""OpenSIPS module nathelper: user agents behind NAT."""

from __future__ import annotations

from opensips_py.modules.nathelper import detect, ping, repair  # noqa: F401  (their functions declare themselves)
from opensips_py.modules.nathelper.declared import module

__all__ = ["module"]
