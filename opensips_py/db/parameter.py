"""The database that a module's ``db_url`` names."""

from __future__ import annotations

from opensips_py.db import database as databases
from opensips_py.db.database import Database
from opensips_py.script.declarations import ConfigError, Module, ModuleParameter


class DatabaseParameter:
    """A ``modparam`` with a database URL, checked with the script. Without one, core parameter ``db_default_url`` holds."""

    def __init__(self, module: Module, parameter: ModuleParameter[str], default: bool) -> None:
        self._module, self._parameter, self._default = module, parameter, default
        module.on_check(self._check)

    @classmethod
    def declared(cls, module: Module, name: str = "db_url", *, default: bool = True) -> DatabaseParameter:
        """Declare the parameter. ``default``: whether ``db_default_url`` stands for one that is not set."""
        doc = "URL of the database" + ("; default: core parameter db_default_url" if default else "")
        return cls(module, module.param(name, str, "", doc=doc), default)

    @property
    def url(self) -> str:
        """The URL; empty: there is none."""
        if self._parameter.value or not self._default:
            return self._parameter.value
        return databases.settings().db_default_url or ""

    def open(self) -> Database:
        """The database in this process. Raises ConfigError when none is named."""
        url = self.url
        if not url:
            way = ", or core parameter db_default_url" if self._default else ""
            raise ConfigError(f"{self._module.name}: there is no database: set {self._parameter.name}{way}")
        return databases.open(url)

    def check_version(self, table: str, version: int) -> None:
        """To be called before the fork for each table that is used. Raises ConfigError, as ``Database.check_version``."""
        try:
            self.open().check_version(table, version)
        except ConfigError as error:
            raise ConfigError(f"{self._module.name}: {error}", self._parameter.name) from None

    def _check(self) -> None:
        url = self.url
        if url:
            try:
                databases.check(url)
            except ValueError as error:
                source = self._parameter.name if self._parameter.value else "core parameter db_default_url"
                raise ConfigError(f"{self._module.name}: {source}: {error}", self._parameter.name) from None
