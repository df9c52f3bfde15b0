"""The answer of a MySQL server, as it comes."""

from __future__ import annotations

import pytest

from opensips_py.db.mysql.result import ResultReader

MALFORMED = (2027, "malformed packet")


def packet(payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + b"\0" + payload


COLUMN = packet(b"\3def" + b"\0" * 5 + b"\x0c\x21\0\xff\0\0\0\xfd\0\0\0\0\0")
COLUMNS = packet(b"\2") + COLUMN * 2 + packet(b"\xfe\0\0\2\0")
MORE = b"\x40\x40\0\0\0\0\0\0\0"
"""What follows a packet that is cut short."""


@pytest.mark.parametrize(
    "answer",
    [
        *(packet(b"\0\0\0\2\0\0\0"[:size]) for size in range(1, 5)),
        *(packet(b"\xfc\2\0"[:size]) for size in (1, 2)),
        *(COLUMNS + packet(b"\xfe\0\0\2\0"[:size]) for size in range(1, 5)),
        COLUMNS + packet(b"\1a"),
        COLUMNS + packet(b"\1a\xfc"),
        COLUMNS + packet(b"\1a\2b"),
    ],
)
def test_a_packet_that_is_cut_short_takes_nothing_of_what_follows(answer: bytes) -> None:
    whole, alone = ResultReader(), ResultReader()
    assert whole.feed(answer + MORE)
    assert alone.feed(answer)
    assert whole.error == alone.error == MALFORMED
