"""``opensips-py-db COMMAND … URL``: make the tables of OpenSIPS 3.1 in a database, and put accounts and the like into them.

Every command may be run twice: what is there already stays as it is. Exit status: 0 done, 1 the database refuses or is not as it
should be, 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import ipaddress
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from opensips_py import db
from opensips_py.db import tables
from opensips_py.modules import db_mysql, db_postgres, db_sqlite
from opensips_py.sip.uri import uri_or_none

DONE, REFUSED = 0, 1
ENVIRONMENT = "OPENSIPS_PY_DB"
_URL = f"mysql://user:password@host/database, postgres://…, sqlite:///path/to/file; default: environment variable {ENVIRONMENT}"
_KINDS = (db_mysql, db_postgres, db_sqlite)
"""Imported for the kinds of databases that they bring."""


class Refused(Exception):
    """The command cannot be carried out; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    options = parser.parse_args([os.fsencode(text).decode("latin-1") for text in given])
    if options.url is None:
        parser.error(f"which database? Its URL is missing, and so is the environment variable {ENVIRONMENT}")
    try:
        database = db.open(options.url)
        try:
            options.run(database, options)
        except db.DatabaseError as error:
            raise Refused(f"{database.name}: {error}") from None
    except (db.StatementError, Refused, ValueError) as error:
        _say(f"opensips-py-db: {error}", sys.stderr)
        return REFUSED
    return DONE


def _say(text: str, to: TextIO | None = None) -> None:
    """Texts have one character per byte here, as everywhere in the server."""
    print(text.encode("latin-1", "replace").decode("utf-8", "replace"), file=to or sys.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="opensips-py-db",
        description="Make the tables of OpenSIPS 3.1 in a database, and put accounts and the like into them.",
        epilog="Example: opensips-py-db create sqlite:///var/lib/opensips/opensips.db",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[db.Database, argparse.Namespace], None], help: str, *what: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        for positional in what:
            made.add_argument(positional.lower(), metavar=positional)
        made.add_argument("url", metavar="URL", nargs="?", default=os.environ.get(ENVIRONMENT), help=_URL)
        made.set_defaults(run=run)
        return made

    _with_tables(command("create", _create, "make the database, if need be, and its tables"))
    dropping = _with_tables(command("drop", _drop, "remove the tables with everything in them"))
    dropping.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _with_tables(command("check", _check, "look whether the tables are those of OpenSIPS 3.1"))
    _with_password(command("add-user", _add_user, "add an account to table subscriber", "USER@DOMAIN"))
    _with_password(command("passwd", _passwd, "change the password of an account", "USER@DOMAIN"))
    command("rm-user", _rm_user, "remove an account", "USER@DOMAIN")
    address = command("add-address", _add_address, "add an address to table address (permissions)", "IP[/MASK]")
    address.add_argument("-g", "--group", type=int, default=1, help="group (default %(default)s)")
    address.add_argument("-p", "--port", type=int, default=0, help="port; 0: any (default)")
    address.add_argument("--proto", default="any", choices=("any", "udp", "tcp", "tls", "sctp", "ws", "wss", "none"))
    address.add_argument("--pattern", help="shell pattern for the third argument of check_address()")
    address.add_argument("--info", help="what the script gets (context_info)")
    gateway = command("add-gateway", _add_gateway, "add a gateway to table dr_gateways (drouting)", "GWID", "ADDRESS")
    gateway.add_argument("--type", type=int, default=0)
    gateway.add_argument("--strip", type=int, default=0, help="digits to take away")
    gateway.add_argument("--prefix", help="digits to put in front")
    gateway.add_argument("--attrs")
    gateway.add_argument("--probe-mode", type=int, default=0, choices=(0, 1, 2))
    gateway.add_argument("--description")
    domain = command("add-domain", _add_domain, "add a domain to table domain", "DOMAIN")
    domain.add_argument("--attrs")
    command("add-alias", _add_alias, "add an alias to table dbaliases (alias_db)", "ALIAS@DOMAIN", "USER@DOMAIN")
    destination = command("add-destination", _add_destination, "add a destination to table dispatcher", "SETID", "URI")
    destination.add_argument("--weight", default="1")
    destination.add_argument("--priority", type=int, default=0)
    destination.add_argument("--attrs", default="")
    destination.add_argument("--description", default="")
    return parser


