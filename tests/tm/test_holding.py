"""Holding a transaction: its lock is let go at the end of the outermost block, however the block ends."""

from __future__ import annotations

from typing import Any

import pytest

from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.tm import relay
from opensips_py.tm.transaction import Transaction, try_lock
from tests.tm.world import UAC, World, request


def stored(world: World) -> bytes:
    """The key of a transaction that is under way."""
    keys: list[Any] = []

    def main(ctx: Context) -> int:
        code = relay.relay(ctx)
        keys.append(ctx.tx_key)
        return code

    world.script(main)
    world.receive(request("INVITE"), UAC)
    key: bytes = keys[0]
    return key


def test_an_exception_releases_it(world: World) -> None:
    tx = Transaction(stored(world))
    with pytest.raises(ValueError, match="fault"), tx as outer:
        with pytest.raises(KeyError), tx as inner:
            assert inner is outer is not None
            raise KeyError
        assert tx.depth == 1
        raise ValueError("fault")
    assert tx.depth == 0
    with pytest.raises(KeyError):
        this.store.unlock(tx.key)


def test_one_that_is_gone_is_not_locked(world: World) -> None:
    tx = Transaction(b"t-gone")
    with tx as rec:
        assert rec is None
        assert tx.depth == 0
        with pytest.raises(KeyError):
            this.store.unlock(tx.key)


def test_a_lock_that_was_tried_is_the_one_that_is_released(world: World) -> None:
    tx = Transaction(stored(world))
    assert try_lock(tx)
    with tx as rec:
        assert rec is not None
    with pytest.raises(KeyError):
        this.store.unlock(tx.key)
