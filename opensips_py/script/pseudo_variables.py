"""The core's pseudo-variables (OpenSIPS ``pvar.c``), by subject; importing this file declares them all."""

from __future__ import annotations

from opensips_py.script import (  # noqa: F401
    pseudo_variables_auth,
    pseudo_variables_identity,
    pseudo_variables_message,
    pseudo_variables_network,
    pseudo_variables_process,
    pseudo_variables_storage,
    pseudo_variables_uri,
)
from opensips_py.script.pseudo_variables_context import in_branch, in_reply, in_request

__all__ = ["in_branch", "in_reply", "in_request"]
