"""Variables and transformations over what a message holds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from opensips_py.core import functions
from opensips_py.script import variables
from opensips_py.script.formats import compile_format
from opensips_py.script.transformations import DECLARED
from opensips_py.script.variable_kinds import CORE
from opensips_py.script.variable_syntax import VariableError
from opensips_py.script.variables import Registry
from scripts.hostile.growth import Case, Work
from scripts.hostile.messages import KINDS, UNITS, context, filled, message

PARAMETERS = ("", ",1", ",1,1", ",a", ",a,1", ",1,a", ",10.0.0.0/8", ",-1", ",a,b", "/a/b/g", ",/a/b/g", ",;", ",1,;")
"""Parameters that are tried on each transformation; those that its checker takes are measured."""
TEXTS = (
    *UNITS,
    *("a=b;", "a=b,", "1.2.3.4", "ab", "00", "QUJD", "m=audio 1 x 0\r\n", "a=x\r\n", "{", "[", '{"a":', "[1,", "&#", "\\\\", "+"),
)
NOT_MEASURED = frozenset(("ip.resolve",))
"""Transformations that ask others."""


def registry() -> Registry:
    """The variables of the core."""
    known = Registry()
    known.add(functions.module)
    variables.use(known)
    return known


def transformations() -> Iterator[Case]:
    """Each transformation on each text."""
    known = registry()
    for name in DECLARED:
        if name in NOT_MEASURED:
            continue
        for parameters in PARAMETERS:
            try:
                text = compile_format(f"$(rb{{{name}{parameters}}})", known)
            except VariableError:
                continue
            if isinstance(text, str):
                continue
            for unit in TEXTS:
                yield Case(f"{{{name}{parameters}}} of {unit!r}…", partial(_transforming, text, unit))
            break


def _transforming(text: object, unit: str, size: int) -> Work:
    assert callable(text)
    return partial(text, context(message(content=filled(unit, size))))


def read_variables() -> Iterator[Case]:
    """Each variable of a message whose header is filled."""
    known = registry()
    for name in CORE:
        try:
            text = compile_format(f"${name} $({name}[1]) $({name}[*])", known)
        except VariableError:
            try:
                text = compile_format(f"${name}", known)
            except VariableError:
                continue
        if isinstance(text, str):
            continue
        for unit in ("<sip:a@b>,", ";a=1", '"', "(", "a,"):
            yield Case(f"${name} of {unit!r}…", partial(_variable, text, unit))


def _variable(text: object, unit: str, size: int) -> Work:
    assert callable(text)
    share = size // 4
    changed = {kind: filled(unit, share, "<sip:a@b>") for kind in KINDS if kind in ("Contact", "Route", "Path", "X-Any")}
    return partial(text, context(message(changed)))
