"""Management commands of usrloc."""

from __future__ import annotations

from typing import Any

from ipc.store import StoreFull
from opensips_py.mi.dispatcher import Later
from opensips_py.modules.usrloc import location, tables, unwritten
from opensips_py.modules.usrloc.contact import ALL_METHODS, NO_SOCKET, PERMANENT, Contact, q_of, q_text
from opensips_py.modules.usrloc.declared import hash_size, module
from opensips_py.modules.usrloc.ordering import Contacts, TooManyAlike
from opensips_py.script.context import Q_UNSPECIFIED
from opensips_py.script.declarations import MIError
from opensips_py.script.flag_names import branch_flags
from opensips_py.server.process import this
from opensips_py.sip.uri import uri_or_none

_MI_CALL_ID = "dfjrewr12386fd6-343@opensips.mi"
"""Call-ID of contacts that a person adds, as in OpenSIPS."""


@module.mi("ul_dump", (), ("brief",))
def ul_dump(brief: str | None = None) -> dict[str, Any]:
    """All contacts of all tables; with any value of ``brief`` the addresses of record only."""
    domains: dict[str, list[dict[str, Any]]] = {table: [] for table in tables.names()}
    now = this.clock.now()
    for table, aor, contacts in location.entries():
        entry: dict[str, Any] = {"AOR": aor}
        if brief is None:
            entry["Contacts"] = _all_shown(table, aor, contacts, now)
        domains.setdefault(table, []).append(entry)
    return {"Domains": [{"name": table, "hash_size": 1 << hash_size.value, "AORs": aors} for table, aors in domains.items()]}


@module.mi("ul_show_contact", ("table_name", "aor"))
def ul_show_contact(table_name: str, aor: str) -> dict[str, Any]:
    """The contacts of one address of record."""
    _check(table_name)
    found = location.find(table_name, aor)
    if not found:
        raise MIError(404, "AOR not found")
    now = this.clock.now()
    return {"AOR": aor, "Contacts": _all_shown(table_name, aor, found, now)}


@module.mi("ul_rm", ("table_name", "aor"))
def ul_rm(table_name: str, aor: str) -> str:
    """Remove an address of record with all its contacts. OK also when there is none."""
    _check(table_name)
    location.remove(table_name, aor)
    return "OK"


@module.mi("ul_rm_contact", ("table_name", "aor", "contact"))
def ul_rm_contact(table_name: str, aor: str, contact: str) -> str:
    """Remove one contact."""
    _check(table_name)
    if not location.find(table_name, aor):
        raise MIError(404, "AOR not found")
    removed: list[Contact] = []

    def update(contacts: list[Contact]) -> list[Contact]:
        removed[:] = [one for one in contacts if one.same(contact)]
        return [one for one in contacts if not one.same(contact)]

    location.change(table_name, aor, update)
    if not removed:
        raise MIError(404, "Contact not found")
    return "OK"


@module.mi(
    "ul_add",
    ("table_name", "aor", "contact", "expires", "q", "flags", "cflags", "methods"),
    ("table_name", "aor", "contact", "expires", "q", "unsused", "flags", "cflags", "methods"),
)
def ul_add(
    table_name: str,
    aor: str,
    contact: str,
    expires: str,
    q: str,
    flags: str,
    cflags: str,
    methods: str,
    unsused: str = "",  # (the name is OpenSIPS')
) -> str:
    """Add or replace a contact. ``expires``: seconds, 0 for ever; ``q``: 0 to 1, or anything else for none; ``methods``: bits."""
    _check(table_name)
    if uri_or_none(contact) is None:
        raise MIError(400, "Invalid contact")
    seconds = _number("expires", expires)
    quality = q_of(q)
    now = this.clock.now()
    added = Contact(
        uri=contact,
        expires=PERMANENT if seconds == 0 else now + seconds,
        call_id=_MI_CALL_ID,
        cseq=1,
        q=Q_UNSPECIFIED if quality is None else quality,
        user_agent="OpenSIPS MI Server",
        socket=NO_SOCKET,
        methods=_number("methods", methods) or ALL_METHODS,
        flags=_number("flags", flags),
        branch_flags=_number("cflags", cflags),
        modified=now,
    )

    def update(found: list[Contact]) -> list[Contact]:
        contacts = Contacts(found)
        contacts.put(added)
        return contacts.in_order()

    try:
        location.change(table_name, aor, update)
    except location.AorTooLong:
        raise MIError(400, "AOR too long") from None
    except (location.TooMuch, TooManyAlike):
        raise MIError(400, "Too many contacts") from None
    except StoreFull:
        raise MIError(503, "No room for the contact") from None
    return "OK"


@module.mi("ul_flush")
def ul_flush() -> Later | str:
    """Remove what has expired and write what has changed now, instead of at the next turn of the timer."""
    tables.remove_expired()
    return _write_all()


def _write_all() -> Later | str:
    if location.Kept.by is None:
        return "OK"
    later = Later()
    unwritten.Sweep(lambda: later.done("OK"), again=True)
    return later


@module.mi("ul_sync", ("table_name",), ("table_name", "aor"))
def ul_sync(table_name: str, aor: str | None = None) -> Later | str:
    """Write into the database now what has changed; there is nothing to write when contacts are in memory only."""
    _check(table_name)
    if aor is not None and not location.find(table_name, aor):
        raise MIError(404, "AOR not found")
    if location.Kept.by is None:
        raise MIError(200, "Contacts already synced")
    return _write_all()


@module.mi("ul_cluster_sync")
def ul_cluster_sync() -> str:
    """Ask another server of the cluster for its contacts: there is no cluster."""
    raise MIError(400, "Clustering not enabled")


def _check(table: str) -> None:
    """Refuse a table that the script does not name."""
    if table not in tables.names():
        raise MIError(404, "Table not found")


def _number(name: str, value: str) -> int:
    text = value.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise MIError(400, f"Invalid {name}")
    return int(text)


def _all_shown(table: str, aor: str, contacts: list[Contact], now: float) -> list[dict[str, Any]]:
    """The contacts of one address; they are in sync when the database has them as they are."""
    in_sync = location.Kept.by is not None and not unwritten.pending(f"{table}\0{aor}".encode("latin-1"))
    state = "CS_SYNC" if in_sync else "CS_NEW"
    return [_shown(aor, contact, now, state) for contact in contacts]


def _shown(aor: str, contact: Contact, now: float, state: str) -> dict[str, Any]:
    expires: int | str = contact.remaining(now)
    if contact.expires == PERMANENT:
        expires = "permanent"
    elif not contact.valid(now):
        expires = "expired"
    shown: dict[str, Any] = {
        "Contact": contact.uri,
        "ContactID": str(contact.contact_id(aor)),
        "Expires": expires,
        "Q": "" if contact.q == Q_UNSPECIFIED else q_text(contact.q),
        "Callid": contact.call_id,
        "Cseq": contact.cseq,
        "User-agent": contact.user_agent,
    }
    if contact.received is not None:
        shown["Received"] = contact.received
    if contact.path is not None:
        shown["Path"] = contact.path
    shown |= {"State": state, "Flags": contact.flags, "Cflags": branch_flags.text(contact.branch_flags)}
    if contact.socket in this.sockets_by_name:
        shown["Socket"] = contact.socket
    shown["Methods"] = contact.methods
    if contact.attributes is not None:
        shown["Attr"] = contact.attributes
    if contact.instance is not None:
        shown["SIP_instance"] = contact.instance
    return shown
