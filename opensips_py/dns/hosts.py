"""/etc/hosts (hosts(5)): it goes before the DNS, and is read again when it has changed."""

from __future__ import annotations

import os
import socket

from opensips_py.server.process import this

HOSTS = "/etc/hosts"
LOOK_AGAIN = 1.0
"""Seconds after which it is looked at again."""


class Hosts:
    """The table of one process."""

    def __init__(self, path: str = HOSTS) -> None:
        self._path = path
        self._names: dict[str, dict[str, tuple[str, ...]]] = {}
        self._seen: tuple[float, int] | None = None
        self._look_at = 0.0

    def addresses(self, name: str, type: str) -> tuple[str, ...] | None:
        """Addresses of ``type`` in the order of the file; empty when it has only others; None: not in the file.

        A name in it has nothing else: whoever writes it there wants that address, whatever SRV or NAPTR records say.
        """
        now = this.clock.now()
        if now >= self._look_at:
            self._look_at = now + LOOK_AGAIN
            self._look()
        found = self._names.get(name)
        return None if found is None else found.get(type, ())

    def _look(self) -> None:
        try:
            status = os.stat(self._path)
            seen = (status.st_mtime, status.st_size)
            if seen == self._seen:
                return
            with open(self._path, encoding="latin-1") as file:
                self._names = read(file.read())
            self._seen = seen
        except OSError:  # no such file: no names
            self._names, self._seen = {}, None


def read(text: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Names in lower case with their addresses by type."""
    names: dict[str, dict[str, tuple[str, ...]]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        type = _type(words[0])
        if type is None:
            continue
        for word in words[1:]:
            of_name = names.setdefault(word.lower().rstrip("."), {})
            if words[0] not in of_name.get(type, ()):
                of_name[type] = (*of_name.get(type, ()), words[0])
    return names


def _type(address: str) -> str | None:
    for family, type in ((socket.AF_INET, "A"), (socket.AF_INET6, "AAAA")):
        try:
            socket.inet_pton(family, address)
        except OSError:
            continue
        return type
    return None
