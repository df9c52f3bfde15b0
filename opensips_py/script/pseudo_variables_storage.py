"""``$var`` (one value, lives as long as the process) and ``$avp`` (a stack, lives with the transaction)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from opensips_py.script.context import Context, Value, ValueRefused
from opensips_py.script.variable_kinds import Access, Getter, Index, NumericText, Setter, Text, built
from opensips_py.script.variable_syntax import VariableError

script_variables: dict[str, Value] = {}
"""Values of ``$var`` by name, for the whole life of the process. Names that stand in the script are always there
(compiled code reads them without asking); None, as a name that is not there, is NULL."""

NameOf = Callable[[Context], str]


def stored(value: str | int) -> str | int:
    """A value as a variable keeps it: a number with a text of its own becomes a plain one, or the text if that is what it is."""
    kind = value.__class__
    if kind is str or kind is int:
        return value
    return str(value) if kind is NumericText else int(value)


@built("var", argument="required", indexed=False, computed=False)
def _var(argument: Text | None, index: Index) -> Access:
    """Script variable of the process; not preserved over async()."""
    variables = script_variables
    name = str(argument)
    fetch = variables.get

    def get(ctx: Context) -> Value:
        return fetch(name)

    def put(ctx: Context, value: Value) -> None:
        variables[name] = None if value is None else stored(value)

    return Access(get, put)


@built("avp", argument="required")
def _avp(argument: Text | None, index: Index) -> Access:
    """Attribute-value pair of the transaction: a stack, ``[0]`` is the value added last, ``[append]`` adds below."""
    if argument is None:
        raise VariableError("$avp needs a name")
    name_of = _name(argument)

    def afresh(put: Setter) -> Setter:
        """``:=``: every value goes, then the new one is written."""

        def assign(ctx: Context, value: Value) -> None:
            ctx.avps.pop(name_of(ctx), None)
            if value is not None:
                put(ctx, value)

        return assign

    if index is None:
        push = _push(argument)
        return Access(_top(argument), push, afresh(push), _all(argument))
    if index == "*":
        values = _all(argument)

        def get_all(ctx: Context) -> Value:
            every = values(ctx)
            return ", ".join(map(str, every)) if every else None

        def put_all(ctx: Context, value: Value) -> None:
            ctx.avps.pop(name_of(ctx), None)
            if value is not None:
                ctx.avps[name_of(ctx)] = [stored(value)]

        return Access(get_all, put_all, put_all, values, each=_each(name_of))
    if index == "append":
        push = _push(argument)

        def append(ctx: Context, value: Value) -> None:
            if value is None:
                push(ctx, None)
            else:
                ctx.avps.setdefault(name_of(ctx), []).insert(0, stored(value))

        return Access(_nothing, append, afresh(append))
    get, put = _element(name_of, index)
    return Access(get, put, afresh(put))


def _nothing(ctx: Context) -> Value:
    """What ``$(avp(x)[append])`` reads."""
    return None


def _name(argument: Text) -> NameOf:
    if isinstance(argument, str):
        return lambda ctx: argument
    return lambda ctx: argument(ctx) or ""


def _top(argument: Text) -> Getter:
    if isinstance(argument, str):
        name = argument

        def get(ctx: Context) -> Value:
            stack = ctx.avps.get(name)
            return stack[-1] if stack else None

        return get
    name_of = _name(argument)

    def get_dynamic(ctx: Context) -> Value:
        stack = ctx.avps.get(name_of(ctx))
        return stack[-1] if stack else None

    return get_dynamic


def _push(argument: Text) -> Setter:
    name_of = _name(argument)

    def put(ctx: Context, value: Value) -> None:
        name = name_of(ctx)
        stack = ctx.avps.get(name)
        if value is not None:
            if stack is None:
                ctx.avps[name] = [stored(value)]
            else:
                stack.append(stored(value))
        elif stack:
            stack.pop()
            if not stack:
                del ctx.avps[name]

    return put


def _all(argument: Text) -> Callable[[Context], Sequence[Value]]:
    name_of = _name(argument)

    def values(ctx: Context) -> Sequence[Value]:
        return ctx.avps.get(name_of(ctx), [])[::-1]

    return values


def _each(name_of: NameOf) -> Callable[[Context], Iterator[Value]]:
    """The values one after the other from the top: each is looked up by its number when its turn comes."""

    def each(ctx: Context) -> Iterator[Value]:
        name = name_of(ctx)
        for number in itertools.count(1):
            stack = ctx.avps.get(name)
            if stack is None or number > len(stack):
                return
            yield stack[-number]

    return each


def _element(name_of: NameOf, index: Index) -> tuple[Getter, Setter]:
    """Reading and writing the value at an index; one that is not there cannot be written."""

    def position(ctx: Context, stack: list[str | int]) -> int:
        """Place in the list (top last) of the element that the script's index means, or -1."""
        i = index(ctx) if callable(index) else index
        if not isinstance(i, int):
            return -1
        place = len(stack) - 1 - i if i >= 0 else -i - 1
        return place if 0 <= place < len(stack) else -1

    def get(ctx: Context) -> Value:
        stack = ctx.avps.get(name_of(ctx))
        if not stack or (place := position(ctx, stack)) < 0:
            return None
        return stack[place]

    def put(ctx: Context, value: Value) -> None:
        name = name_of(ctx)
        stack = ctx.avps.get(name) or []
        place = position(ctx, stack)
        if value is not None:
            if place < 0:
                raise ValueRefused(f"$avp({name}) has no value with that index")
            stack[place] = stored(value)
        elif place >= 0:
            del stack[place]
            if not stack:
                del ctx.avps[name]

    return get, put
