"""What a call keeps in its AVPs: the gateways that are still to be tried, and what has led to them.

Each AVP is a stack. That of ids has the present gateway on top and those that follow below it, and so have those of prefixes,
attributes and carriers; R-URIs and sockets are only there for those that follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from opensips_py.core.functions_network import socket_named
from opensips_py.modules.drouting.partitions import Avps
from opensips_py.modules.drouting.selection import Chosen, uri_for
from opensips_py.modules.drouting.tables import LONGEST_PREFIX, Matched
from opensips_py.script import variables
from opensips_py.script.context import Context
from opensips_py.script.declarations import Var
from opensips_py.sip.uri import Uri


class Outputs(NamedTuple):
    """Variables that get attributes."""

    rule: Var | None = None
    gateway: Var | None = None
    carrier: Var | None = None

    @classmethod
    def by_text(cls, texts: list[str]) -> Outputs:
        """The reverse of :meth:`texts`."""
        return cls(*(variables.by_text(text) if text else None for text in texts))

    def texts(self) -> list[str]:
        """Of the variables; empty for one that is not there."""
        return ["" if one is None else one.text for one in self]


class Asked(msgspec.Struct, array_like=True):
    """What a rule is looked for with, and how far that has gone."""

    group: int
    flags: str
    ruri: str
    whitelist: str | None
    longest: int = LONGEST_PREFIX
    """Digits of the prefix of the last rule that was tried."""
    tried: list[int] = []
    """Ids of rules with that prefix, or longer ones."""


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Asked).decode


def top(ctx: Context, name: str) -> str | None:
    """The value on top of an AVP."""
    stack = ctx.avps.get(name)
    return str(stack[-1]) if stack else None


def replace(ctx: Context, name: str, *values: str | int) -> None:
    """Give an AVP these values, the first on top, in place of all that it has."""
    ctx.avps.pop(name, None)
    if name and values:
        ctx.avps[name] = list(reversed(values))


def _pop(ctx: Context, name: str) -> str | None:
    stack = ctx.avps.get(name)
    if not stack:
        return None
    value = stack.pop()
    if not stack:
        del ctx.avps[name]
    return str(value)


def clear_rule(ctx: Context, avps: Avps) -> None:
    """Nothing is left of the rule of an earlier routing."""
    for name in (avps.rule, avps.rule_prefix, avps.rule_attrs):
        ctx.avps.pop(name, None)


def clear(ctx: Context, avps: Avps) -> None:
    """Nothing is left of an earlier routing."""
    clear_rule(ctx, avps)
    for name in (*_present(avps), avps.ruri, avps.socket, avps.fallback):
        ctx.avps.pop(name, None)


def _present(avps: Avps) -> tuple[str, ...]:
    return avps.gateway, avps.gateway_attrs, avps.pri_prefix, avps.carrier, avps.carrier_attrs


def note_rule(ctx: Context, avps: Avps, matched: Matched, outputs: Outputs) -> None:
    """The rule that leads the call."""
    rule = matched.rule
    replace(ctx, avps.rule, rule.id)
    replace(ctx, avps.rule_prefix, rule.prefix)
    replace(ctx, avps.rule_attrs, rule.attrs)
    if outputs.rule is not None:
        outputs.rule.set(ctx, rule.attrs)


def note_fallback(ctx: Context, avps: Avps, asked: Asked) -> None:
    """How further rules are found when the gateways of this one have failed."""
    replace(ctx, avps.fallback, _encode(asked).decode("latin-1"))


def take_fallback(ctx: Context, avps: Avps) -> Asked | None:
    """What :func:`note_fallback` has left."""
    text = _pop(ctx, avps.fallback)
    if text is None:
        return None
    try:
        return _decode(text.encode("latin-1"))
    except (msgspec.DecodeError, UnicodeError):  # the script has written it
        return None


def aim(ctx: Context, avps: Avps, chosen: list[Chosen], uri: Uri, outputs: Outputs) -> None:
    """Aim the request at the first gateway and keep the others."""
    uris = [uri_for(uri, one.gateway) for one in chosen]
    replace(ctx, avps.ruri, *uris[1:])
    replace(ctx, avps.socket, *(one.gateway.socket for one in chosen[1:]))
    replace(ctx, avps.gateway, *(one.gateway.id for one in chosen))
    replace(ctx, avps.gateway_attrs, *(one.gateway.attrs for one in chosen))
    replace(ctx, avps.pri_prefix, *(one.gateway.prefix for one in chosen))
    replace(ctx, avps.carrier, *("" if one.carrier is None else one.carrier.id for one in chosen))
    replace(ctx, avps.carrier_attrs, *("" if one.carrier is None else one.carrier.attrs for one in chosen))
    _send_to(ctx, avps, uris[0], chosen[0].gateway.socket, outputs)


def aim_at_next(ctx: Context, avps: Avps, works: Callable[[str], bool], outputs: Outputs) -> bool:
    """Aim the request at the next gateway that works, by its id; False: there is none."""
    while True:
        for name in _present(avps):
            _pop(ctx, name)
        uri, socket = _pop(ctx, avps.ruri), _pop(ctx, avps.socket)
        if uri is None:
            return False
        if works(top(ctx, avps.gateway) or ""):
            break
    if outputs.rule is not None and (attrs := top(ctx, avps.rule_attrs)) is not None:
        outputs.rule.set(ctx, attrs)
    _send_to(ctx, avps, uri, socket, outputs)
    return True


def _send_to(ctx: Context, avps: Avps, uri: str, socket: str | None, outputs: Outputs) -> None:
    ctx.new_uri = uri
    found = socket_named(socket) if socket else None
    if found is not None:
        ctx.send_socket = found
    for output, name in ((outputs.gateway, avps.gateway_attrs), (outputs.carrier, avps.carrier_attrs)):
        if output is not None:
            output.set(ctx, top(ctx, name))
