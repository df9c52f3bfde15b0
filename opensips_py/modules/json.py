"""OpenSIPS module json: JSON objects in ``$json(name/key[index])``.

Objects live as long as the process, like ``$var``. ``:=`` reads JSON text, ``=`` stores a string or a number; NULL removes.
In a path, ``/`` goes into an object, ``[i]`` into an array (negative from the end), ``[]`` behind it adds an element.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import ALL, Module, Var

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


def _text_of(value: Any) -> Value:
    """A JSON value as the script sees it: strings and integers are themselves, null is NULL, the rest is JSON."""
    if value is _MISSING or value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and -(2**31) <= value < 2**31:
        return value
    return _spaced(value)


def _dump(value: Any, separators: tuple[str, str] = (",", ":"), indent: int | None = None) -> str:
    # One character is one byte: what is not ASCII goes out as it came in. A slash is escaped, as json-c does.
    return json.dumps(value, ensure_ascii=False, separators=separators, indent=indent).replace("/", "\\/")


def _spaced(value: Any) -> str:
    """JSON with blanks inside brackets, as OpenSIPS prints ``$json``: ``{ "a": [ 1, 2 ] }``."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_dump(key)}: {_spaced(each)}" for key, each in value.items()) + (" }" if value else "}")
    if isinstance(value, list):
        return "[ " + ", ".join(_spaced(each) for each in value) + (" ]" if value else "]")
    return _dump(value)


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _MISSING


def _put(text: str | None, index: int | str | None, value: Any) -> None:
    """Store ``value`` at a path, or remove what is there when it is _MISSING. A path into nothing is refused silently."""
    path = _path(text or "")
    if path is None:
        return
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
    elif isinstance(target, list):
        _put_element(target, last, value)


def _put_element(target: list[Any], place: Step, value: Any) -> None:
    if place is APPEND:
        if value is not _MISSING:
            target.append(value)
    elif isinstance(place, int) and -len(target) <= place < len(target):
        if value is _MISSING:
            del target[place]
        else:
            target[place] = value


def _write(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    """``=``: a string, a number; NULL removes."""
    _put(argument, index, _MISSING if value is None else value if isinstance(value, str) else int(value))


def _parse(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    """``:=``: JSON text; what cannot be read leaves the variable as it is."""
    if value is None:
        _put(argument, index, _MISSING)
        return
    parsed = _load(value) if isinstance(value, str) else int(value)
    if parsed is not _MISSING:
        _put(argument, index, parsed)


def _reader(dump: Callable[[Any], Value]) -> Callable[[Context, str | None, int | str | None], Value]:
    def read(ctx: Context, argument: str | None, index: int | str | None) -> Value:
        if index == "*":
            every = _get(argument)
            values = [_text_of(value) for value in every] if isinstance(every, list) else []
            return ", ".join("null" if value is None else str(value) for value in values) if values else None
        return dump(_get(argument, index))

    return read


def _pretty(value: Any) -> Value:
    return _dump(value, indent=2) if isinstance(value, dict | list) else _text_of(value)


def _compact(value: Any) -> Value:
    return _dump(value) if isinstance(value, dict | list) else _text_of(value)


module.variable(
    "json",
    argument="required",
    write=_write,
    assign=_parse,
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
    if value is _MISSING:
        return -1
    _put(_argument(link), None, value)
    return 1
