"""Who owns which keys of the store."""

from __future__ import annotations

import pytest

from ipc import prefixes


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "declared", {})


@pytest.mark.parametrize("value", [b"mone:", b"m", b"mone:more"])
def test_two_modules_cannot_take_the_same_keys(value: bytes) -> None:
    assert prefixes.prefix(b"mone:", "things", "opensips_py.modules.one") == b"mone:"
    with pytest.raises(ValueError, match=r"those of opensips_py\.modules\.one: other cannot have"):
        prefixes.prefix(value, "other things", "other")


def test_a_module_may_be_read_again() -> None:
    for _ in range(2):
        prefixes.prefix(b"m1:", "things", "one")
    prefixes.prefix(b"m2:", "things", "one")
    assert [kind.owner for kind in prefixes.declared.values()] == ["one", "one"]


def test_nobody_has_all_keys() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        prefixes.prefix(b"", "everything", "one")
