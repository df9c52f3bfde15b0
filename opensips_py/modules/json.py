"""OpenSIPS module json: JSON objects in ``$json(name/key[index])``.

Objects live as long as the process, like ``$var``. ``:=`` reads JSON text, ``=`` stores a string or a number; NULL removes.
In a path, ``/`` goes into an object, ``[i]`` into an array (negative from the end), ``[]`` after it adds an element; ``.keys``
at its end are the keys of an object, for ``for``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from opensips_py.script.context import Context, Value, ValueRefused
from opensips_py.script.declarations import ALL, Module, Var
from opensips_py.script.pseudo_variables_storage import stored

module = Module("json", doc="JSON objects in script variables (OpenSIPS module json)")

objects: dict[str, Any] = {}
"""Values by name, for the whole life of the process."""

APPEND = object()
"""Step of a path that stands for a new element."""

_MISSING = object()
Step = str | int | object


def _path(text: str) -> tuple[str, list[Step]] | None:
    """Name and steps of ``name/key[0]/key``; None when it is no path."""
    steps: list[Step] = []
    for piece in text.split("/"):
        key, *indexes = piece.split("[")
        if key or not steps:
            steps.append(key)
        for index in indexes:
            if not index.endswith("]"):
                return None
            number = index[:-1].strip()
            try:
                steps.append(APPEND if not number else int(number))
            except ValueError:
                return None
    name = steps[0]
    return (name, steps[1:]) if isinstance(name, str) and name else None


def _get(text: str | None, index: int | str | None = None) -> Any:
    path = _path(text or "")
    if path is None:
        return _MISSING
    name, steps = path
    value = objects.get(name, _MISSING)
    for step in [*steps, *([index] if isinstance(index, int) else [])]:
        value = _child(value, step)
    return value


def _child(value: Any, step: Step) -> Any:
    if isinstance(value, dict) and isinstance(step, str):
        return value.get(step, _MISSING)
    if isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
        return value[step]
    return _MISSING


class Decimal(float):
    """A number with a fraction or an exponent; it is printed as it was written."""

    text: str

    def __new__(cls, text: str) -> Decimal:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _text_of(value: Any) -> Value:
    """A JSON value as the script sees it: strings and integers (in 32 bits) are themselves, null is NULL, the rest is JSON."""
    if value is _MISSING or value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-(2**31), min(2**31 - 1, value))
    return _spaced(value)


def _atom(value: Any) -> str:
    # One character is one byte: what is not ASCII goes out as it came in. A slash is escaped, as json-c does.
    return value.text if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False).replace("/", "\\/")


def _spaced(value: Any) -> str:
    """JSON with blanks inside brackets, as OpenSIPS prints ``$json``: ``{ "a": [ 1, 2 ] }``."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_atom(key)}: {_spaced(each)}" for key, each in value.items()) + (" }" if value else "}")
    if isinstance(value, list):
        return "[ " + ", ".join(map(_spaced, value)) + (" ]" if value else "]")
    return _atom(value)


