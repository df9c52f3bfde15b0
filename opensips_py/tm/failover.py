"""The next server of a name when one has failed (RFC 3263 4.3): what counts as failure, and the request for the next.

As in OpenSIPS, a server that was reached and gave 503 or nothing at all has failed; the transaction then goes on with a new
branch. It does so once every branch has ended and that failure would be the caller's answer: an honest refusal by another
branch is one. A server that cannot even be sent to is passed over within its branch.
"""

from __future__ import annotations

from opensips_py.tm import identity, messages
from opensips_py.tm.record import (
    CANCELLED,
    LOCAL_REPLY,
    MAX_BRANCHES,
    MINOR,
    NEVER,
    NO_NEW_BRANCHES,
    OVER_STREAM,
    SILENT,
    Record,
    UacBranch,
)
from opensips_py.tm.states import Uac

SERVICE_UNAVAILABLE = 503


def server_failed(branch: UacBranch) -> bool:
    """Whether the branch has ended in a way that speaks of its server, not of the request."""
    if branch.flags & LOCAL_REPLY:
        return bool(branch.flags & SILENT)
    return branch.code == SERVICE_UNAVAILABLE


def to_go_on(rec: Record, winner: int) -> int | None:
    """The branch whose name has another server to be tried, now that all have ended and ``winner`` has the best reply."""
    if not server_failed(rec.branches[winner]) or rec.flags & (CANCELLED | NO_NEW_BRANCHES):
        return None
    if rec.code >= 200 or len(rec.branches) >= MAX_BRANCHES:
        return None
    for n in range(rec.first, len(rec.branches)):
        if rec.branches[n].further and server_failed(rec.branches[n]):
            return n
    return None


def next_branch(rec: Record, n: int) -> UacBranch:
    """A new branch for what branch ``n`` was to reach, to its name's next server."""
    failed = rec.branches[n]
    assert failed.further
    following, further = failed.further[0], failed.further[1:]
    failed.further = None
    via = identity.sibling_branch_id(failed.via, len(rec.branches))
    return UacBranch(
        uri=failed.uri,
        host=following.host,
        port=following.port,
        socket=following.socket,
        via=via,
        sent=messages.elsewhere(failed.sent, failed.via, via, following.via, following.stream),
        state=Uac.CALLING,
        flags=failed.flags & MINOR | (OVER_STREAM if following.stream else 0),
        on_reply=failed.on_reply,
        avps=failed.avps,
        script_flags=failed.script_flags,
        further=further or None,
    )


def redirect(branch: UacBranch) -> None:
    """Have a branch that could not be sent go to its name's next server, which is there."""
    assert branch.further
    following, further = branch.further[0], branch.further[1:]
    via = identity.repeated_branch_id(branch.via)
    branch.sent = messages.elsewhere(branch.sent, branch.via, via, following.via, following.stream)
    branch.via = via
    branch.retransmit_at = NEVER
    branch.flags = branch.flags & ~OVER_STREAM | (OVER_STREAM if following.stream else 0)
    branch.host, branch.port, branch.socket = following.host, following.port, following.socket
    branch.further = further or None
