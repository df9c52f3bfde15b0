"""Pauses, chance, shared variables, locks, time (OpenSIPS module cfgutils)."""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
import zlib
from contextlib import AbstractContextManager
from typing import Any

from ipc.prefixes import prefix
from opensips_py.core.time_recurrence import RecurrenceError, matches
from opensips_py.modules.cfgutils.pause import Sleep, Usleep
from opensips_py.script import variables
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import ALL, ConfigError, MIError, Module, ReadVar, Var
from opensips_py.server.log import ERROR, NOTICE, log
from opensips_py.server.process import this

module = Module("cfgutils", doc="Pauses, chance, shared variables, locks, time (OpenSIPS module cfgutils)")

_none: list[str] = []
initial_probability = module.param("initial_probability", int, 10, doc="per cent with which rand_event() is true at start")
hash_file = module.param("hash_file", str, "", doc="file whose MD5 get_config_hash and check_config_hash tell")
shvset = module.param(
    "shvset", str, list(_none), multiple=True, doc='first value of a shared variable: "name=i:7" or "name=s:text"'
)
varset = module.param("varset", str, list(_none), multiple=True, doc='first value of $var(name): "name=i:7" or "name=s:text"')
lock_pool_size = module.param("lock_pool_size", int, 32, doc="number of dynamic locks: strings share them by their hash")

_SHARED = prefix(b"v", "shared variable (`$shv`)", __name__)
_PROBABILITY = b"v\0probability"
"""Not the name of any variable."""

_first_values: dict[bytes, Value] = {}
_config_hash = ""
_held: dict[bytes, list[AbstractContextManager[None]]] = {}


@module.on_check
@module.on_config
def configure() -> None:
    """Check the parameters, remember first values."""
    global _config_hash
    if not 0 <= initial_probability.value <= 100:
        raise ConfigError(f"cfgutils: initial_probability is {initial_probability.value}; it is a percentage, 0 to 100")
    if lock_pool_size.value < 1:
        raise ConfigError(f"cfgutils: lock_pool_size is {lock_pool_size.value}; it must be at least 1")
    _first_values.clear()
    for text in shvset.value:
        name, value = _setting("shvset", text)
        _first_values[_SHARED + name.encode("latin-1")] = value
    for text in varset.value:
        _setting("varset", text)
    if hash_file.value:
        try:
            _config_hash = _hash(hash_file.value)
        except OSError as error:
            raise ConfigError(f"cfgutils: hash_file: {error}") from error


@module.on_process
def set_first_values() -> None:
    """Give ``$var`` its first values in this process."""
    for text in varset.value:
        name, value = _setting("varset", text)
        nobody: Any = None  # $var does not look at the message
        variables.by_text(f"$var({name})").set(nobody, value)


def _setting(parameter: str, text: str) -> tuple[str, Value]:
    parts = re.fullmatch(r"([^=]+)=([sSiI]):(.*)", text, re.DOTALL)
    if parts is None:
        raise ConfigError(f'cfgutils: {parameter}: "{text}" is not of the form "name=i:7" or "name=s:text"')
    name, kind, value = parts[1].strip(), parts[2].lower(), parts[3]
    if kind == "s":
        return name, value
    try:
        return name, int(value, 0)
    except ValueError:
        raise ConfigError(f'cfgutils: {parameter}: "{value}" is not a number') from None


# --- pauses ---------------------------------------------------------------------------------------------------------


@module.operation(routes=ALL)
def sleep(ctx: Context, seconds: int) -> Sleep:
    """Wait so many seconds."""
    return Sleep(float(seconds))


@module.operation(routes=ALL)
def usleep(ctx: Context, microseconds: int) -> Usleep:
    """Wait so many microseconds."""
    return Usleep(microseconds / 1e6)


# --- chance ---------------------------------------------------------------------------------------------------------


def _probability() -> int:
    row = this.store.get(_PROBABILITY)
    return initial_probability.value if row is None else int(row)


def _int32(value: int) -> int:
    """A number as a C int holds it, which is what OpenSIPS calculates with here."""
    return (value + 0x80000000) % 0x100000000 - 0x80000000


@module.function(routes=ALL)
def rand_set_prob(ctx: Context, probability: int) -> int:
    """Set the per cent with which rand_event() is true, for all processes."""
    if _int32(probability) > 100:
        log(ERROR, "cfgutils", "rand_set_prob", f"{probability} is not a percentage")
        return -1
    this.store.put(_PROBABILITY, b"%d" % probability)
    return 1


@module.function(routes=ALL)
def rand_reset_prob(ctx: Context) -> int:
    """Set the per cent to ``initial_probability``."""
    this.store.delete(_PROBABILITY)
    return 1


@module.function(routes=ALL)
def rand_get_prob(ctx: Context) -> int:
    """The per cent as return code; -1 for 0, which would end the script."""
    return _probability() or -1


