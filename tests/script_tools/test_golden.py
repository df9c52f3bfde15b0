"""``make golden`` counts what was replayed, excepts what is listed, and leaves out what lacks its modules."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.golden import Case, Progress, judge, missing_modules


def case(name: str, differ: int = 0, area: str = "tm") -> Case:
    return Case(name, area, ok=not differ, skipped=None, assertions=4, differ=differ)


@pytest.mark.parametrize(
    ("written", "missing"),
    [
        ({"modules": ["sl", "tm"]}, set()),
        ({"modules": ["sl", "acc", "dialog"]}, {"acc", "dialog"}),
        ({"cfg": 'loadmodule "sl.so"\n  loadmodule "modules/acc.so"\n#loadmodule "dialog.so"'}, {"acc"}),
        ({"modules": ["sl"], "globals": 'loadmodule "dialog"'}, {"dialog"}),
        ({"modules": ["none"]}, set()),
    ],
)
def test_a_case_lacks_modules_of_opensips_that_do_not_exist(written: dict[str, Any], missing: set[str]) -> None:
    assert missing_modules(written, {"sl", "tm"}) == missing


def test_shares_are_printed_for_each_area_and_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge([case("a"), case("b", area="rr")], {"c": {"acc", "dialog"}, "d": {"acc"}}, {}) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["area", "rr", "1", "of", "1", "cases", "4", "of", "4", "assertions", "100.00", "%"]
    assert lines[2] == ["module", "missing:", "acc", "2,", "dialog", "1", "(2", "cases)"]
    assert lines[3] == ["all", "2", "of", "2", "cases", "8", "of", "8", "assertions", "100.00", "%"]


def test_what_differs_without_being_listed_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge([case("a", 1), case("x-b-1", 2)], {}, {"x-b-*": "reason"}) == 1
    printed = capsys.readouterr().out
    assert "a differs and is not in golden-exceptions.txt" in printed
    assert "x-b-1 differs" not in printed
    assert "5 of     8 assertions  62.50 %" in printed


def test_what_is_listed_and_does_not_differ_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge([case("a")], {}, {"a": "reason", "not-replayed": "reason"}) == 1
    printed = capsys.readouterr().out
    assert "a does not differ any more" in printed
    assert "not-replayed" not in printed


def test_only_what_differs_unexpectedly_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(3, ["known"])
    for line in (
        "ok       fine  [tm] 3\n",
        "FAIL     known  [tm] 1\n",
        "      how\n",
        "FAIL     new  [tm] 1\n",
        "      so\n",
        "area tm\n",
    ):
        progress.line(line)
    assert capsys.readouterr().out == "FAIL     new  [tm] 1\n      so\n"
