"""The time for any input grows with its length, not with its square, whatever it is filled with."""

from __future__ import annotations

from functools import partial

import pytest

from opensips_py.modules import rr
from scripts.bench_hostile import FAMILIES
from scripts.hostile.growth import SIZES, Case, Growth, Work, judge, measure


@pytest.fixture(autouse=True)
def nobody_follows_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What scripts of earlier tests have hung to loose_route() would ask for a store."""
    monkeypatch.setattr(rr, "routed", [])


def _faults(cases: list[Case]) -> list[str]:
    return [str(growth) for growth in map(judge, cases) if growth.steep]


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "transformations" and name != "reading a message"])
def test_no_input_takes_more_than_its_share(family: str) -> None:
    assert not _faults(list(FAMILIES[family]()))


@pytest.mark.parametrize("kind", ["Via", "From", "Contact", "Route", "Authorization", "R-URI", "lines"])
def test_no_header_takes_more_than_its_share(kind: str) -> None:
    cases = [case for case in FAMILIES["reading a message"]() if case.name.startswith(kind)]
    assert not _faults(cases[::3] if len(cases) > 100 else cases)


def test_no_transformation_takes_more_than_its_share() -> None:
    assert not _faults(list(FAMILIES["transformations"]())[::7])


def test_quadratic_work_is_found() -> None:
    def prepare(size: int) -> Work:
        return partial(_quadratic, size)

    assert measure(Case("quadratic", prepare)).steep
    assert not measure(Case("linear", lambda size: partial(sum, range(20 * size)))).steep
    assert Growth("stopped early", [2.0], SIZES).steep


def _quadratic(size: int) -> int:
    return sum(1 for a in range(size // 50) for b in range(size // 50))