@module.function(routes=ALL)
def rand_event(ctx: Context, probability: int | None = None) -> int:
    """True (1) with the given per cent, or with that of rand_set_prob(); else -1."""
    return 1 if random.randrange(100) < (_probability() if probability is None else probability) else -1


# --- counting, time -------------------------------------------------------------------------------------------------


@module.function(routes=ALL)
def set_count(ctx: Context, values: ReadVar, count: Var) -> int:
    """How many values the first variable has."""
    count.set(ctx, len(variables.by_text(values.text).values(ctx)))
    return 1


@module.function(routes=ALL)
def set_select_weight(ctx: Context, weights: ReadVar) -> int:
    """Draw one of the values of a variable, each with a chance in proportion to its number; the return code is its index.

    -1 when the variable has no value, when one is not a number or negative, or all are 0. Index 0 ends the script, as every
    return code 0 does: keep the code with ``$var(i) = set_select_weight(...)``.
    """
    values = variables.by_text(weights.text).values(ctx)
    numbers = [int(value) for value in values if isinstance(value, int) and value >= 0]
    if len(numbers) != len(values) or not sum(numbers):
        log(ERROR, "cfgutils", "set_select_weight", f"{weights.text} does not hold weights: numbers, not all of them 0")
        return -1
    return random.choices(range(len(numbers)), numbers)[0]


@module.function(routes=ALL)
def get_accurate_time(ctx: Context, sec: Var, usec: Var, text: Var | None = None) -> int:
    """Unix time: seconds, microseconds, and both as ``seconds.microseconds``."""
    seconds, micros = divmod(int(this.clock.wall() * 1e6), 1_000_000)
    sec.set(ctx, seconds)
    usec.set(ctx, micros)
    if text is not None:
        text.set(ctx, f"{seconds}.{micros:06d}")
    return 1


@module.function(routes=ALL)
def ts_usec_delta(ctx: Context, t1_sec: int, t1_usec: int, t2_sec: int, t2_usec: int, delta: Var) -> int:
    """Microseconds between two points in time, in 32 bits: 35 minutes at most."""
    delta.set(ctx, abs(_int32((t1_sec - t2_sec) * 1_000_000 + t1_usec - t2_usec)))
    return 1


@module.function(routes=ALL)
def check_time_rec(ctx: Context, recurrence: str, timestamp: int | None = None) -> int:
    """True (1) when now, or ``timestamp``, lies in the time recurrence (RFC 2445, as in CPL), else -1. Below 0 means now."""
    try:
        moment = -1 if timestamp is None else _int32(timestamp)
        return 1 if matches(recurrence, this.clock.wall() if moment < 0 else moment) else -1
    except RecurrenceError as error:
        log(ERROR, "cfgutils", "check_time_rec", f"[{recurrence}]: {error}")
        return -1


# --- locks ----------------------------------------------------------------------------------------------------------


def _take(key: bytes) -> int:
    holding = this.store.lock(key)
    holding.__enter__()
    _held.setdefault(key, []).append(holding)
    return 1


def _give_back(key: bytes) -> int:
    holding = _held.get(key)
    if not holding:
        return -1
    holding.pop().__exit__(None, None, None)
    return 1


def _dynamic(text: str) -> bytes:
    return b"cfgutils dynamic %d" % (zlib.crc32(text.encode("latin-1")) % lock_pool_size.value)


@module.function(routes=ALL)
def get_static_lock(ctx: Context, name: str) -> int:
    """Wait for the lock ``name`` and hold it. Other processes wait meanwhile; the holder's death releases it."""
    return _take(b"cfgutils static " + name.encode("latin-1"))


@module.function(routes=ALL)
def release_static_lock(ctx: Context, name: str) -> int:
    """Release a lock of get_static_lock(); -1 when this process does not hold it."""
    return _give_back(b"cfgutils static " + name.encode("latin-1"))


@module.function(routes=ALL)
def get_dynamic_lock(ctx: Context, text: str) -> int:
    """Wait for the lock that ``text`` falls on and hold it."""
    return _take(_dynamic(text))


@module.function(routes=ALL)
def release_dynamic_lock(ctx: Context, text: str) -> int:
    """Release a lock of get_dynamic_lock(); -1 when this process does not hold it."""
    return _give_back(_dynamic(text))


@module.function(routes=ALL)
def strings_share_lock(ctx: Context, one: str, other: str) -> int:
    """Whether two texts fall on the same dynamic lock: 1 or -1."""
    return 1 if _dynamic(one) == _dynamic(other) else -1


# --- the process ----------------------------------------------------------------------------------------------------


@module.function(routes=ALL)
def abort(ctx: Context) -> int:
    """End this process with SIGABRT, for debugging."""
    log(ERROR, "cfgutils", "abort", "the script asks for it")
    os.abort()


@module.function(routes=ALL)
def pkg_status(ctx: Context) -> int:
    """Log the memory of this process."""
    with open("/proc/self/statm", "rb") as statm:
        _, resident, shared = (int(field) * 4 for field in statm.read().split()[:3])
    log(NOTICE, "cfgutils", "pkg_status", f"process {os.getpid()}: {resident} KB resident, {shared} KB of it shared")
    return 1


