"""The server's clock, driven by hand."""

from __future__ import annotations

import pytest

from opensips_py.server.process import this


class DrivenClock:
    """Until the end of a test it is ``now``, whoever asks; it begins where the true clock is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: float | None = None) -> None:
        self.now = this.clock.now() if now is None else now
        monkeypatch.setattr(this.clock, "now", lambda: self.now)
        monkeypatch.setattr(this.clock, "wall", lambda: self.now)
        monkeypatch.setattr(this.clock, "ticks", lambda: round(self.now * 1e9))
