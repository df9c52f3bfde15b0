"""Module object and parameters of nathelper."""

from __future__ import annotations

import re

from opensips_py.script.declarations import ConfigError, Module
from opensips_py.script.flag_names import branch_flags

module = Module("nathelper", doc="User agents behind NAT: finding them, repairing messages, pinging (OpenSIPS module nathelper)")

_NOT_WATCHED = "answers to pings are not watched"

received_avp = module.param("received_avp", str, "", doc="AVP that fix_nated_register() sets (the same as registrar's)")
nortpproxy_str = module.param("nortpproxy_str", str, "a=nortpproxy:yes\r\n", doc="line that fix_nated_sdp() adds with flag 4")
oldip_skip = module.param(
    "oldip_skip", str, "", doc="what fix_nated_sdp() does not note: c the old media address, o the old address of the origin"
)
natping_interval = module.param("natping_interval", int, 0, doc="seconds between two pings of every contact; 0: no pings")
ping_nated_only = module.param("ping_nated_only", int, 0, doc="1: ping only contacts with usrloc's nat_bflag")
natping_tcp = module.param("natping_tcp", int, 0, doc="1: contacts over TCP get SIP pings too, if their connection is open")
natping_socket = module.param("natping_socket", str, "", doc="[proto:]host:port to ping from, instead of the contact's socket")
sipping_bflag = module.param("sipping_bflag", str, "", doc="branch flag of contacts that are pinged with a SIP request")
sipping_from = module.param("sipping_from", str, "", doc="URI in From of SIP pings")
sipping_method = module.param("sipping_method", str, "OPTIONS", doc="method of SIP pings")
force_socket = module.param("force_socket", str, "", doc="[proto:]host:port to send SIP pings from")
remove_on_timeout_bflag = module.param(
    "remove_on_timeout_bflag", str, "", doc="not supported: any value is refused, since answers to pings are not watched"
)

module.param("sipping_latency_flag", str, "", doc="flag of contacts whose latency is measured", no_effect=_NOT_WATCHED)
module.param("sipping_ignore_rpl_codes", str, "", doc="answers to pings that do not count", no_effect=_NOT_WATCHED)
module.param("ping_threshold", int, 3, doc="seconds for an answer", no_effect=_NOT_WATCHED)
module.param("max_pings_lost", int, 3, doc="pings without answer", no_effect=_NOT_WATCHED)
module.param("natping_partitions", int, 1, doc="parts of a round of pings", no_effect="a round never holds up anything else")
module.param("cluster_id", int, 0, doc="cluster", no_effect="contacts are those of one server")
module.param("cluster_sharing_tag", str, "", doc="cluster", no_effect="contacts are those of one server")

_AVP = re.compile(r"\$avp\(\s*([^()$\s]+)\s*\)").fullmatch


class AvpName:
    """Name of the AVP that ``received_avp`` names; empty: none."""

    received = ""


def sipping_mask() -> int:
    """The branch flag of SIP pings as a mask; 0: none."""
    return branch_flags.mask(sipping_bflag.value) if sipping_bflag.value else 0


@module.on_check
@module.on_config
def _configure() -> None:
    AvpName.received = ""
    if received_avp.value:
        m = _AVP(received_avp.value.strip())
        if m is None:
            raise ConfigError(f"nathelper: received_avp {received_avp.value!r} is not an AVP: write $avp(name)")
        AvpName.received = m[1]
    if natping_interval.value < 0:
        raise ConfigError(f"nathelper: natping_interval is not negative: {natping_interval.value}")
    if sipping_bflag.value and not sipping_from.value:
        raise ConfigError("nathelper: sipping_bflag needs sipping_from")
    if remove_on_timeout_bflag.value:
        raise ConfigError(f"nathelper: remove_on_timeout_bflag is not supported: {_NOT_WATCHED}")
    sipping_mask()  # names of flags get their bits before the fork
