"""Named flags of the message and of branches."""

from __future__ import annotations

from opensips_py.core.core_module import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, BranchFlagName, FlagName


@module.function(routes=ALL)
def setflag(ctx: Context, flag: FlagName) -> int:
    """Set a message flag."""
    ctx.flags |= flag
    return 1


@module.function(routes=ALL)
def resetflag(ctx: Context, flag: FlagName) -> int:
    """Clear a message flag."""
    ctx.flags &= ~flag
    return 1


@module.function(routes=ALL)
def isflagset(ctx: Context, flag: FlagName) -> int:
    """Whether a message flag is set."""
    return 1 if ctx.flags & flag else -1


@module.function(routes=ALL)
def setbflag(ctx: Context, flag: BranchFlagName, branch: int | None = None) -> int:
    """Set a flag of a branch: 0 (default) is the R-URI, 1 the first that was appended. -1 when there is none."""
    if not branch:
        ctx.branch_flags |= flag
        return 1
    if not 0 < branch <= len(ctx.branches):
        return -1
    ctx.branches[branch - 1].flags |= flag
    return 1


@module.function(routes=ALL)
def resetbflag(ctx: Context, flag: BranchFlagName, branch: int | None = None) -> int:
    """Clear a flag of a branch."""
    if not branch:
        ctx.branch_flags &= ~flag
        return 1
    if not 0 < branch <= len(ctx.branches):
        return -1
    ctx.branches[branch - 1].flags &= ~flag
    return 1


@module.function(routes=ALL)
def isbflagset(ctx: Context, flag: BranchFlagName, branch: int | None = None) -> int:
    """Whether a flag of a branch is set."""
    if not branch:
        return 1 if ctx.branch_flags & flag else -1
    if not 0 < branch <= len(ctx.branches):
        return -1
    return 1 if ctx.branches[branch - 1].flags & flag else -1
