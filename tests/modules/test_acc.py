"""Module acc: which records a transaction brings, and what stands in them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opensips_py import db
from opensips_py.engine import outbox
from opensips_py.modules import acc
from opensips_py.modules.acc import accounting, declared, flags
from opensips_py.modules.acc.fields import Fields
from opensips_py.modules.acc.records import ANSWERED, ENDED, MISSED, REQUEST, Call, Record, comment_of, insert, line, parameters
from opensips_py.script import program
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.script.variables import Registry
from opensips_py.server.process import this
from opensips_py.sip.reason_phrases import phrase_of
from opensips_py.testing import Script
from opensips_py.tm import relay, server_transaction
from opensips_py.tm.callbacks import When
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary

Lines = Callable[[], list[str]]


@pytest.fixture
def world(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(str(tmp_path / "store"), monkeypatch)
    status = SimpleNamespace(status=lambda slot: SimpleNamespace(incarnation=this.incarnation))
    monkeypatch.setattr(this, "counters", status, raising=False)
    for parameter in (declared.early_media, declared.report_cancels, declared.detect_direction):
        monkeypatch.setattr(parameter, "value", 0)
    declared.extras.read("extra_fields", [])
    declared.legs.read("leg_fields", [])
    accounting.subscribe()
    yield made
    monkeypatch.undo()
    accounting.subscribe()
    made.store.close()


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    """What has been accounted since the last call, in the log: what it is about, status and reason."""

    def read() -> list[str]:
        found = re.findall(r"ACC: (.*): timestamp=\d+;method=(\w+);.*;code=(\w*);reason=(.*)", capfd.readouterr().err)
        return [" ".join(one).strip() for one in found]

    return read


def accounted(*arguments: str) -> Callable[[Context], int]:
    """A script: do_accounting(…) and t_relay()."""

    def script(ctx: Context) -> int:
        assert acc.do_accounting(ctx, *arguments) == 1
        return relay.relay(ctx)

    return script


def invite(world: World, script: Callable[[Context], int], **routes: Callable[[Context], int]) -> Any:
    world.script(script, **routes)
    return find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")


ANSWERED_200 = "transaction answered INVITE 200 Reason"


@pytest.mark.parametrize(
    ("given", "code", "expected"),
    [
        (("log",), 200, [ANSWERED_200]),
        (("log", "failed|missed"), 200, [ANSWERED_200]),
        (("log",), 486, []),
        (("log", "failed"), 486, ["transaction answered INVITE 486 Reason"]),
        (("log", "missed"), 486, ["call missed INVITE 486 Reason"]),
        (("log", "missed|failed"), 404, ["call missed INVITE 404 Reason", "transaction answered INVITE 404 Reason"]),
        (("evi", "missed|failed"), 404, []),
    ],
)
def test_the_final_reply_brings_the_records_that_are_asked_for(
    world: World, lines: Lines, given: tuple[str, ...], code: int, expected: list[str]
) -> None:
    sent = invite(world, accounted(*given))
    world.receive(reply_to(sent, 180), UAS1)
    assert lines() == []
    world.receive(reply_to(sent, code), UAS1)
    assert lines() == expected
    world.receive(reply_to(sent, code), UAS1)
    assert lines() == []
    world.pass_time(400)
    assert world.entries() == 0


def test_a_record_says_who_and_when(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    sent = invite(world, accounted("log"))
    world.receive(reply_to(sent, 200, "OK"), UAS1)
    who = "method=INVITE;from_tag=ft1;to_tag=uas;call_id=call1@test;code=200;reason=OK"
    expected = rf"ACC: transaction answered: timestamp=1000;{who}\n"
    assert re.search(expected, capfd.readouterr().err)


def test_calls_of_do_accounting_add_up_and_drop_accounting_takes_away(world: World, lines: Lines) -> None:
    def script(ctx: Context) -> int:
        acc.do_accounting(ctx, "log", "failed")
        acc.do_accounting(ctx, "log|evi", "missed")
        acc.drop_accounting(ctx, "log", "missed")
        acc.drop_accounting(ctx, "evi")
        data = accounting.accounted.get(ctx)
        assert data is not None
        assert {kind: flags.Flag(bits) for kind, bits in data.flags.items()} == {
            "log": flags.Flag.ON | flags.Flag.FAILED,
            "evi": flags.Flag(0),
        }
        return relay.relay(ctx)

    sent = invite(world, script)
    world.receive(reply_to(sent, 486), UAS1)
    assert lines() == ["transaction answered INVITE 486 Reason"]


def test_nothing_is_left_after_drop_accounting(world: World, lines: Lines) -> None:
    def script(ctx: Context) -> int:
        assert acc.drop_accounting(ctx) == -1  # nothing to be dropped
        assert accounting.accounted.get(ctx) is None
        acc.do_accounting(ctx, "log", "missed|failed")
        acc.drop_accounting(ctx)
        return relay.relay(ctx)

    sent = invite(world, script)
    world.receive(reply_to(sent, 486), UAS1)
    assert lines() == []


def test_a_missed_call_is_reported_before_its_failure_route_and_once(
    world: World, capfd: pytest.CaptureFixture[str], lines: Lines
) -> None:
    seen: list[list[str]] = []

    def main(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return accounted("log", "missed|failed")(ctx)

    def again(ctx: Context) -> int:
        seen.append(lines())
        ctx.new_uri = "sip:bob@127.0.1.3:15063"
        return relay.relay(ctx)

    first = invite(world, main, failure_f=again)
    second = find(world.receive(reply_to(first, 486), UAS1), "INVITE>UAS2")
    assert seen == [["call missed INVITE 486 Reason"]]
    assert lines() == []
    world.receive(reply_to(second, 404), UAS2)
    assert lines() == ["transaction answered INVITE 404 Reason"]  # missed was not asked for again


def test_a_process_that_dies_in_a_failure_route_has_reported_the_missed_call(
    world: World, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return accounted("log", "missed")(ctx)

    deaths = [KeyboardInterrupt()]

    def dies(ctx: Context) -> int:
        if deaths:
            raise deaths.pop()
        return 1

    sent = invite(world, main, failure_f=dies)
    with pytest.raises(KeyboardInterrupt):
        world.receive(reply_to(sent, 486), UAS1)
    assert summary(world.receive(reply_to(sent, 486), UAS1)) == ["ACK>UAS1", "486>UAC"]  # repeated by the callee
    assert lines() == ["call missed INVITE 486 Reason"]


def test_missed_is_asked_for_in_a_failure_route(world: World, lines: Lines) -> None:
    def main(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return accounted("log")(ctx)

    def failed(ctx: Context) -> int:
        acc.do_accounting(ctx, "log", "missed")
        return 1

    sent = invite(world, main, failure_f=failed)
    world.receive(reply_to(sent, 486), UAS1)
    assert lines() == ["call missed INVITE 486 Reason"]


def test_replies_made_here_have_the_usual_phrase_and_no_tag(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    def script(ctx: Context) -> int:
        acc.do_accounting(ctx, "log", "failed")
        return server_transaction.reply(ctx, 480, "Gone fishing")

    world.script(script)
    world.receive(request("INVITE"), UAC)
    assert ";to_tag=;call_id=call1@test;code=480;reason=Temporarily Unavailable\n" in capfd.readouterr().err


def test_a_timeout_is_accounted(world: World, lines: Lines) -> None:
    invite(world, accounted("log", "failed|missed"))
    world.pass_time(130)
    assert lines() == ["call missed INVITE 408 Request Timeout", "transaction answered INVITE 408 Request Timeout"]


@pytest.mark.parametrize("asked", [0, 1])
def test_a_cancel_is_accounted_if_report_cancels_says_so(
    world: World, lines: Lines, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    monkeypatch.setattr(declared.report_cancels, "value", asked)
    sent = invite(world, accounted("log", "failed"))
    world.receive(reply_to(sent, 180), UAS1)
    assert find(world.receive(request("CANCEL"), UAC), "200>UAC")
    assert lines() == ["transaction answered CANCEL 200 OK"] * asked
    world.receive(reply_to(sent, 487), UAS1)
    assert lines() == ["transaction answered INVITE 487 Reason"]


@pytest.mark.parametrize(("asked", "body", "expected"), [(0, True, 0), (1, True, 1), (1, False, 0)])
def test_early_media_is_accounted_if_asked(
    world: World, lines: Lines, monkeypatch: pytest.MonkeyPatch, asked: int, body: bool, expected: int
) -> None:
    monkeypatch.setattr(declared.early_media, "value", asked)
    accounting.subscribe()
    sent = invite(world, accounted("log"))
    reply = reply_to(sent, 183)
    if body:
        reply = reply.replace(b"Content-Length: 0\r\n\r\n", b"Content-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\n")
    world.receive(reply, UAS1)
    assert lines() == ["transaction answered INVITE 183 Reason"] * expected


def test_tags_of_a_request_from_the_callee_are_swapped_if_asked(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(declared.detect_direction, "value", 1)
    accounting.subscribe()

    def script(ctx: Context) -> int:
        ctx.slots["rr.params"] = ";lr;ftag=caller"
        return accounted("log")(ctx)

    world.script(script)
    sent = find(world.receive(request("BYE", to_tag="caller"), UAC), "BYE>UAS1")
    world.receive(reply_to(sent, 200), UAS1)
    assert ";from_tag=caller;to_tag=ft1;" in capfd.readouterr().err


def test_a_stateless_reply_is_not_accounted(world: World, lines: Lines) -> None:
    from opensips_py.tm import stateless

    def script(ctx: Context) -> int:
        acc.do_accounting(ctx, "log", "failed")
        return stateless.send(ctx, 480, "Stateless")

    world.script(script)
    world.receive(request("INVITE"), UAC)
    assert lines() == []
    assert world.entries() == 0


# --- further fields ---------------------------------------------------------------------------------------------------


def test_extra_fields_and_legs(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    declared.extras.read("extra_fields", ["log: who->caller_name; ip", "db: who"])
    declared.legs.read("leg_fields", ["log: src;dst"])

    def script(ctx: Context) -> int:
        assert acc.acc_extra(ctx, "who", None) is None
        assert acc.acc_current_leg(ctx, None, None) is None
        acc._write_extra(ctx, " who ", None, "alice")
        acc.do_accounting(ctx, "log")
        assert acc.acc_extra(ctx, "who", None) == "alice"
        assert acc.acc_current_leg(ctx, None, None) == 0
        acc._write_leg(ctx, "src", None, "s1")
        assert acc.acc_new_leg(ctx) == 1
        assert acc.acc_leg(ctx, "src", None) is None
        acc._write_leg(ctx, "dst", None, 5)
        assert [acc.acc_leg(ctx, "src", 0), acc.acc_leg(ctx, "dst", -1), acc.acc_leg(ctx, "dst", 9)] == ["s1", "5", None]
        return relay.relay(ctx)

    sent = invite(world, script)
    world.receive(reply_to(sent, 200), UAS1)
    assert ";reason=Reason;caller_name=alice;ip=;src=s1;dst=;src=;dst=5\n" in capfd.readouterr().err


def test_a_field_becomes_null_and_one_that_is_not_declared_stays_unset(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    declared.extras.read("extra_fields", ["log: a"])

    def script(ctx: Context) -> int:
        acc._write_extra(ctx, "a", None, "1")
        acc._write_extra(ctx, "a", None, None)
        acc._write_extra(ctx, "b", None, "1")
        acc._write_leg(ctx, "b", 7, "1")
        return 1 if accounting.accounted.get(ctx) == accounting.Accounting() else -1

    results: list[int] = []

    def main(ctx: Context) -> int:
        results.append(script(ctx))
        return 1

    world.script(main)
    world.receive(request("INVITE"), UAC)
    assert results == [1]
    error = capfd.readouterr().err
    assert "$acc_extra(b) is not declared; there are a" in error
    assert "there is no leg 7: 1 so far" in error


@pytest.mark.parametrize("text", ["who", "paper: who", "log: ->x", "log: x->"])
def test_fields_that_are_not_written_so_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"acc: extra_fields \[.*\] is written|\[.*\] is written tag"):
        Fields().read("extra_fields", [text])


# --- types and flags --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("log", None),
        ("db | log", None),
        ("paper", "not a type"),
        ("log|", "not a type"),
        ("aaa", "needs module aaa_radius"),
        ("", "not a type"),
    ],
)
def test_types(text: str, fault: str | None) -> None:
    found = flags.kinds_fault(text, Registry())
    assert (found is None) == (fault is None)
    assert fault is None or fault in str(found)


def test_what_is_no_type_or_flag_in_a_variable_is_refused_when_it_is_used(world: World) -> None:
    codes: list[int] = []

    def script(ctx: Context) -> int:
        codes.extend([acc.do_accounting(ctx, "paper"), acc.do_accounting(ctx, "log", "rarely"), acc.drop_accounting(ctx, "?")])
        return 1

    world.script(script)
    world.receive(request("INVITE"), UAC)
    assert codes == [-1, -1, -1]


# --- records as they are written --------------------------------------------------------------------------------------


def record(about: str, kind: str = "db", **given: Any) -> Record:
    fields: dict[str, Any] = {"extras": [], "legs": [], "table": "acc"} | given
    return Record(kind, about, 1000, "INVITE", "ft", "tt", "c1", "200", "OK", **fields)


def test_rows_have_times_and_those_of_calls_their_duration() -> None:
    plain = insert(record(ANSWERED))
    assert plain.columns[6:] == ("time", "setuptime", "created", "duration", "ms_duration")
    assert plain.rows == (("INVITE", "ft", "tt", "c1", "200", "OK", db.Time(1000), 0, None, 0, 0),)
    missed = insert(record(MISSED, call=Call(990.5)))
    assert missed.columns[7:] == ("setuptime", "created")
    assert missed.rows[0][7:] == (10, db.Time(990))
    ended = insert(record(ENDED, call=Call(990.0, 995.0, 996.1)))
    assert ended.rows[0][7:] == (5, db.Time(990), 2, 1100)
    assert len(insert(record(REQUEST)).columns) == 7


def test_there_is_a_row_for_each_leg() -> None:
    rows = insert(record(ANSWERED, extras=[("x", "1")], legs=[[("src", "a")], [("src", "b")]]))
    assert [row[7:9] for row in rows.rows] == [("1", "a"), ("1", "b")]


def test_a_row_that_may_have_been_written_is_written_if_it_is_not_there() -> None:
    assert insert(record(ANSWERED)).existing == "error"
    assert insert(record(ANSWERED), unless_there=True).existing == "keep"


def test_the_line_of_a_call_that_has_ended() -> None:
    assert line(record(ENDED, "log", call=Call(990.2, 995.2, 996.3), extras=[("a", "1")])) == (
        "ACC: call ended: created=990;call_start_time=995;duration=2;ms_duration=1100;setuptime=5;"
        "method=INVITE;from_tag=ft;to_tag=tt;call_id=c1;code=200;reason=OK;a=1"
    )


def test_the_line_of_a_missed_call_of_which_a_whole_record_is_made() -> None:
    assert line(record(MISSED, "log", call=Call(990.2))).startswith(
        "ACC: call missed: timestamp=1000;created=990;setuptime=10;method=INVITE;"
    )


def test_nobody_forges_a_line(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    declared.extras.read("extra_fields", ["log: a"])

    def script(ctx: Context) -> int:
        acc._write_extra(ctx, "a", None, "1\nACC: forged")
        return acc.acc_log_request(ctx, "x")

    world.script(script)
    world.receive(request("OPTIONS"), UAC)
    assert "\nACC: forged" not in capfd.readouterr().err


def test_parameters_of_events() -> None:
    (first, second) = parameters(record(ENDED, "evi", call=Call(990.0, 995.0, 996.1), legs=[[("src", "a")], [("src", "b")]]))
    found = dict(first)
    assert found["sip_code"] == "200"
    assert (found["duration"], found["ms_duration"], found["setuptime"], found["created"], found["src"]) == (2, 1100, 5, 990, "a")
    assert dict(second)["src"] == "b"
    assert "duration" not in dict(parameters(record(ANSWERED, "evi"))[0])


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("404 Nobody home", ("404", "Nobody home")),
        ("404", ("404", "")),
        ("404x", ("404", "x")),
        ("some comment", ("", "some comment")),
        ("12", ("", "12")),
        ("", ("", "")),
    ],
)
def test_comments(comment: str, expected: tuple[str, str]) -> None:
    assert comment_of(comment) == expected


@pytest.mark.parametrize(
    ("code", "phrase"), [(200, "OK"), (487, "Request Terminated"), (299, "Successful"), (699, "Global failure")]
)
def test_phrases(code: int, phrase: str) -> None:
    assert phrase_of(code) == phrase


# --- in a script ------------------------------------------------------------------------------------------------------

SCRIPT = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "event_route.so"
loadmodule "db_sqlite.so"
loadmodule "acc.so"
"""


