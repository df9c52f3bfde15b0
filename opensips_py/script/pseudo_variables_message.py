"""The message as it was received: first line, headers by name, body, flags."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from opensips_py.script.context import Context, Value, ValueRefused
from opensips_py.script.flag_names import branch_flags, message_flags
from opensips_py.script.variable_kinds import Access, Index, Number, Text, built, indexed, keyed, list_of, listed, scalar
from opensips_py.script.variable_syntax import VariableError
from opensips_py.sip import multipart
from opensips_py.sip.headers import kind_of

_METHODS = (
    *("INVITE", "CANCEL", "ACK", "BYE", "INFO", "OPTIONS", "UPDATE", "REGISTER"),
    *("MESSAGE", "SUBSCRIBE", "NOTIFY", "PRACK", "REFER", "PUBLISH"),
)
_METHOD_NUMBERS = {name: 1 << place for place, name in enumerate(_METHODS)}


@scalar("rm", numbers=lambda method: _METHOD_NUMBERS.get(method, 1 << len(_METHODS)))
def _rm(ctx: Context) -> Value:
    """Method of the request, or of the CSeq of a reply."""
    return ctx.msg.method or None


@scalar("rs")
def _rs(ctx: Context) -> Value:
    """Status code of the reply."""
    return ctx.msg.status or None


@scalar("rr")
def _rr(ctx: Context) -> Value:
    """Reason phrase of the reply."""
    return None if ctx.msg.is_request else ctx.msg.reason


@scalar("ci")
def _ci(ctx: Context) -> Value:
    """Call-ID."""
    return ctx.msg.call_id


@scalar("cs")
def _cs(ctx: Context) -> Value:
    """Number of the CSeq; text, it has no number form."""
    cseq = ctx.msg.cseq
    return None if cseq is None else str(cseq.number)


@scalar("cl")
def _cl(ctx: Context) -> Value:
    """Content-Length."""
    return ctx.msg.content_length


@scalar("ua")
def _ua(ctx: Context) -> Value:
    """User-Agent."""
    return ctx.msg.value("user-agent")


@scalar("mb")
def _mb(ctx: Context) -> Value:
    """The whole message."""
    return ctx.msg.text


@scalar("ml")
def _ml(ctx: Context) -> Value:
    """Length of the message in bytes."""
    return len(ctx.msg.text)


_numbers = itertools.count(1)


@scalar("mi")
def _mi(ctx: Context) -> Value:
    """Number of the message in this process."""
    known = ctx.msg.__dict__
    number = known.get("number")
    if number is None:
        number = known["number"] = next(_numbers)
    return int(number)


@scalar("msg.is_request")
def _is_request(ctx: Context) -> Value:
    """``true`` (1) for a request, ``false`` (0) for a reply."""
    return TRUE if ctx.msg.is_request else FALSE


@scalar("msg.type")
def _type(ctx: Context) -> Value:
    """``request`` or ``reply``."""
    return "request" if ctx.msg.is_request else "reply"


@built("hdr", argument="required")
def _hdr(argument: Text | None, index: Index) -> Access:
    """Value of a header; ``[i]`` counts the lines with that name, ``[*]`` joins them."""

    def values(ctx: Context, name: str | None) -> Sequence[Value]:
        if name is None:
            return ()
        return [header.value for header in ctx.msg.all(kind_of(name))]

    if isinstance(argument, str):
        kind = kind_of(argument)
        if index is None:
            return Access(lambda ctx: ctx.msg.value(kind), values=lambda ctx: values(ctx, kind))
        return Access(indexed(values, kind, index), values=lambda ctx: values(ctx, kind))
    compute = argument
    assert compute is not None
    return Access(indexed(values, compute, index), values=lambda ctx: values(ctx, compute(ctx)))


@keyed("hdrcnt")
def _hdrcnt(ctx: Context, name: str) -> Value:
    """How many headers of that name there are."""
    return len(ctx.msg.all(kind_of(name)))


@listed("hdr_name")
def _hdr_name(ctx: Context, argument: str | None) -> Sequence[Value]:
    """Names of the headers as received."""
    return [header.name for header in ctx.msg.headers]


def body_parts(ctx: Context) -> list[tuple[str, str]]:
    """Content type (lower case) and text of each body part; one for a body that is not multipart (RFC 2046 5.1)."""
    body = ctx.msg.body
    return [(part.kind, body[part.content : part.end]) for part in multipart.parts(body, ctx.msg.content_type or "")]


@built("rb", argument="optional")
def _rb(argument: Text | None, index: Index) -> Access:
    """Body as received, or its part of a content type. NULL when the message has no Content-Length."""

    def whole(ctx: Context) -> Value:
        return None if ctx.msg.content_length is None else ctx.msg.body or None

    if argument is None and index in (None, "*"):
        return Access(whole)

    def values(ctx: Context, name: str | None) -> Sequence[Value]:
        parts = [] if ctx.msg.content_length is None or not has_content_type(ctx) else body_parts(ctx)
        if name is None:
            return [text for _, text in parts]
        wanted = name.strip().lower()
        return [text for kind, text in parts if kind == wanted]

    return Access(indexed(values, argument, index), values=list_of(values, argument))


_media_type = re.compile(r"[^\s/;]+/[^\s/;]+\s*(?:;.*)?", re.DOTALL).fullmatch


def is_media_type(text: str) -> bool:
    """Whether a Content-Type can be read; none at all counts as one that can."""
    return not text or _media_type(text) is not None


def has_content_type(ctx: Context) -> bool:
    """Whether the Content-Type of the message, if it has one, can be read."""
    return is_media_type(ctx.msg.content_type or "")


KNOWN_TYPES = {
    "text": {"plain"},
    "message": {"cpim", "sipfrag", "external-body"},
    "multipart": {"related", "mixed"},
    "application": {
        *("sdp", "isup", "cpl+xml", "pidf+xml", "rlmi+xml", "lpidf+xml", "xpidf+xml", "watcherinfo+xml", "rs-metadata+xml"),
    },
}
"""Media types that OpenSIPS tells apart; others are ``type/unknown`` where ``$cT`` is asked for the parts of a body."""


def known_type(kind: str) -> str:
    """The name that a part's media type has in ``$cT``."""
    main, _, sub = kind.partition("/")
    if main not in KNOWN_TYPES:
        return "unknown/unknown"
    return kind if sub in KNOWN_TYPES[main] else f"{main}/unknown"


