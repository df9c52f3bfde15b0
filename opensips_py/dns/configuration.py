"""Which name servers are asked, and how patiently: resolv.conf, and the core parameters that go before it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from opensips_py.script.name_servers import PORT, Server, server_of
from opensips_py.script.parameters import Settings
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import this

RESOLV_CONF = "/etc/resolv.conf"
MOST_SERVERS = 3
"""Name servers taken from resolv.conf, as the C library does (MAXNS)."""
LOOK_AGAIN = 5.0
"""Seconds after which resolv.conf is looked at again."""


@dataclass(slots=True)
class Configuration:
    """How questions are asked. The defaults are those of resolv.conf(5)."""

    servers: list[Server] = field(default_factory=lambda: [("127.0.0.1", PORT)])
    search: list[str] = field(default_factory=list)
    ndots: int = 1
    """A name with fewer dots is tried in the domains of the search list first."""
    timeout: float = 5.0
    """Seconds after which the next server is asked."""
    attempts: int = 2
    """How often every server is asked."""

    def candidates(self, name: str) -> list[str]:
        """The full names that ``name`` may mean, in the order in which they are tried."""
        if name.endswith("."):
            return [name.rstrip(".")]
        inside = [f"{name}.{domain}" for domain in self.search]
        return [name, *inside] if name.count(".") >= self.ndots else [*inside, name]


def read(text: str) -> Configuration:
    """The meaning of a resolv.conf; lines that are not understood are skipped, as the C library does."""
    found = Configuration()
    servers: list[Server] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        keyword, values = words[0], words[1:]
        if keyword == "nameserver" and values and len(servers) < MOST_SERVERS:
            servers.append((values[0].partition("%")[0], PORT))
        elif keyword == "search":
            found.search = [v.strip(".").lower() for v in values if v.strip(".")]
        elif keyword == "domain" and values:
            found.search = [values[0].strip(".").lower()]
        elif keyword == "options":
            for option in values:
                _option(found, option)
    if servers:
        found.servers = servers
    return found


def _option(found: Configuration, option: str) -> None:
    name, _, value = option.partition(":")
    if not value.isdecimal():
        return
    number = int(value)
    if name == "ndots":
        found.ndots = min(number, 15)
    elif name == "timeout":
        found.timeout = float(min(max(number, 1), 30))
    elif name == "attempts":
        found.attempts = min(max(number, 1), 5)


def adapt(found: Configuration, settings: Settings) -> Configuration:
    """Apply the core parameters ``dns_servers dns_servers_no dns_retr_time dns_retr_no dns_use_search_list``."""
    if settings.dns_servers:
        found.servers = [
            server for word in settings.dns_servers.split() if (server := server_of(word)) is not None
        ] or found.servers
    if settings.dns_servers_no:
        found.servers = found.servers[: settings.dns_servers_no]
    if settings.dns_retr_time:
        found.timeout = float(settings.dns_retr_time)
    if settings.dns_retr_no:
        found.attempts = settings.dns_retr_no
    if not settings.dns_use_search_list:
        found.search = []
    return found


class Current:
    """The configuration in force. resolv.conf may change under a running server: a laptop, a container, a VPN."""

    def __init__(self) -> None:
        self._configuration: Configuration | None = None
        self._settings: Settings | None = None
        self._modified = -1.0
        self._look_at = 0.0

    def get(self) -> Configuration:
        """Read what has changed."""
        settings = this.program.settings
        now = this.clock.now()
        if self._configuration is None or settings is not self._settings or now >= self._look_at:
            self._look_at = now + LOOK_AGAIN
            try:
                modified = os.stat(RESOLV_CONF).st_mtime
            except OSError:
                modified = 0.0
            if self._configuration is None or settings is not self._settings or modified != self._modified:
                self._modified, self._settings = modified, settings
                self._configuration = self._load(settings)
        return self._configuration

    @staticmethod
    def _load(settings: Settings) -> Configuration:
        try:
            with open(RESOLV_CONF, encoding="latin-1") as file:
                found = read(file.read())
        except OSError as error:
            if not settings.dns_servers:
                log(WARNING, "core", "dns", f"{RESOLV_CONF}: {error.strerror}; asking 127.0.0.1")
            found = Configuration()
        return adapt(found, settings)
