"""``{s.…}``: text (OpenSIPS manual, "String Transformations"), and ``{re.subst}``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib

from opensips_py.script.context import Context, Value
from opensips_py.script.substitution import Substitution, SubstitutionError, parse_substitution
from opensips_py.script.transformations import Step, declare_factory, is_variable, of_value, transformation
from opensips_py.script.variable import Variables
from opensips_py.script.variable_kinds import Number
from opensips_py.script.variable_syntax import TransformationText, VariableError

BLANKS = " \t\r\n"


def wrap32(number: int) -> int:
    """``number`` as a signed 32-bit integer."""
    return ((number + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def leading_number(text: str) -> int:
    """What C's ``atoi`` makes of ``text``: 0 when no number stands at its start."""
    text = text.lstrip(" \t\r\n\v\f")
    match = _NUMBER(text)
    if match is None:
        return 0
    sign, digits = match[1], match[2].lstrip("0")
    if len(digits) > 19:  # strtol() stops at the ends of 64 bits
        return 0 if sign == "-" else -1
    return wrap32(max(-(2**63), min(2**63 - 1, int(sign + (digits or "0")))))


_NUMBER = re.compile("([+-]?)([0-9]+)").match


@of_value("s.len")
def _len(value: Value) -> Value:
    """Length in bytes."""
    return len(str(value))


@of_value("s.int")
def _int(value: Value) -> Value:
    """The number at the start of the text."""
    if isinstance(value, int):
        return value
    text = str(value)
    number = leading_number(text)
    return number if str(number) == text else Number(number, text)


@transformation("s.md5")
def _md5(text: str) -> Value:
    """MD5 of the text, in hexadecimal digits."""
    return hashlib.md5(text.encode("latin-1"), usedforsecurity=False).hexdigest()


@transformation("s.crc32")
def _crc32(text: str) -> Value:
    """CRC32 of the text without the last complement, in decimal digits."""
    return str(zlib.crc32(text.encode("latin-1")) ^ 0xFFFFFFFF)


@transformation("s.tolower")
def _tolower(text: str) -> Value:
    """ASCII letters in lower case."""
    return text.encode("latin-1").lower().decode("latin-1")


@transformation("s.toupper")
def _toupper(text: str) -> Value:
    """ASCII letters in upper case."""
    return text.encode("latin-1").upper().decode("latin-1")


@transformation("s.encode.hexa")
def _encode_hexa(text: str) -> Value:
    """Every byte as two hexadecimal digits."""
    return text.encode("latin-1").hex()


