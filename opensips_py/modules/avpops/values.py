"""Operations on AVPs: copying, comparing, calculating, substituting."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, NamedTuple

from opensips_py.modules.avpops.declared import module
from opensips_py.script import variables
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import ALL, Static
from opensips_py.script.posix_regex import RegexError, compile_dynamic
from opensips_py.script.shell_pattern import matcher
from opensips_py.script.substitution import Substitution, SubstitutionError, SubstitutionText, parse_substitution
from opensips_py.script.variables import Registry, VariableError
from opensips_py.server.log import ERROR, INFO, log
from opensips_py.sip.remembered import remembered

_NAME = re.compile(r"\$avp\(([^()]+)\)|\$\(avp\(([^()]+)\)\)")


class _Bad(Exception):
    """An argument is not of its form; the text says why."""


class _Operand(NamedTuple):
    operator: str
    value: Callable[[Context], Value]
    flags: str


@remembered
def _name(text: str) -> str:
    """Name of an AVP from ``$avp(name)``."""
    found = _NAME.fullmatch(text.strip())
    if found is None:
        raise _Bad(f"[{text}] is not an AVP")
    return found[1] or found[2]


@remembered
def _names(text: str) -> tuple[str, str, str]:
    """Source, destination and flags of ``source[/destination[/flags]]``."""
    parts = text.split("/")
    if len(parts) > 3:
        raise _Bad(f"[{text}] has more than source, destination and flags")
    source = _name(parts[0])
    return source, _name(parts[1]) if len(parts) > 1 and parts[1] else source, parts[2].lower() if len(parts) > 2 else ""


def _flagged(text: str) -> tuple[str, str]:
    """Name and flags of ``$avp(name)[/flags]``."""
    avp, _, flags = text.partition("/")
    return _name(avp), flags.lower()


@remembered
def _operand(text: str) -> _Operand:
    """``operator/value[/flags]``; the value is ``i:number``, ``s:text``, a variable or a text."""
    operator, slash, rest = text.partition("/")
    value, _, flags = rest.rpartition("/") if "/" in rest else (rest, "", "")
    if not slash:
        raise _Bad(f"[{text}] has no value")
    if value.startswith("$"):
        return _Operand(operator, variables.by_text(value).get, flags.lower())
    if value[:2] in ("i:", "I:"):
        try:
            number = int(value[2:], 0)
        except ValueError:
            raise _Bad(f"[{value}] is not a number") from None
        return _Operand(operator, lambda ctx: number, flags.lower())
    literal = value[2:] if value[:2] in ("s:", "S:") else value
    return _Operand(operator, lambda ctx: literal, flags.lower())


def _fault_of(read: Callable[[str], object]) -> Callable[[str, Registry], str | None]:
    """The check of a literal that is read in this way when the function runs."""

    def fault(text: str, registry: Registry) -> str | None:
        try:
            read(text)
        except _Bad as error:
            return str(error)
        except VariableError as error:
            return error.message
        return None

    return fault


def _flagged_or_all(text: str) -> None:
    if text.partition("/")[0].strip() not in ("a", "*"):
        _flagged(text)


AvpText = Annotated[str, "static", _fault_of(_name)]
FlaggedText = Annotated[str, "static", _fault_of(_flagged)]
FlaggedOrAll = Annotated[str, "static", _fault_of(_flagged_or_all)]
OperandText = Annotated[str, "static", _fault_of(_operand)]


def _refuse(function: str, error: Exception) -> int:
    log(ERROR, "avpops", function, str(error))
    return -1


@module.function(routes=ALL)
def is_avp_set(ctx: Context, name: FlaggedText) -> int:
    """1 when the AVP has a value; with ``/e`` an empty one, with ``/s`` a text, with ``/n`` a number. Else -1."""
    try:
        avp, flags = _flagged(name)
    except _Bad as error:
        return _refuse("is_avp_set", error)
    stack = ctx.avps.get(avp)
    if not stack:
        return -1
    top = stack[-1]
    if ("s" in flags and isinstance(top, int)) or ("n" in flags and not isinstance(top, int)) or ("e" in flags and top != ""):
        return -1
    return 1


@module.function(routes=ALL)
def avp_delete(ctx: Context, name: FlaggedOrAll) -> int:
    """Delete the topmost value of an AVP, with ``/g`` all of them; ``a`` or ``*`` means every AVP. -1 when there was none."""
    if name.partition("/")[0].strip() in ("a", "*"):
        found = bool(ctx.avps)
        ctx.avps.clear()
        return 1 if found else -1
    try:
        avp, flags = _flagged(name)
    except _Bad as error:
        return _refuse("avp_delete", error)
    stack = ctx.avps.get(avp)
    if not stack:
        return -1
    stack.pop()
    if "g" in flags or not stack:
        del ctx.avps[avp]
    return 1


@module.function(routes=ALL)
def avp_copy(ctx: Context, old_name: AvpText, new_name: FlaggedText) -> int:
    """Copy the topmost value to another AVP: ``g`` all values, ``d`` move, ``n`` as number, ``s`` as text."""
    try:
        source = _name(old_name)
        target, flags = _flagged(new_name)
        stack = ctx.avps.get(source)
        if not stack:
            return -1
        taken = stack[::-1] if "g" in flags else stack[-1:]
        if "d" in flags:
            del stack[-len(taken) :]
            if not stack:
                del ctx.avps[source]
        ctx.avps.setdefault(target, []).extend(_converted(value, flags) for value in taken)
    except (_Bad, ValueError) as error:
        return _refuse("avp_copy", error)
    return 1


def _converted(value: str | int, flags: str) -> str | int:
    if "n" in flags and isinstance(value, str):
        return int(value)
    return str(value) if "s" in flags else value


_COMPARE: dict[str, Callable[[int], bool]] = {
    "eq": lambda order: order == 0,
    "ne": lambda order: order != 0,
    "lt": lambda order: order < 0,
    "le": lambda order: order <= 0,
    "gt": lambda order: order > 0,
    "ge": lambda order: order >= 0,
}


@module.function(routes=ALL)
def avp_check(ctx: Context, name: Static, op_value: OperandText) -> int:
    """Compare a variable with a value (``eq ne lt le gt ge re fm and or xor``): 1 or -1.

    Flags: ``g`` any value of the AVP may pass, not the topmost alone; ``i`` without regard to case. Of a text and a number
    nothing is true, not even ``ne``.
    """
    try:
        operand = _operand(op_value)
        variable = variables.by_text(name)
        values = variable.values(ctx) if "g" in operand.flags else [variable.get(ctx)]
        wanted = operand.value(ctx)
        if wanted is None or not values:
            return -1
        return 1 if any(value is not None and _passes(value, operand, wanted) for value in values) else -1
    except (_Bad, VariableError, RegexError) as error:
        return _refuse("avp_check", error)


def _passes(value: str | int, operand: _Operand, wanted: str | int) -> bool:
    operator, ignore_case = operand.operator, "i" in operand.flags
    if operator in ("re", "fm"):
        text, pattern = str(value), str(wanted)
        if operator == "re":
            return compile_dynamic(pattern, ignore_case=ignore_case).test(text)
        if ignore_case:
            text, pattern = text.lower(), pattern.lower()
        return matcher(pattern)(text) is not None
    if isinstance(value, int) != isinstance(wanted, int):
        return False
    if isinstance(value, int) and isinstance(wanted, int):
        if operator in _BITS:
            return _BITS[operator](value, wanted) != 0
        order = (value > wanted) - (value < wanted)
    else:
        one, other = str(value), str(wanted)
        if ignore_case:
            one, other = one.lower(), other.lower()
        order = (one > other) - (one < other)
    if operator not in _COMPARE:
        raise _Bad(f"[{operator}] is not an operator for these values")
    return _COMPARE[operator](order)


_BITS: dict[str, Callable[[int, int], int]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}
_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: int(a / b) if b else 0,
    "mod": lambda a, b: a - b * int(a / b) if b else 0,
    "not": lambda a, b: ~b,
    **_BITS,
}


@module.function(routes=ALL)
def avp_op(ctx: Context, name: Static, op_value: OperandText) -> int:
    """Calculate with every number of an AVP: ``add sub mul div mod and or xor``, ``not`` of the operand.

    The results are new values, on top of the AVP's own or, with ``source/destination``, of another one. Flag ``d``: the
    old values are deleted. Division by zero gives 0. -1 when there was no number.
    """
    try:
        source, target, _ = _names(name)
        operand = _operand(op_value)
        calculate = _ARITHMETIC.get(operand.operator)
        if calculate is None:
            raise _Bad(f"[{operand.operator}] is not an operation")
        wanted = operand.value(ctx)
        number = int(wanted) if wanted is not None else 0
    except (_Bad, VariableError, ValueError) as error:
        return _refuse("avp_op", error)
    stack = ctx.avps.get(source, [])
    results = [_signed(calculate(value, number)) for value in reversed(stack) if isinstance(value, int)]
    if not results:
        return -1
    if "d" in operand.flags:
        del ctx.avps[source]
    ctx.avps.setdefault(target, []).extend(results)
    return 1


def _signed(value: int) -> int:
    """In the 32 bits of a script's numbers."""
    return (value + 0x80000000) % 0x100000000 - 0x80000000


