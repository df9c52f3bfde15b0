"""Kinds of variable, and the ways to declare the core ones.

A kind turns the parts of a variable that are known when the script is loaded (argument, index) into closures. What can be
decided then is decided then: reading ``$ru`` at run time is one call that looks at two attributes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from opensips_py.script.context import Context, Value, ValueRefused
from opensips_py.script.declarations import VariableClass
from opensips_py.script.variable_syntax import VariableError

Getter = Callable[[Context], Value]
Setter = Callable[[Context, Value], None]
"""Writes a value; raises ValueRefused when the variable does not take it: nothing has changed then."""
Text = str | Callable[[Context], "str | None"]
"""An argument: its text, or what computes it when it contains variables."""
Index = int | str | Getter | None
"""A number, ``"*"`` (all), ``"append"`` (at the end, ``$avp`` only), or a variable that holds the number."""


class Number(int):
    """A value with both forms whose text is not the number's: ``42x`` of ``{s.int}``, ``true`` of ``$msg.flag``."""

    text: str

    def __new__(cls, value: int, text: str) -> Number:
        number = super().__new__(cls, value)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self)}, {self.text!r})"


class NumericText(Number):
    """A text that is compared and calculated with as a number, but that ``+`` joins as a text: a port that a URI names."""

    def __bool__(self) -> bool:
        return True


class Access(NamedTuple):
    """How one variable is read and written."""

    get: Getter
    set: Setter | None = None
    assign: Setter | None = None
    """The operator ``:=`` where it differs from ``=``."""
    values: Callable[[Context], Sequence[Value]] | None = None
    """All values, for ``[*]``; None: the one that ``get`` gives."""
    takes_text: bool = False
    """Only texts can be written, and so can the number in a variable, which has a text; a number by itself has none."""
    number: Getter | None = None
    """The number of a text that has one, which counts where it is compared or calculated with."""
    each: Callable[[Context], Iterable[Value]] | None = None
    """The values one after the other, as a loop finds them whose body may change them; None: those of ``values``."""


@dataclass(slots=True)
class VariableKind:
    """``$name``: how it takes an argument and an index, and what builds its closures."""

    name: str
    build: Callable[[Text | None, Index], Access]
    argument: str
    """``no``, ``optional`` or ``required``."""
    module: str = "core"
    doc: str = ""
    indexed: bool = True
    """Whether an index can mean anything."""
    fields: tuple[str, ...] = ()
    """All that may stand in the parentheses; empty: anything."""
    computed: bool = True
    """Whether variables in the argument are put in; otherwise they are letters of a name."""


CORE: dict[str, VariableKind] = {}
"""Variables of the core by name, filled by the ``pseudo_variables_*`` files."""


def scalar(
    *names: str,
    write: Setter | None = None,
    takes_text: bool = False,
    doc: str | None = None,
    numbers: Callable[[str], int] | None = None,
) -> Callable[[Getter], Getter]:
    """Declare variables with one value and no argument. An index has no meaning for them and is ignored.

    ``doc`` stands in for the docstring of a function that serves several variables. ``numbers`` gives the number that
    a text has besides (methods and transports have one).
    """

    def declare(read: Getter) -> Getter:
        number = None if numbers is None else _number_of(read, numbers)
        access = Access(read, write, takes_text=takes_text, number=number)
        for name in names:
            CORE[name] = VariableKind(
                name, lambda argument, index: access, "no", doc=doc or (read.__doc__ or "").strip(), indexed=False
            )
        return read

    return declare


def _number_of(read: Getter, numbers: Callable[[str], int]) -> Getter:
    def number(ctx: Context) -> Value:
        value = read(ctx)
        return numbers(value) if isinstance(value, str) else value

    return number


def built(
    *names: str, argument: str = "no", indexed: bool = True, computed: bool = True
) -> Callable[[Callable[[Text | None, Index], Access]], Callable[[Text | None, Index], Access]]:
    """Declare variables whose closures the decorated function builds."""

    def declare(build: Callable[[Text | None, Index], Access]) -> Callable[[Text | None, Index], Access]:
        for name in names:
            doc = (build.__doc__ or "").strip()
            CORE[name] = VariableKind(name, build, argument, doc=doc, indexed=indexed, computed=computed)
        return build

    return declare


Lister = Callable[[Context, "str | None"], Sequence[Value]]


def listed(*names: str, argument: str = "no") -> Callable[[Lister], Lister]:
    """Declare variables with any number of values; without index the first is meant, ``[-1]`` is the last."""

    def declare(read: Lister) -> Lister:
        def build(text: Text | None, index: Index) -> Access:
            return Access(indexed(read, text, index), values=list_of(read, text))

        for name in names:
            CORE[name] = VariableKind(name, build, argument, doc=(read.__doc__ or "").strip())
        return read

    return declare