@transformation("s.decode.hexa")
def _decode_hexa(text: str) -> Value:
    """The bytes of hexadecimal digits."""
    try:
        return binascii.unhexlify(text[: len(text) // 2 * 2].encode("latin-1")).decode("latin-1")
    except binascii.Error:
        return None


_HEXADECIMAL = re.compile("[0-9A-Fa-f]*").fullmatch


@of_value("s.hex2dec")
def _hex2dec(value: Value) -> Value:
    """The number that hexadecimal digits stand for (32 bits); a number stays as it is."""
    if isinstance(value, int):
        return value
    text = str(value)
    if not _HEXADECIMAL(text):
        return None
    number = wrap32(int(text[-8:] or "0", 16))
    return number if number >= 0 else Number(number, str(number + 2**64))


_DECIMAL = re.compile("[+-]?[0-9]+").fullmatch


@of_value("s.dec2hex")
def _dec2hex(value: Value) -> Value:
    """A number in hexadecimal digits (32 bits)."""
    if isinstance(value, int):
        return f"{int(value) & 0xFFFFFFFF:x}"
    text = str(value)
    if not _DECIMAL(text):
        return None
    number = int(text[-32:].lstrip("+-"))  # 2**32 divides 10**32: digits further to the left do not matter
    return f"{(-number if text[0] == '-' else number) & 0xFFFFFFFF:x}"


@transformation("s.escape.common")
def _escape_common(text: str) -> Value:
    """Backslashes before quotes, backslashes and NUL bytes."""
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ('"', '\\"'), ("\0", "\\0")):
        text = text.replace(plain, escaped)
    return text


_SHELL = re.compile(r"[^A-Za-z0-9_@%+=:,./\x80-\xff-]")


@transformation("s.escape.shell")
def _escape_shell(text: str) -> Value:
    """One word for a shell: backslashes before all but letters, digits and ``_@%+=:,./-``, without NUL and line ends.

    Harmless in quotes too, where more backslashes stay in the text than are needed. An empty text is ``''``.
    """
    return _SHELL.sub(r"\\\g<0>", text.translate(_NOT_IN_WORDS)) or "''"


_NOT_IN_WORDS = {0: None, 10: None, 13: None}


@transformation("s.unescape.common")
def _unescape_common(text: str) -> Value:
    """Backslashes of {s.escape.common} taken off."""
    out, i = [], 0
    while i < len(text):
        if text[i] == "\\" and i + 1 < len(text) and text[i + 1] in "'\"\\0":
            i += 1
            out.append("\0" if text[i] == "0" else text[i])
        else:
            out.append(text[i])
        i += 1
    return "".join(out)


_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_USER = frozenset(_ALPHANUMERIC + "-_.!~*'()" + "&=+$,;?/")
"""``unreserved`` and ``user-unreserved`` of RFC 3261 25.1."""
_PARAM = frozenset(_ALPHANUMERIC + "-_.!~*'()" + "[]/:&+$")
"""``paramchar`` of RFC 3261 25.1."""


def _escape(text: str, safe: frozenset[str]) -> str | None:
    if any(not " " <= c <= "~" for c in text):
        return None
    return "".join(c if c in safe else f"%{ord(c):02x}" for c in text)


def _unescape(text: str) -> str | None:
    head, *pieces = text.split("%")
    out = [head]
    for piece in pieces:
        digits = piece[:2]
        if len(digits) < 2 or any(c not in "0123456789abcdefABCDEF" for c in digits):
            return None
        c = chr(int(digits, 16))
        if not " " <= c <= "~":
            return None
        out += (c, piece[2:])
    return "".join(out)


@transformation("s.escape.user")
def _escape_user(text: str) -> Value:
    """Percent-escaped as in the user of a URI (RFC 3261 25.1)."""
    return _escape(text, _USER)


@transformation("s.unescape.user")
def _unescape_user(text: str) -> Value:
    """Percent-escapes resolved."""
    return _unescape(text)


@transformation("s.escape.param")
def _escape_param(text: str) -> Value:
    """Percent-escaped as in a parameter of a URI (RFC 3261 25.1)."""
    return _escape(text, _PARAM)


@transformation("s.unescape.param")
def _unescape_param(text: str) -> Value:
    """Percent-escapes resolved."""
    return _unescape(text)


@transformation("s.index", str, int, required=1)
def _index(text: str, wanted: str, start: int = 0) -> Value:
    """Where a text occurs first, from 0, at or after a position; NULL when it does not."""
    if start < 0:
        start += len(text)
    if not wanted or not 0 <= start <= len(text):
        return None
    found = text.find(wanted, start)
    return found if found >= 0 else None


@transformation("s.rindex", str, int, required=1)
def _rindex(text: str, wanted: str, start: int | None = None) -> Value:
    """Where a text occurs last, at or before a position; NULL when it does not."""
    if start is None:
        start = len(text)
    elif start < 0:
        start += len(text)
        if start < 0:
            return None
    found = text.rfind(wanted, 0, start + len(wanted))
    return found if found >= 0 else None


@transformation("s.substr", int, int)
def _substr(text: str, offset: int, length: int) -> Value:
    """Part of the text: offset (negative: from the end) and length (0: up to the end, negative: up to that far before it)."""
    if offset >= len(text) or -offset > len(text):
        return None
    if offset < 0:
        offset += len(text)
    if length > 0:
        return text[offset : offset + length]
    end = len(text) + length
    return text[offset:end] if end >= offset else None


@transformation("s.select", int, str, rest=True)
def _select(text: str, index: int, separator: str) -> Value:
    """The field at a position between separators, from 0; negative: from the end."""
    fields = text.split(separator[:1] or ",")
    return fields[index] if -len(fields) <= index < len(fields) else None


LONGEST = 65535
"""Characters that filling up gives at most; more is NULL."""


def _check_fill(pattern: object, length: object) -> str | None:
    return "the pattern is empty" if not str(pattern).strip() else None


@transformation("s.fill.left", str, int, check=_check_fill)
def _fill_left(text: str, pattern: str, length: int) -> Value:
    """Filled up on the left with a pattern to a length."""
    missing = length - len(text)
    if missing <= 0:
        return text
    return (pattern * (missing // len(pattern) + 1))[-missing:] + text if pattern and length <= LONGEST else None


@transformation("s.fill.right", str, int, check=_check_fill)
def _fill_right(text: str, pattern: str, length: int) -> Value:
    """Filled up on the right with a pattern to a length."""
    missing = length - len(text)
    if missing <= 0:
        return text
    return text + (pattern * (missing // len(pattern) + 1))[:missing] if pattern and length <= LONGEST else None


@transformation("s.width", int)
def _width(text: str, length: int) -> Value:
    """Cut, or filled with blanks, to a width."""
    return text[:length].ljust(length) if 0 < length <= LONGEST else None


@transformation("s.b64encode")
def _b64encode(text: str) -> Value:
    """In Base64."""
    return base64.b64encode(text.encode("latin-1")).decode("ascii")


_BASE64 = frozenset(_ALPHANUMERIC + "+/")


@transformation("s.b64decode")
def _b64decode(text: str) -> Value:
    """The bytes of a Base64 text."""
    digits = "".join(c for c in text if c in _BASE64)
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return base64.b64decode(digits + "=" * (-len(digits) % 4)).decode("latin-1")


@transformation("s.xor", str, rest=True)
def _xor(text: str, key: str) -> Value:
    """Every byte combined with those of a key, which repeats."""
    if not key:
        return None
    return "".join(chr(ord(c) ^ ord(key[i % len(key)])) for i, c in enumerate(text))


@transformation("s.trim")
def _trim(text: str) -> Value:
    """Without blanks on both ends."""
    return text.strip(BLANKS)


@transformation("s.trimr")
def _trimr(text: str) -> Value:
    """Without blanks on the right."""
    return text.rstrip(BLANKS)


@transformation("s.triml")
def _triml(text: str) -> Value:
    """Without blanks on the left."""
    return text.lstrip(BLANKS)


@transformation("s.reverse")
def _reverse(text: str) -> Value:
    """Backwards."""
    return text[::-1]


_ENDS = BLANKS + "{}"


def _re_subst(text: TransformationText, registry: Variables) -> Step:
    """``{re.subst,/expression/replacement/flags}``; no match leaves the value, an empty match gives NULL.

    A blank and a brace end the parameter, as they end every text parameter of a transformation in OpenSIPS; an expression that is
    cut short so is invalid, and the result is NULL. So it is with a comma as delimiter, and for an empty value.
    """
    given = (text.parameters or "").strip()
    if not given:
        raise VariableError("{re.subst} needs an expression: /regular expression/replacement/flags", text.offset)
    if is_variable(given):
        get = registry.variable(given).get
        cache: dict[str, Substitution | None] = {}

        def step(ctx: Context, value: Value) -> Value:
            expression = get(ctx)
            if expression is None:
                return None
            key = str(expression)
            if key not in cache:
                if len(cache) > 1000:
                    cache.clear()
                try:
                    cache[key] = parse_substitution(key, registry)
                except SubstitutionError:
                    cache[key] = None
            substitution = cache[key]
            text = str(value)
            return substitution.apply(ctx, text) if substitution is not None and text else None

        return step
    if given[0] == "," or any(end in given for end in _ENDS):
        return lambda ctx, value: None
    try:
        fixed = parse_substitution(given, registry)
    except SubstitutionError as error:
        raise VariableError(f"{{re.subst}}: {error}", text.offset) from None
    return lambda ctx, value: fixed.apply(ctx, str(value)) if value != "" else None


declare_factory("re.subst", "/expression/replacement/flags", _re_subst)