@module.function(routes=ALL)
def avp_subst(ctx: Context, avps: Static, subst: SubstitutionText) -> int:
    """Substitute in an AVP (``source[/destination[/flags]]``) as sed does: ``/expression/replacement/flags``.

    Flags of the first argument: ``g`` all values, ``d`` delete the source's. -1 when nothing matched.
    """
    try:
        source, target, flags = _names(avps)
        expression = _substitution(subst)
        return _change(
            ctx,
            source,
            target,
            flags,
            lambda value: expression.apply(ctx, str(value)) if expression.pattern.test(str(value)) else None,
        )
    except (_Bad, VariableError, SubstitutionError, RegexError) as error:
        return _refuse("avp_subst", error)


@remembered
def _substitution(text: str) -> Substitution:
    return parse_substitution(text, variables.current())


def _change(ctx: Context, source: str, target: str, flags: str, change: Callable[[str | int], str | int | None]) -> int:
    """Put changed values of one AVP into another; None leaves a value as it is. -1 when none was changed."""
    stack = ctx.avps.get(source)
    if not stack:
        return -1
    first = 0 if "g" in flags else len(stack) - 1
    changed = [(i, new) for i in range(first, len(stack)) if (new := change(stack[i])) is not None]
    if not changed:
        return -1
    if source == target:
        for i, new in changed:
            stack[i] = new
        return 1
    ctx.avps.setdefault(target, []).extend(new for _, new in reversed(changed))
    if "d" in flags:
        for i, _ in reversed(changed):
            del stack[i]
        if not stack:
            del ctx.avps[source]
    return 1


