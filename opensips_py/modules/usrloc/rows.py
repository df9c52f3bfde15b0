"""Contacts as rows of OpenSIPS' table location (version 1013)."""

from __future__ import annotations

from opensips_py import db
from opensips_py.modules.usrloc.contact import ALL_METHODS, NO_SOCKET, PERMANENT, Contact
from opensips_py.script.context import Q_UNSPECIFIED
from opensips_py.script.declarations import Module, ModuleParameter
from opensips_py.script.flag_names import branch_flags

VERSION = 1013
_MAX_CSEQ = 2**31 - 1
"""What the column has room for, in every kind of database."""
_COLUMNS = {
    "contact_id_column": "contact_id",
    "user_column": "username",
    "domain_column": "domain",
    "contact_column": "contact",
    "received_column": "received",
    "path_column": "path",
    "expires_column": "expires",
    "q_column": "q",
    "callid_column": "callid",
    "cseq_column": "cseq",
    "last_modified_column": "last_modified",
    "flags_column": "flags",
    "cflags_column": "cflags",
    "user_agent_column": "user_agent",
    "socket_column": "socket",
    "methods_column": "methods",
    "sip_instance_column": "sip_instance",
    "attr_column": "attr",
}
_parameters: list[ModuleParameter[str]] = []


def declare(module: Module) -> None:
    """Declare the parameters that name columns."""
    for parameter, column in _COLUMNS.items():
        _parameters.append(module.param(parameter, str, column, doc=f"column for {column}"))


def columns() -> list[str]:
    """The names of the columns, the contact's number first."""
    return [parameter.value for parameter in _parameters]


def parameters() -> list[ModuleParameter[str]]:
    """The parameters that name columns."""
    return _parameters


def row_of(aor: str, contact: Contact, with_domain: bool) -> dict[str, db.SqlValue]:
    """The row of a contact."""
    user, domain = _parts(aor, with_domain)
    values: tuple[db.SqlValue, ...] = (
        contact.contact_id(aor),
        user,
        domain,
        contact.uri,
        contact.received,
        contact.path,
        int(contact.expires + 0.5),
        -1.0 if contact.q == Q_UNSPECIFIED else contact.q / 1000,
        contact.call_id,
        min(contact.cseq, _MAX_CSEQ),
        db.Time(int(contact.modified)),
        contact.flags,
        branch_flags.text(contact.branch_flags),
        contact.user_agent,
        contact.socket or None,
        None if contact.methods == ALL_METHODS else contact.methods,
        None if contact.instance is None else contact.instance.strip('"'),
        contact.attributes,
    )
    return dict(zip(columns(), values, strict=True))


def contact_of(row: db.Row, with_domain: bool) -> tuple[str, Contact] | None:
    """AOR and contact of a row; None when it has not what a contact needs."""
    (
        _,
        user,
        domain,
        uri,
        received,
        path,
        expires,
        q,
        call_id,
        cseq,
        modified,
        flags,
        cflags,
        agent,
        socket,
        methods,
        instance,
        attr,
    ) = row
    if not isinstance(user, str) or not isinstance(uri, str) or not isinstance(expires, int) or not user or not uri:
        return None
    aor = f"{user}@{domain}" if with_domain and domain else user
    quality = round(q * 1000) if isinstance(q, (int, float)) and 0 <= q <= 1 else Q_UNSPECIFIED
    known = branch_flags.known(str(cflags).split()) if cflags else 0
    return aor, Contact(
        uri=uri,
        expires=PERMANENT if expires == 0 else float(expires),
        call_id=_text(call_id) or "",
        cseq=cseq if isinstance(cseq, int) else 0,
        q=quality,
        user_agent=_text(agent) or "n/a",
        received=_text(received),
        path=_text(path),
        socket=_text(socket) or NO_SOCKET,
        methods=methods if isinstance(methods, int) else ALL_METHODS,
        flags=flags if isinstance(flags, int) else 0,
        branch_flags=known or 0,
        instance=f'"{instance}"' if instance else None,
        attributes=_text(attr),
        modified=float(modified) if isinstance(modified, (int, float)) else 0.0,
    )


def _parts(aor: str, with_domain: bool) -> tuple[str, str | None]:
    if not with_domain:
        return aor, None
    user, at, domain = aor.rpartition("@")
    return (user, domain) if at else (aor, None)


def _text(cell: db.Cell) -> str | None:
    return None if cell is None or cell == "" else str(cell)