def _with_tables(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument(
        "-t", "--table", action="append", choices=sorted(tables.tables()), metavar="TABLE", help="only this table"
    )
    return command


def _with_password(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-p", "--password", help="the password; without this option it is asked for, or read from standard input"
    )
    command.add_argument(
        "--plain", action="store_true", help="keep the password itself too, for modules that need it (calculate_ha1)"
    )


# --- tables -------------------------------------------------------------------------------------------------------------


def _wanted(options: argparse.Namespace) -> list[str]:
    return options.table or list(tables.tables())


def _create(database: db.Database, options: argparse.Namespace) -> None:
    database.create()
    made = tables.create(database, _wanted(options))
    _say(f"{database.name}: {len(made)} tables made" if made else f"{database.name}: all tables are there")


def _drop(database: db.Database, options: argparse.Namespace) -> None:
    if not options.yes:
        answer = input(f"Remove {len(_wanted(options))} tables of {database.name} with everything in them? Type yes: ")
        if answer.strip() != "yes":
            raise Refused("nothing was removed")
    _say(f"{database.name}: {len(tables.drop(database, _wanted(options)))} tables removed")


def _check(database: db.Database, options: argparse.Namespace) -> None:
    faults = tables.faults(database, _wanted(options))
    for line in faults:
        _say(line)
    if faults:
        raise Refused(f"{database.name}: {len(faults)} faults; create makes what is missing")
    _say(f"{database.name}: all tables are as they should be")


# --- accounts -----------------------------------------------------------------------------------------------------------


def _account(text: str) -> tuple[str, str]:
    """User and domain."""
    user, at, domain = text.partition("@")
    uri = uri_or_none(f"sip:{text}")
    if not at or not user or uri is None or uri.user != user or uri.host != domain or ":" in user:
        raise Refused(f"[{text}] is not an account, which has the form user@domain")
    return user, domain.lower()


def _password(options: argparse.Namespace) -> str:
    password = options.password
    if password is None:
        password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise Refused("the password is empty")
    if options.plain and len(os.fsencode(password)) > 25:
        raise Refused("a password that is kept as it is may have 25 characters (column password)")
    return os.fsencode(password).decode("latin-1")


def _secrets(user: str, domain: str, password: str, plain: bool) -> dict[str, db.SqlValue]:
    """The columns by which a password is checked: for ``user`` and for ``user@domain`` as the name in the credentials."""

    def ha1(name: str) -> str:
        return hashlib.md5(f"{name}:{domain}:{password}".encode("latin-1"), usedforsecurity=False).hexdigest()

    return {"password": password if plain else "", "ha1": ha1(user), "ha1b": ha1(f"{user}@{domain}")}


def _there(database: db.Database, table: str, row: dict[str, db.SqlValue]) -> bool:
    return bool(database.read(db.select([next(iter(row))], table, row, limit=1)).rows)


def _add(database: db.Database, table: str, key: dict[str, db.SqlValue], rest: dict[str, db.SqlValue], what: str) -> None:
    if _there(database, table, key):
        _say(f"{what} is there already")
        return
    database.read(db.insert(table, {**key, **rest}))
    _say(f"{what} added")


def _add_user(database: db.Database, options: argparse.Namespace) -> None:
    user, domain = _account(getattr(options, "user@domain"))
    key: dict[str, db.SqlValue] = {"username": user, "domain": domain}
    if _there(database, "subscriber", key):
        _say(f"{user}@{domain} is there already; passwd changes its password")
        return
    _add(database, "subscriber", key, _secrets(user, domain, _password(options), options.plain), f"{user}@{domain}")


def _passwd(database: db.Database, options: argparse.Namespace) -> None:
    user, domain = _account(getattr(options, "user@domain"))
    key: dict[str, db.SqlValue] = {"username": user, "domain": domain}
    if not _there(database, "subscriber", key):
        raise Refused(f"there is no account {user}@{domain}; add-user makes it")
    database.read(db.update("subscriber", _secrets(user, domain, _password(options), options.plain), key))
    _say(f"{user}@{domain}: password changed")


def _rm_user(database: db.Database, options: argparse.Namespace) -> None:
    user, domain = _account(getattr(options, "user@domain"))
    key: dict[str, db.SqlValue] = {"username": user, "domain": domain}
    if not _there(database, "subscriber", key):
        _say(f"there is no account {user}@{domain}")
        return
    database.read(db.delete("subscriber", key))
    _say(f"{user}@{domain} removed")


# --- routing ------------------------------------------------------------------------------------------------------------


def _add_address(database: db.Database, options: argparse.Namespace) -> None:
    network = ipaddress.ip_interface(getattr(options, "ip[/mask]"))
    if not 0 <= options.port <= 65535:
        raise Refused(f"[{options.port}] is not a port")
    key: dict[str, db.SqlValue] = {
        "grp": options.group,
        "ip": str(network.ip),
        "mask": network.network.prefixlen,
        "port": options.port,
        "proto": options.proto,
    }
    _add(database, "address", key, {"pattern": options.pattern, "context_info": options.info}, f"address {network}")


def _add_gateway(database: db.Database, options: argparse.Namespace) -> None:
    if uri_or_none(options.address if options.address.startswith(("sip:", "sips:")) else f"sip:{options.address}") is None:
        raise Refused(f"[{options.address}] is not the address of a gateway: host[:port], or a SIP URI")
    row: dict[str, db.SqlValue] = {
        "type": options.type,
        "address": options.address,
        "strip": options.strip,
        "pri_prefix": options.prefix,
        "attrs": options.attrs,
        "probe_mode": options.probe_mode,
        "description": options.description,
    }
    _add(database, "dr_gateways", {"gwid": options.gwid}, row, f"gateway {options.gwid}")


def _add_domain(database: db.Database, options: argparse.Namespace) -> None:
    uri = uri_or_none(f"sip:{options.domain}")
    if uri is None or uri.host != options.domain:
        raise Refused(f"[{options.domain}] is not a domain")
    _add(database, "domain", {"domain": options.domain.lower()}, {"attrs": options.attrs}, f"domain {options.domain.lower()}")


def _add_alias(database: db.Database, options: argparse.Namespace) -> None:
    alias, alias_domain = _account(getattr(options, "alias@domain"))
    user, domain = _account(getattr(options, "user@domain"))
    key: dict[str, db.SqlValue] = {"alias_username": alias, "alias_domain": alias_domain}
    _add(database, "dbaliases", key, {"username": user, "domain": domain}, f"alias {alias}@{alias_domain}")


def _add_destination(database: db.Database, options: argparse.Namespace) -> None:
    if not options.setid.isdecimal() or not options.uri.startswith(("sip:", "sips:")) or uri_or_none(options.uri) is None:
        raise Refused("a destination has the number of its set and a SIP URI: add-destination 1 sip:192.0.2.1")
    rest: dict[str, db.SqlValue] = {
        "weight": options.weight,
        "priority": options.priority,
        "attrs": options.attrs,
        "description": options.description,
    }
    key: dict[str, db.SqlValue] = {"setid": int(options.setid), "destination": options.uri}
    _add(database, "dispatcher", key, rest, f"destination {options.uri}")


if __name__ == "__main__":
    raise SystemExit(main())
