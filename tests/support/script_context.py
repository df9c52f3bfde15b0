"""A message and the context that a route would see it in, and expansion of format strings over it."""

from __future__ import annotations

from opensips_py.core import functions
from opensips_py.script import variables
from opensips_py.script.context import Context, ListenSocket, RouteKind, Source, Value, ValueRefused
from opensips_py.script.declarations import Module
from opensips_py.script.formats import compile_format
from opensips_py.script.variables import Registry, Variable, compile_variable
from opensips_py.server.process import this
from opensips_py.sip.message import parse

SOCKET = ListenSocket(0, "udp", "192.0.2.10", 5070, tag="inside")

REQUEST = """\
INVITE sip:bob@biloxi.example:5080;transport=udp;lr?X=1 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:5061;branch=z9hG4bKtop;rport
Via: SIP/2.0/TCP 10.9.8.7;branch=z9hG4bKsecond;received=192.0.2.9
Max-Forwards: 68
From: "Alice \\"A\\"" <sip:alice:pw@atlanta.example:5066;p1=v1;p2>;tag=ft-1
To: Bob <sips:bob@biloxi.example;user=phone>
Call-ID: call-1@test
CSeq: 4711 INVITE
Contact: "One" <sip:c1@192.0.2.1;ob>;q=0.7;expires=300
m: <sip:c2@192.0.2.2>, sip:c3@192.0.2.3;expires=60
User-Agent: Phone/1.0
s: short subject
X-Multi: one
X-Multi: two
X-Multi: three
X-Empty:
X-Padded:   value\x20\x20
X-Folded: a,
 b
Supported: timer, 100rel
Diversion: <sip:div@d.example>;reason=no-answer;privacy=full
Content-Type: application/sdp
Content-Length: *

"""

SDP = """\
v=0
o=alice 1 1 IN IP4 192.0.2.101
s=-
c=IN IP4 192.0.2.101
t=0 0
m=audio 49172 RTP/AVP 0 8 97 18
a=rtpmap:0 PCMU/8000
a=rtpmap:97 iLBC/8000
a=fmtp:97 mode=20
m=video 51372 RTP/AVP 31
a=rtpmap:31 H261/90000
"""


def wire(text: str) -> bytes:
    """A message written with bare newlines and ``Content-Length: *`` as it goes over the wire."""
    head, _, body = text.partition("\n\n")
    content = body.replace("\n", "\r\n")
    head = head.replace("Content-Length: *", f"Content-Length: {len(content)}")
    return head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + content.encode("latin-1")


def request(text: str = REQUEST + SDP, kind: RouteKind = RouteKind.REQUEST) -> Context:
    """The context of a received message, in a server with one socket and no aliases."""
    this.sockets = [SOCKET]
    return Context(parse(wire(text)), Source("198.51.100.7", 5061), SOCKET, kind)


def with_ruri(uri: str) -> Context:
    """The context of a request to ``uri``."""
    return request(REQUEST.replace("sip:bob@biloxi.example:5080;transport=udp;lr?X=1", uri) + SDP)


def registry(*modules: Module) -> Registry:
    """The variables of the core and of ``modules``."""
    known = Registry()
    for module in (functions.module, *modules):
        known.add(module)
    variables.use(known)
    return known


def variable(text: str) -> Variable:
    """A variable of the core."""
    return compile_variable(text, registry())


def value(ctx: Context, text: str) -> Value:
    """Value of a variable."""
    return variable(text).get(ctx)


def put(ctx: Context, text: str, new: Value) -> None:
    """Write a variable."""
    variable(text).set(ctx, new)


def refused(ctx: Context, text: str, new: Value, *, replacing: bool = False) -> bool:
    """Write a variable with ``=`` (or ``:=``); whether it does not take the value."""
    target = variable(text)
    try:
        (target.assign if replacing else target.set)(ctx, new)
    except ValueRefused:
        return True
    return False


def expand(ctx: Context, text: str) -> str:
    """A format string as xlog() prints it."""
    compiled = compile_format(text, registry())
    return compiled if isinstance(compiled, str) else compiled(ctx)