def list_of(read: Lister, argument: Text | None) -> Callable[[Context], Sequence[Value]]:
    """What reads all values of a list-like variable with this argument."""
    if argument is None or isinstance(argument, str):
        return lambda ctx: read(ctx, argument)
    return lambda ctx: read(ctx, argument(ctx))


def joined(values: Sequence[Value]) -> str:
    """All values as one text; what is NULL leaves a gap, but not at the start (recorded behaviour)."""
    texts = ["" if value is None else str(value) for value in values]
    first = next((i for i, text in enumerate(texts) if text), len(texts))
    return ", ".join(texts[first:])


def indexed(read: Lister, argument: Text | None, index: Index) -> Getter:
    """The getter of element ``index`` of a list-like variable."""
    values = list_of(read, argument)
    if index is None:
        index = 0
    if index == "*":

        def get_all(ctx: Context) -> Value:
            every = values(ctx)
            return joined(every) if every else None

        return get_all
    if isinstance(index, int):
        number = index

        def get(ctx: Context) -> Value:
            every = values(ctx)
            return every[number] if -len(every) <= number < len(every) else None

        return get
    if isinstance(index, str):
        raise VariableError(f"index [{index}] has no meaning for this variable")
    which = index

    def get_dynamic(ctx: Context) -> Value:
        every, i = values(ctx), which(ctx)
        return every[i] if isinstance(i, int) and -len(every) <= i < len(every) else None

    return get_dynamic


def keyed(
    *names: str, argument: str = "required", write: Callable[[Context, str, Value], None] | None = None
) -> Callable[[Callable[[Context, str], Value]], Callable[[Context, str], Value]]:
    """Declare variables with an argument that may contain variables. A NULL argument makes the value NULL."""

    def declare(read: Callable[[Context, str], Value]) -> Callable[[Context, str], Value]:
        def build(text: Text | None, index: Index) -> Access:
            if text is None or isinstance(text, str):
                fixed = text or ""
                setter = None if write is None else (lambda ctx, value, w=write: w(ctx, fixed, value))
                return Access(lambda ctx: read(ctx, fixed), setter)
            dynamic = text

            def get(ctx: Context) -> Value:
                name = dynamic(ctx)
                return None if name is None else read(ctx, name)

            def put(ctx: Context, value: Value) -> None:
                name = dynamic(ctx)
                if name is None or write is None:
                    raise ValueRefused("the name in parentheses is NULL")
                write(ctx, name, value)

            return Access(get, None if write is None else put)

        for name in names:
            CORE[name] = VariableKind(name, build, argument, doc=(read.__doc__ or "").strip())
        return read

    return declare


BEYOND = 2**31 - 1
"""An index at which no list has a value. It stands for an index that is not a number."""


def kind_of_class(cls: VariableClass) -> VariableKind:
    """A module's variable as a kind."""

    def build(argument: Text | None, index: Index) -> Access:
        read, write, assign = cls.read, cls.write, cls.assign

        def parts(ctx: Context) -> tuple[str | None, int | str | None]:
            text = argument if argument is None or isinstance(argument, str) else argument(ctx)
            if index is None or isinstance(index, (int, str)):
                return text, index
            number = index(ctx)
            return text, int(number) if isinstance(number, int) else BEYOND

        get: Getter
        if (argument is None or isinstance(argument, str)) and (index is None or isinstance(index, (int, str))):
            fixed_argument, fixed_index = argument, index

            def get(ctx: Context) -> Value:
                return read(ctx, fixed_argument, fixed_index)
        else:

            def get(ctx: Context) -> Value:
                return read(ctx, *parts(ctx))

        def each(ctx: Context) -> Iterator[Value]:
            text, _ = parts(ctx)
            if cls.values is not None:
                yield from cls.values(ctx, text)
                return
            alone = read(ctx, text, BEYOND)
            if alone is not None:
                yield alone
                return
            for number in itertools.count():
                value = read(ctx, text, number)
                if value is None:
                    return
                yield value

        def values(ctx: Context) -> list[Value]:
            return list(each(ctx))

        def setter(call: Callable[[Context, str | None, int | str | None, Value], None] | None) -> Setter | None:
            if call is None:
                return None

            def put(ctx: Context, value: Value) -> None:
                call(ctx, *parts(ctx), value)

            return put

        return Access(get, setter(write), setter(assign), values, each=each)

    return VariableKind(cls.name, build, cls.argument, cls.module, cls.doc, fields=cls.fields)
