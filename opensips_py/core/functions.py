"""The core's script functions (OpenSIPS manual, "Core Functions"), by subject; ``module`` has them all."""

from __future__ import annotations

from opensips_py.core import (  # noqa: F401
    functions_blacklist,
    functions_branches,
    functions_cache,
    functions_debugger,
    functions_events,
    functions_flags,
    functions_network,
    functions_trace,
    functions_uri,
    functions_values,
    store_events,
    variables_branch,
    variables_process,
)
from opensips_py.core.core_module import module

__all__ = ["module"]
