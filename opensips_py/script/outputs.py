"""Output parameters of a user's module: ``def balance(number: str, credit: Out[int]) -> int``.

An output holds what the function sets; the variables of the script get it afterwards, in the thread that runs the script.
So a function never touches the message or the variables, on whatever thread it runs.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from opensips_py.script.context import Value

V = TypeVar("V", bound=str | int)


class Out(Generic[V]):
    """An output variable. ``-C`` refuses a script that gives a variable which cannot be written.

    A variable that was not :meth:`set` keeps its value; ``set(None)`` makes it NULL.
    """

    __slots__ = ("_values", "text")

    def __init__(self, text: str = "$var(output)") -> None:
        self.text = text
        """The variable as it stands in the script."""
        self._values: list[Value] = []

    def set(self, value: V | None) -> None:
        """Give the variable this value, instead of one set before. Raises TypeError if it is not str, int or None."""
        self._values = [checked(value)]

    def append(self, value: V) -> None:
        """Give the variable one more value: an ``$avp`` keeps all of them, the last one on top."""
        self._values.append(checked(value))

    @property
    def value(self) -> V | None:
        """What has been set last; None if nothing has."""
        last: Any = self._values[-1] if self._values else None
        return last  # type: ignore[no-any-return]

    @property
    def values(self) -> list[Value]:
        """Everything that has been set, in order."""
        return list(self._values)


def checked(value: object) -> Value:
    """A value that scripts can hold: text, a number, or None. Raises TypeError for another.

    A bool counts as 1 or 0; a number beyond the 32 bits that scripts calculate with becomes text.
    """
    if isinstance(value, int):
        number = int(value)
        return number if -0x80000000 <= number <= 0x7FFFFFFF else str(number)
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{value!r:.80} is a {type(value).__name__}: a variable of the script takes str, int or None")


def to_unicode(text: str) -> str:
    """A text of the script (one character per byte) as Python text; bytes that are not UTF-8 become lone surrogates."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def to_script(text: str) -> str:
    """The reverse of :func:`to_unicode`."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")
