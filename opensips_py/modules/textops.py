"""OpenSIPS module textops: searching and replacing in the text of the message.

Everything looks at the message as it was received; replacements are edits, applied when it is sent. Expressions are POSIX
extended ones, ``^`` and ``$`` match at line ends. ``subst`` functions take ``/expression/replacement/flags``.
"""

from __future__ import annotations

from collections.abc import Iterable

from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, HeaderLines, L, Module, O, Pattern, R
from opensips_py.script.posix_regex import Match
from opensips_py.script.pseudo_variables_uri import ruri_parts, with_user
from opensips_py.script.substitution import Substitution, SubstitutionError, SubstitutionText, parse_substitution
from opensips_py.script.variables import current
from opensips_py.sip.remembered import remembered

module = Module("textops", doc="Search and replace in the text of the message (OpenSIPS module textops)")

ROFBL = R | O | F | B | L


def _headers_start(ctx: Context) -> int:
    """Offset after the first line: replacing functions leave that one alone."""
    return ctx.msg.text.find("\n") + 1


def _found(match: object) -> int:
    return 1 if match else -1


@module.function(routes=ROFBL)
def search(ctx: Context, expression: Pattern) -> int:
    """Whether the expression matches in the message."""
    return _found(expression.test(ctx.msg.text))


@module.function(routes=ROFBL)
def search_body(ctx: Context, expression: Pattern) -> int:
    """Whether the expression matches in the body. -1 when there is none."""
    return _found(ctx.msg.body and expression.test(ctx.msg.body))


def _append(ctx: Context, match: Match | None, offset: int, text: str) -> int:
    if match is None:
        return -1
    ctx.msg.edits.append((offset + match.end(), 0, text))
    return 1


@module.function(routes=ROFBL)
def search_append(ctx: Context, expression: Pattern, text: HeaderLines) -> int:
    """Add text after the first match."""
    start = _headers_start(ctx)
    return _append(ctx, expression.search(ctx.msg.text[start:]), start, text)


@module.function(routes=ROFBL)
def search_append_body(ctx: Context, expression: Pattern, text: str) -> int:
    """Add text after the first match in the body. -1 when there is none."""
    if not ctx.msg.body:
        return -1
    return _append(ctx, expression.search(ctx.msg.body), ctx.msg.body_start, text)


def _replace(ctx: Context, matches: Iterable[Match], offset: int, text: str) -> int:
    done = -1
    for match in matches:
        if match.end() > match.start():
            ctx.msg.edits.append((offset + match.start(), match.end() - match.start(), text))
            done = 1
    return done


def _first(expression: Pattern, text: str) -> list[Match]:
    match = expression.search(text)
    return [] if match is None else [match]


@module.function(routes=ROFBL)
def replace(ctx: Context, expression: Pattern, text: HeaderLines) -> int:
    """Replace the first match. -1 when nothing matches."""
    start = _headers_start(ctx)
    return _replace(ctx, _first(expression, ctx.msg.text[start:]), start, text)


@module.function(routes=ROFBL)
def replace_all(ctx: Context, expression: Pattern, text: HeaderLines) -> int:
    """Replace every match. -1 when nothing matches."""
    start = _headers_start(ctx)
    return _replace(ctx, expression.finditer(ctx.msg.text[start:]), start, text)


@module.function(routes=ROFBL)
def replace_body(ctx: Context, expression: Pattern, text: str) -> int:
    """Replace the first match in the body. -1 when nothing matches."""
    return _replace(ctx, _first(expression, ctx.msg.body), ctx.msg.body_start, text)


@module.function(routes=ROFBL)
def replace_body_all(ctx: Context, expression: Pattern, text: str) -> int:
    """Replace every match in the body, line by line. -1 when nothing matches."""
    return _replace(ctx, expression.finditer(ctx.msg.body), ctx.msg.body_start, text)


@module.function(routes=ROFBL)
def replace_body_atonce(ctx: Context, expression: Pattern, text: str) -> int:
    """Replace every match in the body, as replace_body_all(). -1 when nothing matches."""
    return replace_body_all(ctx, expression, text)


@remembered
def _parsed(text: str) -> Substitution:
    return parse_substitution(text, current())


def _substitution(text: str) -> Substitution | None:
    """The expression, compiled once; None when it cannot be compiled."""
    try:
        return _parsed(text)
    except SubstitutionError:
        return None


def _subst(ctx: Context, expression: str, start: int, end: int) -> int:
    substitution = _substitution(expression)
    if substitution is None:
        return -1
    try:
        changes = substitution.changes(ctx, ctx.msg.text, start, end)
    except SubstitutionError:
        return -1
    for change in changes:
        ctx.msg.edits.append((change.start, change.end - change.start, change.replacement))
    return 1 if changes else -1


@module.function(routes=ROFBL)
def subst(ctx: Context, expression: SubstitutionText) -> int:
    """Substitute in headers and body. -1 when nothing matches."""
    return _subst(ctx, expression, _headers_start(ctx), len(ctx.msg.text))


@module.function(routes=ROFBL)
def subst_body(ctx: Context, expression: SubstitutionText) -> int:
    """Substitute in the body. -1 when nothing matches."""
    return _subst(ctx, expression, ctx.msg.body_start, ctx.msg.body_end)


@module.function(routes=R | O | F | B)
def subst_uri(ctx: Context, expression: SubstitutionText) -> int:
    """Substitute in the R-URI. -1 when nothing matches."""
    substitution = _substitution(expression)
    if substitution is None:
        return -1
    try:
        if not substitution.changes(ctx, ctx.ruri):
            return -1
    except SubstitutionError:
        return -1
    ctx.new_uri = substitution.apply(ctx, ctx.ruri)
    return 1


@module.function(routes=R | O | F | B)
def subst_user(ctx: Context, expression: SubstitutionText) -> int:
    """Substitute in the user of the R-URI. -1 when nothing matches."""
    substitution, uri = _substitution(expression), ruri_parts(ctx)
    if substitution is None or uri is None:
        return -1
    user = uri.user or ""
    try:
        if not substitution.changes(ctx, user):
            return -1
    except SubstitutionError:
        return -1
    ctx.new_uri = with_user(uri, substitution.apply(ctx, user))
    return 1
