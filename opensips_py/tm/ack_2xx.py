"""The ACK for a 2xx to an INVITE that was made here (RFC 3261 13.2.2.4): a request along the route of the new dialog."""

from __future__ import annotations

from opensips_py.net import destinations
from opensips_py.net.destinations import Destinations
from opensips_py.net.resolve import when_located
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.sip.errors import ParseError
from opensips_py.sip.forward import build_ack
from opensips_py.sip.message import SipMessage, reread
from opensips_py.sip.request import dialog_route
from opensips_py.tm import identity
from opensips_py.tm.messages import Identification
from opensips_py.tm.record import Record
from opensips_py.tm.transaction import Transaction


def acknowledge(tx: Transaction, rec: Record, n: int, reply: SipMessage) -> None:
    """Prepare the ACK for ``reply`` to branch ``n`` of a held transaction; it leaves at the next commit.

    To a name that must be looked up it leaves when that is done.
    """
    branch = rec.branches[n]
    try:
        route = dialog_route(reply)
    except ParseError as error:
        log(ERROR, "tm", "send_ack", f"a {reply.status} to a request made here cannot be acknowledged: {error.reason}")
        return
    next_hop = route.next_hop or branch.uri
    hop = destinations.hop_of_uri(next_hop)
    # the same for a repeated 2xx, another for the 2xx of another callee
    name = identity.stateless_branch_id(branch.via, "" if reply.to is None else reply.to.tag or "", "ACK")

    def prepare(found: Destinations) -> None:
        if not found:
            log(
                ERROR,
                "tm",
                "send_ack",
                f"a {reply.status} to a request made here cannot be acknowledged: bad next hop {next_hop}",
            )
            return
        to = found[0]
        data = build_ack(
            reread(branch.sent),
            reply,
            ruri=route.ruri or branch.uri,
            via=f"Via: {to.socket.via};branch={name}",
            routes="".join(f"Route: {value}\r\n" for value in route.routes) + rec.headers,
            user_agent=Identification.user_agent,
        )
        if tx.depth:
            tx.out.append((to.socket.name, data, to.ip, to.port))
        else:
            this.send(to.socket, data, to.ip, to.port)

    if hop is None:
        prepare(())
    else:
        when_located(hop, None, this.sockets_by_name[branch.socket], prepare)
