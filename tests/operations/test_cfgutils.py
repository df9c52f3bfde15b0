"""The cfgutils module: pauses, shared variables, locks, chance, time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipc.lmdb_store import LmdbStore
from opensips_py.core.time_recurrence import RecurrenceError, matches
from opensips_py.modules import cfgutils
from opensips_py.modules.cfgutils.pause import Pause, Sleep
from opensips_py.script import variables
from opensips_py.script.declarations import ConfigError, MIError
from opensips_py.script.variables import Registry
from opensips_py.server.process import this
from tests.operations.driving import Driver, drive, run

CTX: Any = SimpleNamespace(avps={"x": [1, 2, 3]})


@pytest.fixture(autouse=True)
def _store(process: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registry = Registry()
    registry.add(cfgutils.module)
    monkeypatch.setattr(variables, "_registry", registry)
    store = LmdbStore(str(tmp_path / "store"), 1 << 20)
    monkeypatch.setattr(this, "store", store)
    yield
    store.close()
    cfgutils.shvset.value = []
    cfgutils.varset.value = []


def read(text: str) -> Any:
    return variables.by_text(text).get(CTX)


def write(text: str, value: Any) -> None:
    variables.by_text(text).set(CTX, value)


@pytest.mark.parametrize("mode", ["plain", "async", "launch"])
def test_a_pause_takes_its_time(mode: str) -> None:
    began = this.clock.now()
    assert run(cfgutils.usleep(CTX, 50_000), mode) == (1, [])
    assert 0.05 <= this.clock.now() - began < 2
    assert cfgutils.sleep(CTX, 0).start() == (1, [])


def test_pauses_need_no_descriptors_and_end_in_order() -> None:
    drivers = [Driver(cfgutils.usleep(CTX, n)) for n in range(30_000, 130_000, 10_000)]
    assert {driver.op.fileno() for driver in drivers} == {-1}
    assert [done.rc for done in drive(*drivers)] == [1] * 10


def test_another_process_waits_for_the_rest_only() -> None:
    pause = Sleep(0.1)
    pause.start()
    heir = Pause.registry["sleep"].thaw(pause.freeze(), [], b"")
    assert heir.deadline == pause.deadline
    assert heir.start() is None
    time.sleep(0.1)
    assert not heir.counts_as_timeout
    assert heir.expire().rc == 1


def test_a_pause_cut_short_is_a_timeout() -> None:
    pause = Sleep(10)
    pause.start()
    assert pause.counts_as_timeout
    assert pause.expire().rc == -3


def test_shared_variables() -> None:
    cfgutils.shvset.value = ["init=s:hello", "num=i:0x29", "empty=s:"]
    cfgutils.configure()
    assert [read("$shv(init)"), read("$shv(num)"), read("$shv(undef)"), read("$shv(empty)")] == ["hello", 41, 0, ""]
    write("$shv(num)", 42)
    write("$shv(init)", "5\xff")
    assert [read("$shv(num)"), read("$shv(init)")] == [42, "5\xff"]
    write("$shv(num)", None)
    assert read("$shv(num)") == 0


def test_first_values_of_script_variables() -> None:
    cfgutils.varset.value = ["cfgutils_test=i:7"]
    cfgutils.configure()
    cfgutils.set_first_values()
    assert read("$var(cfgutils_test)") == 7


@pytest.mark.parametrize("text", ["x", "x=7", "x=i:seven", "=s:v"])
def test_bad_first_values_are_refused(text: str) -> None:
    cfgutils.shvset.value = [text]
    with pytest.raises(ConfigError, match="shvset"):
        cfgutils.configure()


def test_shared_variables_in_management() -> None:
    cfgutils.configure()
    assert cfgutils.mi_shv_set("x", "int", "7") == "OK"
    assert cfgutils.mi_shv_get("x") == {"VAR": {"type": "integer", "value": 7}}
    cfgutils.mi_shv_set("y", "str", "7")
    assert cfgutils.mi_shv_get()["VARs"] == [
        {"name": "x", "type": "integer", "value": 7},
        {"name": "y", "type": "string", "value": "7"},
    ]
    with pytest.raises(MIError):
        cfgutils.mi_shv_get("none")


def test_chance() -> None:
    assert cfgutils.rand_get_prob(CTX) == 10
    assert cfgutils.rand_set_prob(CTX, 100) == 1
    assert {cfgutils.rand_event(CTX) for _ in range(50)} == {1}
    assert {cfgutils.rand_event(CTX, 0) for _ in range(50)} == {-1}
    cfgutils.rand_set_prob(CTX, 0)
    assert cfgutils.rand_get_prob(CTX) == -1
    assert cfgutils.rand_set_prob(CTX, 101) == -1
    cfgutils.rand_reset_prob(CTX)
    assert cfgutils.mi_rand_get_prob() == {"Probability": 10}


def test_locks_are_released_by_their_holder_only() -> None:
    assert cfgutils.release_static_lock(CTX, "a") == -1
    assert cfgutils.get_static_lock(CTX, "a") == 1
    assert cfgutils.get_static_lock(CTX, "b") == 1
    assert cfgutils.release_static_lock(CTX, "a") == 1
    assert cfgutils.release_static_lock(CTX, "a") == -1
    assert cfgutils.release_static_lock(CTX, "b") == 1
    assert cfgutils.get_dynamic_lock(CTX, "a") == 1
    assert cfgutils.release_dynamic_lock(CTX, "a") == 1
    assert cfgutils.strings_share_lock(CTX, "same", "same") == 1


def test_counting_and_time() -> None:
    results: dict[str, Any] = {}

    class Out:
        writable = True

        def __init__(self, text: str) -> None:
            self.text = text

        def get(self, ctx: Any) -> Any:
            return results.get(self.text)

        def set(self, ctx: Any, value: Any) -> None:
            results[self.text] = value

    cfgutils.set_count(CTX, variables.by_text("$avp(x)"), Out("n"))
    cfgutils.ts_usec_delta(CTX, 10, 500, 12, 700, Out("delta"))
    cfgutils.get_accurate_time(CTX, Out("sec"), Out("usec"), Out("text"))
    assert (results["n"], results["delta"]) == (3, 2000200)
    assert abs(float(results["text"]) - time.time()) < 5
    assert results["text"] == f"{results['sec']}.{results['usec']:06d}"
    assert read("$ctime(year)") == time.localtime().tm_year
    assert read("$env(GOLDEN_SURELY_UNSET)") is None
    assert 0 <= read("$RANDOM") < 2**31


def at(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M"))


OFFICE = "20260101T090000|20260101T173000||weekly|||MO,TU,WE,TH,FR"


@pytest.mark.parametrize(
    ("recurrence", "moment", "within"),
    [
        ("20000101T000000|20990101T000000", "2026-11-23 12:00", True),
        ("20000101T000000|20000102T000000", "2026-11-23 12:00", False),
        ("20270101T000000", "2026-11-23 12:00", False),
        ("20260101T000000", "2026-11-23 12:00", True),
        (OFFICE, "2026-11-23 09:00", True),
        (OFFICE, "2026-11-23 17:30", False),
        (OFFICE, "2026-11-22 12:00", False),
        ("20260101T220000||PT8H|daily", "2026-11-23 03:00", True),
        ("20260101T220000||PT8H|daily", "2026-11-23 07:00", False),
        ("20260101T000000||P1D|daily||2", "2026-01-03 12:00", True),
        ("20260101T000000||P1D|daily||2", "2026-01-04 12:00", False),
        ("20260101T000000||P1D|daily|20260110", "2026-01-10 12:00", True),
        ("20260101T000000||P1D|daily|20260110", "2026-01-11 12:00", False),
        ("20260101T000000||P1D|monthly|||-1FR", "2026-11-27 12:00", True),
        ("20260101T000000||P1D|monthly|||-1FR", "2026-11-20 12:00", False),
        ("20260101||PX", "2026-11-20 12:00", True),  # as in OpenSIPS, what is not a duration has no end
        ("20260101||PX", "2025-11-20 12:00", False),
        ("20260101T000000||P1D|monthly||||-1", "2026-02-28 12:00", True),
        ("20200704T000000||P1D|yearly", "2026-07-04 12:00", True),
        ("20200704T000000||P1D|yearly", "2026-07-05 12:00", False),
        ("20200101T000000||P1D|yearly||||||48", "2026-11-23 12:00", True),
        ("20200101T000000||P1D|yearly|||||||12", "2026-12-01 12:00", True),
    ],
)
def test_time_recurrences(recurrence: str, moment: str, within: bool) -> None:
    assert matches(recurrence, at(moment)) is within
    assert cfgutils.check_time_rec(CTX, recurrence, int(at(moment))) == (1 if within else -1)


@pytest.mark.parametrize("text", ["", "yesterday", "20260101|x", "20260101|||hourly", "20260101|||weekly|||XX"])
def test_bad_time_recurrences(text: str) -> None:
    with pytest.raises(RecurrenceError):
        matches(text, time.time())
