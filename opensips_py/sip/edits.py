"""Changes of a received message, recorded and applied when it is sent (what OpenSIPS calls lumps).

An edit is ``(offset, delete_length, insert_text)``, with offsets into the text as received. Edits are applied in order
of offset, those at one offset in order of making: all their insertions come before what follows them in the text.
A replacement of text that an earlier one has deleted already is ignored, as OpenSIPS ignores overlapping lumps; what is
only inserted is kept.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter

Edit = tuple[int, int, str]

_by_offset = itemgetter(0)


def apply(text: str, edits: list[Edit], start: int = 0, end: int | None = None) -> str:
    """``text[start:end]`` with the edits made. Every edit must lie between ``start`` and ``end``."""
    out = []
    position = start
    for offset, delete, insert in sorted(edits, key=_by_offset) if len(edits) > 1 else edits:
        if offset > position:
            out.append(text[position:offset])
            position = offset
        if insert and (offset == position or not delete):
            out.append(insert)
        if offset + delete > position:
            position = offset + delete
    out.append(text[position:end])
    return "".join(out)


def forget_inside(edits: list[Edit], start: int, end: int) -> None:
    """Drop edits that a deletion of ``[start, end)`` supersedes: those that lie wholly in it.

    Pure insertions at ``start`` stay, since they stand before what is deleted.
    """
    edits[:] = [
        edit for edit in edits if not (start <= edit[0] and edit[0] + edit[1] <= end and (edit[1] or start < edit[0] < end))
    ]


def forget_inside_all(edits: list[Edit], spans: list[tuple[int, int]]) -> None:
    """:func:`forget_inside` for many spans, which are in order and do not overlap."""
    starts = [start for start, _ in spans]

    def superseded(edit: Edit) -> bool:
        i = bisect_right(starts, edit[0]) - 1
        if i < 0:
            return False
        start, end = spans[i]
        return edit[0] + edit[1] <= end and bool(edit[1] or start < edit[0] < end)

    edits[:] = [edit for edit in edits if not superseded(edit)]


def deletes(edits: list[Edit], offset: int) -> bool:
    """Whether the character at ``offset`` is deleted by one of the edits."""
    return any(edit[0] <= offset < edit[0] + edit[1] for edit in edits)


class Deleted:
    """What edits delete, for callers that ask about many offsets: :func:`deletes` looks through all edits each time."""

    def __init__(self, edits: list[Edit]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        reached = -1
        for offset, length, _ in sorted(edits, key=_by_offset):
            if not length:
                continue
            if offset > reached:
                self._starts.append(offset)
                self._ends.append(offset + length)
            else:
                self._ends[-1] = max(reached, offset + length)
            reached = self._ends[-1]

    def __contains__(self, offset: int) -> bool:
        i = bisect_right(self._starts, offset) - 1
        return i >= 0 and offset < self._ends[i]
