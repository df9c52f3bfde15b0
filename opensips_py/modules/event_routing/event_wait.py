"""The operation behind ``wait_for_event()``: a subscription that lasts until its event, or its end.

It has no descriptor. What it waits for is a row of the store, and a wake-up by the mailbox of its process.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from opensips_py.engine.operation import Done, Operation
from opensips_py.evi import subscriptions
from opensips_py.evi.mailbox import TOKEN, mailbox
from opensips_py.evi.subscriptions import Subscription
from opensips_py.server.process import this

_UNUSABLE = frozenset("()$\0")
"""What the name of an AVP cannot contain."""


class _Frozen(msgspec.Struct, array_like=True):
    at: bytes
    filters: list[tuple[str, str]]
    deadline: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class WaitForEvent(Operation):
    """Return code 1: the event was raised, and its parameters are AVPs of their names; -1: it was not, in time."""

    name = "wait_for_event"
    takes_default_deadline = False

    def __init__(self, at: bytes, filters: list[tuple[str, str]], deadline: float, *, known: bool = False) -> None:
        self._at = at
        self._filters = filters
        self._known = known
        self._expires = deadline
        self._waits = False

    @property
    def _token(self) -> bytes:
        return self._at[-TOKEN:]

    def start(self) -> Done | None:
        self.deadline = self._expires if self.deadline is None else min(self._expires, self.deadline)
        subscription = Subscription(self._filters, self._expires, owner=this.slot)
        if self._known:
            told = subscriptions.renew(self._at, subscription)
            if told is not None:
                return _done(told)
        else:
            subscriptions.put(self._at, subscription)
        self._waits = True
        mailbox.waiting[self._token] = self._wake
        return None

    def _wake(self) -> None:
        if self.changed is not None:
            self.changed()

    def fileno(self) -> int:
        """Of a plain wait the mailbox; else none: the reactor reads the mailbox for all."""
        return mailbox.fileno() if self.mode == "plain" else -1

    @property
    def counts_as_timeout(self) -> bool:
        """Whether nothing has been told in the last moment."""
        return not subscriptions.told(self._token)

    def advance(self) -> Done | None:
        if self.mode == "plain":
            mailbox.read()
        told = subscriptions.take_told(self._token)
        if told is None:
            return None
        self._leave()
        return _done(told)

    def expire(self) -> Done:
        self._leave()
        told = subscriptions.withdraw(self._at)
        return Done(-1) if told is None else _done(told)

    def close(self) -> None:
        if self._waits:
            self._leave()
            subscriptions.withdraw(self._at)

    def forget(self) -> None:
        self._leave()

    def _leave(self) -> None:
        self._waits = False
        mailbox.waiting.pop(self._token, None)

    def freeze(self) -> bytes:
        return _encode(_Frozen(self._at, self._filters, self._expires))

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        frozen = _decode(state)
        return cls(frozen.at, frozen.filters, frozen.deadline, known=True)


def _done(told: Sequence[tuple[str, str | int]]) -> Done:
    return Done(1, [(f"$avp({name})", value) for name, value in told if name and _UNUSABLE.isdisjoint(name)])


def wait(event: str, filters: list[tuple[str, str]], seconds: int, declared: Sequence[str]) -> WaitForEvent:
    """A wait of at most ``seconds``."""
    at = subscriptions.key(event, subscriptions.new_token(), filters, declared)
    return WaitForEvent(at, filters, this.clock.now() + seconds)
