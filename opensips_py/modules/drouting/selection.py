"""Which gateways a call goes to, in which order, and with which R-URI."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from opensips_py.modules.drouting.states import Record
from opensips_py.modules.drouting.tables import FIRST_ONLY, Carrier, Gateway, Listed, Tables
from opensips_py.sip.params import split_quoted
from opensips_py.sip.uri import Uri


class Chosen(NamedTuple):
    """A gateway for a call."""

    gateway: Gateway
    carrier: Carrier | None
    """The carrier by which it was found."""


class Whitelist(NamedTuple):
    """The gateways and carriers to which a call may go."""

    gateways: frozenset[str]
    carriers: frozenset[str]

    @classmethod
    def of(cls, text: str | None) -> Whitelist | None:
        """``g1,#c1``; None: all of them."""
        if text is None or not text.strip():
            return None
        ids = [piece.strip() for piece in text.split(",")]
        return cls(frozenset(ids), frozenset(one[1:] for one in ids if one.startswith("#")))


def by_rule(
    tables: Tables, states: Record, listed: Sequence[Listed], sort: str, whitelist: Whitelist | None = None
) -> list[Chosen]:
    """The gateways of a rule that work."""
    found: list[Chosen] = []
    for one in in_order(listed, sort):
        if one.is_carrier:
            carrier = tables.carriers.get(one.id)
            if carrier is not None:
                found += by_carrier(tables, states, carrier, whitelist)
        else:
            gateway = tables.gateways.get(one.id)
            if gateway is not None and _usable(states, gateway) and (whitelist is None or one.id in whitelist.gateways):
                found.append(Chosen(gateway, None))
    return found


def by_carrier(tables: Tables, states: Record, carrier: Carrier, whitelist: Whitelist | None = None) -> list[Chosen]:
    """The gateways of a carrier that work; none when it is disabled."""
    if carrier.id in states.carriers:
        return []
    anyone = whitelist is None or carrier.id in whitelist.carriers
    found = []
    for one in in_order(carrier.gateways, carrier.sort):
        gateway = tables.gateways.get(one.id)
        if gateway is None or not _usable(states, gateway):
            continue
        if anyone or (whitelist is not None and one.id in whitelist.gateways):
            found.append(Chosen(gateway, carrier))
            if carrier.flags & FIRST_ONLY:
                break
    return found


def _usable(states: Record, gateway: Gateway) -> bool:
    return gateway.id not in states.gateways


def in_order(listed: Sequence[Listed], sort: str) -> Sequence[Listed]:
    """N: as they stand. W: drawn by weight, one after the other; those without weight come last, as they stand."""
    if sort != "W" or len(listed) < 2:
        return listed
    left: list[Listed] = list(listed)
    drawn: list[Listed] = []
    while any(one.weight for one in left):
        drawn += random.choices(left, [one.weight for one in left])
        left.remove(drawn[-1])
    return [*drawn, *left]


def uri_for(uri: Uri, gateway: Gateway) -> str:
    """The R-URI for a gateway: its address, and the number without what it strips, after its prefix.

    Password, parameters and headers stay; of a parameter that the gateway has too, the gateway's counts.
    """
    user = stripped(uri.user or "", gateway.strip)
    scheme, _, place = gateway.uri.partition(":")
    text = f"{scheme}:{gateway.prefix}{user}"
    if uri.password is not None:
        text += f":{uri.password}"
    text = f"{text}@{place}" if not text.endswith(":") else text + place
    params = uri.params_text
    if params and ";" in place:
        own = {_name(piece) for piece in place.split(";")[1:]}
        params = ";".join(piece for piece in split_quoted(params, ";") if _name(piece) not in own)
    if params:
        text += f";{params}"
    return f"{text}?{uri.headers_text}" if uri.headers_text else text


def _name(parameter: str) -> str:
    return parameter.partition("=")[0].strip().lower()


def stripped(number: str, digits: int) -> str:
    """A number without its first digits, all of them at most."""
    return number[digits:]
