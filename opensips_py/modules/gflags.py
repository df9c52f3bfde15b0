"""Flags of the server as a whole (OpenSIPS module gflags): 32 bits in the shared store, seen by every process.

Flags are numbered 0 to 31.
"""

from __future__ import annotations

from collections.abc import Callable

from ipc.prefixes import prefix
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, ConfigError, MIError, Module
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

module = Module("gflags", doc="Flags of the server as a whole (OpenSIPS module gflags)")

initial = module.param("initial", int, 0, doc="flags that are set at the start, as a number: 5 sets flags 0 and 2")

_KEY = prefix(b"g", "flags of the server", __name__)
_FLAGS = 32
_ALL = 0xFFFFFFFF


@module.on_check
@module.on_config
def configure() -> None:
    """Check the parameter."""
    if not -(1 << 31) <= initial.value <= _ALL:
        raise ConfigError(f"gflags: initial is {initial.value}; it is a number of 32 bits")


def _flags() -> int:
    data = this.store.get(_KEY)
    return initial.value & _ALL if data is None else int.from_bytes(data, "big")


def _change(change: Callable[[int], int]) -> None:
    with this.store.batch() as batch:
        data = batch.get(_KEY)
        flags = initial.value & _ALL if data is None else int.from_bytes(data, "big")
        batch.put(_KEY, change(flags).to_bytes(4, "big"))


def _bit(function: str, flag: int) -> int:
    """The mask of a flag; 0 when there is no such flag."""
    if 0 <= flag < _FLAGS:
        return 1 << flag
    log(ERROR, "gflags", function, f"{flag} is not a flag: they are numbered 0 to {_FLAGS - 1}")
    return 0


@module.function(routes=ALL)
def set_gflag(ctx: Context, flag: int) -> int:
    """Set a flag, for all processes."""
    bit = _bit("set_gflag", flag)
    if not bit:
        return -1
    _change(lambda flags: flags | bit)
    return 1


@module.function(routes=ALL)
def reset_gflag(ctx: Context, flag: int) -> int:
    """Clear a flag, for all processes."""
    bit = _bit("reset_gflag", flag)
    if not bit:
        return -1
    _change(lambda flags: flags & ~bit)
    return 1


@module.function(routes=ALL)
def is_gflag(ctx: Context, flag: int) -> int:
    """Whether a flag is set: 1 or -1."""
    return 1 if _flags() & _bit("is_gflag", flag) else -1


def _mask(text: str) -> int:
    """A set of flags as management commands name it: a number, also 0x…; 400 when it is not a number, or 0."""
    try:
        mask = int(text, 0)
    except ValueError:
        mask = 0
    if not 0 < mask <= _ALL:
        raise MIError(400, "Bad parameter value", "bitmask: a number from 1 to 0xFFFFFFFF")
    return mask


@module.mi("set_gflag", ("bitmask",))
def mi_set_gflag(bitmask: str) -> str:
    """Set all flags of a mask."""
    mask = _mask(bitmask)
    _change(lambda flags: flags | mask)
    return "OK"


@module.mi("reset_gflag", ("bitmask",))
def mi_reset_gflag(bitmask: str) -> str:
    """Clear all flags of a mask."""
    mask = _mask(bitmask)
    _change(lambda flags: flags & ~mask)
    return "OK"


@module.mi("is_gflag", ("bitmask",))
def mi_is_gflag(bitmask: str) -> str:
    """Whether all flags of a mask are set."""
    mask = _mask(bitmask)
    return "TRUE" if _flags() & mask == mask else "FALSE"


@module.mi("get_gflags")
def mi_get_gflags() -> dict[str, str]:
    """All flags, as a number."""
    flags = _flags()
    return {"hex": f"0x{flags:X}", "dec": str(flags)}
