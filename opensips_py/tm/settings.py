"""Timers and choices of the transaction layer: the parameters of OpenSIPS' tm that the state machines read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Settings:
    """Seconds, unless stated otherwise. RFC 3261 names in the comments."""

    fr_timeout: float = 30.0
    """No final reply at all; also the wait for the ACK of a negative final reply (timers B, F, H)."""
    fr_inv_timeout: float = 120.0
    """An INVITE that rings (timer C)."""
    wt_timer: float = 5.0
    """How long a completed transaction absorbs retransmissions (timers I, J, L)."""
    accepted_timer: float = 32.0
    """How long an INVITE with a relayed 2xx lets further ones pass while no ACK has been seen (timer L of RFC 6026)."""
    t1: float = 0.5
    t2: float = 4.0
    restart_fr_on_each_reply: bool = True
    """Every provisional reply to an INVITE restarts fr_inv_timeout, not only the first and higher ones."""
    ruri_matching: bool = True
    """A request without the cookie of RFC 3261 belongs to a transaction only if it has its R-URI."""
    via1_matching: bool = True
    """And only if it has its top Via; one with the cookie, if it has the address in it."""
    max_reply_factor: int = 10
    """How many times as large as its request a reply may be that nobody has made certain of; 0: any size."""
    max_loops: int = 1
    """How often a request may come here in the same way before it counts as one in a loop; 0: any number of times."""
    max_breadth: int = 60
    """How many requests may be made of one that says nothing of Max-Breadth, in all (RFC 5393 5.3.3); 0: any number."""
    disable_6xx_block: bool = False
    """A 6xx is a negative reply like others."""


settings = Settings()
