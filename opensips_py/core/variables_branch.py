"""``$branch`` and ``$(branch(part)[i])``: the appended branches."""

from __future__ import annotations

from opensips_py.core.core_module import module
from opensips_py.core.functions_branches import add_branch, current_branch
from opensips_py.core.functions_network import socket_named
from opensips_py.script.context import Q_UNSPECIFIED, Branch, Context, Value, ValueRefused
from opensips_py.script.flag_names import branch_flags
from opensips_py.script.one_line import shown
from opensips_py.script.pseudo_variables_uri import MAX_Q, q_text, text_for_uri


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
        return branch.socket
    return None


def _append(ctx: Context, value: Value) -> None:
    uri = text_for_uri(value)
    if not uri:
        raise ValueRefused("a branch needs a URI")
    branch = current_branch(ctx)
    branch.uri, branch.q = uri, Q_UNSPECIFIED
    if add_branch(ctx, branch) < 0:
        raise ValueRefused("the request has as many branches as it can have")


def _write(ctx: Context, part: str | None, index: int | str | None, value: Value) -> None:
    if part is None:
        _append(ctx, value)
        return
    number = 0 if index is None else index
    write = _WRITERS.get(part.strip())
    if write is None or not isinstance(number, int) or not -len(ctx.branches) <= number < len(ctx.branches):
        raise ValueRefused("there is no such part of a branch, or no such branch")
    if value is None and write is _write_uri:
        del ctx.branches[number]
    else:
        write(ctx.branches[number], value)


def _write_uri(branch: Branch, value: Value) -> None:
    branch.uri = text_for_uri(value)


def _write_destination(branch: Branch, value: Value) -> None:
    branch.dst_uri = None if value is None else text_for_uri(value) or None


def _write_path(branch: Branch, value: Value) -> None:
    branch.path = None if value is None else text_for_uri(value) or None


def _write_q(branch: Branch, value: Value) -> None:
    if value is not None and not isinstance(value, int):
        raise ValueRefused("a q is a number, in thousandths")
    branch.q = Q_UNSPECIFIED if value is None else min(int(value), MAX_Q)


def _write_flags(branch: Branch, value: Value) -> None:
    flags = branch_flags.known([] if value is None else str(value).split())
    if flags is None:
        raise ValueRefused(f"{shown(str(value))} names a flag that the script does not use")
    branch.flags = flags


def _write_socket(branch: Branch, value: Value) -> None:
    found = socket_named(value) if isinstance(value, str) else None
    if found is None and value is not None:
        raise ValueRefused(f"the server does not listen on {shown(str(value))}")
    branch.socket = None if found is None else found.name


_WRITERS = {
    "uri": _write_uri,
    "duri": _write_destination,
    "q": _write_q,
    "path": _write_path,
    "flags": _write_flags,
    "socket": _write_socket,
}


@module.variable("branch", argument="optional", write=_write, fields=tuple(_WRITERS))
def _branch(ctx: Context, part: str | None, index: int | str | None) -> Value:
    """An appended branch: uri, duri, q (written in thousandths), path, flags, socket. Writing ``$branch`` appends one."""
    wanted = (part or "uri").strip()
    branches = ctx.branches
    if index == "*":  # as in OpenSIPS the URIs, whatever part is asked for
        return ", ".join(branch.uri for branch in branches) if branches else None
    number = 0 if index is None else index
    if not isinstance(number, int) or not -len(branches) <= number < len(branches):
        return None
    return _part(branches[number], wanted)
