from __future__ import annotations

import json
import os
import socket
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.fifo import MAX_REQUEST, FifoError, Framer, NoReader, Request, RequestFifo, open_reply
from tests.ipc.processes import fork, succeeded


def cut(*pieces: bytes) -> tuple[list[Request], list[str]]:
    framer = Framer()
    out: list[Request] = []
    for piece in pieces:
        out += framer.feed(piece)
    return out, framer.dropped


REQUEST = b'{"jsonrpc":"2.0","id":"42","method":"ps"}'


def test_one_request() -> None:
    assert cut(b":reply_1:" + REQUEST) == ([Request("reply_1", REQUEST)], [])


def test_white_space_between_and_around() -> None:
    assert cut(b"\n :a:\n" + REQUEST + b"\n\n\t:b:" + REQUEST + b"\n")[0] == [Request("a", REQUEST), Request("b", REQUEST)]


def test_an_empty_name_asks_for_no_answer() -> None:
    assert cut(b"::" + REQUEST)[0] == [Request("", REQUEST)]


def test_several_in_one_write() -> None:
    assert len(cut(b"".join(b":r%d:" % n + REQUEST for n in range(500)))[0]) == 500


def test_braces_and_escapes_in_strings_do_not_end_a_request() -> None:
    body = json.dumps({"jsonrpc": "2.0", "method": 'x"}{\\', "params": {"a": {"b": ['}"', "\\"]}}}).encode()
    assert cut(b":r:" + body + b":s:" + REQUEST) == ([Request("r", body), Request("s", REQUEST)], [])


@given(
    st.lists(st.integers(1, 40), max_size=60), st.recursive(st.text() | st.integers(), lambda c: st.dictionaries(st.text(), c))
)
def test_pieces_of_any_size_give_the_same_requests(sizes: list[int], params: object) -> None:
    body = json.dumps({"jsonrpc": "2.0", "params": {"p": params}}, ensure_ascii=False).encode()
    stream = b":first:" + body + b" :second:" + REQUEST
    pieces = []
    at = 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    pieces.append(stream[at:])
    assert cut(*pieces) == ([Request("first", body), Request("second", REQUEST)], [])


def test_half_a_request_is_dropped_when_the_next_one_comes() -> None:
    got, dropped = cut(b':a:{"jsonrpc":"2.0","method":', b":b:" + REQUEST)
    assert got == [Request("b", REQUEST)]
    assert dropped == ["half a request (29 bytes)"]


def test_half_a_request_within_a_string_is_dropped_when_the_next_one_comes() -> None:
    got, dropped = cut(b':a:{"jsonrpc":"2.0","method":"p', b":b:" + REQUEST, b":c:" + REQUEST)
    assert [r.reply_name for r in got] == ["b", "c"]
    assert len(dropped) == 1


def test_nested_objects_are_not_taken_for_the_next_request() -> None:
    body = b'{"jsonrpc":"2.0","params":{"id":{"method": {"params":1}}}}'
    assert cut(b":a:" + body) == ([Request("a", body)], [])


def test_what_does_not_begin_with_a_colon_is_dropped_up_to_the_next_request() -> None:
    got, dropped = cut(b"\x00\xff garbage :not this: " + b":r:" + REQUEST)
    assert got == [Request("r", REQUEST)]
    assert len(dropped) == 1


def test_a_name_that_never_ends_is_dropped() -> None:
    framer = Framer()
    assert framer.feed(b":" + b"n" * 100_000) == []
    assert framer.dropped
    assert not framer.unfinished
    assert framer.feed(b":r:" + REQUEST) == [Request("r", REQUEST)]


