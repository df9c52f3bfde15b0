"""Messages in a stream: RFC 3261 7.5, 18.3; keep-alives of RFC 5626 3.5.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensips_py.sip.framing import MAX_MESSAGE, PING, Framer, FramingError


def message(body: bytes = b"", length: bytes | None = None, name: bytes = b"Content-Length") -> bytes:
    given = b"%d" % len(body) if length is None else length
    return b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bKx\r\n" + name + b": " + given + b"\r\n\r\n" + body


def all_of(framer: Framer) -> list[bytes]:
    found = []
    while (one := framer.next()) is not None:
        found.append(one)
    return found


def test_a_message_ends_where_content_length_says() -> None:
    framer = Framer()
    first, second = message(b"hello"), message(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
    framer.receive(first + second)
    assert all_of(framer) == [first, second]
    assert not framer.unfinished


@pytest.mark.parametrize("name", [b"Content-Length", b"CONTENT-length", b"l", b"L", b"Content-Length ", b"l\t"])
def test_every_form_of_content_length_is_read(name: bytes) -> None:
    framer = Framer()
    framer.receive(message(b"hello", name=name) + message())
    assert [one[-5:] for one in all_of(framer)] == [b"hello", message()[-5:]]


def test_a_folded_content_length_is_read() -> None:
    framer = Framer()
    framer.receive(message(b"hello", b"\r\n 5") + message())
    assert len(all_of(framer)) == 2


def test_lines_may_end_with_lf_alone() -> None:
    framer = Framer()
    whole = message(b"hello").replace(b"\r\n", b"\n")
    framer.receive(whole + message())
    assert all_of(framer) == [whole, message()]


def test_line_ends_between_messages_are_nothing() -> None:
    framer = Framer()
    framer.receive(b"\r\n" + message() + b"\r\n" + message(b"x"))
    assert all_of(framer) == [message(), message(b"x")]


def test_a_double_line_end_is_a_ping_and_a_single_one_is_not() -> None:
    framer = Framer()
    framer.receive(b"\r\n")
    assert all_of(framer) == []
    assert not framer.unfinished
    framer.receive(message())
    assert all_of(framer) == [message()]
    framer.receive(b"\r\n\r\n" + message() + b"\r\n\r\n")
    assert all_of(framer) == [PING, message(), PING]


@pytest.mark.parametrize("length", [b"abc", b"-1", b"", b"1e3", b"9" * 25, b"5\r\nl: 6"])
def test_a_content_length_that_says_nothing_ends_the_stream(length: bytes) -> None:
    framer = Framer()
    framer.receive(message(b"", length))
    with pytest.raises(FramingError) as caught:
        framer.next()
    assert caught.value.code == 400
    assert caught.value.head.endswith(b"\r\n\r\n")


def test_without_content_length_the_stream_ends() -> None:
    framer = Framer()
    framer.receive(message(name=b"X-Length"))
    with pytest.raises(FramingError, match="no Content-Length"):
        framer.next()


def test_a_message_beyond_the_limit_is_refused_as_soon_as_that_is_known() -> None:
    framer = Framer()
    framer.receive(message(b"", b"%d" % MAX_MESSAGE))
    with pytest.raises(FramingError) as caught:
        framer.next()
    assert caught.value.code == 513
    framer = Framer()
    for _ in range(16):
        framer.receive(b"x" * 4096)
    framer.receive(b"x")
    with pytest.raises(FramingError):
        framer.next()


def test_pieces_of_an_unfinished_message_are_counted() -> None:
    framer = Framer()
    whole = message(b"hello")
    for n, byte in enumerate(whole[:-1], 1):
        framer.receive(bytes([byte]))
        assert framer.next() is None
        assert framer.chunks == n
        assert framer.unfinished
    framer.receive(whole[-1:] + b"OPT")
    assert framer.next() == whole
    assert framer.next() is None
    assert framer.chunks == 1


def test_another_framer_goes_on_with_the_rest() -> None:
    whole = message(b"hello")
    framer = Framer()
    framer.receive(whole[:30])
    assert framer.next() is None
    other = Framer(framer.rest)
    other.receive(whole[30:])
    assert other.next() == whole


parts = st.lists(
    st.one_of(
        st.builds(message, st.binary(max_size=60)),
        st.just(b"\r\n"),
        st.just(b"\r\n\r\n"),
    ),
    max_size=8,
)


@given(parts, st.lists(st.integers(1, 40), max_size=40))
def test_where_the_stream_is_cut_changes_no_message(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    wanted = [one for one in pieces if one.strip()]
    framer = Framer()
    found = []
    at = 0
    for cut in [*cuts, len(stream)]:
        if data := stream[at : at + cut]:
            framer.receive(data)
            found += all_of(framer)
        at += cut
    assert [one for one in found if one != PING] == wanted
    assert not framer.unfinished


def outcome(*pieces: bytes) -> tuple[list[bytes], str]:
    framer = Framer()
    found = []
    try:
        for piece in pieces:
            framer.receive(piece)
            while (one := framer.next()) is not None:
                found.append(one)
    except FramingError as error:
        return found, str(error)
    return found, ""


noise = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"X", message(), b"A: b\n", b"l: 0"]), max_size=12).map(b"".join)


@given(noise, st.data())
def test_where_noise_is_cut_changes_nothing(stream: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(stream)))
    assert outcome(stream[:cut], stream[cut:]) == outcome(stream)


@pytest.mark.parametrize("before", [b"\r", b"\n", b"\r\r", b"\r\n\r", b"\n\r", b"\r\n\n"])
def test_a_lone_line_end_hides_no_ping(before: bytes) -> None:
    assert outcome(before + PING + message()) == ([PING, message()], "")


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_message_or_an_error_or_unfinished(data: bytes) -> None:
    framer = Framer()
    framer.receive(data)
    try:
        all_of(framer)
    except FramingError as error:
        assert error.code in (400, 513)


@pytest.mark.parametrize(
    ("field", "length"),
    [
        (b"Content-Length: 3", 3),
        (b"l:3", 3),
        (b"L \t:\r\n 3", 3),
        (b"l: \n\t 3 ", 3),
        (b"l:\r\nX: 3", None),
        (b"l:\nX: 3", None),
        (b"X-l: 3", None),
    ],
)
def test_content_length_is_what_stands_in_its_field(field: bytes, length: int | None) -> None:
    framer = Framer()
    framer.receive(b"OPTIONS sip:a SIP/2.0\r\n" + field + b"\r\n\r\nabcdef")
    if length is None:
        with pytest.raises(FramingError):
            framer.next()
    else:
        message = framer.next()
        assert message is not None and message.endswith(b"\r\n\r\nabc")
