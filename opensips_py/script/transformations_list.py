"""``{param.…}`` and ``{csv.…}``: elements of lists in a text."""

from __future__ import annotations

from functools import lru_cache

from opensips_py.script.context import Value
from opensips_py.script.transformations import transformation


@lru_cache(1024)
def parameter_list(text: str) -> tuple[tuple[str, str], ...] | None:
    """Names and values of ``name=value;name;…``, quotes taken off; None when the text is not such a list.

    As strict as OpenSIPS: a blank around ``;`` or ``=``, an empty name or a semicolon at the end make it no list.
    """
    if not text:
        return None
    found = []
    i, n = 0, len(text)
    while True:
        start = i
        while i < n and text[i] not in "=; \t\r\n":
            i += 1
        name, value = text[start:i], ""
        if not name or (i < n and text[i] in " \t\r\n"):
            return None
        if i < n and text[i] == "=":
            i += 1
            if i < n and text[i] in "\"'":
                close = text.find(text[i], i + 1)
                if close < 0:
                    return None
                value, i = text[i + 1 : close], close + 1
            else:
                start = i
                while i < n and text[i] not in "; \t\r\n":
                    i += 1
                value = text[start:i]
        found.append((name, value))
        if i == n:
            return tuple(found)
        if text[i] != ";":
            return None
        i += 1


def _element(text: str, index: int, part: int) -> Value:
    found = parameter_list(text)
    if found is None or not -len(found) <= index < len(found):
        return None
    return found[index][part]


# The separator of {param.*,separator} is accepted and has no effect, as in OpenSIPS 3.1 (a recorded case shows it).


@transformation("param.value", str, str, required=1, rest=True)
def _value(text: str, name: str, separator: str = ";") -> Value:
    """Value of the parameter with a name."""
    name = name.strip().lower()
    return next((value for key, value in parameter_list(text) or () if key.lower() == name), None)


@transformation("param.exist", str, str, required=1, rest=True)
def _exist(text: str, name: str, separator: str = ";") -> Value:
    """1 when there is a parameter with this name, 0 otherwise."""
    found = parameter_list(text)
    if found is None:
        return None
    name = name.strip().lower()
    return int(any(key.lower() == name for key, _ in found))


@transformation("param.valueat", int, str, required=1, rest=True)
def _valueat(text: str, index: int, separator: str = ";") -> Value:
    """Value of the parameter at a position, from 0; negative: from the end."""
    return _element(text, index, 1)


@transformation("param.name", int, str, required=1, rest=True)
def _name(text: str, index: int, separator: str = ";") -> Value:
    """Name of the parameter at a position, from 0; negative: from the end."""
    return _element(text, index, 0)


@transformation("param.count", str, required=0, rest=True)
def _count(text: str, separator: str = ";") -> Value:
    """How many parameters there are."""
    found = parameter_list(text)
    return None if found is None else len(found)


@lru_cache(1024)
def csv_record(text: str) -> tuple[str, ...] | None:
    """The fields of one comma-separated record; None when it is empty or a quoted field is followed by anything but a comma."""
    if not text:
        return None
    fields = []
    i, n = 0, len(text)
    while True:
        while i < n and text[i] in " \t\r\n":
            i += 1
        if i < n and text[i] == '"':
            field = ""
            i += 1
            while True:
                close = text.find('"', i)
                if close < 0:
                    return None
                field += text[i:close]
                i = close + 1
                if i < n and text[i] == '"':  # a doubled quote is one quote
                    field += '"'
                    i += 1
                    continue
                break
            fields.append(field)
        else:
            end = text.find(",", i)
            end = n if end < 0 else end
            fields.append(text[i:end].rstrip(" \t\r\n"))
            i = end
        if i == n:
            return tuple(fields)
        if text[i] != ",":
            return None
        i += 1


@transformation("csv.count")
def _csv_count(text: str) -> Value:
    """How many fields the record has (RFC 4180)."""
    fields = csv_record(text)
    return None if fields is None else len(fields)


@transformation("csv.value", int)
def _csv_value(text: str, index: int) -> Value:
    """The field at a position, from 0; negative: from the end."""
    fields = csv_record(text)
    if fields is None or not -len(fields) <= index < len(fields):
        return None
    return fields[index]
