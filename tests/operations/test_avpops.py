"""The avpops module's own part of avp_db_query()."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from opensips_py.db import databases
from opensips_py.db.mysql import pool as pools
from opensips_py.db.mysql.database import MysqlDatabase
from opensips_py.db.script_queries import AvpDbQuery
from opensips_py.engine.operation import Done
from opensips_py.modules import avpops, db_mysql
from opensips_py.script.context import Value
from opensips_py.script.declarations import ConfigError

CTX: Any = None
"""The function does not look at the message."""


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    avpops.db_url.value = []
    avpops.configure()
    db_mysql.use_tls.value = 0
    db_mysql.timeout_interval.value = 2
    db_mysql.configure()


def configure(*urls: str) -> None:
    avpops.db_url.value = list(urls)
    avpops.configure()


def test_databases_are_chosen_by_number() -> None:
    configure("mysql://u:p@127.0.0.1:1/zero", "7 mysql://u:p@127.0.0.1:1/seven")
    for number, name in ((None, "zero"), (0, "zero"), (7, "seven")):
        op = avpops.avp_db_query(CTX, "select 1", None, number)
        assert isinstance(op, AvpDbQuery)
        assert isinstance(op.database, MysqlDatabase)
        assert op.database.pool.url.database == name


@pytest.mark.parametrize(
    ("query", "values", "sent"),
    [
        ("select v from t where k=?", ("bob",), "select v from t where k='bob'"),
        ("select v from t where k=?", (None,), "select v from t where k=NULL"),
        ("select v from t where k=? and n=?", ("it's", 5), "select v from t where k='it''s' and n=5"),
        ("insert into t values(?)", ("x' or '1'='1",), "insert into t values('x'' or ''1''=''1')"),
        ("insert into t values(?)", ("\\' or 1=1 -- ",), "insert into t values(_utf8mb4 0x5c27206f7220313d31202d2d20)"),
        (
            "select '?', \"?\", `?` /* ? */ from t where k=? -- ?",
            ("a",),
            "select '?', \"?\", `?` /* ? */ from t where k='a' -- ?",
        ),
        ("select 'it''s \\' ?' from t where k=?", ("a?",), "select 'it''s \\' ?' from t where k='a?'"),
        ("select v from t where k=?", (0, "bob"), "select v from t where k='bob'"),
        ("select v from t where k='?'", (), "select v from t where k='?'"),
    ],
)
def test_values_are_put_into_the_places_of_a_query_as_literals(query: str, values: tuple[Value, ...], sent: str) -> None:
    configure("mysql://u:p@127.0.0.1:1/zero")
    op = avpops.avp_db_query(CTX, query, None, *values)
    assert isinstance(op, AvpDbQuery)
    assert op.database.dialect.text(op.statement) == sent


@pytest.mark.parametrize("values", [(), ("a", "b", "c"), ("x", "bob")])
def test_values_without_a_place_and_places_without_a_value_are_refused(values: tuple[Value, ...]) -> None:
    configure("mysql://u:p@127.0.0.1:1/zero")
    query = "select v from t where k=?"
    op = avpops.avp_db_query(CTX, query, None, *values)
    assert op == -1 or (isinstance(op, AvpDbQuery) and op.start() == Done(-1))


def test_an_unknown_database_number_is_an_error_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(databases, "log", lambda level, module, function, text: logged.append(text))
    configure("mysql://u:p@127.0.0.1:1/zero")
    assert avpops.avp_db_query(CTX, "select 1", None, 3) == -1
    assert "number 3" in logged[0]


@pytest.mark.parametrize(
    ("urls", "complaint"),
    [
        (["cassandra:///etc/db"], "cassandra"),
        (["oracle://u:p@h/d"], "oracle"),
        (["1 mysql://u:p@h/d", "1 mysql://u:p@h/e"], "two databases with number 1"),
    ],
)
def test_databases_that_cannot_be_used_are_refused_at_start(urls: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        configure(*urls)


def test_parameters_of_the_driver() -> None:
    db_mysql.timeout_interval.value = 5
    db_mysql.configure()
    assert pools.settings.patience == 15.0
    db_mysql.use_tls.value = 1
    with pytest.raises(ConfigError, match="TLS"):
        db_mysql.configure()


# --- operations on AVPs ---------------------------------------------------------------------------------------------


def with_avps(**avps: Any) -> Any:
    return SimpleNamespace(avps={name: list(values) for name, values in avps.items()})


@pytest.mark.parametrize(
    ("name", "rc"),
    [
        ("$avp(a)", 1),
        ("$avp(zz)", -1),
        ("$avp(a)/s", 1),
        ("$avp(a)/n", -1),
        ("$avp(n)/n", 1),
        ("$avp(e)/e", 1),
        ("$avp(a)/e", -1),
    ],
)
def test_is_avp_set(name: str, rc: int) -> None:
    assert avpops.is_avp_set(with_avps(a=["1.2.3"], n=[5], e=[""]), name) == rc


def test_copying_and_moving() -> None:
    ctx = with_avps(a=["low", "high"], n=[7])
    assert avpops.avp_copy(ctx, "$avp(a)", "$avp(b)") == 1
    assert avpops.avp_copy(ctx, "$avp(a)", "$avp(c)/gd") == 1
    assert avpops.avp_copy(ctx, "$avp(n)", "$avp(t)/s") == 1
    assert ctx.avps == {"b": ["high"], "c": ["high", "low"], "n": [7], "t": ["7"]}
    assert avpops.avp_copy(ctx, "$avp(a)", "$avp(b)") == -1
    assert avpops.avp_copy(ctx, "$avp(b)", "$avp(x)/n") == -1


def test_deleting() -> None:
    ctx = with_avps(a=[1, 2, 3], b=[1])
    assert avpops.avp_delete(ctx, "$avp(a)") == 1
    assert ctx.avps["a"] == [1, 2]
    assert avpops.avp_delete(ctx, "$avp(a)/g") == 1
    assert avpops.avp_delete(ctx, "$avp(a)") == -1
    assert avpops.avp_delete(ctx, "*") == 1
    assert ctx.avps == {}


@pytest.mark.parametrize(
    ("name", "check", "rc"),
    [
        ("$avp(a)", "eq/1.2.3", 1),
        ("$avp(a)", "eq/s:1.2.4", -1),
        ("$avp(a)", "fm/1.2.*", 1),
        ("$avp(a)", "re/^1", 1),
        ("$avp(a)", "re/^2", -1),
        ("$avp(w)", "eq/word/i", 1),
        ("$avp(w)", "eq/word", -1),
        ("$avp(n)", "gt/i:4", 1),
        ("$avp(n)", "gt/$avp(m)", -1),
        ("$avp(n)", "and/i:0x4", 1),
        ("$avp(n)", "eq/s:5", -1),
        ("$avp(many)", "ge/i:3", 1),
        ("$avp(many)", "lt/i:2", -1),
        ("$avp(many)", "lt/i:2/g", 1),
        ("$avp(many)", "lt/i:1/g", -1),
        ("$avp(a)", "ne/i:5", -1),
        ("$avp(none)", "eq/x", -1),
        ("$avp(a)", "like/x", -1),
    ],
)
def test_checking(name: str, check: str, rc: int) -> None:
    assert avpops.avp_check(with_avps(a=["1.2.3"], w=["Word"], n=[5], m=[6], many=[1, 2, 3]), name, check) == rc


def test_calculating_and_substituting() -> None:
    ctx = with_avps(a=["1.2.3"], n=[5], m=[6], many=[1, 2], big=[0x7FFFFFFF])
    assert avpops.avp_subst(ctx, "$avp(a)", "/\\./-/g") == 1
    assert avpops.avp_subst(ctx, "$avp(a)", "/x/y/") == -1
    assert avpops.avp_op(ctx, "$avp(n)", "add/$avp(m)") == 1
    assert avpops.avp_op(ctx, "$avp(many)/$avp(sums)", "mul/i:10/gd") == 1
    assert avpops.avp_op(ctx, "$avp(m)", "div/i:0") == 1
    assert avpops.avp_op(ctx, "$avp(big)", "add/i:1") == 1
    assert avpops.avp_op(ctx, "$avp(m)", "pow/i:2") == -1
    assert avpops.avp_op(ctx, "$avp(not)", "not/i:1") == -1
    assert avpops.avp_op(ctx, "$avp(sums)", "not/i:1/d") == 1
    assert ctx.avps == {"a": ["1-2-3"], "n": [5, 11], "m": [6, 0], "sums": [-2, -2], "big": [0x7FFFFFFF, -0x80000000]}
