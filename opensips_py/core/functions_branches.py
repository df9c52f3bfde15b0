"""Branches: more destinations of one request, tried at once or one after the other."""

from __future__ import annotations

from typing import Annotated

import msgspec

from opensips_py.core.core_module import module
from opensips_py.script.context import Q_UNSPECIFIED, Branch, Context
from opensips_py.script.declarations import ALL, Line
from opensips_py.script.pseudo_variables_uri import q_value
from opensips_py.script.variables import Registry
from opensips_py.server.process import this
from opensips_py.tm.record import MAX_BRANCHES

SERIAL = "serial_branch"
"""AVP that keeps what serialize_branches() has put aside; the next step is on top."""


def current_branch(ctx: Context) -> Branch:
    """The R-URI with everything that belongs to it, as a branch."""
    socket = None if ctx.send_socket is None else ctx.send_socket.name
    return Branch(ctx.ruri, ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags, socket)


def add_branch(ctx: Context, branch: Branch) -> int:
    """Append a branch: 1, or -1 when there are as many as can be."""
    if len(ctx.branches) >= MAX_BRANCHES - 1:
        return -1
    ctx.branches.append(branch)
    return 1


def _q_fault(text: str, registry: Registry) -> str | None:
    return f"[{text}] is not a q: a number from 0 to 1" if text and q_value(text) is None else None


@module.function(routes=ALL)
def append_branch(ctx: Context, uri: Line | None = None, q: Annotated[str, "str", _q_fault] | None = None) -> int:
    """Append a destination: ``uri``, or the R-URI with all that belongs to it, which is then reset. -1 beyond 12 in all."""
    quality = None if q is None else q_value(q)
    if q is not None and quality is None:
        return -1
    if uri:
        branch = current_branch(ctx)
        branch.uri, branch.q = uri, Q_UNSPECIFIED if quality is None else quality
        return add_branch(ctx, branch)
    branch = current_branch(ctx)
    if quality is not None:
        branch.q = quality
    if add_branch(ctx, branch) < 0:
        return -1
    ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags, ctx.send_socket = None, None, Q_UNSPECIFIED, 0, None
    return 1


@module.function(routes=ALL)
def remove_branch(ctx: Context, index: int) -> int:
    """Remove an appended branch, counted from 0. -1 when there is none."""
    if not 0 <= index < len(ctx.branches):
        return -1
    del ctx.branches[index]
    return 1


class _Step(msgspec.Struct, array_like=True):
    """Branches to try at the same time."""

    branches: list[Branch]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Step).decode


@module.function(routes=ALL)
def serialize_branches(ctx: Context, clear: int, keep_order: int | None = None) -> int:
    """Put the destinations aside, to be tried by falling q with next_branches(); equal q go together.

    ``clear``: forget what an earlier call put aside. ``keep_order``: one after the other as they are, without regard to q.
    Nothing happens when all have the same q. Always 1.
    """
    if clear:
        ctx.avps.pop(SERIAL, None)
    if not ctx.branches:
        return 1
    branches = [current_branch(ctx), *ctx.branches]
    if keep_order:
        groups = [[branch] for branch in branches]
    else:
        qualities = sorted({branch.q for branch in branches}, reverse=True)
        if len(qualities) == 1:
            return 1
        groups = [[branch for branch in branches if branch.q == q] for q in qualities]
    stack = ctx.avps.setdefault(SERIAL, [])
    stack += [_encode(_Step(group)).decode("latin-1") for group in reversed(groups)]
    ctx.branches.clear()
    return 1


@module.function(routes=ALL)
def next_branches(ctx: Context) -> int:
    """Make the destinations with the next q current: 1 while more remain, 2 for the last, -1 when there is none."""
    stack = ctx.avps.get(SERIAL)
    if not stack:
        return -1
    step = _decode(str(stack.pop()).encode("latin-1"))
    more = bool(stack)
    if not more:
        del ctx.avps[SERIAL]
    first, *others = step.branches
    ctx.new_uri, ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags = first.uri, first.dst_uri, first.path, first.q, first.flags
    ctx.send_socket = None if first.socket is None else this.sockets_by_name[first.socket]
    ctx.branches[:] = others
    return 1 if more else 2