_DESTINATIONS = {"$ru": "$ru", "$ru/username": "$rU", "$ru/domain": "$rd", "$du": "$du", "$br": "$branch"}


def _destination_fault(text: str, registry: Registry) -> str | None:
    return None if text.strip().lower() in _DESTINATIONS else f"[{text}] is not $ru, $ru/username, $ru/domain, $du or $br"


@module.function(routes=ALL)
def avp_pushto(ctx: Context, destination: Annotated[str, "static", _destination_fault], name: Static) -> int:
    """Write a value into the message: to ``$ru``, ``$ru/username``, ``$ru/domain``, ``$du`` or, as a branch, ``$br``.

    With ``/g`` all values of the AVP, the topmost first.
    """
    target = _DESTINATIONS.get(destination.strip().lower())
    try:
        if target is None:
            raise _Bad(f"[{destination}] is not $ru, $ru/username, $ru/domain, $du or $br")
        text, _, flags = name.partition("/")
        variable = variables.by_text(text.strip())
        values = variable.values(ctx) if "g" in flags.lower() else [variable.get(ctx)]
        written = [value for value in values if value is not None]
        for value in written:
            variables.by_text(target).set(ctx, str(value))
    except (_Bad, VariableError) as error:
        return _refuse("avp_pushto", error)
    return 1 if written else -1


@module.function(routes=ALL)
def avp_print(ctx: Context) -> int:
    """Write all AVPs to the log (level INFO)."""
    for name, stack in ctx.avps.items():
        for value in reversed(stack):
            log(INFO, "avpops", "avp_print", f"$avp({name}) = {value!r}")
    return 1
