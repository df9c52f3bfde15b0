"""Which branch's final reply goes upstream (RFC 3261 16.7 step 6, in the order of OpenSIPS' tm)."""

from __future__ import annotations

from collections.abc import Sequence

from opensips_py.tm.record import MINOR, PHONY, UacBranch
from opensips_py.tm.states import Uac

SEND_FAILED = 477
"""Status of a branch that could not be sent."""

_SPECIAL = {401: 500, 407: 501, 415: 502, 420: 503, 484: 504, 408: 800, 503: 801, SEND_FAILED: 802}


def priority(code: int, cancelled: bool) -> int:
    """Lowest wins. ``cancelled``: the caller has cancelled, so that a 487 is the answer."""
    if cancelled and code == 487:
        return 0
    if code >= 600:
        return code - 300
    special = _SPECIAL.get(code)
    if special is not None:
        return special
    if code < 400:
        return code + 100
    return code + 200


def pending(branch: UacBranch) -> bool:
    """Whether a final reply is still to come on this branch."""
    return branch.state < Uac.COMPLETED


def pick(branches: Sequence[UacBranch], cancelled: bool, first: int = 0) -> int | None:
    """Number of the winning branch from ``first`` on, the first one on ties; None while one that counts is pending.

    Pending branches with the minor flag are not waited for, unless nothing else has answered. A branch that only waits for others
    counts wherever it stands, but not once the caller has cancelled.
    """
    best: int | None = None
    best_priority = 0
    held = False
    for n, branch in enumerate(branches):
        unfinished = branch.state < Uac.COMPLETED
        if unfinished and branch.flags & PHONY:
            if cancelled:
                continue
            return None
        if n < first:
            continue
        if unfinished:
            if not branch.flags & MINOR:
                return None
            held = True
            continue
        if branch.code < 300:
            continue
        p = priority(branch.code, cancelled)
        if best is None or p < best_priority:
            best, best_priority = n, p
    return None if best is None and held else best
