"""What operations need around them: a reactor, a store, a line to the fd store, and a way to drive them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from opensips_py.modules.exec import children
from opensips_py.server.process import this
from tests.operations.driving import Keeper, Rows, settings, spin
from workers.reactor import EpollReactor


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A process of the server, as far as operations see it."""
    errors: list[BaseException] = []
    reactor = EpollReactor(SimpleNamespace(busy_since_ns=0, busy_total_ns=0), errors.append)
    keeper, rows = Keeper(), Rows()
    for name, value in {"reactor": reactor, "fd_keeper": keeper, "store": rows}.items():
        monkeypatch.setattr(this, name, value, raising=False)
    monkeypatch.setattr(this, "program", SimpleNamespace(settings=settings(), event_routes={}), raising=False)
    yield SimpleNamespace(reactor=reactor, keeper=keeper, store=rows, errors=errors)
    keeper.close()
    reactor.close()
    assert not errors


@pytest.fixture
def no_leaks(process: SimpleNamespace) -> Iterator[None]:
    """The test leaves no descriptor open and no child unreaped."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    spin(until=lambda: children.reap_left() == 0)
    children._fresh.clear()  # a sweep that this test's reactor will not make any more
    process.keeper.close()
    left = set(os.listdir("/proc/self/fd")) - before
    assert not {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in left if os.path.exists(f"/proc/self/fd/{fd}")}
    with contextlib.suppress(ChildProcessError):  # there are no children at all
        assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