def test_a_request_beyond_the_bound_is_dropped_and_memory_is_given_back() -> None:
    framer = Framer()
    for _ in range(3 * MAX_REQUEST // 65536):
        framer.feed(b':r:{"a":"' + b"x" * 65536)
        assert len(framer._buffer) <= MAX_REQUEST + 65536
    assert any("longer than" in text for text in framer.dropped)
    framer.abandon()
    assert framer.feed(b":r:" + REQUEST) == [Request("r", REQUEST)]


def test_a_large_request_works_and_a_slow_drip_of_it_stays_cheap() -> None:
    body = json.dumps({"jsonrpc": "2.0", "params": ["x" * 200_000]}).encode()
    stream = b":r:" + body
    framer = Framer()
    began = time.process_time()
    out: list[Request] = []
    for at in range(0, len(stream), 10):
        out += framer.feed(stream[at : at + 10])
    assert out == [Request("r", body)]
    assert time.process_time() - began < 2


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_no_input_breaks_the_framing(pieces: list[bytes]) -> None:
    framer = Framer()
    for piece in pieces:
        for request in framer.feed(piece):
            assert request.body.startswith(b"{")
    framer.abandon()
    assert framer.feed(b":r:" + REQUEST) == [Request("r", REQUEST)]


# --- the request FIFO -----------------------------------------------------------------------------------------------


def test_the_fifo_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    fifo = RequestFifo(str(tmp_path / "f"), 0o660)
    fifo.open()
    os.umask(old)
    found = os.stat(tmp_path / "f")
    assert stat.S_ISFIFO(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    fifo.close()
    assert not (tmp_path / "f").exists()


def test_a_left_over_fifo_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f", 0o600)
    before = os.stat(tmp_path / "f").st_ino
    keep = os.open(tmp_path / "f", os.O_RDONLY | os.O_NONBLOCK)
    os.close(keep)
    fifo = RequestFifo(str(tmp_path / "f"), 0o660)
    fifo.open()
    with open(tmp_path / "f", "wb", buffering=0) as client:
        client.write(b"hello")
    assert fifo.read() == b"hello"
    assert fifo.read() == b""
    assert os.stat(tmp_path / "f").st_mode & 0o777 == 0o660, before
    fifo.close()


def test_the_fifo_of_a_running_server_is_not_taken(tmp_path: Path) -> None:
    running = RequestFifo(str(tmp_path / "f"), 0o660)
    running.open()
    with pytest.raises(FifoError, match="another running server"):
        RequestFifo(str(tmp_path / "f"), 0o660).open()
    assert running.is_there()
    running.close()


def test_a_request_may_come_in_two_pieces_anywhere() -> None:
    request = rb':r:{"id":"a\"}\\","method":"x{\\\""}'
    for cut in range(1, len(request)):
        framer = Framer()
        assert framer.feed(request[:cut]) == []
        assert framer.feed(request[cut:]) == [Request("r", request[3:])]
        assert not framer.dropped


@pytest.mark.parametrize("kind", ["file", "directory", "link", "socket"])
def test_what_is_not_a_fifo_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        os.mkfifo(tmp_path / "real")
        path.symlink_to(tmp_path / "real")
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    before = os.lstat(path)
    with pytest.raises(FifoError, match="is not a FIFO"):
        RequestFifo(str(path), 0o660).open()
    assert os.path.samestat(before, os.lstat(path))


def test_a_fifo_that_another_user_reads_is_refused_with_a_way_out(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make files of others")
    path = tmp_path / "f"
    os.mkfifo(path)
    os.chown(path, 12345, 12345)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(FifoError, match=r"of user 12345, is read by another program: set fifo_name to a path in a directory"):
        RequestFifo(str(path), 0o660).open()
    os.close(reader)
    fifo = RequestFifo(str(path), 0o660)  # root may replace it
    fifo.open()
    assert os.lstat(path).st_uid == 0
    fifo.close()


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_fifo_of_another_user_that_cannot_be_removed_is_refused(tmp_path: Path, mode: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make files of others")
    for place in (tmp_path, *tmp_path.parents):
        if str(place).startswith("/tmp/"):
            place.chmod(0o755)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    os.mkfifo(shared / "f")
    os.chown(shared / "f", 12345, 12345)
    os.chmod(shared / "f", mode)

    def other() -> None:
        os.setuid(12346)
        with pytest.raises(FifoError, match=r"user 12345: .*set fifo_name to a path in a directory"):
            RequestFifo(str(shared / "f"), 0o660).open()

    assert succeeded(fork(other))


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FifoError, match="nowhere does not exist"):
        RequestFifo(str(tmp_path / "nowhere" / "f"), 0o660).open()


def test_a_replaced_fifo_is_noticed_and_not_removed_at_the_end(tmp_path: Path) -> None:
    fifo = RequestFifo(str(tmp_path / "f"), 0o660)
    fifo.open()
    assert fifo.is_there()
    os.unlink(tmp_path / "f")
    assert not fifo.is_there()
    (tmp_path / "f").write_text("somebody else's")
    assert not fifo.is_there()
    fifo.close()
    assert (tmp_path / "f").read_text() == "somebody else's"


# --- replies --------------------------------------------------------------------------------------------------------


def test_a_reply_reaches_its_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r")
    with pytest.raises(NoReader):
        open_reply(f"{tmp_path}/", "r")
    reader = os.open(tmp_path / "r", os.O_RDONLY | os.O_NONBLOCK)
    writer = open_reply(f"{tmp_path}/", "r")
    os.write(writer, b"answer")
    os.close(writer)
    assert os.read(reader, 100) == b"answer"
    os.close(reader)


@pytest.mark.parametrize("name", ["", "..", "a.b", "../x", "x/y", "/etc/passwd", "a\\b", "a\0b"])
def test_a_reply_never_leaves_its_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(FifoError, match="may not contain"):
        open_reply(f"{tmp_path}/", name)


@pytest.mark.parametrize("kind", ["file", "link", "hard link", "directory", "nothing"])
def test_a_reply_goes_to_a_fifo_only(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "real")
    reader = os.open(tmp_path / "real", os.O_RDONLY | os.O_NONBLOCK)
    path = tmp_path / "r"
    if kind == "file":
        path.write_text("untouched")
    elif kind == "link":
        path.symlink_to(tmp_path / "real")
    elif kind == "hard link":
        path.hardlink_to(tmp_path / "real")
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(FifoError, match="reply FIFO"):
        open_reply(f"{tmp_path}/", "r")
    if kind == "file":
        assert path.read_text() == "untouched"
    os.close(reader)
