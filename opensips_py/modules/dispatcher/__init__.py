"""Requests to one destination of a set, by hashes, in turn, by load, and to the next one when it fails (OpenSIPS dispatcher).

The destinations are rows of a table that every process keeps in memory (:mod:`~opensips_py.modules.dispatcher.sets`). What
changes while the server runs, their states, hits and whose turn it is, stands in the shared store
(:mod:`~opensips_py.modules.dispatcher.live`). The destinations that remain for a request are AVPs, so that any process can
go on with them (:mod:`~opensips_py.modules.dispatcher.failover`).
"""

from __future__ import annotations

from opensips_py.modules.dispatcher import asking, failover, management, probes, selecting  # noqa: F401  (declare themselves)
from opensips_py.modules.dispatcher.declared import module

__all__ = ["module"]
