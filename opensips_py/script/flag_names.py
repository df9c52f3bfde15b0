"""Named flags: each name that a script uses stands for one bit.

Names get their bits in the order in which the script is read, before the server forks, so that they mean the same in
every process. Message flags and branch flags are two sets of 32 each (OpenSIPS limit).
"""

from __future__ import annotations

from opensips_py.script.context import NAMED_FLAGS


class FlagNames:
    """The names of one set of flags."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.names: list[str] = []

    def mask(self, name: str) -> int:
        """The bit of ``name`` as a mask; ValueError when the script uses too many names."""
        if name not in self.names:
            if len(self.names) >= NAMED_FLAGS:
                raise ValueError(f"more than {NAMED_FLAGS} {self.what} flags: no room for {name!r}")
            self.names.append(name)
        return 1 << self.names.index(name)

    def known(self, names: list[str]) -> int | None:
        """The bits of names that the script uses; None when it does not use one of them.

        For names that come up while the server runs: a new one would mean something else in another process.
        """
        flags = 0
        for name in names:
            if name not in self.names:
                return None
            flags |= 1 << self.names.index(name)
        return flags

    def text(self, flags: int) -> str:
        """The names of the flags that are set, latest name first, as ``$mf`` prints them."""
        return " ".join(name for i, name in reversed(list(enumerate(self.names))) if flags >> i & 1)

    def clear(self) -> None:
        """Forget all names, before another script is read."""
        self.names.clear()


message_flags = FlagNames("message")
branch_flags = FlagNames("branch")