def test_events_and_requests_in_a_script() -> None:
    text = (
        SCRIPT
        + """
modparam("acc", "extra_fields", "evi: who")
route {
    $acc_extra(who) = $fU;
    acc_evi_request("480 note");
    xlog("rc $rc\\n");
    acc_log_request("404 Nobody home");
    acc_log_request("a comment");
    do_accounting("evi");
    t_reply(200, "OK");
}
event_route[E_ACC_EVENT, sync] { xlog("event $param(method) $param(sip_code) $param(sip_reason) $param(who)\\n"); }
event_route[E_ACC_MISSED_EVENT, sync] { xlog("missed $param(sip_code) $param(sip_reason)\\n"); }
"""
    )
    with Script(text) as script:
        run = script.request("OPTIONS", "sip:bob@example.com")
        assert "rc 1" in run.log
        assert "missed 480 note" in run.log
        assert any(re.fullmatch(r"event OPTIONS 200 OK \S*", one) for one in run.log), run.log
        accounted_lines = [one for one in run.log if "ACC: request accounted" in one]
        assert [one.partition("code=")[2] for one in accounted_lines] == ["404;reason=Nobody home", ";reason=a comment"]


def test_without_a_database_acc_db_request_fails() -> None:
    with Script(SCRIPT + 'route { acc_db_request("200 OK", "acc"); t_reply(200, "rc $rc"); }') as script:
        assert script.request("OPTIONS", "sip:bob@example.com").replies == ["200 rc -1"]


