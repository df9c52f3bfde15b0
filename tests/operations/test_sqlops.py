"""SQL from the script, by texts and by names and values, plainly and in async(), against a real database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opensips_py import db
from opensips_py.db.dialect import Dialect
from opensips_py.db.mysql.dialect import MysqlDialect
from opensips_py.db.places import database_and_values, fault
from opensips_py.db.statement import Condition, Raw, StatementError, select
from opensips_py.modules import db_mysql, db_postgres, db_sqlite
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.postgres import Postgres
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

KINDS = (db_mysql, db_postgres, db_sqlite)
HEAD = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "db_mysql.so"
loadmodule "sqlops.so"
loadmodule "avpops.so"
modparam("sqlops|avpops", "db_url", "DB_URL")
modparam("sqlops", "db_scheme", "names:table=people;username_col=user;value_col=full_name")
modparam("sqlops", "db_scheme", "ages:table=people;username_col=user;value_col=age;value_type=integer")
"""

TABLES = """
DROP TABLE IF EXISTS people; DROP TABLE IF EXISTS usr_preferences;
CREATE TABLE people (user VARCHAR(40) PRIMARY KEY, full_name VARCHAR(80), age INT, note VARCHAR(200));
CREATE TABLE usr_preferences (id SERIAL_NUMBER, uuid VARCHAR(64) NOT NULL DEFAULT '',
    username VARCHAR(64) NOT NULL DEFAULT '', domain VARCHAR(64) NOT NULL DEFAULT '', attribute VARCHAR(32) NOT NULL,
    type INT NOT NULL DEFAULT 0, value VARCHAR(128) NOT NULL);
INSERT INTO people VALUES ('bob', 'Bob', 42, NULL), ('eve', 'Eve', 7, 'x'), ('zoe', 'Zoë', NULL, 'x');
INSERT INTO usr_preferences (uuid, username, domain, attribute, type, value) VALUES
    ('', 'bob', 'a.example', 'color', 0, 'blue'), ('', 'bob', 'b.example', 'color', 0, 'red'),
    ('', 'bob', 'a.example', 'limit', 1, '5'), ('u-1', '', '', 'color', 0, 'green');
"""