@module.function(routes=ALL)
def shm_status(ctx: Context) -> int:
    """Log how full the shared store is."""
    info = this.store.info()
    log(NOTICE, "cfgutils", "shm_status", f"shared store: {info.entries} entries, {info.used_size} of {info.total_size} bytes")
    return 1


# --- variables ------------------------------------------------------------------------------------------------------


def _get_shared(key: bytes) -> Value:
    row = this.store.get(key)
    if row is None:
        return _first_values.get(key)
    return int(row[1:]) if row[:1] == b"i" else row[1:].decode("latin-1")


def _set_shared(key: bytes, value: Value) -> None:
    if value is None:
        value = 0
    this.store.put(key, b"i%d" % value if isinstance(value, int) else b"s" + value.encode("latin-1"))


def _write_shared(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    _set_shared(_SHARED + (argument or "").encode("latin-1"), value)


@module.variable("shv", argument="required", write=_write_shared)
def _shared(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """A variable that all processes share; 0 before it is set."""
    value = _get_shared(_SHARED + (argument or "").encode("latin-1"))
    return 0 if value is None else value


@module.variable("RANDOM")
def _random(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """A random number from 0 to 2147483647."""
    return random.getrandbits(31)


@module.variable("env", argument="required")
def _env(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """A variable of the server's environment."""
    value = os.environb.get((argument or "").encode("latin-1"))
    return None if value is None else value.decode("latin-1")


@module.variable("ctime", argument="required")
def _ctime(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """A part of the local time: sec, min, hour, mday, mon (1 to 12), year, wday (1 is Sunday), yday (1 to 366), isdst."""
    now = time.localtime()
    parts = {
        "sec": now.tm_sec,
        "min": now.tm_min,
        "hour": now.tm_hour,
        "mday": now.tm_mday,
        "mon": now.tm_mon,
        "year": now.tm_year,
        "wday": (now.tm_wday + 1) % 7 + 1,
        "yday": now.tm_yday,
        "isdst": now.tm_isdst,
    }
    return parts.get(argument or "")


# --- management -----------------------------------------------------------------------------------------------------


@module.mi("rand_set_prob", ("prob_proc",))
def mi_rand_set_prob(prob_proc: int) -> str:
    """Set the per cent with which rand_event() is true."""
    if not 0 <= prob_proc <= 100:
        raise MIError(400, "Bad parameter value")
    this.store.put(_PROBABILITY, b"%d" % prob_proc)
    return "OK"


@module.mi("rand_reset_prob")
def mi_rand_reset_prob() -> str:
    """Set the per cent to initial_probability."""
    this.store.delete(_PROBABILITY)
    return "OK"


@module.mi("rand_get_prob")
def mi_rand_get_prob() -> dict[str, int]:
    """The per cent with which rand_event() is true."""
    return {"Probability": _probability()}


@module.mi("shv_set", ("name", "type", "value"))
def mi_shv_set(name: str, type: str, value: str) -> str:
    """Set a shared variable; type is int or str."""
    if type == "int":
        try:
            _set_shared(_SHARED + name.encode("latin-1"), int(value, 0))
        except ValueError:
            raise MIError(400, "Bad parameter value") from None
    else:
        _set_shared(_SHARED + name.encode("latin-1"), value)
    return "OK"


@module.mi("shv_get", (), ("name",))
def mi_shv_get(name: str | None = None) -> dict[str, Any]:
    """One shared variable, or all of them."""
    if name is not None:
        value = _get_shared(_SHARED + name.encode("latin-1"))
        if value is None:
            raise MIError(404, "Not found")
        return {"VAR": _shown(value)}
    names = dict.fromkeys(key for key in _first_values)
    names |= dict.fromkeys(key for key, _ in this.store.scan(_SHARED) if key != _PROBABILITY)
    found = []
    for key in names:
        value = _get_shared(key)
        if value is not None:
            found.append({"name": key[1:].decode("latin-1"), **_shown(value)})
    return {"VARs": found}


def _shown(value: str | int) -> dict[str, Any]:
    return {"type": "integer" if isinstance(value, int) else "string", "value": value}


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()


@module.mi("get_config_hash")
def mi_get_config_hash() -> str:
    """MD5 of hash_file when the server was started."""
    if not _config_hash:
        raise MIError(404, "Not found")
    return _config_hash


@module.mi("check_config_hash")
def mi_check_config_hash() -> str:
    """Whether hash_file is still the same."""
    if not _config_hash:
        raise MIError(404, "Not found")
    try:
        same = _hash(hash_file.value) == _config_hash
    except OSError:
        same = False
    return "The actual config file hash is identical to the stored one." if same else _changed()


def _changed() -> str:
    raise MIError(500, "The actual config file hash is different from the stored one.")
