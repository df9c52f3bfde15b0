"""nat_uac_test(): whether the user agent that has sent a message is behind NAT."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, ip_address
from typing import Annotated

from opensips_py.modules.nathelper.declared import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, L, O, R
from opensips_py.script.flag_words import FlagWord, FlagWords
from opensips_py.sip.contact_edits import current_or_none
from opensips_py.sip.message import SipMessage
from opensips_py.sip.remembered import remembered
from opensips_py.sip.uri import Uri, uri_or_none

CONTACT_PRIVATE, VIA_ADDRESS, VIA_PRIVATE, SDP_PRIVATE, VIA_PORT, CONTACT_ADDRESS, CONTACT_PORT = (1 << i for i in range(7))
"""The tests of nat_uac_test()."""
CARRIER_GRADE = 128
TESTS = FlagWords(
    FlagWord("private-contact", CONTACT_PRIVATE, "Contact has a private address (RFC 1918, RFC 6598)"),
    FlagWord("diff-ip-src-via", VIA_ADDRESS, "Via has another address than the message came from"),
    FlagWord("private-via", VIA_PRIVATE, "Via has a private address"),
    FlagWord("private-sdp", SDP_PRIVATE, "SDP has a private address"),
    FlagWord("diff-port-src-via", VIA_PORT, "Via has another port than the message came from"),
    FlagWord("diff-ip-src-contact", CONTACT_ADDRESS, "Contact has another address than the message came from"),
    FlagWord("diff-port-src-contact", CONTACT_PORT, "Contact has another port than the message came from"),
    FlagWord("carrier-grade-nat", CARRIER_GRADE, "addresses of RFC 6333 count as private too"),
)

_PRIVATE = [IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]
"""RFC 1918, and RFC 6598 (carrier-grade NAT)."""
_DUAL_STACK_LITE = IPv4Network("192.0.0.0/29")
"""RFC 6333 5.7."""
_CONNECTION = re.compile(r"^c=IN IP[46] ([^\s/]+)", re.MULTILINE).findall


@remembered
def is_private(host: str) -> bool:
    """Whether ``host`` is an IPv4 address that is not routed in the Internet. Names and IPv6 addresses are not."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.version == 4 and any(address in net for net in _PRIVATE)


@remembered
def is_carrier_grade(host: str) -> bool:
    """Whether ``host`` is an IPv4 address between a DS-Lite client and its carrier (RFC 6333 5.7)."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.version == 4 and address in _DUAL_STACK_LITE


def _inside(host: str, tests: int) -> bool:
    return is_private(host) or (tests & CARRIER_GRADE != 0 and is_carrier_grade(host))


@module.function(routes=R | O | F | B | L)
def nat_uac_test(ctx: Context, tests: Annotated[int, "mask", TESTS]) -> int:
    """Whether one of the tests finds signs of NAT: 1 yes, -1 no."""
    msg, source = ctx.msg, ctx.source
    via = msg.via
    host = via.host.strip("[]")
    if tests & VIA_PORT and (via.port or 5060) != source.port:
        return 1
    if tests & VIA_ADDRESS and host != source.ip:
        return 1
    if tests & VIA_PRIVATE and _inside(host, tests):
        return 1
    if tests & (CONTACT_PRIVATE | CONTACT_ADDRESS | CONTACT_PORT):
        uri = _contact(msg)
        if uri is not None and uri.address is not None:
            if tests & CONTACT_PRIVATE and _inside(uri.address, tests):
                return 1
            if tests & CONTACT_ADDRESS and uri.address != source.ip:
                return 1
            if tests & CONTACT_PORT and uri.effective_port != source.port:
                return 1
    if tests & SDP_PRIVATE and any(_inside(address, tests) for address in _CONNECTION(msg.body)):
        return 1
    return -1


def _contact(msg: SipMessage) -> Uri | None:
    contacts = current_or_none(msg)
    return uri_or_none(contacts[0].uri) if contacts else None