@built("cT")
def _content_type(argument: Text | None, index: Index) -> Access:
    """Content-Type; ``[i]`` is the type of a body part, ``[*]`` the Content-Type and those of all parts."""
    if index is None:
        return Access(lambda ctx: ctx.msg.content_type)

    def values(ctx: Context, name: str | None) -> Sequence[Value]:
        if ctx.msg.content_type is None or not has_content_type(ctx):
            return ()
        return [known_type(kind) for kind, _ in body_parts(ctx)]

    if index != "*":
        return Access(indexed(values, None, index), values=lambda ctx: values(ctx, None))

    def every(ctx: Context) -> Value:
        types = values(ctx, None)
        return ",".join([ctx.msg.content_type or "", *map(str, types)]) if types else None

    return Access(every, values=lambda ctx: values(ctx, None))


@scalar("mf")
def _mf(ctx: Context) -> Value:
    """Names of the message flags that are set."""
    return message_flags.text(ctx.flags)


@scalar("bf")
def _bf(ctx: Context) -> Value:
    """Names of the branch flags that are set."""
    return branch_flags.text(ctx.branch_flags)


def _flag_name(argument: Text | None) -> str:
    if not isinstance(argument, str):
        raise VariableError("the name of a flag cannot be computed")
    return argument.strip()


TRUE, FALSE = Number(1, "true"), Number(0, "false")


@built("msg.flag", argument="required")
def _msg_flag(argument: Text | None, index: Index) -> Access:
    """A message flag; writable with 0 and 1."""
    try:
        mask = message_flags.mask(_flag_name(argument))
    except ValueError as error:
        raise VariableError(str(error)) from None

    def get(ctx: Context) -> Value:
        return TRUE if ctx.flags & mask else FALSE

    def put(ctx: Context, value: Value) -> None:
        if not isinstance(value, int):
            raise ValueRefused("a flag is 0 or 1")
        ctx.flags = ctx.flags | mask if value else ctx.flags & ~mask

    return Access(get, put)


@built("branch.flag", argument="required")
def _branch_flag(argument: Text | None, index: Index) -> Access:
    """A flag of branch ``[i]``: 0 is the R-URI, 1 the first that was appended; NULL for the last one, as in OpenSIPS, which
    counts the appended ones alone. Writable with 0 and 1.
    """
    try:
        mask = branch_flags.mask(_flag_name(argument))
    except ValueError as error:
        raise VariableError(str(error)) from None

    def which(ctx: Context) -> int:
        i = index(ctx) if callable(index) else index
        return i if isinstance(i, int) else 0

    def get(ctx: Context) -> Value:
        i = which(ctx)
        if not 0 <= i < len(ctx.branches):
            return None
        flags = ctx.branches[i - 1].flags if i else ctx.branch_flags
        return TRUE if flags & mask else FALSE

    def put(ctx: Context, value: Value) -> None:
        i = which(ctx)
        if not isinstance(value, int) or not 0 <= i < len(ctx.branches):
            raise ValueRefused("a flag is 0 or 1, of a branch that has been appended")
        if i == 0:
            ctx.branch_flags = ctx.branch_flags | mask if value else ctx.branch_flags & ~mask
        else:
            branch = ctx.branches[i - 1]
            branch.flags = branch.flags | mask if value else branch.flags & ~mask

    return Access(get, put)
