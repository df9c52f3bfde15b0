"""Who wants to know of an event: rows of the shared store, so that any process that raises it finds them.

Key ``e`` + name of the event + NUL + bucket + token. A subscription with a filter that allows one value of a declared
parameter lies in the bucket of that value, all others in the bucket of zeros: whoever raises an event reads the buckets of
its values only, so that ten thousand calls that wait for ten thousand users cost a registration as little as one.

A script that waits is told once. In one batch its subscription goes and the *told* row ``r`` + token appears; then the
process that drives the operation is woken through its mailbox. When that process has died, or dies now, the operation
finds the told row wherever it is thawed. So an event is neither lost nor delivered twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from ipc.prefixes import prefix
from opensips_py.engine.parked import Tokens
from opensips_py.evi.mailbox import TOKEN, mailbox
from opensips_py.script.context import RouteKind
from opensips_py.script.shell_pattern import matcher
from opensips_py.server.process import this

PREFIX = prefix(b"e", "subscription to an event", __name__)
TOLD = prefix(b"r", "what a script that waits for an event has been told", __name__)
"""Store keys of what waiting scripts have been told: this, then the token."""
SWEEP = 10.0
"""Seconds between two removals of subscriptions that have expired."""
KEPT = 60.0
"""Seconds for which an expired one stays: a script that waits takes its own away."""
_BUCKET = 8
_ANY = bytes(_BUCKET)


Parameters = Sequence[tuple[str, str | int]]


class Subscription(msgspec.Struct, array_like=True):
    """One subscriber. It is a script that waits, a route to be run, or another program."""

    filters: list[tuple[str, str]]
    """Names of parameters and shell patterns (fnmatch(3)) of their values; all that the event has must match."""
    expires: float | None
    """``this.clock.now()`` at which it ends; None: never."""
    owner: int = 0
    """Slot of the process that drives the waiting operation."""
    route: str | None = None
    """Route that ``notify_on_event()`` names."""
    transaction: bytes | None = None
    """Key of the transaction from which it was called."""
    target: str | None = None
    """Socket of another program, ``transport:address``."""
    seconds: int | None = None
    """For how long that program has subscribed."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Subscription).decode
_decode_told = msgspec.msgpack.Decoder(list[tuple[str, str | int]]).decode

transports: dict[str, Callable[[str, str, Parameters], None]] = {}
"""By the word before the colon of a socket, what tells an event to another program: ``send(address, event, parameters)``."""
address_faults: dict[str, Callable[[str], str | None]] = {}
"""By the same word, what is wrong with an address; None: nothing."""

_enabled = False


def enable() -> None:
    """Subscriptions are to be looked for: a module is loaded by which they are made. Called before the fork."""
    global _enabled
    _enabled = True


def possible() -> bool:
    """Whether there can be subscriptions."""
    return _enabled


# --- rows ---------------------------------------------------------------------------------------------------------------


def _prefix(event: str) -> bytes:
    return PREFIX + event.encode("latin-1") + b"\0"


def _bucket(name: str, value: str) -> bytes:
    return hashlib.blake2b(f"{name.lower()}={value}".encode("latin-1"), digest_size=_BUCKET).digest()


_PATTERN = re.compile(r"[*?\[\\]")


def key(event: str, token: bytes, filters: Sequence[tuple[str, str]], declared: Sequence[str]) -> bytes:
    """Where a subscription lies. ``declared``: parameters of the event; empty when the script makes them up."""
    for name, pattern in filters:
        if name.lower() in declared and _PATTERN.search(pattern) is None:
            return _prefix(event) + _bucket(name, pattern) + token
    return _prefix(event) + _ANY + token


def put(at: bytes, subscription: Subscription) -> None:
    """Write a subscription."""
    this.store.put(at, _encode(subscription))


def any_of(event: str) -> bool:
    """Whether somebody has subscribed."""
    return bool(this.store.scan(_prefix(event), limit=1))


def of(event: str) -> list[tuple[bytes, Subscription]]:
    """All subscriptions to an event, with their keys."""
    return [(name, _decode(data)) for name, data in this.store.scan(_prefix(event))]


# --- telling --------------------------------------------------------------------------------------------------------------


def deliver(event: str, parameters: Parameters, declared: Sequence[str]) -> list[Subscription]:
    """Tell scripts that wait and other programs; gives the routes that are to be run."""
    now = this.clock.now()
    notices: list[Subscription] = []
    told: dict[int, list[bytes]] = {}
    for name, subscription in _interested(event, parameters, declared):
        if subscription.expires is not None and subscription.expires < now:
            continue
        if subscription.target is not None:
            _send(subscription.target, event, parameters)
        elif subscription.route is not None:
            notices.append(subscription)
        elif (owner := _tell(name, parameters)) is not None:
            told.setdefault(owner, []).append(name[-TOKEN:])
    for owner, tokens in told.items():
        mailbox.wake(owner, tokens)
    return notices


