"""Module object, parameters and statistics of registrar."""

from __future__ import annotations

import re

from opensips_py.modules.usrloc.declared import use_domain
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError, Module
from opensips_py.script.flag_names import message_flags
from opensips_py.sip.uri import unescape, uri_or_none

module = Module("registrar", doc="REGISTER requests, and finding users (OpenSIPS module registrar)", depends=("usrloc",))

UNSET = -1

default_expires = module.param("default_expires", int, 3600, doc="seconds that a contact lasts when the request does not say")
min_expires = module.param("min_expires", int, 60, doc="a contact lasts at least so many seconds; 0: no limit")
max_expires = module.param("max_expires", int, 0, doc="a contact lasts at most so many seconds; 0: no limit")
default_q = module.param("default_q", int, UNSET, doc="q of contacts that have none, in thousandths; -1: they have none")
max_contacts = module.param(
    "max_contacts",
    int,
    50,
    doc="contacts that a user may have (OpenSIPS: 0); 0: as many as usrloc's max_aor_size has room for",
)
case_sensitive = module.param("case_sensitive", int, 1, doc="letters' case matters in addresses of record")
realm_prefix = module.param("realm_prefix", str, "", doc="what is taken off the front of domains (with usrloc's use_domain)")
received_param = module.param("received_param", str, "received", doc="parameter of Contact that names where it has come from")
received_avp = module.param("received_avp", str, "", doc="AVP that holds the URI of the address that the REGISTER came from")
attr_avp = module.param("attr_avp", str, "", doc="AVP of text that is kept with a contact and given back by lookup()")
sock_hdr_name = module.param("sock_hdr_name", str, "", doc="header that names the receiving socket (save() with flag s)")
max_username_len = module.param("max_username_len", int, 64, doc="longest user of an address of record")
max_domain_len = module.param("max_domain_len", int, 64, doc="longest domain of an address of record")
max_aor_len = module.param("max_aor_len", int, 256, doc="longest address of record")
max_contact_len = module.param("max_contact_len", int, 255, doc="longest URI of a contact")
retry_after = module.param("retry_after", int, 0, doc="seconds in the Retry-After of 5xx replies; 0: none")
tcp_persistent_flag = module.param(
    "tcp_persistent_flag", str, "", doc="message flag: a REGISTER keeps its connection open for as long as its contact lasts"
)
disable_gruu = module.param("disable_gruu", int, 1, doc="1: GRUUs (RFC 5627) are not handed out")

_NO_PUSH = "nothing wakes phones by push notifications (RFC 8599) yet"
module.param("pn_enable", int, 0, doc="1: push notifications", not_yet=_NO_PUSH)
module.param("pn_enable_purr", int, 0, doc="1: push notifications inside dialogs", not_yet=_NO_PUSH)
for _name, _unset in (("pn_providers", ""), ("pn_ct_match_params", "pn-provider, pn-prid, pn-param")):
    module.param(_name, str, _unset, doc="push notifications", no_effect=_NO_PUSH)
for _name in ("pn_pnsreg_interval", "pn_trigger_interval", "pn_skip_pn_interval", "pn_refresh_timeout"):
    module.param(_name, int, UNSET, doc="seconds of push notifications", no_effect=_NO_PUSH)

module.param("gruu_secret", str, "", doc="secret of temporary GRUUs", no_effect="GRUUs are not handed out")
module.param("mcontact_avp", str, "", doc="AVP of a forwarded REGISTER's binding", no_effect="save() reads the reply's Contact")

accepted = module.statistic("accepted_regs", doc="registrations accepted")
rejected = module.statistic("rejected_regs", doc="registrations refused")
module.statistic("max_expires", doc="value of the parameter", gauge=lambda: max_expires.value)
module.statistic("max_contacts", doc="value of the parameter", gauge=lambda: max_contacts.value)
module.statistic("default_expire", doc="value of the parameter", gauge=lambda: default_expires.value)

_AVP = re.compile(r"\$avp\(\s*([^()$\s]+)\s*\)").fullmatch


def persistent_mask() -> int:
    """The flag of registrations that keep their connection, as a mask; 0: none."""
    return message_flags.mask(tcp_persistent_flag.value) if tcp_persistent_flag.value else 0


class AvpNames:
    """Names of the AVPs that the parameters name; empty: none."""

    received = ""
    attributes = ""


@module.on_check
@module.on_config
def _configure() -> None:
    AvpNames.received = _avp_name("received_avp", received_avp.value)
    AvpNames.attributes = _avp_name("attr_avp", attr_avp.value)
    persistent_mask()  # names of flags get their bits before the fork
    if not disable_gruu.value:
        raise ConfigError("registrar: disable_gruu 0 is not supported: GRUUs are not handed out")
    if not UNSET <= default_q.value <= 1000:
        raise ConfigError(f"registrar: default_q is a number from 0 to 1000, not {default_q.value}")
    if 0 < max_expires.value < min_expires.value:
        raise ConfigError(f"registrar: max_expires ({max_expires.value}) is below min_expires ({min_expires.value})")
    for param in (default_expires, min_expires, max_expires, max_contacts, retry_after):
        if param.value < 0:
            raise ConfigError(f"registrar: {param.name} is not negative: {param.value}")


def _avp_name(parameter: str, text: str) -> str:
    if not text:
        return ""
    m = _AVP(text.strip())
    if m is None:
        raise ConfigError(f"registrar: {parameter} {text!r} is not an AVP: write $avp(name)")
    return m[1]


def aor_of(uri: str) -> str | None:
    """The address of record that a URI means: its user, with usrloc's ``use_domain`` user@domain; None when it has none."""
    parts = uri_or_none(uri)
    if parts is None or parts.user is None:
        return None
    aor = unescape(parts.user)
    if use_domain.value and parts.host is not None:
        domain = parts.host.lower()
        prefix = realm_prefix.value
        aor = f"{aor}@{domain[len(prefix) :] if prefix and domain.startswith(prefix) else domain}"
    return aor if case_sensitive.value else aor.lower()


def registered_uri(ctx: Context) -> str | None:
    """The URI that a request is about, for functions that take no AOR: To of a REGISTER, From of anything else."""
    address = ctx.msg.to if ctx.msg.method == "REGISTER" else ctx.msg.from_
    return None if address is None else address.uri
