"""What web servers send, as it comes."""

from __future__ import annotations

import httptools
import pytest

from opensips_py.modules.rest_client.response import Limits, Response

TEXT = (200, b"text/plain", b"hi")


def read(*pieces: bytes) -> tuple[int, bytes, bytes] | str:
    response = Response(Limits(1000, 1000))
    try:
        if not any(response.feed(piece) for piece in pieces):
            response.end()
    except httptools.HttpParserError:
        return "not HTTP"
    return (response.status, response.content_type, response.body) if response.complete else "unfinished"


@pytest.mark.parametrize(
    ("answer", "read_as"),
    [
        (b"HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 2\n\nhi", TEXT),
        (b"HTTP/1.1 200 OK\nContent-Type: text/plain\nTransfer-Encoding: chunked\n\n2\nhi\n0\nX-T: a\n b\n\n", TEXT),
        (b"HTTP/1.1 200 OK\r\nContent-Type:\r\n\ttext/plain\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi", TEXT),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nhi", TEXT),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2, 2\r\n\r\nhi", TEXT),
        (b"HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi", TEXT),
        (b"\r\nHTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhi", TEXT),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\n\r\n hi\t\r\n", TEXT),  # as OpenSIPS
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nhi!", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length:\r\n\r\nhi", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", "not HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", "unfinished"),
    ],
)
def test_a_response_is_the_same_wherever_it_is_cut(answer: bytes, read_as: tuple[int, bytes, bytes] | str) -> None:
    assert {read(answer[:cut], answer[cut:]) for cut in range(1, len(answer))} == {read_as}
    assert read(*(answer[at : at + 1] for at in range(len(answer)))) == read_as