def _interested(event: str, parameters: Parameters, declared: Sequence[str]) -> Iterator[tuple[bytes, Subscription]]:
    prefix = _prefix(event)
    if not this.store.scan(prefix, limit=1):
        return
    values = {name.lower(): str(value) for name, value in reversed(parameters)}
    if any(name not in values for name in declared):  # a filter over what is not given passes: look at all
        buckets = [b""]
    else:
        buckets = [_ANY, *(_bucket(name, values[name]) for name in declared)]
    for bucket in buckets:
        for name, data in this.store.scan(prefix + bucket):
            subscription = _decode(data)
            if all(matches(values.get(key.lower()), pattern) for key, pattern in subscription.filters):
                yield name, subscription


def matches(value: str | None, pattern: str) -> bool:
    """A filter over a parameter the event does not have is passed over, as in OpenSIPS."""
    return value is None or matcher(pattern)(value) is not None


def _tell(name: bytes, parameters: Parameters) -> int | None:
    """Turn the subscription of a script that waits into what it is told; its owner, None when somebody was faster."""
    with this.store.batch() as batch:
        data = batch.take(name)
        if data is None:
            return None
        batch.put(TOLD + name[-TOKEN:], _encode(list(parameters)))
    return _decode(data).owner


def _send(target: str, event: str, parameters: Parameters) -> None:
    transport, _, address = target.partition(":")
    send = transports.get(transport)
    if send is not None:
        send(address, event, parameters)


# --- waiting --------------------------------------------------------------------------------------------------------------


def told(token: bytes) -> bool:
    """Whether a script that waits has been told something that it has not taken yet."""
    return this.store.get(TOLD + token) is not None


def take_told(token: bytes) -> list[tuple[str, str | int]] | None:
    """What a script that waits has been told, once."""
    data = this.store.take(TOLD + token)
    return None if data is None else _decode_told(data)


def renew(at: bytes, subscription: Subscription) -> list[tuple[str, str | int]] | None:
    """Another process drives the operation now: what it has been told, else the subscription becomes this process' own."""
    with this.store.batch() as batch:
        told = batch.take(TOLD + at[-TOKEN:])
        if told is None and batch.get(at) is not None:
            batch.put(at, _encode(subscription))
    return None if told is None else _decode_told(told)


def withdraw(at: bytes) -> list[tuple[str, str | int]] | None:
    """The script waits no longer; what it has been told in the last moment."""
    with this.store.batch() as batch:
        batch.delete(at)
        told = batch.take(TOLD + at[-TOKEN:])
    return None if told is None else _decode_told(told)


def new_token() -> bytes:
    """A token for a subscription made by this process."""
    maker = (this.node, this.slot, this.incarnation)
    if maker not in _tokens:
        _tokens.clear()  # the process has forked since
        _tokens[maker] = Tokens(*maker)
    return _tokens[maker].next()


_tokens: dict[tuple[int, int, int], Tokens] = {}


# --- subscriptions by name -------------------------------------------------------------------------------------------------


class BadSocket(Exception):
    """A program's socket is not of a known form."""


def subscribe(event: str, target: str, seconds: int | None) -> None:
    """Have another program told, for ``seconds`` (None: for ever, 0: not any more). Raises BadSocket."""
    transport, _, address = target.partition(":")
    fault = address_faults.get(transport)
    if fault is None:
        known = ", ".join(sorted(address_faults)) or "none; load event_datagram"
        raise BadSocket(f"{target}: no transport {transport!r} for events (known: {known})")
    problem = fault(address)
    if problem is not None:
        raise BadSocket(f"{target}: {problem}")
    at = _prefix(event) + _ANY + hashlib.blake2b(target.encode("latin-1"), digest_size=TOKEN).digest()
    if seconds == 0:
        this.store.delete(at)
        return
    expires = None if seconds is None else this.clock.now() + seconds
    put(at, Subscription([], expires, target=target, seconds=seconds))


def sweep() -> int:
    """Remove subscriptions that expired a while ago; their number."""
    limit = this.clock.now() - KEPT
    removed = 0
    for name, data in this.store.scan(PREFIX):
        expires = _decode(data).expires
        if expires is not None and expires < limit:
            removed += this.store.delete(name)
    return removed


def shown(event: str) -> list[dict[str, str | int]]:
    """The subscribers of an event for a management command."""
    now = this.clock.now()
    found: list[dict[str, str | int]] = []
    if (RouteKind.EVENT, event) in this.program.routes:
        found.append({"socket": f"route:{event}", "expire": "never"})
    routed = False
    for _, subscription in of(event):
        if subscription.expires is not None and subscription.expires < now:
            continue
        if subscription.target is None:
            if not routed:
                found.append({"socket": f"routing:{event}", "expire": "never"})
                routed = True
        elif subscription.expires is None or subscription.seconds is None:
            found.append({"socket": subscription.target, "expire": "never"})
        else:
            left = int(subscription.expires - now)
            found.append({"socket": subscription.target, "expire": subscription.seconds, "ttl": left})
    return found
