"""Parameters and statistics of module tm."""

from __future__ import annotations

import mmap

from opensips_py.script.declarations import ConfigError, Module, ModuleParameter
from opensips_py.script.flag_names import branch_flags
from opensips_py.server.process import this
from opensips_py.tm import identity, server_transaction
from opensips_py.tm.server_transaction import hooks
from opensips_py.tm.settings import settings
from opensips_py.tm.states import Ignored

module = Module("tm", doc="Transactions (OpenSIPS module tm)")

# --- parameters ------------------------------------------------------------------------------------------------------

fr_timeout = module.param("fr_timeout", int, 30, doc="seconds to wait for any final reply, and for the ACK of a negative one")
fr_inv_timeout = module.param("fr_inv_timeout", int, 120, doc="seconds to wait for it once an INVITE is answered 1xx")
DEFAULT_WT_TIMER = 5
wt_timer = module.param(
    "wt_timer",
    int,
    DEFAULT_WT_TIMER,
    doc="seconds for which a completed transaction absorbs retransmissions; unless it is set, an INVITE with a 2xx of which no "
    "ACK is seen lets that be repeated for 64 times T1_timer",
)
T1_timer = module.param("T1_timer", int, 500, doc="milliseconds to the first retransmission")
T2_timer = module.param("T2_timer", int, 4000, doc="greatest interval of retransmission in milliseconds")
restart_fr_on_each_reply = module.param(
    "restart_fr_on_each_reply", int, 1, doc="every provisional reply restarts fr_inv_timeout, not only higher ones"
)
ruri_matching = module.param(
    "ruri_matching", int, 1, doc="0: a request without the branch of RFC 3261 belongs to a transaction whatever its R-URI"
)
via1_matching = module.param(
    "via1_matching",
    int,
    1,
    doc="0: it belongs there whatever its top Via, and one with that branch whatever address stands in it",
)
auto_100trying = module.param("auto_100trying", int, 1, doc="answer an INVITE with 100 when its transaction is made")
max_loops = module.param(
    "max_loops",
    int,
    1,
    doc="how often a request may come here in the same way (R-URI, Route, tags, Call-ID, CSeq, address) before t_relay() refuses "
    "it with 482; 0: any number of times",
)
max_breadth = module.param(
    "max_breadth",
    int,
    60,
    doc="how many requests may be made of one on its way through this server, while it is forked and comes back, before "
    "t_relay() refuses it with 440 (RFC 5393; a Max-Breadth header may say less); 0: any number",
)
disable_6xx_block = module.param("disable_6xx_block", int, 0, doc="treat a 6xx like other negative replies")
minor_branch_flag = module.param("minor_branch_flag", str, "", doc="branch flag of branches that need not be waited for")
onreply_avp_mode = module.param("onreply_avp_mode", int, 0, doc="onreply routes see the AVPs of the transaction")
cancel_parked = module.param(
    "cancel_parked",
    int,
    0,
    doc="1: a CANCEL while the script is suspended ends the INVITE with 487 at once; the operation is dropped, its route runs "
    "with $rc -5",
)
pass_provisional_replies = module.param(
    "pass_provisional_replies", int, 0, doc="t_uac_dlg answers with every provisional reply too, before the final one"
)
unix_tx_timeout = module.param("unix_tx_timeout", int, 2, doc="seconds for which t_write_unix() waits until it can write")
tw_append: ModuleParameter[list[str]] = module.param(
    "tw_append", str, [], doc="``name: title=$variable; …``: lines that t_write_req() and t_write_unix() add", multiple=True
)
enable_stats = module.param("enable_stats", int, 1, doc="count transactions and replies")

module.param("delete_timer", int, 2, doc="seconds before a finished transaction is freed", no_effect="it is deleted at once")
module.param("syn_branch", int, 1, doc="form of our branch parameter", no_effect="it always names the transaction")
module.param("timer_partitions", int, 1, doc="partitions of the timer lists", no_effect="timers are rows of the shared store")
module.param("tm_replication_cluster", int, 0, doc="cluster for anycast", no_effect="there is one server")
module.param("cluster_param", str, "cid", doc="Via parameter for anycast", no_effect="there is one server")
module.param("cluster_auto_cancel", str, "yes", doc="anycast CANCEL", no_effect="there is one server")

