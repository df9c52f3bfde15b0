"""The databases of a module whose ``db_url`` may be given several times: ``"URL"`` or ``"NUMBER URL"``."""

from __future__ import annotations

from opensips_py.db import database as databases
from opensips_py.db.database import Database
from opensips_py.script.declarations import ConfigError
from opensips_py.server.log import ERROR, log


class Databases:
    """Databases by number; 0 is the one of the core parameter ``db_default_url`` when the module names none."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._urls: dict[int, str] = {}
        self._found: dict[int, Database] = {}

    def configure(self, texts: list[str]) -> None:
        """Take the values of ``db_url``. Raises ConfigError."""
        self._urls.clear()
        self._found.clear()
        for text in texts:
            number, _, url = text.strip().partition(" ")
            if not number.isdecimal():
                number, url = "0", text.strip()
            self._add(int(number), url.strip(), text)

    def _add(self, number: int, url: str, text: str) -> None:
        if number in self._urls:
            raise ConfigError(f"{self._module}: db_url: there are two databases with number {number}", "db_url", text)
        try:
            databases.check(url)
        except ValueError as error:
            raise ConfigError(f"{self._module}: db_url: {error}", "db_url", text) from error
        self._urls[number] = url

    def get(self, number: int | None, function: str) -> Database | None:
        """A database; None, and a line in the log, when there is none with this number."""
        number = number or 0
        return self._found.get(number) or self._find(number, function)

    def _find(self, number: int, function: str) -> Database | None:
        url = self._urls.get(number)
        if url is None and number == 0:
            url = databases.settings().db_default_url
        if not url:
            log(ERROR, self._module, function, f"there is no database with number {number}; set db_url")
            return None
        try:
            found = self._found[number] = databases.open(url)
        except ValueError as error:
            log(ERROR, self._module, function, str(error))
            return None
        return found
