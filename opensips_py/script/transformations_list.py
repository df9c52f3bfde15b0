"""``{param.…}`` and ``{csv.…}``: elements of lists in a text."""

from __future__ import annotations

import re

from opensips_py.script.context import Value
from opensips_py.script.transformations import transformation
from opensips_py.sip.remembered import remembered

_NAME = re.compile(r"[^=;, \t\r\n]*")
_VALUE = re.compile(r"[^;, \t\r\n]+")
_BLANKS = re.compile(r"[ \t\r\n]*")

Parameters = tuple[tuple[str, str], ...]


@remembered
def parameter_list(text: str) -> Parameters | None:
    """Names and values of ``name=value; name; …``, quotes taken off; None when the text is not such a list.

    As OpenSIPS reads it: blanks may stand around ``;`` and ``=``, names may be empty (``;;``, a leading ``;``), a comma ends the
    list. A blank before the first name or inside a value, an empty value (``a=``) and a semicolon at the end make it no list.
    """
    if not text:
        return None
    found = []
    at, size = 0, len(text)
    while True:
        name = _behind(_NAME, text, at)
        word, at, value = text[at:name], _behind(_BLANKS, text, name), ""
        if text.startswith("=", at):
            at = _behind(_BLANKS, text, at + 1)
            if text.startswith('"', at):
                close = text.find('"', at + 1)
                if close < 0:
                    return None
                value, at = text[at + 1 : close], close + 1
            else:
                match = _VALUE.match(text, at)
                if match is None:
                    return None
                value, at = match[0], match.end()
            at = _behind(_BLANKS, text, at)
        found.append((word, value))
        if at == size or text[at] == ",":
            return tuple(found)
        if text[at] != ";":
            return None
        at = _behind(_BLANKS, text, at + 1)
        if at == size:
            return None


def _behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    """The offset after what a pattern that matches anything, and nothing, takes from ``text[at:]``."""
    match = pattern.match(text, at)
    return at if match is None else match.end()


def parameter(text: str, name: str) -> str | None:
    """Value of the first parameter with a name, in any case; None when there is none."""
    name = name.strip().lower()
    return next((value for key, value in parameter_list(text) or () if key.lower() == name), None)


def _element(text: str, index: int, part: int) -> Value:
    found = parameter_list(text)
    if found is None or not -len(found) <= index < len(found):
        return None
    return found[index][part]


# The separator of {param.*,separator} is accepted and has no effect, as in OpenSIPS 3.1 (a recorded case shows it).


@transformation("param.value", str, str, required=1, rest=True)
def _value(text: str, name: str, separator: str = ";") -> Value:
    """Value of the parameter with a name."""
    return parameter(text, name)


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


_PLAIN = re.compile(r"[ -+\--~]*")
"""A field without quotes: printable ASCII, blanks around it included."""


@remembered
def csv_record(text: str) -> tuple[str, ...] | None:
    """The fields of one comma-separated record (RFC 4180).

    None when it is empty, a quoted field is followed by anything but a comma, or a field without quotes holds what is not
    printable ASCII.
    """
    if not text:
        return None
    fields: list[str] = []
    at, size = 0, len(text)
    while True:
        if text.startswith('"', at):
            at = _quoted_field(text, at, fields)
            if at < 0:
                return None
        else:
            end = _behind(_PLAIN, text, at)
            fields.append(text[at:end])
            at = end
        if at == size:
            return tuple(fields)
        if text[at] != ",":
            return None
        at += 1


def _quoted_field(text: str, at: int, fields: list[str]) -> int:
    """Add the field whose quote is at ``at``; the offset after it, or -1 when it does not end. A doubled quote is one quote."""
    pieces = []
    while True:
        close = text.find('"', at + 1)
        if close < 0:
            return -1
        pieces.append(text[at + 1 : close])
        if not text.startswith('"', close + 1):
            fields.append('"'.join(pieces))
            return close + 1
        at = close + 1


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
