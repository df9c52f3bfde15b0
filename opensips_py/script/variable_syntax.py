"""What a variable looks like in the text of a script, before anybody knows what it means.

Short form: ``$name`` or ``$name(argument)``. Long form, the only one that takes an index, a context and
transformations: ``$(<context>name(argument)[index]{transformation,parameters}…)``. Nothing here knows which names
exist, except that the longest known name wins where a dot could also be the text after the variable
(``"$ruri.user"`` and ``"to $ruri."``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")
CLOSING = {"(": ")", "[": "]", "{": "}"}


class VariableError(Exception):
    """A variable, transformation or format string that cannot be understood; ``offset`` is its place in the text."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message, self.offset = message, offset


@dataclass(slots=True)
class TransformationText:
    """``{name,parameters}``; ``parameters`` is None when there is no comma."""

    name: str
    parameters: str | None
    offset: int


@dataclass(slots=True)
class VariableText:
    """One variable, taken apart. Offsets count from the start of the text that was scanned."""

    text: str
    name: str
    offset: int
    """Of the name."""
    argument: str | None
    argument_offset: int
    index: str | None
    index_offset: int
    context: str | None
    transformations: list[TransformationText]


def scan_variable(text: str, start: int, known: Callable[[str], str | None]) -> tuple[VariableText, int]:
    """The variable at ``text[start]`` (a ``$``) and the offset after it.

    ``known(name)`` tells how a variable of that name takes an argument (``no``, ``optional``, ``required``) or None.
    """
    if text.startswith("(", start + 1):
        return _scan_long(text, start, known)
    at = start + 1
    name, end = _scan_name(text, at, known)
    if not name:
        raise VariableError("a variable name is expected after $ (a literal dollar sign is written $$)", start)
    argument, argument_offset = None, end
    if end < len(text) and text[end] == "(" and known(name) != "no":
        close = closing(text, end)
        argument, argument_offset, end = text[end + 1 : close], end + 1, close + 1
    return VariableText(text[start:end], name, at, argument, argument_offset, None, end, None, []), end


def _scan_long(text: str, start: int, known: Callable[[str], str | None]) -> tuple[VariableText, int]:
    last = closing(text, start + 1)
    at = _blanks(text, start + 2)
    context = None
    if text[at] == "<":
        close = text.find(">", at, last)
        if close < 0:
            raise VariableError("the context opened by < is not closed", at)
        context, at = text[at + 1 : close], _blanks(text, close + 1)
    name_offset = at
    name, at = _scan_name(text[:last], at, known)
    if not name:
        raise VariableError("a variable name is expected after $(", name_offset)
    argument, argument_offset = None, at
    if text[at] == "(":
        close = closing(text, at)
        argument, argument_offset, at = text[at + 1 : close], at + 1, close + 1
    at = _blanks(text, at)
    index, index_offset = None, at
    if text[at] == "[":
        close = closing(text, at)
        index, index_offset, at = text[at + 1 : close].strip(), at + 1, close + 1
    transformations = []
    at = _blanks(text, at)
    while text[at] == "{":
        close = closing(text, at)
        inner = text[at + 1 : close]
        operation, comma, parameters = inner.partition(",")
        transformations.append(TransformationText(operation.strip(), parameters if comma else None, at + 1))
        at = _blanks(text, close + 1)
    if at != last:
        raise VariableError(f"{text[at:last]!r} does not belong into a variable", at)
    return (
        VariableText(
            text[start : last + 1], name, name_offset, argument, argument_offset, index, index_offset, context, transformations
        ),
        last + 1,
    )


def _scan_name(text: str, at: int, known: Callable[[str], str | None]) -> tuple[str, int]:
    end = at
    while end < len(text) and text[end] in NAME_CHARACTERS:
        end += 1
    name = text[at:end]
    while known(name) is None and "." in name:
        name = name[: name.rindex(".")]
    if known(name) is None or not name:
        name = text[at:end].rstrip(".")
    return name, at + len(name)


def _blanks(text: str, at: int) -> int:
    while text[at] in " \t":
        at += 1
    return at


def closing(text: str, at: int) -> int:
    """Offset of the bracket that closes the one at ``text[at]``.

    Only brackets of the same kind are counted, and a backslash hides the next character: a separator such as
    ``{s.select,0,(}`` or the expression ``{re.subst,/[)]/x/}`` must not confuse the search.
    """
    opening, close = text[at], CLOSING[text[at]]
    depth, i = 0, at
    braces = 0
    while i < len(text):
        c = text[i]
        if c == "\\" and opening != "[":
            i += 2
            continue
        if opening == "(" and c == "{":
            braces += 1
        elif opening == "(" and c == "}" and braces:
            braces -= 1
        elif braces:
            pass
        elif c == opening:
            depth += 1
        elif c == close:
            depth -= 1
            if depth == 0:
                return i
        i += 1
    raise VariableError(f"{opening} is not closed", at)