TABLES = """
create table version(table_name char(32), table_version integer);
insert into version values('acc', 7);
create table acc(id integer primary key, method char(16), from_tag char(64), to_tag char(64), callid char(64), sip_code char(3),
    sip_reason char(32), time datetime, duration integer, ms_duration integer, setuptime integer, created datetime, who char(64));
create table others as select * from acc;
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "acc.db", isolation_level=None)
    connection.executescript(TABLES)
    yield connection
    connection.close()


@pytest.mark.parametrize("call", ["acc_db_request({}); route(done);", "async(acc_db_request({}), done);"])
def test_a_request_is_written_plainly_and_in_async(database: sqlite3.Connection, tmp_path: Path, call: str) -> None:
    text = (
        SCRIPT
        + f"""
modparam("acc", "db_url", "sqlite://{tmp_path}/acc.db")
modparam("acc", "extra_fields", "db: x -> who")
route {{ $acc_extra(x) = "alice"; {call.format('"404 Nobody home", "others"')} }}
route[done] {{ t_reply(200, "rc $rc"); }}
"""
    )
    with Script(text) as script:
        assert script.request("OPTIONS", "sip:bob@example.com").replies == ["200 rc 1"]
    rows = database.execute("select method, sip_code, sip_reason, who, time is not null from others").fetchall()
    assert rows == [("OPTIONS", "404", "Nobody home", "alice", 1)]


def test_an_answer_is_written_to_the_table_that_is_given(database: sqlite3.Connection, tmp_path: Path) -> None:
    text = (
        SCRIPT
        + f"""
