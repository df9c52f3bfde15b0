"""Contacts as they stand once their URIs have been changed (``fix_nated_contact()``): what is saved, and compared."""

from __future__ import annotations

from opensips_py.sip.edits import apply
from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import split_values
from opensips_py.sip.message import SipMessage
from opensips_py.sip.nameaddr import NameAddr, parse_nameaddr


def located(msg: SipMessage) -> list[tuple[int, NameAddr]]:
    """Each Contact as received, with the offset of its URI in the message. ParseError when one cannot be read."""
    found = []
    for header in msg.all("contact"):
        at = header.value_start
        for value in split_values(header.value):
            address = parse_nameaddr(value)
            at = msg.text.index(value, at)
            found.append((at + value.index(address.uri, len(address.display)), address))
            at += len(value)
    return found


def current(msg: SipMessage) -> list[NameAddr]:
    """Each Contact, its URI as it will be sent. Parameters that were added after it are not seen. ParseError as above."""
    received = msg.contacts
    if not any(delete for _, delete, _ in msg.edits) or not received:
        return received
    return [_changed(msg, at, address) for at, address in located(msg)]


def _changed(msg: SipMessage, at: int, address: NameAddr) -> NameAddr:
    end = at + len(address.uri)
    inside = [edit for edit in msg.edits if edit[1] and at <= edit[0] and edit[0] + edit[1] <= end]
    if not inside:
        return address
    uri = apply(msg.text, inside, at, end)
    value = address.value
    place = value.index(address.uri, len(address.display))
    return NameAddr(value[:place] + uri + value[place + len(address.uri) :], address.display, uri, address.tail)


def current_or_none(msg: SipMessage) -> list[NameAddr]:
    """As :func:`current`; empty when a Contact cannot be read."""
    try:
        return current(msg)
    except ParseError:
        return []
