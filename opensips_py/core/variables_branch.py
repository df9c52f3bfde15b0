"""``$branch`` and ``$(branch(part)[i])``: the appended branches."""

from __future__ import annotations

from opensips_py.core.core_module import module
from opensips_py.core.functions_branches import append_branch
from opensips_py.core.functions_network import socket_named
from opensips_py.core.process import this
from opensips_py.script.context import Q_UNSPECIFIED, Branch, Context, Value
from opensips_py.script.flag_names import branch_flags
from opensips_py.script.one_line import one_line
from opensips_py.script.pseudo_variables_network import socket_text
from opensips_py.script.pseudo_variables_uri import q_text


def _part(branch: Branch, part: str) -> Value:
    if part == "uri":
        return branch.uri
    if part == "duri":
        return branch.dst_uri
    if part == "q":
        return q_text(branch.q)
    if part == "path":
        return branch.path
    if part == "flags":
        return branch_flags.text(branch.flags)
    if part == "socket":
        return None if branch.socket is None else socket_text(this.sockets[branch.socket])
    return None


def _write(ctx: Context, part: str | None, index: int | str | None, value: Value) -> None:
    if part is None:
        if value is not None:
            append_branch(ctx, one_line(str(value)))
        return
    number = 0 if index is None else index
    if not isinstance(number, int) or not -len(ctx.branches) <= number < len(ctx.branches):
        return
    branch = ctx.branches[number]
    text = None if value is None else one_line(str(value))
    part = part.strip()
    if part == "uri":
        if text is None:
            del ctx.branches[number]
        else:
            branch.uri = text
    elif part == "duri":
        branch.dst_uri = text
    elif part == "q":
        branch.q = int(value) if isinstance(value, int) else Q_UNSPECIFIED
    elif part == "path":
        branch.path = text
    elif part == "flags":
        branch.flags = 0
        for name in (text or "").split():
            branch.flags |= branch_flags.mask(name)
    elif part == "socket":
        found = None if text is None else socket_named(text)
        branch.socket = None if found is None else found.index


@module.variable("branch", argument="optional", write=_write)
def _branch(ctx: Context, part: str | None, index: int | str | None) -> Value:
    """An appended branch: uri, duri, q (written in thousandths), path, flags, socket. Writing ``$branch`` appends one."""
    wanted = (part or "uri").strip()
    branches = ctx.branches
    if index == "*":
        values = [_part(branch, wanted) for branch in branches]
        return ", ".join("" if value is None else str(value) for value in values) if values else None
    number = 0 if index is None else index
    if not isinstance(number, int) or not -len(branches) <= number < len(branches):
        return None
    return _part(branches[number], wanted)
