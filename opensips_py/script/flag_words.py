"""Flags of functions by name: ``nat_uac_test("private-contact,private-via")``.

OpenSIPS 3.1 writes a sum of bits or a row of letters; since 3.2 flags have names, separated by commas. Both are understood
where a parameter is declared with a :class:`FlagWords`, in literals when the script is loaded and in variables when it runs::

    TESTS = FlagWords(FlagWord("private-contact", 1, "the Contact has a private address"), ...)

    def nat_uac_test(ctx: Context, tests: Annotated[int, "mask", TESTS]) -> int: ...   # gets the sum
    def save(ctx: Context, flags: Annotated[str, "letters", FLAGS] | None = None) -> int: ...   # gets the letters
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from opensips_py.script.context import Value
from opensips_py.script.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class FlagWord:
    """One flag: its name, its bit or letter, and what it does. One with ``argument`` is written ``name=value``."""

    name: str
    value: int | str
    doc: str
    argument: str = ""


class FlagWords:
    """The flags of one parameter."""

    def __init__(self, *words: FlagWord) -> None:
        self.words = words
        self._by_name = {word.name: word for word in words}
        self.letters_of = lru_cache(256)(self._letters_of)
        self.mask_of = lru_cache(256)(self._mask_of)

    def fault(self, text: str) -> str | None:
        """What is wrong with flags given by name, or None. Letters are not looked at."""
        for name, argument in _pieces(text):
            word = self._by_name.get(name)
            if word is None:
                return f'"{name}" is not a flag'
            if bool(word.argument) != (argument is not None):
                return (
                    f"the flag {name} is written {name}={word.argument}" if word.argument else f"the flag {name} takes no value"
                )
        return None

    def hint(self, text: str) -> str:
        """The way out for what is not a flag."""
        for name, _ in _pieces(text):
            if name not in self._by_name:
                near = did_you_mean(name, self._by_name)
                if near is not None:
                    return near
        return "flags are " + ", ".join(word.name for word in self.words)

    def named(self, text: str) -> bool:
        """Does ``text`` give flags by name, be it a wrong one? Else it is a row of letters."""
        return any(name in self._by_name or ("-" in name.strip("-") and name[:1].isalpha()) for name, _ in _pieces(text))

    def _mask_of(self, text: str) -> int | None:
        """The sum of the bits that are named; None when something is not a flag."""
        if self.fault(text) is not None:
            return None
        mask = 0
        for name, _ in _pieces(text):
            bit = self._by_name[name].value
            mask |= bit if isinstance(bit, int) else 0
        return mask

    def _letters_of(self, text: str) -> str:
        """The letters for flags by name; a text of letters as it is."""
        if not self.named(text) or self.fault(text) is not None:
            return text
        return "".join(str(self._by_name[name].value) + (argument or "") for name, argument in _pieces(text))

    def mask(self, value: Value) -> int | None:
        """A value of a variable: a number, or names; None for NULL and for what is not a flag."""
        if isinstance(value, str):
            return self.mask_of(value)
        return None if value is None else int(value)

    def letters(self, value: Value) -> str | None:
        """A value of a variable: letters, or names."""
        return None if value is None else self.letters_of(str(value))


_PIECE = re.compile(r"(?:[^,/=]|=\s*/(?:[^/\\]|\\.)*/|[/=])+")
"""What stands between commas; a comma in ``=/regex/`` does not count."""


def _pieces(text: str) -> list[tuple[str, str | None]]:
    found = []
    for piece in _PIECE.findall(text):
        name, equals, argument = piece.strip().partition("=")
        if name or equals:
            found.append((name.strip(), argument.strip() if equals else None))
    return found
