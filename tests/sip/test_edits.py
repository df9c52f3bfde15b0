"""Changes of a message."""

from __future__ import annotations

import pytest

from opensips_py.sip.message import Header, SipMessage, parse

TEXT = (
    "MESSAGE sip:bob@example.com SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n"
    "Max-Forwards: 70\r\n"
    "Subject: first\r\n"
    "Content-Length: 5\r\n"
    "\r\n"
    "hello"
)


@pytest.fixture
def msg() -> SipMessage:
    return parse(TEXT.encode())


def header(msg: SipMessage, kind: str) -> Header:
    found = msg.header(kind)
    assert found is not None
    return found


def sent(msg: SipMessage) -> str:
    return msg.serialise().decode("latin-1")


def test_an_untouched_message_leaves_as_it_came(msg: SipMessage) -> None:
    assert msg.serialise() is msg.raw


def test_appended_headers_come_last_in_order(msg: SipMessage) -> None:
    msg.append_header("X-A: 1\r\n")
    msg.append_header("X-B: 2\r\n")
    assert sent(msg) == TEXT.replace("5\r\n\r\n", "5\r\nX-A: 1\r\nX-B: 2\r\n\r\n")


def test_inserted_headers_come_first_or_before_their_kind(msg: SipMessage) -> None:
    msg.insert_header("X-A: 1\r\n", before="subject")
    msg.insert_header("X-B: 2\r\n")
    msg.insert_header("X-C: 3\r\n", before="x-none")
    assert sent(msg) == TEXT.replace("Via:", "X-B: 2\r\nX-C: 3\r\nVia:").replace("Subject:", "X-A: 1\r\nSubject:")


def test_a_change_is_not_visible_until_sent(msg: SipMessage) -> None:
    msg.append_header("X-A: 1\r\n")
    msg.remove_header(header(msg, "subject"))
    assert msg.header("x-a") is None and msg.header("subject") is not None


def test_removed_headers_are_gone(msg: SipMessage) -> None:
    msg.remove_header(header(msg, "subject"))
    msg.remove_header(header(msg, "subject"))
    assert sent(msg) == TEXT.replace("Subject: first\r\n", "")


def test_the_last_replacement_of_a_value_counts(msg: SipMessage) -> None:
    msg.replace_value(header(msg, "max-forwards"), "69")
    msg.replace_value(header(msg, "max-forwards"), "68")
    assert sent(msg) == TEXT.replace("70", "68")


def test_removal_beats_replacement(msg: SipMessage) -> None:
    msg.replace_value(header(msg, "subject"), "x")
    msg.remove_header(header(msg, "subject"))
    msg.replace_value(header(msg, "subject"), "y")
    assert sent(msg) == TEXT.replace("Subject: first\r\n", "")


def test_what_is_inserted_before_a_header_survives_its_removal(msg: SipMessage) -> None:
    msg.insert_header("X-A: 1\r\n", before="subject")
    msg.remove_header(header(msg, "subject"))
    assert sent(msg) == TEXT.replace("Subject: first", "X-A: 1")


def test_content_length_follows_the_body(msg: SipMessage) -> None:
    msg.replace_body("hello again")
    assert sent(msg) == TEXT.replace("Length: 5", "Length: 11").replace("hello", "hello again")
    msg.replace_body("")
    assert sent(msg) == TEXT.replace("Length: 5", "Length: 0").replace("hello", "")


def test_content_length_follows_edits_inside_the_body(msg: SipMessage) -> None:
    msg.edits.append((msg.body_start + 1, 1, "EEE"))
    assert msg.pending_body() == "hEEEllo" and msg.body == "hello"
    assert sent(msg) == TEXT.replace("Length: 5", "Length: 7").replace("hello", "hEEEllo")


def test_a_new_body_gets_a_content_length() -> None:
    msg = parse(TEXT.replace("Content-Length: 5\r\n", "").encode())
    msg.replace_body("four")
    assert sent(msg).endswith("Subject: first\r\nContent-Length: 4\r\n\r\nfour")


def test_edits_are_plain_data_that_make_the_same_message_again(msg: SipMessage) -> None:
    msg.append_header("X-A: 1\r\n")
    msg.remove_header(header(msg, "subject"))
    again = parse(TEXT.encode())
    again.edits = list(msg.edits)
    assert again.serialise() == msg.serialise()


def test_a_replacement_inside_replaced_text_is_ignored(msg: SipMessage) -> None:
    at = msg.text.index("Subject")
    msg.edits.append((at + 9, 5, "second"))
    msg.edits.append((at, 14, "Subject: whole"))
    msg.edits.append((at + 9, 0, "!"))
    assert "\r\nSubject: whole!\r\n" in sent(msg)
