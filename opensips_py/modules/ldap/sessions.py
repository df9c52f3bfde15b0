"""The configuration file of module ldap: an INI file, one section for each session (an LDAP service)."""

from __future__ import annotations

import configparser
from dataclasses import dataclass

PORT = 389
_TLS = ("ldap_ca_cert_file", "ldap_cert_file", "ldap_key_file")
_KNOWN = {
    "ldap_server_url",
    "ldap_version",
    "ldap_bind_dn",
    "ldap_bind_password",
    "ldap_network_timeout",
    "ldap_client_bind_timeout",
    "ldap_client_search_timeout",
    "ldap_require_certificate",
    *_TLS,
}


class SessionError(Exception):
    """The file cannot be used; the text says why."""


@dataclass(frozen=True)
class Session:
    """One section."""

    name: str
    servers: tuple[tuple[str, int, str | None], ...]
    """Host, port and None, in the order in which they are tried."""
    version: int
    bind_dn: str
    bind_password: str
    connect_seconds: float
    """For connecting and binding."""
    search_seconds: float


def read_sessions(path: str) -> list[Session]:
    """The sessions of a file. Raises SessionError."""
    parser = configparser.ConfigParser(
        interpolation=None,
        delimiters=("=",),
        comment_prefixes=("#", ";"),
        inline_comment_prefixes=(";",),
        empty_lines_in_values=False,
    )
    try:
        with open(path, encoding="latin-1") as file:
            parser.read_file(file)
    except OSError as error:
        raise SessionError(f"{path}: {error.strerror}") from None
    except configparser.Error as error:
        raise SessionError(f"{path}: {' '.join(str(error).split())}") from None
    if not parser.sections():
        raise SessionError(f"{path} has no section; a session is written [name]")
    return [_session(path, name, dict(parser[name])) for name in parser.sections()]


def _session(path: str, name: str, given: dict[str, str]) -> Session:
    where = f"{path}: [{name}]"
    values = {key: _unquoted(value) for key, value in given.items()}
    unknown = values.keys() - _KNOWN
    if unknown:
        raise SessionError(f"{where}: unknown: {', '.join(sorted(unknown))}")
    for key in _TLS:
        if values.get(key):
            raise SessionError(f"{where}: {key}: StartTLS is not supported; use a private network, and leave it out")
    if not values.get("ldap_server_url"):
        raise SessionError(f"{where}: ldap_server_url is missing")
    version = _number(where, values, "ldap_version", 3)
    if version not in (2, 3):
        raise SessionError(f"{where}: ldap_version is 2 or 3, not {version}")
    connect = _number(where, values, "ldap_network_timeout", 1000) + _number(where, values, "ldap_client_bind_timeout", 1000)
    return Session(
        name=name.lower(),
        servers=tuple(_server(where, url.strip()) for url in values["ldap_server_url"].split(",") if url.strip()),
        version=version,
        bind_dn=values.get("ldap_bind_dn", ""),
        bind_password=values.get("ldap_bind_password", ""),
        connect_seconds=connect / 1000,
        search_seconds=_number(where, values, "ldap_client_search_timeout", 5000) / 1000,
    )


def _unquoted(text: str) -> str:
    text = text.strip().removesuffix(";").strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _number(where: str, values: dict[str, str], key: str, default: int) -> int:
    text = values.get(key, "")
    if not text:
        return default
    if not text.isdecimal() or not int(text):
        raise SessionError(f"{where}: {key} is a number above 0, not {text}")
    return int(text)


def _server(where: str, url: str) -> tuple[str, int, str | None]:
    scheme, separator, rest = url.partition("://")
    if scheme.lower() != "ldap" or not separator:
        raise SessionError(f"{where}: ldap_server_url: {url} is not of the form ldap://host[:port]")
    rest = rest.rstrip("/")
    host, port = rest, str(PORT)
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port = tail.removeprefix(":") or port
    elif ":" in rest:
        host, _, port = rest.partition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SessionError(f"{where}: ldap_server_url: {url} is not of the form ldap://host[:port]")
    return host, int(port), None
