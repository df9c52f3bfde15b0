"""Which carrier a number belongs to: an HTTP service is asked with asyncio, its answers are kept for all processes.

Shows coroutines, parameters, data that processes share, statistics, an event, management commands, a variable, and
something that runs from time to time. ``carriers.cfg`` loads it.
"""

from __future__ import annotations

import asyncio

from opensips_py.module_api import ERROR, NOTICE, ConfigError, Context, Module, Out, log

module = Module("carriers", doc="The carrier of a number, from an HTTP service")

service = module.param("service", str, "127.0.0.1:8088", doc="host:port of the service")
timeout = module.param("timeout", int, 2, doc="seconds for one question")
keep = module.param("keep", int, 3600, doc="seconds for which an answer is kept")

asked = module.statistic("asked", doc="questions to the service")
known = module.statistic("known", doc="answers that were known already")

down = module.event("E_CARRIERS_DOWN", "service", doc="the service does not answer")

carriers = module.shared("carriers", str)


@module.on_config
def check() -> None:
    """Refuse what cannot work, before the server runs."""
    if ":" not in service.value:
        raise ConfigError(f'carriers: service "{service.value}" is not host:port')


@module.function(seconds=timeout)
async def carrier_of(number: str, carrier: Out[str]) -> int:
    """Find the carrier of ``number``: 1 found, -2 there is none, -1 the service fails, -3 it takes too long."""
    name = carriers.get(number)
    if name is None:
        asked.add()
        name = await ask(number)
        carriers.set(number, name, seconds=keep.value)
    else:
        known.add()
    if not name:
        return -2
    carrier.set(name)
    return 1


async def ask(number: str) -> str:
    """The service's answer; empty when it does not know the number."""
    host, _, port = service.value.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET /tariff/{number} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = head.split()[1:2]
    if status == [b"404"]:
        return ""
    if status != [b"200"]:
        raise ConnectionError(f"the service answered {head[:100]!r}")
    return body.decode()


@module.variable("carriers_known")
def count(ctx: Context, argument: str | None, index: object) -> int:
    """How many numbers are known."""
    return sum(1 for _ in carriers.items())


@module.mi("carriers_list")
def listing() -> dict[str, str]:
    """All numbers that are known, with their carriers."""
    return dict(carriers.items())


@module.mi("carriers_set", ("number", "carrier"))
def set_carrier(number: str, carrier: str) -> None:
    """Set the carrier of a number by hand."""
    carriers.set(number, carrier)


@module.every(60)
async def look_after() -> None:
    """Say when the service is down, before calls notice."""
    try:
        await asyncio.wait_for(ask("0"), timeout.value)
    except (OSError, TimeoutError) as error:
        log(ERROR, "carriers", "look_after", f"{service.value}: {error or type(error).__name__}")
        down.emit(service=service.value)
    else:
        log(NOTICE, "carriers", "look_after", f"{service.value} answers")
