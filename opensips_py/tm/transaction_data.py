"""Data that a module keeps with a transaction; what holds for them is said in :mod:`opensips_py.tm.callbacks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Generic, TypeVar

import msgspec

from opensips_py.script.context import Context
from opensips_py.script.declarations import Module
from opensips_py.tm.callbacks import KEPT, Moment, Subscriber, When, declared, with_data
from opensips_py.tm.transaction import Transaction, commit, look

T = TypeVar("T")
Callback = Callable[[Moment, T], object]
Begin = Callable[[Context], "T | None"]


class TransactionData(Subscriber, Generic[T]):
    """What a module keeps with a transaction: one value of a type that MessagePack can carry, best a ``msgspec.Struct``."""

    def __init__(self, module: Module, kind: type[T], *, name: str = "") -> None:
        """``name``: of these data, when the module has several."""
        super().__init__(module.name, f"{module.name}.{name}" if name else module.name, msgspec.msgpack.Decoder(kind).decode)
        self.kind = kind
        self._owner = module
        other = declared.get(self.name)
        if isinstance(other, TransactionData) and other._owner is module:
            raise ValueError(f"module {module.name} has declared what it keeps with a transaction: give the second one a name")
        declared[self.name] = self

    def on(self, *moments: When) -> Callable[[Callback[T]], Callback[T]]:
        """Have the decorated function called at these moments, as ``call(moment, data)``, for transactions that have data."""

        def declare(call: Callback[T]) -> Callback[T]:
            for when in moments:
                self.callbacks.setdefault(when, []).append(call)
            return call

        return declare

    def on_request(self, call: Begin[T]) -> Begin[T]:
        """Have the decorated function called whenever a transaction is made (TMCB_REQUEST_IN, TMCB_LOCAL_TRANS_NEW).

        What it returns is what is kept; None: nothing. Only if the script has loaded the module.
        """
        self.begin = call
        return call

    # --- reading and changing -----------------------------------------------------------------------------------------

    def get(self, ctx: Context) -> T | None:
        """The data of the transaction of ``ctx``, or of its message while there is none. Changes are not kept."""
        tx: Transaction | None = ctx.tx
        if tx is None:
            kept = ctx.slots.get(KEPT)
        else:
            if not tx.new and not tx.depth:
                tx.record = None  # another process may have changed it
            rec = look(tx)
            kept = None if rec is None else rec.kept
        data = kept.get(self.name) if kept else None
        return None if data is None else self.decode(data)

    def set(self, ctx: Context, value: T) -> bool:
        """Keep ``value`` with it. False: its transaction is gone."""
        return self._put(ctx, msgspec.msgpack.encode(value))

    def drop(self, ctx: Context) -> bool:
        """Keep nothing any more, so that no callbacks run. False: its transaction is gone."""
        return self._put(ctx, None)

    @contextmanager
    def change(self, ctx: Context) -> Iterator[T]:
        """The data, to be changed in the ``with`` block; new ones, ``kind()``, if there are none.

        The transaction is held meanwhile.
        """
        tx: Transaction | None = ctx.tx
        ours = tx is None or tx.new or tx.depth > 0
        with nullcontext() if tx is None else tx as rec:
            value = self.get(ctx)
            value = self.kind() if value is None else value
            yield value
            if tx is None or rec is not None:
                self.set(ctx, value)
            if tx is not None and rec is not None and not ours:
                commit(tx)

    def _put(self, ctx: Context, data: bytes | None) -> bool:
        tx: Transaction | None = ctx.tx
        if tx is None:
            ctx.slots[KEPT] = with_data(ctx.slots.get(KEPT), self.name, data) or {}
            return True
        ours = tx.new or tx.depth > 0
        with tx as rec:
            if rec is None:
                return False
            rec.kept = with_data(rec.kept, self.name, data)
            if not ours:  # else whoever holds it commits
                commit(tx)
            return True
