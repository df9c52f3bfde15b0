"""AVPs of users in a table of a database (OpenSIPS: ``usr_preferences``): what avpops and sqlops load, store and delete.

A row belongs to a user, by ``uuid`` or by ``username`` and ``domain``, and holds name, value and type of an AVP. A *scheme* is
another table: it has a value in one of its columns for one AVP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from opensips_py.db.dialect import check_name
from opensips_py.db.script_queries import VALUE_IS_NUMBER
from opensips_py.db.statement import Condition, Delete, Insert, Select, SqlValue, StatementError, delete, insert_new, select
from opensips_py.script import variables
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError, Module, ModuleParameter
from opensips_py.script.variables import VariableError
from opensips_py.sip.remembered import remembered
from opensips_py.sip.uri import uri_or_none

_URIS = ("$ru", "$fu", "$tu", "$ou")
_PARTS = ("username", "domain", "uri", "uuid")
_AVP = re.compile(r"\$avp\(([^()$]+)\)")
_ALL = re.compile(r"[*aAsSiI]\d*")


@dataclass(frozen=True)
class Scheme:
    """Another table that has values of one AVP."""

    table: str
    uuid: str | None = None
    username: str | None = None
    domain: str | None = None
    value: str | None = None
    kind: str = "string"


@dataclass(frozen=True)
class Source:
    """Whose AVPs: ``$ru/username``."""

    variable: str | None
    literal: str
    part: str


@dataclass(frozen=True)
class Name:
    """Which AVPs: ``$avp(x)/table``, ``*``, ``$avp(x)/$scheme``."""

    avp: str
    """Empty: all."""
    kind: str
    """Of all: ``s`` only texts, ``i`` only numbers."""
    table: str | None
    scheme: str | None


@remembered
def source(text: str) -> Source:
    """``variable-or-text[/part]``. Raises StatementError."""
    what, slash, part = text.strip().rpartition("/")
    if not slash:
        what, part = text.strip(), "uri" if text.strip() in _URIS else "uuid"
    elif part.lower() not in _PARTS:
        raise StatementError(f"[{part}] is not one of {', '.join(_PARTS)}")
    if not what:
        raise StatementError("whose AVPs? A variable or a text is missing")
    return Source(what, "", part.lower()) if what.startswith("$") else Source(None, what, part.lower())


@remembered
def name(text: str) -> Name:
    """``avp[/table]`` or ``avp[/$scheme]``. Raises StatementError."""
    which, slash, place = text.strip().partition("/")
    if slash and not place.removeprefix("$"):
        raise StatementError("the name of the table or scheme is empty")
    found = _AVP.fullmatch(which)
    if found is None and _ALL.fullmatch(which) is None:
        raise StatementError(f"[{which}] is neither an AVP nor * (all of them)")
    scheme = place[1:].lower() if place.startswith("$") else None
    if scheme is not None and found is None:
        raise StatementError("a scheme is for one AVP")
    kind = which[:1].lower() if found is None and which[:1] in "sSiI" else ""
    return Name("" if found is None else found[1], kind, place if place and scheme is None else None, scheme)


def source_fault(text: str, registry: Any) -> str | None:
    """What is wrong with a first argument, when the script is checked."""
    try:
        found = source(text)
        if found.variable is not None:
            registry.variable(found.variable)
    except (StatementError, VariableError) as error:
        return str(error)
    return None


def name_fault(text: str, registry: Any) -> str | None:
    """What is wrong with a second argument."""
    try:
        name(text)
    except StatementError as error:
        return str(error)
    return None


@dataclass
class Preferences:
    """The tables of one module, as its parameters say."""

    module: str
    table: ModuleParameter[str]
    use_domain: ModuleParameter[int]
    uuid: ModuleParameter[str]
    username: ModuleParameter[str]
    domain: ModuleParameter[str]
    attribute: ModuleParameter[str]
    value: ModuleParameter[str]
    type: ModuleParameter[str]
    scheme_texts: ModuleParameter[list[str]]
    schemes: dict[str, Scheme] = field(default_factory=dict)

    @classmethod
    def declared(cls, module: Module, table: str) -> Preferences:
        """Declare the parameters of ``module``; ``table`` is what the one for the table is called."""

        def name_of(parameter: str, default: str, doc: str) -> ModuleParameter[str]:
            return module.param(parameter, str, default, doc=doc)

        return cls(
            module.name,
            name_of(table, "usr_preferences", "table of the AVPs of users"),
            module.param("use_domain", int, 0, doc="1: the domain is part of who a user is"),
            name_of("uuid_column", "uuid", "column of the user's unique id"),
            name_of("username_column", "username", "column of the user"),
            name_of("domain_column", "domain", "column of the domain"),
            name_of("attribute_column", "attribute", "column of the name of the AVP"),
            name_of("value_column", "value", "column of the value"),
            name_of("type_column", "type", "column that says whether the value is a number (1) or a text (0)"),
            module.param(
                "db_scheme",
                str,
                list[str](),
                multiple=True,
                doc='another table: "name:table=subscriber;uuid_col=uuid;value_col=first_name;value_type=string"',
            ),
        )

    def configure(self) -> None:
        """Check names and read the schemes. Raises ConfigError."""
        columns = (self.uuid, self.username, self.domain, self.attribute, self.value, self.type)
        for parameter in (self.table, *columns):
            try:
                check_name(parameter.value)
            except StatementError as error:
                raise ConfigError(f"{self.module}: {parameter.name}: {error}", parameter.name) from None
        self.schemes.clear()
        for text in self.scheme_texts.value:
            self._add_scheme(text)

    def _add_scheme(self, text: str) -> None:
        title, colon, rest = (part.strip() for part in text.partition(":"))
        given: dict[str, str] = {}
        for item in filter(None, (part.strip() for part in rest.split(";"))):
            key, equals, content = (part.strip() for part in item.partition("="))
            if not equals or not content:
                raise ConfigError(f'{self.module}: db_scheme: "{item}" is not of the form name=value', "db_scheme", text)
            given[key.lower()] = content
        unknown = given.keys() - {"uuid_col", "username_col", "domain_col", "value_col", "value_type", "table"}
        if not title or not colon or unknown or "table" not in given:
            why = f"unknown: {', '.join(sorted(unknown))}" if unknown else "a name and table= are needed"
            raise ConfigError(f'{self.module}: db_scheme: "{text}": {why}', "db_scheme", text)
        if title.lower() in self.schemes:
            raise ConfigError(f"{self.module}: db_scheme: there are two schemes {title}", "db_scheme", text)
        kind = given.get("value_type", "string").lower()
        if kind not in ("string", "integer"):
            raise ConfigError(f"{self.module}: db_scheme: value_type is string or integer, not {kind}", "db_scheme", text)
        column = {what: given.get(f"{what}_col") for what in ("uuid", "username", "domain", "value")}
        self.schemes[title.lower()] = Scheme(given["table"], **column, kind=kind)

    # --- statements -------------------------------------------------------------------------------------------------

    def load(self, ctx: Context, whose: str, which: str, prefix: str) -> tuple[Select, list[str]]:
        """SELECT, and the targets for its result. Raises StatementError."""
        avp = name(which)
        if avp.scheme is None:
            conditions = self._user(ctx, whose, None)
            if avp.avp:
                conditions.append(Condition(self.attribute.value, "=", avp.avp))
            columns = [self.value.value, self.attribute.value, self.type.value]
            # the name comes from the table, with the prefix before it
            return select(columns, avp.table or self.table.value, conditions), [prefix, "", ""]
        scheme = self.schemes.get(avp.scheme)
        if scheme is None:
            raise StatementError(f"there is no db_scheme {avp.scheme}")
        found = select([scheme.value or self.value.value], scheme.table, self._user(ctx, whose, scheme))
        return found, [prefix, f"{prefix}{avp.avp}", scheme.kind]

    def store(self, ctx: Context, whose: str, which: str) -> Insert | None:
        """INSERT of what the table does not have yet; None when there is no such AVP. Raises StatementError."""
        avp = self._without_scheme(which)
        uuid, user, domain = self._who(ctx, whose)
        rows: list[dict[str, SqlValue]] = []
        for title, values in ctx.avps.items():
            if avp.avp and title != avp.avp:
                continue
            for content in reversed(values):
                number = isinstance(content, int)
                if (avp.kind == "s" and number) or (avp.kind == "i" and not number):
                    continue
                row: dict[str, SqlValue] = {
                    self.uuid.value: uuid or "",
                    self.attribute.value: title,
                    self.value.value: str(content),
                    self.type.value: VALUE_IS_NUMBER if number else 0,
                    self.username.value: user or "",
                    self.domain.value: domain or "",
                }
                if row not in rows:
                    rows.append(row)
        return insert_new(avp.table or self.table.value, *rows) if rows else None

    def delete(self, ctx: Context, whose: str, which: str) -> Delete:
        """DELETE. Raises StatementError."""
        avp = self._without_scheme(which)
        conditions = self._user(ctx, whose, None)
        if avp.avp:
            conditions.append(Condition(self.attribute.value, "=", avp.avp))
        return delete(avp.table or self.table.value, conditions)

    @staticmethod
    def _without_scheme(which: str) -> Name:
        avp = name(which)
        if avp.scheme is not None:
            raise StatementError("a scheme can only be loaded from")
        return avp

    def _user(self, ctx: Context, whose: str, scheme: Scheme | None) -> list[Condition]:
        uuid, user, domain = self._who(ctx, whose)
        columns = (
            ((scheme and scheme.uuid) or self.uuid.value, uuid),
            ((scheme and scheme.username) or self.username.value, user),
            ((scheme and scheme.domain) or self.domain.value, domain),
        )
        return [Condition(column, "=", content) for column, content in columns if content is not None]

    def _who(self, ctx: Context, whose: str) -> tuple[str | None, str | None, str | None]:
        """The uuid, or user and domain."""
        asked = source(whose)
        text: object = asked.literal
        if asked.variable is not None:
            text = variables.by_text(asked.variable).get(ctx)
        if text is None or text == "":
            raise StatementError(f"{whose} has no value")
        if asked.part == "uuid":
            return str(text), None, None
        uri = uri_or_none(str(text))
        if uri is None:
            raise StatementError(f"[{text}] is not a URI")
        user = domain = None
        if asked.part in ("uri", "username"):
            user = uri.user
            if not user:
                raise StatementError(f"[{text}] has no user")
        if asked.part == "domain" or (asked.part == "uri" and self.use_domain.value):
            domain = uri.host
        return None, user, domain
