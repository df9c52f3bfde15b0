"""OpenSIPS module tm: stateful processing."""

from __future__ import annotations

from opensips_py.modules.tm import (  # noqa: F401  (what they offer declares itself)
    functions,
    injection,
    management,
    new_request,
    variables,
    write_request,
)
from opensips_py.modules.tm.declared import module

__all__ = ["module"]
