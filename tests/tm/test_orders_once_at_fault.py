"""Orders of events that were once at fault, found by tests/tm/test_any_order_of_events.py."""

from __future__ import annotations

import pytest

from tests.tm import test_any_order_of_events as any_order


@pytest.mark.parametrize("death", range(12))
@pytest.mark.parametrize("late_success", [True, False])
def test_a_resumed_failure_route_ends_although_its_process_dies_at_any_step(death: int, late_success: bool) -> None:
    """Also after a 2xx that has come while it waited; between the claim and the commit nobody else would end it."""
    call = any_order.Call()
    call.call_begins("INVITE", failure="suspend", fork=False, before="nothing", reply_route=False, lost=0, death=None)
    call.caller_cancels(0)
    call.a_timer_fires_while_a_callee_replies(0, 302, [], None)
    if late_success:
        call.a_timer_fires_while_a_callee_replies(0, 200, [], None)
    call.operation_ends_while_the_caller_sends([], "CANCEL", (0, death))
    call.teardown()
