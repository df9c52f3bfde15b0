"""DNS messages: a question to bytes, a response to an answer. No sockets, no clock.

Responses are believed only when they repeat the random identifier and the question (RFC 5452 section 9); that they come from
the server that was asked is the socket's part.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.NAPTR
import dns.rdtypes.IN.SRV

from opensips_py.dns.records import Answer, Naptr, Question, Record, Srv, Status, first_choices

PAYLOAD = 1232
"""Largest response over UDP that is asked for (EDNS; the size that does not fragment, DNS flag day 2020)."""
LONGEST = 86_400.0
"""Seconds after which every answer is asked for again."""
LONGEST_NEGATIVE = 900.0
"""Seconds for which the absence of records is believed at most (RFC 2308 5 recommends one to three hours at most)."""
NO_SOA = 5.0
"""Seconds for which a negative answer without SOA is kept (RFC 2308 5 would not keep it)."""
SHORTEST = 1.0
"""A record with a TTL of 0 is for the transaction in progress (RFC 1035 3.2.1): those that wait now."""


class Unusable(Exception):
    """The question cannot be asked: its name is not a domain name."""


class Query(NamedTuple):
    """A question on its way."""

    question: Question
    message: dns.message.QueryMessage
    data: bytes


class Outcome(NamedTuple):
    """What a response says."""

    answer: Answer | None
    """None: this server cannot answer, the next one may."""
    truncated: bool = False
    """It did not fit: ask again over TCP (RFC 1035 4.2.1)."""
    without_edns: bool = False
    """The server does not know EDNS (RFC 6891 7): ask again without."""


def query(question: Question, edns: bool = True) -> Query:
    """A question with a random identifier. Raises :class:`Unusable`."""
    try:
        name = dns.name.from_text(question.name, dns.name.root)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise Unusable(f"{question.name!r} is not a domain name") from error
    message = dns.message.make_query(
        name,
        question.type,
        use_edns=0 if edns else False,
        payload=PAYLOAD,
        id=secrets.randbelow(65536),
    )
    return Query(question, message, message.to_wire())


def read(asked: Query, data: bytes) -> Outcome | None:
    """What ``data`` says to a question; None when it is not a response to it."""
    try:
        response = dns.message.from_wire(data, ignore_trailing=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError):
        return None
    if not asked.message.is_response(response) or not (response.question or response.rcode()):
        return None
    code = response.rcode()
    if response.flags & dns.flags.TC:
        return Outcome(None, truncated=True)
    if code == dns.rcode.FORMERR and asked.message.edns >= 0:
        return Outcome(None, without_edns=True)
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not isinstance(response, dns.message.QueryMessage):
        return Outcome(None)
    try:
        found = response.resolve_chaining()
    except dns.exception.DNSException:
        return Outcome(None)
    if found.answer is None:
        status = Status.NO_NAME if code == dns.rcode.NXDOMAIN else Status.NO_DATA
        return Outcome(Answer(status, (), _negative_seconds(response, found.minimum_ttl)))
    records = first_choices(_record(rdata) for rdata in found.answer)
    return Outcome(Answer(Status.FOUND, records, min(max(found.minimum_ttl, SHORTEST), LONGEST)))


def _negative_seconds(response: dns.message.Message, minimum_ttl: int) -> float:
    """RFC 2308 5: the TTL of the SOA or its minimum field, whichever is less."""
    if not any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority):
        return NO_SOA
    return min(max(minimum_ttl, SHORTEST), LONGEST_NEGATIVE)


def _record(rdata: object) -> Record:
    if isinstance(rdata, dns.rdtypes.IN.SRV.SRV):
        return Srv(rdata.priority, rdata.weight, rdata.port, _text(rdata.target))
    if isinstance(rdata, dns.rdtypes.IN.NAPTR.NAPTR):
        flags, service = rdata.flags.decode("latin-1"), rdata.service.decode("latin-1")
        return Naptr(rdata.order, rdata.preference, flags, service, _text(rdata.replacement))
    if isinstance(rdata, dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA):
        return str(rdata.address)
    raise TypeError(f"{type(rdata).__name__} is not asked for")


def _text(name: dns.name.Name) -> str:
    """A name in lower case without its final dot; empty for the root."""
    return name.to_text(omit_final_dot=True).lower() if len(name) > 1 else ""
