"""What a server holds, seen from outside, and the modules of scripts that wait."""

from __future__ import annotations

from scripts.testbed.observing import (
    PER_MESSAGE,
    assert_nothing_is_left,
    descriptors,
    parked,
    programs,
    rows,
    run_directory,
    wait_parked,
)

MODULES = """
loadmodule "sl.so"
loadmodule "tm.so"
modparam("tm", "wt_timer", 1)
loadmodule "sipmsgops.so"
loadmodule "cfgutils.so"
loadmodule "exec.so"
loadmodule "db_mysql.so"
loadmodule "avpops.so"
loadmodule "rest_client.so"
"""

__all__ = [
    "MODULES",
    "PER_MESSAGE",
    "assert_nothing_is_left",
    "descriptors",
    "parked",
    "programs",
    "rows",
    "run_directory",
    "wait_parked",
]