modparam("acc", "db_url", "sqlite://{tmp_path}/acc.db")
modparam("acc", "acc_sip_reason_column", "who")
route {{ if ($rm == "INVITE") do_accounting("db", , "others"); t_reply(200, "Fine"); }}
"""
    )
    with Script(text) as script:
        assert script.request("INVITE", "sip:bob@example.com").replies == ["200 Fine"]
        while outbox.under_way:
            script.request("OPTIONS", "sip:bob@example.com")
    rows = database.execute("select sip_code, sip_reason, who, duration, created from others").fetchall()
    assert rows == [("200", None, "OK", 0, None)]
    assert database.execute("select count(*) from acc").fetchone() == (0,)


def test_a_table_of_another_version_keeps_the_server_from_starting(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.execute("update version set table_version = 6")
    text = SCRIPT + f'modparam("acc", "db_url", "sqlite://{tmp_path}/acc.db")\nroute {{ exit; }}'
    with pytest.raises(ConfigError, match="invalid version 6 for table acc found, expected 7"), Script(text):
        pass


def test_a_record_whose_database_is_gone_from_the_script_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared.module.params["db_url"], "value", "")
    assert accounting.write(record(ANSWERED), False) == 1


def test_boxes_and_moments_are_those_of_the_module() -> None:
    assert outbox.boxes["acc"] is accounting.records
    assert set(accounting.accounted.callbacks) >= {When.FAILURE, When.COMPLETED}


def warnings(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "acc.cfg").write_text('loadmodule "proto_udp.so"\nsocket=udp:127.0.0.1:5060\n' + text)
    return [str(found.message) for found in program.load(str(tmp_path / "acc.cfg")).warnings]


def test_what_cannot_be_written_is_a_warning_of_the_check(tmp_path: Path) -> None:
    found = warnings(tmp_path, SCRIPT + 'route { do_accounting("log|db", "cdr|missed"); t_reply(200, "OK"); }')
    assert found == [declared.NO_DATABASE, declared.NO_DIALOGS]
    with_database = 'db_default_url="sqlite:///x.db"\n' + SCRIPT + 'route { do_accounting("db"); t_reply(200, "OK"); }'
    assert warnings(tmp_path, with_database) == []


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('modparam("acc", "extra_fields", "who")', "acc: extra_fields [who] is written"),
        ('modparam("acc", "log_facility", "LOG_LUNCH")', "is not one of LOG_KERN"),
        ('modparam("acc", "detect_direction", 1)', "needs module rr"),
        ('modparam("acc", "aaa_url", "radius:x")', "aaa_radius"),
        ('route[x] { do_accounting("aaa"); }', "needs module aaa_radius"),
        ('route[x] { do_accounting("log", "often"); }', "invalid flag: <often>"),
        ('route[x] { $acc_extra(a) = "b"; }', "declare it: modparam"),
    ],
)
def test_mistakes_are_found_when_the_script_is_checked(tmp_path: Path, line: str, error: str) -> None:
    (tmp_path / "acc.cfg").write_text(
        f'loadmodule "proto_udp.so"\nsocket=udp:127.0.0.1:5060\n{SCRIPT}\n{line}\nroute {{ route(x); }}\n'
    )
    with pytest.raises(ScriptErrors) as raised:
        program.load(str(tmp_path / "acc.cfg"))
    assert error in str(raised.value)