# --- statistics ------------------------------------------------------------------------------------------------------

_received = module.statistic("received_replies", doc="replies received for transactions")
_relayed = module.statistic("relayed_replies", doc="replies passed upstream")
_local = module.statistic("local_replies", doc="replies made here")
_uas = module.statistic("UAS_transactions", doc="transactions made for received requests")
_uac = module.statistic("UAC_transactions", doc="transactions of requests made here")
_ignored = module.statistic(
    "ignored_events", doc="events that the state of their transaction does not allow: repeated or late replies, mostly"
)
_classes = {n: module.statistic(f"{n}xx_transactions", doc=f"transactions ended with {n}xx") for n in range(2, 7)}


def _in_use() -> int:
    return this.store.count(identity.PREFIX)


module.statistic("inuse_transactions", doc="transactions in the store now", gauge=_in_use)


_totals: memoryview
"""Transactions made so far, by entry of the hash table (t_hash). Shared by all processes, which are forked later."""


@module.on_config
def _begin_totals() -> None:
    global _totals
    _totals = memoryview(mmap.mmap(-1, identity.ENTRIES * 4)).cast("I")


_begin_totals()


def totals() -> list[int]:
    """Transactions made so far, by entry of the hash table."""
    return _totals.tolist()


class _Counting(server_transaction.Hooks):
    """Statistics of this module, counted where things happen."""

    # each counts as Statistic.add() does, without a call: for every message there are several

    @staticmethod
    def created(key: bytes) -> None:
        _uas.cells[_uas.index] += 1
        _totals[identity.entry(key)] += 1

    @staticmethod
    def created_here(key: bytes) -> None:
        _uac.add()
        _totals[identity.entry(key)] += 1

    @staticmethod
    def answered(code: int, local: bool) -> None:
        counter = _local if local else _relayed
        counter.cells[counter.index] += 1
        if code >= 200:
            counter = _classes[code // 100]
            counter.cells[counter.index] += 1

    @staticmethod
    def received(code: int) -> None:
        _received.cells[_received.index] += 1


@module.on_check
def _check() -> None:
    for param in (fr_timeout, fr_inv_timeout, wt_timer, T1_timer, T2_timer):
        if param.value < 1:
            raise ConfigError(f"tm: {param.name} must be at least 1, not {param.value}")
    for param in (max_loops, max_breadth):
        if param.value < 0:
            raise ConfigError(f"tm: {param.name} must be at least 0, not {param.value}")


@module.on_config
def _configure() -> None:
    settings.fr_timeout = float(fr_timeout.value)
    settings.fr_inv_timeout = float(fr_inv_timeout.value)
    settings.wt_timer = float(wt_timer.value)
    settings.t1 = T1_timer.value / 1000
    settings.accepted_timer = 64 * settings.t1 if wt_timer.value == DEFAULT_WT_TIMER else settings.wt_timer
    settings.t2 = T2_timer.value / 1000
    settings.restart_fr_on_each_reply = bool(restart_fr_on_each_reply.value)
    settings.ruri_matching = bool(ruri_matching.value)
    settings.via1_matching = bool(via1_matching.value)
    settings.max_loops = max_loops.value
    settings.max_breadth = max_breadth.value
    settings.disable_6xx_block = bool(disable_6xx_block.value)
    hooks.auto_100trying = bool(auto_100trying.value)
    hooks.cancel_parked = bool(cancel_parked.value)
    hooks.minor_branch_flag = branch_flags.mask(minor_branch_flag.value) if minor_branch_flag.value else 0
    hooks.keep_avps_for_replies = bool(onreply_avp_mode.value)
    if enable_stats.value:
        hooks.created, hooks.created_here = _Counting.created, _Counting.created_here  # type: ignore[method-assign]
        hooks.answered, hooks.received = _Counting.answered, _Counting.received  # type: ignore[method-assign]
        Ignored.count = staticmethod(lambda event: _ignored.add())