def _dense(value: Any) -> str:
    """JSON without blanks."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_atom(key)}:{_dense(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dense, value)) + "]"
    return _atom(value)


def _indented(value: Any, margin: str = "\n") -> str:
    """JSON with a line for each element."""
    inner = margin + "  "
    if isinstance(value, dict):
        lines = ",".join(f"{inner}{_atom(key)}:{_indented(each, inner)}" for key, each in value.items())
        return f"{{{lines}{margin}}}"
    if isinstance(value, list):
        return "[" + ",".join(inner + _indented(each, inner) for each in value) + margin + "]"
    return _atom(value)


DEEPEST = 32
"""Nesting of JSON that is read, as in json-c. More is not JSON: printing it would be work for a sender to choose."""
_INTEGERS = -(2**63), 2**63 - 1


def _integer(digits: str) -> int:
    """Within 64 bits, as json-c keeps it."""
    least, most = _INTEGERS
    return max(least, min(most, int(digits))) if len(digits) < 30 else least if digits[0] == "-" else most


def _load(text: str) -> Any:
    try:
        value = json.loads(text, parse_int=_integer, parse_float=Decimal)
    except (ValueError, RecursionError):
        return _MISSING
    return value if _nesting(value) <= DEEPEST else _MISSING


def _nesting(value: Any) -> int:
    """How deep arrays and objects are nested; at most one more than is allowed."""
    depth, level = 0, [value]
    while level and depth <= DEEPEST:
        level = [
            each for one in level if isinstance(one, dict | list) for each in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1
    return depth


def _put(text: str | None, index: int | str | None, value: Any) -> None:
    """Store ``value`` at a path, or remove what is there when it is _MISSING. ValueRefused for a path into nothing."""
    path = _path(text or "")
    if path is None:
        raise ValueRefused(f"$json({text}) is not a path")
    name, steps = path
    if index is not None:
        steps = [*steps, APPEND if index == "append" else index]
    if not steps:
        if value is _MISSING:
            objects.pop(name, None)
        else:
            objects[name] = value
        return
    target = objects.get(name, _MISSING)
    for step in steps[:-1]:
        target = _child(target, step)
    last = steps[-1]
    if isinstance(target, dict) and isinstance(last, str):
        if value is _MISSING:
            target.pop(last, None)
        else:
            target[last] = value
    elif not (isinstance(target, list) and _put_element(target, last, value)) and value is not _MISSING:
        raise ValueRefused(f"$json({text}) leads to nothing that can be written")


def _put_element(target: list[Any], place: Step, value: Any) -> bool:
    """Whether the array has such a place. Removing any element removes all, as in OpenSIPS."""
    if place is APPEND:
        if value is not _MISSING:
            target.append(value)
        return True
    if not isinstance(place, int) or not -len(target) <= place < len(target):
        return False
    if value is _MISSING:
        target.clear()
    else:
        target[place] = value
    return True


def _write(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    """``=``: a string, a number; NULL removes."""
    _put(argument, index, _MISSING if value is None else stored(value))


def _parse(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    """``:=``: JSON text, of which null removes; what is not JSON is refused, and removes too."""
    parsed = None if value is None else _load(value) if isinstance(value, str) else stored(value)
    _put(argument, index, _MISSING if parsed is None else parsed)
    if parsed is _MISSING:
        raise ValueRefused("the text is not JSON")


def _reader(dump: Callable[[Any], Value]) -> Callable[[Context, str | None, int | str | None], Value]:
    def read(ctx: Context, argument: str | None, index: int | str | None) -> Value:
        if index == "*":
            every = _get(argument)
            values = [_text_of(value) for value in every] if isinstance(every, list) else []
            return ", ".join("null" if value is None else str(value) for value in values) if values else None
        return dump(_get(argument, index))

    return read


def _values(ctx: Context, argument: str | None) -> list[Value]:
    """What ``for`` runs over: the elements of an array, the values or keys of an object, without those that are null."""
    path, dot, of = (argument or "").rpartition(".")
    found = _get(path if dot and of in ("keys", "values") else argument)
    if isinstance(found, dict):
        return list(found) if dot and of == "keys" else [text for text in map(_text_of, found.values()) if text is not None]
    if isinstance(found, list) and not (dot and of in ("keys", "values")):
        return [text for text in map(_text_of, found) if text is not None]
    return []


def _pretty(value: Any) -> Value:
    return _indented(value) if isinstance(value, dict | list) else _text_of(value)


def _compact(value: Any) -> Value:
    return _dense(value) if isinstance(value, dict | list) else _text_of(value)


module.variable(
    "json",
    argument="required",
    write=_write,
    assign=_parse,
    values=_values,
    doc="A JSON value: $json(name/key[index]). = stores text or a number, := parses JSON, NULL removes.",
)(_reader(_text_of))
module.variable("json_compact", argument="required", doc="The same as text without blanks.")(_reader(_compact))
module.variable("json_pretty", argument="required", doc="The same as text with indented lines.")(_reader(_pretty))


def _argument(variable: Var) -> str:
    """What stands in the parentheses of ``$json(…)``."""
    text = variable.text
    return text[text.index("(", 2) + 1 : text.rindex(")")]


@module.function(routes=ALL)
def json_link(ctx: Context, link: Var, target: Var) -> int:
    """Make one ``$json`` the same object as another: a change of one is seen in both. -1 for other variables."""
    if not (link.text.startswith("$json(") and target.text.startswith("$json(")):
        return -1
    value = _get(_argument(target))
    path = _path(_argument(link))
    if value is _MISSING or path is None or _holds(value, objects.get(path[0])):
        return -1
    _put(_argument(link), None, value)
    return 1


def _holds(value: Any, root: Any) -> bool:
    """Whether an object or array is, or has somewhere in it, another one: linked into that, it would have no end."""
    level = [value]
    while level:
        if any(one is root for one in level if isinstance(one, dict | list)):
            return True
        level = [
            each for one in level if isinstance(one, dict | list) for each in (one.values() if isinstance(one, dict) else one)
        ]
    return False
