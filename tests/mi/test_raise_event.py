"""The management command raise_event takes any text for the parameters of an event."""

from __future__ import annotations

from opensips_py.testing import Script


def test_a_text_that_is_nested_too_deeply_is_no_json() -> None:
    with Script("route { exit; }") as script:
        assert script.mi("raise_event", {"event": "E_CORE_THRESHOLD", "params": "[" * 100_000}) == {"result": "OK"}
