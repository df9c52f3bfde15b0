"""DNS messages: whatever bytes come, a question gets an answer or goes on waiting; nothing raises."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from opensips_py.dns import wire
from opensips_py.dns.records import MOST_RECORDS, Question, Srv, Status

QUESTION = Question("a.example.test", "SRV")


def response(query: wire.Query, *lines: str) -> dns.message.Message:
    """A response with records: ``name ttl type rest``."""
    made = dns.message.make_response(query.message)
    for line in lines:
        name, ttl, type, rest = line.split(None, 3)
        made.answer.append(dns.rrset.from_text(name, int(ttl), "IN", type, rest))
    return made


VALID = wire.query(QUESTION)
RESPONSE = response(
    VALID, "a.example.test. 60 CNAME b.example.test.", "b.example.test. 60 SRV 10 20 5060 host.example.test."
).to_wire()


@given(st.binary(max_size=600))
def test_any_bytes(data: bytes) -> None:
    assert wire.read(VALID, data) is None


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(2, len(RESPONSE) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(RESPONSE)))
def test_a_damaged_response(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(RESPONSE)
    for place, value in changes:
        data[place] = value
    outcome = wire.read(VALID, bytes(data[:length]))
    assert outcome is None or outcome.answer is None or isinstance(outcome.answer.status, Status)
    wire.read(VALID, bytes(data))


def test_an_alias_is_followed_and_the_shortest_time_holds() -> None:
    made = response(VALID, "a.example.test. 7 CNAME b.example.test.", "b.example.test. 60 SRV 10 20 5060 Host.example.test.")
    outcome = wire.read(VALID, made.to_wire())
    assert outcome is not None and outcome.answer is not None
    [record] = outcome.answer.records
    assert record == (10, 20, 5060, "host.example.test") and outcome.answer.seconds == 7


def test_aliases_in_a_ring_are_no_answer() -> None:
    made = response(VALID, "a.example.test. 7 CNAME b.example.test.", "b.example.test. 7 CNAME a.example.test.")
    outcome = wire.read(VALID, made.to_wire())
    assert outcome is None or outcome.answer is None or not outcome.answer.records


def test_a_response_to_another_question_is_passed_over() -> None:
    other = wire.query(Question("b.example.test", "SRV"))
    other.message.id = VALID.message.id
    assert wire.read(VALID, response(other, "b.example.test. 60 SRV 1 1 1 evil.test.").to_wire()) is None


def test_a_question_sent_back_is_no_response() -> None:
    assert wire.read(VALID, VALID.data) is None


def test_records_beside_the_question_are_not_taken() -> None:
    made = response(VALID, "a.example.test. 60 SRV 10 20 5060 host.example.test.", "c.example.test. 60 SRV 1 1 1 evil.test.")
    outcome = wire.read(VALID, made.to_wire())
    assert outcome is not None and outcome.answer is not None
    assert [record[3] for record in outcome.answer.records if isinstance(record, tuple)] == ["host.example.test"]


def test_of_an_answer_only_the_first_choices_are_kept() -> None:
    asked = wire.query(Question("a.test", "SRV"))
    given = response(asked)
    given.answer.append(
        dns.rrset.from_text_list("a.test.", 60, "IN", "SRV", [f"{n} 0 5060 h{n}.test." for n in reversed(range(200))])
    )
    outcome = wire.read(asked, given.to_wire(max_size=65535))
    assert outcome is not None and outcome.answer is not None
    assert {record.priority for record in outcome.answer.records if isinstance(record, Srv)} == set(range(MOST_RECORDS))