class Database:
    """The tables, looked at from outside."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self.url = kind, url
        self._database = db.open(url)
        self._database.create()
        for text in TABLES.replace("SERIAL_NUMBER", self._database.dialect.serial).split(";"):
            if text.strip():
                self.rows(text)

    def rows(self, query: str) -> tuple[tuple[object, ...], ...]:
        # in PostgreSQL ``user`` is a word of the language
        text = re.sub(r"\buser\b", '"user"', query) if self.kind == "postgres" else query
        return tuple(tuple(row) for row in self._database.read(Raw(text.encode().decode("latin-1"))).rows)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    running = Postgres()
    yield running
    running.remove()


@pytest.fixture(params=["mysql", "postgres", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """The tables in each kind of database."""
    if request.param == "sqlite":
        return Database("sqlite", f"sqlite://{tmp_path}/case.db")
    server: MariaDB | Postgres = request.getfixturevalue({"mysql": "mariadb"}.get(request.param, request.param))
    return Database(request.param, server.url)


def quoted(kind: str, call: str) -> str:
    """A text of SQL as PostgreSQL wants it, where ``user`` is a word of the language."""
    if kind != "postgres" or not call.startswith(("sql_query(", "sql_query_one(")):
        return call
    return re.sub(r"\buser\b", r'\\"user\\"', call)


class Case:
    """A function called in a route, plainly and in async(), with what comes before it and what shows its result."""

    def __init__(self, call: str, shown: str, before: str = "") -> None:
        self.call, self.shown, self.before = call, shown, before

    def routes(self, number: int, kind: str) -> str:
        call = quoted(kind, self.call)
        return (
            f"route[plain{number}] {{ {self.before} {call}; route(show{number}); }}\n"
            f"route[async{number}] {{ {self.before} async({call}, show{number}); }}\n"
            f'route[show{number}] {{ t_reply(200, "{self.shown}"); }}\n'
        )


@pytest.fixture
def results(server: Callable[..., Server], client: Callable[..., SipClient], database: Database) -> Callable[..., list[str]]:
    """What each case shows in both forms, which must be the same; the tables are as new for each run."""

    def run(*cases: Case) -> list[str]:
        script = HEAD.replace("DB_URL", database.url).replace("db_mysql", f"db_{database.kind}") + "route {\n    t_newtran();\n"
        for form in ("plain", "async"):
            script += "".join(f'    if ($rU == "{form}{n}") route({form}{n});\n' for n in range(len(cases)))
        script += "}\n" + "".join(case.routes(n, database.kind) for n, case in enumerate(cases))
        running = server(script)
        caller = client(running.address)
        shown = []
        for n in range(len(cases)):
            forms = []
            for form in ("plain", "async"):
                caller.request("OPTIONS", f"sip:{form}{n}@a.example")
                forms.append(caller.final().reason)
            assert forms[0] == forms[1], cases[n].call
            shown.append(forms[0])
        return shown

    return run


def test_queries_as_texts(results: Callable[..., list[str]]) -> None:
    assert results(
        Case('sql_query("SELECT user, age FROM people ORDER BY user")', "$rc $(avp(1)[*]) $(avp(2)[*])"),
        Case('sql_query("SELECT user FROM people WHERE age>9", "$avp(who)")', "$rc $avp(who)"),
        Case('sql_query("SELECT 1 FROM people WHERE age>99")', "$rc $avp(1)"),
        Case('sql_query("SELEKT")', "$rc"),
        Case("sql_query(\"UPDATE people SET note='y' WHERE user='zoe'\")", "$rc"),
        Case('sql_query("SELECT 1", , 3)', "$rc"),
        Case('sql_query_one("SELECT user, note FROM people ORDER BY user", "$avp(u);$avp(n)")', "$rc $avp(u) $avp(n)"),
        Case('sql_query_one("SELECT user, note FROM people", "$avp(u)")', "$rc $avp(u)"),
        Case('sql_query_one("SELECT user FROM people WHERE age>99", "$avp(u)")', "$rc $avp(u)"),
    ) == ["1 bob, eve, zoe 42, 7, <null>", "1 bob", "-2 <null>", "-1", "-2", "-1", "1 bob <null>", "-1 <null>", "-2 <null>"]


MODES = ("", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES")
"""Of MySQL, in which quotes and backslashes mean other things; other databases have one."""


def test_values_of_a_query_are_data_whatever_they_contain(results: Callable[..., list[str]], database: Database) -> None:
    if database.kind != "mysql":
        assert_values_are_data(results)
        return
    before = database.rows("SELECT @@global.sql_mode")[0][0]
    try:
        for mode in MODES:
            database.rows(f"SET GLOBAL sql_mode='{mode}'")
            assert_values_are_data(results)
    finally:
        database.rows(f"SET GLOBAL sql_mode='{before}'")


def assert_values_are_data(results: Callable[..., list[str]]) -> None:
    echo, length = 'sql_query_one("SELECT ?", "$avp(u)", $avp(v))', 'sql_query_one("SELECT length(?)", "$avp(n)", $avp(v))'
    assert results(
        Case(echo, "$avp(u)", '$avp(v) = "a b";'),
        Case(echo, "$avp(u)", '$avp(v) = "?";'),
        Case(length, "$avp(n)", """$avp(v) = "bob' OR '1'='1";"""),
        Case(length, "$avp(n)", """$avp(v) = "x\\\\' OR 1=1 -- ";"""),
        Case('sql_query("SELECT user FROM people WHERE user=?", "$avp(u)", $avp(v))', "$rc $avp(u)", '$avp(v) = "bob";'),
        Case('sql_query("SELECT user FROM people WHERE user=?", "$avp(u)", $avp(v))', "$rc", """$avp(v) = "b' OR 'a'='a";"""),
        Case('sql_query("SELECT ? IS NULL", "$avp(u)", $avp(none))', "$avp(u)"),
        Case('sql_query("SELECT user FROM people WHERE age=?", "$avp(u)", 0, 42)', "$rc $avp(u)"),
        Case('sql_query("SELECT user FROM people WHERE age=?", "$avp(u)", 42)', "$rc $avp(u)"),
    ) == ["a b", "?", "14", "14", "1 bob", "-2", "1", "1 bob", "1 bob"]


def test_null_is_a_text_for_avps_and_null_for_one_row(results: Callable[..., list[str]]) -> None:
    query = "SELECT note FROM people WHERE user='bob'"
    assert results(
        Case(f'sql_query("{query}", "$avp(n)")', "$(avp(n){{s.len}})".replace("{{", "{").replace("}}", "}")),
        Case(f'sql_query_one("{query}", "$avp(n)")', "$avp(n) $(avp(n){{s.len}})".replace("{{", "{").replace("}}", "}")),
    ) == ["6", "<null> <null>"]


def test_queries_by_names_and_values(results: Callable[..., list[str]]) -> None:
    all_rows = "'[\"user\"]', 'people'"
    assert results(
        Case(f"sql_select({all_rows}, , 'user')", "$rc $(avp(1)[*])"),
        Case("sql_select(, 'people', '[{\"user\":\"bob\"}]')", "$rc $avp(2) $avp(3)"),
        Case(f'sql_select({all_rows}, \'[{{"age":{{">":7}}}}]\', , "$avp(u)")', "$rc $avp(u)"),
        Case(f'sql_select({all_rows}, \'[{{"note":null}},{{"age":42}}]\', , "$avp(u)")', "$rc $avp(u)"),
        Case(f'sql_select({all_rows}, \'[{{"note":{{"!=":null}}}},{{"user":{{"like":"z%"}}}}]\')', "$rc $avp(1)"),
        Case("sql_select_one('[\"count(*)\"]', 'people', , , \"$avp(n)\")", "$rc $avp(n)"),
        Case(f'sql_select_one({all_rows}, \'[{{"user":"nobody"}}]\')', "$rc"),
        Case('sql_select_one(\'["age","note"]\', \'people\', \'[{"user":"bob"}]\', , "$avp(a);$avp(n)")', "$rc $avp(a) $avp(n)"),
        Case(f"sql_select({all_rows}, '[{{\"user\":[1]}}]')", "$rc"),
        Case(f"sql_select({all_rows}, '[{{\"user; DROP TABLE people\":1}}]')", "$rc"),
        Case("sql_select('not json', 'people')", "$rc"),
    ) == ["1 bob, eve, zoe", "1 Bob 42", "1 bob", "1 bob", "1 zoe", "1 3", "-2", "1 42 <null>", "-1", "-1", "-1"]


def test_rows_are_changed(results: Callable[..., list[str]], database: Database) -> None:
    row = json.dumps([{"user": "$rU"}, {"full_name": "o'hara\\ -- x"}, {"age": 3}, {"note": None}])
    in_script = row.replace("\\", "\\\\").replace('"', '\\"')
    assert results(
        Case(f'sql_insert("people", "{in_script}")', "$rc"),
        Case("sql_insert('people', '[{\"user\":\"bob\"}]')", "$rc"),
        Case('sql_replace(\'people\', \'[{"user":"bob"},{"age":43}]\')', "$rc"),
        Case("sql_update('[{\"note\":\"new\"}]', 'people', '[{\"age\":7}]')", "$rc"),
        Case("sql_update('[{\"note\":\"new\"}]', 'people', '[{\"age\":777}]')", "$rc"),
        Case("sql_delete('people', '[{\"user\":\"zoe\"}]')", "$rc"),
        Case("sql_delete('nowhere')", "$rc"),
    ) == ["1", "-1", "1" if database.kind != "postgres" else "-1", "1", "1", "1", "-1"]  # the key of the table is not known
    bob = ("bob", None, 43, None) if database.kind != "postgres" else ("bob", "Bob", 42, None)
    assert database.rows("SELECT user, full_name, age, note FROM people ORDER BY user") == (
        ("async0", "o'hara\\ -- x", 3, None),
        bob,
        ("eve", "Eve", 7, "new"),
        ("plain0", "o'hara\\ -- x", 3, None),
    )


@pytest.mark.parametrize("family", ["sql_avp", "avp_db"])
def test_avps_of_users_are_loaded(results: Callable[..., list[str]], family: str) -> None:
    uri = '$avp(u) = "sip:bob@b.example";'
    shown = "$rc $(avp(color)[*]) $avp(limit)"
    cases = [
        Case(f'{family}_load("$avp(u)/uri", "$avp(color)")', shown, uri),
        Case(f'{family}_load("$avp(u)/username", "*")', shown, uri),
        Case(f'{family}_load("$avp(u)/domain", "$avp(color)/usr_preferences")', shown, uri),
        Case(f'{family}_load("u-1", "$avp(color)")', shown),
        Case(f'{family}_load("$avp(u)/uri", "$avp(color)", , "my_")', "$rc $avp(my_color) $avp(color)", uri),
        Case(f'{family}_load("u-2", "$avp(color)")', shown),
        Case(f'{family}_load("$avp(none)", "$avp(color)")', shown),
        Case(f'{family}_load("$avp(u)", "$avp(color)/nowhere")', shown, uri),
    ]
    # rows without an order come as they lie in the table; each new value lies on top
    assert results(*cases) == [
        "1 red, blue <null>",
        "1 red, blue 5",
        "1 red <null>",
        "1 green <null>",
        "1 red <null>",
        "-1 <null> <null>",
        "-1 <null> <null>",
        "-1 <null> <null>",
    ]


def test_schemes_load_from_other_tables(results: Callable[..., list[str]]) -> None:
    uri = '$avp(u) = "sip:bob@x.example";'
    assert results(
        Case('sql_avp_load("$avp(u)/username", "$avp(name)/$names")', "$rc $avp(name)", uri),
        Case('sql_avp_load("$avp(u)/username", "$avp(age)/$AGES")', "$rc $avp(age)", uri),
        Case('sql_avp_load("$avp(u)/username", "$avp(age)/$other")', "$rc $avp(age)", uri),
    ) == ["1 Bob", "1 42", "-1 <null>"]


@pytest.mark.parametrize("family", ["sql_avp", "avp_db"])
def test_avps_of_users_are_stored_and_deleted(results: Callable[..., list[str]], database: Database, family: str) -> None:
    before = '$avp(u) = "sip:ann@a.example"; $avp(tag) = "it\'s"; $avp(tag) = 12;'
    assert results(
        Case(f'{family}_store("$avp(u)/uri", "$avp(tag)")', "$rc", before),
        Case(f'{family}_store("$avp(u)/uri", "$avp(missing)")', "$rc", before),
        Case(f'{family}_delete("u-1", "*")', "$rc"),
    ) == ["1", "-1", "1"]
    rows = "SELECT uuid, username, domain, attribute, type, value FROM usr_preferences"
    # the second form found them stored
    assert database.rows(rows + " WHERE username='ann' ORDER BY id") == (
        ("", "ann", "", "tag", 1, "12"),
        ("", "ann", "", "tag", 0, "it's"),
    )
    assert database.rows(rows + " WHERE uuid<>''") == ()


# --- statements ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mysql", "standard"),
    [
        ("a='\\' and b=?", None, "a='\\' and b='x'"),
        ("a='\\'?' and b=?", "a='\\'?' and b='x'", "a='\\''x'' and b=?"),
        ("a=E'\\'?' and b=?", "a=E'\\'?' and b='x'", "a=E'\\'?' and b='x'"),
        ("a=$t$ '? $t$ and b=?", None, "a=$t$ '? $t$ and b='x'"),
        ("a #> ? -- ?", None, "a #> 'x' -- ?"),
        ("a=? # ?", "a='x' # ?", None),
        (
            "a='it''s ?' and \"?\"=`?` and b=? /* ? */",
            "a='it''s ?' and \"?\"=`?` and b='x' /* ? */",
            "a='it''s ?' and \"?\"=`?` and b='x' /* ? */",
        ),
    ],
)
def test_a_place_is_where_each_kind_of_database_sees_one(text: str, mysql: str | None, standard: str | None) -> None:
    for dialect, expected in ((MysqlDialect("utf8mb4"), mysql), (Dialect(), standard)):
        if expected is None:
            with pytest.raises(StatementError, match="places"):
                dialect.text(Raw(text, ("x",)))
        else:
            assert dialect.text(Raw(text, ("x",))) == expected
    assert fault(text, 1) is None
    assert database_and_values(text, ("x",)) == (None, ("x",))


def test_values_are_quoted_and_names_cannot_be_sql() -> None:
    mysql = MysqlDialect("utf8mb4")
    assert mysql.literal("a'b\\c\n\0") == "'a\\'b\\\\c\\n\\0'"
    assert mysql.text(select(["a", "count(*)", "t.b"], "d.t", [Condition("x", "<=", "1")], order="a")) == (
        "SELECT `a`,count(*),`t`.`b` FROM `d`.`t` WHERE `x` <= '1' ORDER BY `a`"
    )
    for name in ("a b", "a`b", "a;b", "", "a--", "sleep(1);x", "f(g(x))", "a.b.c.d"):
        with pytest.raises(StatementError):
            mysql.text(select([name], "t"))
    for operator in ("= 1 OR 1", ";", "--", "", "(", "=1"):
        with pytest.raises(StatementError):
            mysql.text(select([], "t", [Condition("a", operator, 1)]))
