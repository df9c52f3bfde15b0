"""The events of usrloc: contacts and addresses of record that come, change and go."""

from __future__ import annotations

from opensips_py.evi import events
from opensips_py.modules.usrloc.contact import PERMANENT, Contact
from opensips_py.modules.usrloc.ordering import Contacts
from opensips_py.script.declarations import Event
from opensips_py.server.process import this

_AOR = ("domain", "aor")
_CONTACT = (
    *("domain", "aor", "uri", "received", "path", "qval", "user_agent", "socket", "bflags", "expires", "callid", "cseq"),
    *("attr", "latency", "shtag"),
)
AOR_INSERT = Event("E_UL_AOR_INSERT", _AOR, "usrloc", "when an address of record gets its first contact")
AOR_DELETE = Event("E_UL_AOR_DELETE", _AOR, "usrloc", "when an address of record has lost its last contact")
CONTACT_INSERT = Event("E_UL_CONTACT_INSERT", _CONTACT, "usrloc", "when a contact is registered anew")
CONTACT_UPDATE = Event("E_UL_CONTACT_UPDATE", _CONTACT, "usrloc", "when a contact is registered again")
CONTACT_DELETE = Event("E_UL_CONTACT_DELETE", _CONTACT, "usrloc", "when a contact is removed, or has been found to have expired")
ALL = (AOR_INSERT, AOR_DELETE, CONTACT_INSERT, CONTACT_UPDATE, CONTACT_DELETE)


def wanted() -> bool:
    """Whether anybody wants to know of any of them."""
    return any(events.wanted(event.name) for event in ALL)


def raise_for(table: str, aor: str, before: list[Contact], after: list[Contact]) -> None:
    """Raise what has happened to the contacts of an address of record."""
    if not before and after:
        _raise_aor(AOR_INSERT, table, aor)
    left, there = set(map(id, after)), set(map(id, before))  # what has not changed is the same object
    gone = Contacts(contact for contact in before if id(contact) not in left)
    for contact in after:
        if id(contact) in there:
            continue
        known = gone.first(contact.uri) is not None
        gone.remove(contact.uri)
        _raise(CONTACT_UPDATE if known else CONTACT_INSERT, table, aor, contact)
    for contact in gone.in_order():
        _raise(CONTACT_DELETE, table, aor, contact)
    if before and not after:
        _raise_aor(AOR_DELETE, table, aor)


def _raise_aor(event: Event, table: str, aor: str) -> None:
    if events.wanted(event.name):
        events.raise_event(event.name, [("domain", table), ("aor", aor)])


def _raise(event: Event, table: str, aor: str, contact: Contact) -> None:
    if not events.wanted(event.name):
        return
    socket = this.sockets_by_name.get(contact.socket)
    host = "" if socket is None else f"[{socket.host}]" if ":" in socket.host else socket.host
    until = 0 if contact.expires == PERMANENT else int(contact.expires + 0.5)
    values: tuple[str | int, ...] = (
        table,
        aor,
        contact.uri,
        contact.received or "",
        contact.path or "",
        contact.q,
        contact.user_agent,
        "" if socket is None else f"{socket.proto}:{host}:{socket.port}",
        contact.branch_flags,
        until,
        contact.call_id,
        contact.cseq,
        contact.attributes or "",
        0,  # no round trip of a ping is measured
        "",  # there is no cluster to share with
    )
    events.raise_event(event.name, list(zip(_CONTACT, values, strict=True)))
