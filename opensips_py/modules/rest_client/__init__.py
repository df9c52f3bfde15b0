"""HTTP requests (OpenSIPS module rest_client), over HTTP/1.1 connections that are kept open.

``rest_get(url, $body[, $ctype[, $code]])``, ``rest_post`` and ``rest_put(url, body[, ctype], $body[, $ctype[, $code]])``.
Any response gives return code 1: look at ``$code``. Redirects are not followed.
"""

from __future__ import annotations

import base64
import os
from urllib.parse import quote, unquote_to_bytes

from opensips_py.clients import pools
from opensips_py.modules.rest_client import connection, pool
from opensips_py.modules.rest_client.request import Header, request_bytes
from opensips_py.modules.rest_client.transfer import INTERNAL, RestGet, RestPost, RestPut, Targets, Transfer
from opensips_py.modules.rest_client.url import parse_http_url
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import ALL, ConfigError, HeaderLines, Line, Module, Var
from opensips_py.server.log import ERROR, WARNING, log

module = Module("rest_client", doc="HTTP requests (OpenSIPS module rest_client)")

connection_timeout = module.param("connection_timeout", int, 20, doc="seconds for connecting; 0: as long as curl_timeout")
curl_timeout = module.param("curl_timeout", int, 20, doc="seconds for a whole transfer; 0: any")
max_async_transfers = module.param(
    "max_async_transfers", int, 100, doc="transfers of one process at the same time in async() and launch(); more of them wait"
)
max_host_transfers = module.param(
    "max_host_transfers", int, 0, doc="those of them to one host and port; 0: as many as max_async_transfers (ours)"
)
max_waiting_transfers = module.param(
    "max_waiting_transfers", int, 65536, doc="transfers of one process that may wait; more are refused with $rc -4 (ours)"
)
idle_timeout = module.param("idle_timeout", int, 30, doc="seconds for which an unused connection is kept; 0: none is kept (ours)")
max_idle_connections = module.param(
    "max_idle_connections", int, 256, doc="unused connections that one process keeps to one host and port (ours)"
)
max_transfer_size = module.param("max_transfer_size", int, 0, doc="KB that a response body may have ($rc -10); 0: max_body_size")
max_body_size = module.param(
    "max_body_size", int, 10240, doc="KB that a response body may have where max_transfer_size is 0; 0: any"
)
max_header_size = module.param(
    "max_header_size",
    int,
    64,
    doc="KB that headers, informational responses, extensions of chunks and trailers may have ($rc -10); 0: any (ours)",
)
ssl_verifypeer = module.param("ssl_verifypeer", int, 1, doc="1: check the server's certificate")
ssl_verifyhost = module.param("ssl_verifyhost", int, 1, doc="1: check that the certificate is for the host")
ssl_capath = module.param(
    "ssl_capath", str, "", doc="folder (c_rehash) or .pem file with trusted certificates; default: the system's"
)
connect_poll_interval = module.param(
    "connect_poll_interval", int, 20, doc="milliseconds", no_effect="connecting does not poll: the kernel tells when it is done"
)
curl_http_version = module.param("curl_http_version", int, 0, doc="version of HTTP", no_effect="HTTP/1.1 is spoken")
enable_expect_100 = module.param(
    "enable_expect_100", int, 0, doc="ask before sending a large body", no_effect="bodies are sent without asking"
)

pool.statistics.declare(module)

SLOT = "rest_client"
"""Where header lines for the next request wait in the context."""


@module.on_check
@module.on_config
def configure() -> None:
    """Read the parameters once."""
    pools.describers["http"] = lambda: pool.pool.describe()
    for parameter in (
        connection_timeout,
        curl_timeout,
        max_transfer_size,
        max_body_size,
        max_header_size,
        max_host_transfers,
        max_waiting_transfers,
        idle_timeout,
        max_idle_connections,
    ):
        if parameter.value < 0:
            raise ConfigError(f"rest_client: {parameter.name} is {parameter.value}; it cannot be negative")
    if max_async_transfers.value < 1:
        raise ConfigError(f"rest_client: max_async_transfers is {max_async_transfers.value}; it must be at least 1")
    if ssl_capath.value and not os.path.exists(ssl_capath.value):
        raise ConfigError(f"rest_client: ssl_capath: there is no {ssl_capath.value}")
    pool.settings.connect_seconds = float(connection_timeout.value)
    pool.settings.transfer_seconds = float(curl_timeout.value)
    pool.settings.transfers = max_async_transfers.value
    pool.settings.host_transfers = max_host_transfers.value
    pool.settings.queue = max_waiting_transfers.value
    pool.settings.idle_seconds = float(idle_timeout.value)
    pool.settings.idle_connections = max_idle_connections.value
    pool.settings.body = 1024 * (max_transfer_size.value or max_body_size.value)
    pool.settings.around = 1024 * max_header_size.value
    connection.tls_settings.verify_peer = bool(ssl_verifypeer.value)
    connection.tls_settings.verify_host = bool(ssl_verifyhost.value)
    connection.tls_settings.ca_path = ssl_capath.value


@module.on_exit
def leave() -> None:
    """Close kept connections."""
    pool.pool.close()


@module.operation(routes=ALL)
def rest_get(ctx: Context, url: Line, body: Var, ctype: Var | None = None, code: Var | None = None) -> Transfer | int:
    """GET ``url``; body, content type and status code of the response go to the variables.

    1 for any response, whatever its status; -1 the connection was refused; -2 connecting took too long; -3 the transfer did;
    -4 too many transfers wait; -10 anything else: no such host, TLS, a response that is broken or too large. ``$code`` is 0
    without a response.
    """
    return _transfer(RestGet, ctx, url, None, None, body, ctype, code)


@module.operation(routes=ALL)
def rest_post(
    ctx: Context,
    url: Line,
    send_body: str,
    send_ctype: Line | None = None,
    recv_body: Var | None = None,
    recv_ctype: Var | None = None,
    code: Var | None = None,
) -> Transfer | int:
    """POST a body to ``url``, without Content-Type when the type is omitted or empty. Return codes as those of rest_get()."""
    assert recv_body is not None
    return _transfer(RestPost, ctx, url, send_body, send_ctype, recv_body, recv_ctype, code)


@module.operation(routes=ALL)
def rest_put(
    ctx: Context,
    url: Line,
    send_body: str,
    send_ctype: Line | None = None,
    recv_body: Var | None = None,
    recv_ctype: Var | None = None,
    code: Var | None = None,
) -> Transfer | int:
    """PUT a body to ``url``, without Content-Type when the type is omitted or empty. Return codes as those of rest_get()."""
    assert recv_body is not None
    return _transfer(RestPut, ctx, url, send_body, send_ctype, recv_body, recv_ctype, code)


for _name in ("rest_post", "rest_put"):
    # recv_body is mandatory, after an optional parameter: Python's signatures cannot say that
    module.functions[_name].parameters[3].optional = False


@module.function(routes=ALL)
def rest_append_hf(ctx: Context, txt: HeaderLines) -> int:
    """Add a header line, ``"Name: value"``, to the next request that this message makes. May be called several times.

    What is not a header line is not sent: 1 all the same, and the log says so. ``"Name:"`` takes away what the request has by
    itself, as Accept; ``"Name;"`` is a header with an empty value (both as in curl). -1 when it would be several lines.
    """
    line = txt.strip("\r\n")
    if "\r" in line or "\n" in line:
        log(ERROR, "rest_client", "rest_append_hf", f"[{line[:100]}] is more than one header line")
        return -1
    if Header.of_line(line) is None:
        log(WARNING, "rest_client", "rest_append_hf", f"[{line[:100]}] is not a header line and is not sent")
    else:
        ctx.slots.setdefault(SLOT, []).append(line)
    return 1


@module.transformation("rest.escape")
def _escape(text: str) -> Value:
    """Percent-escaped, all but letters, digits and ``-._~`` (RFC 3986 2.3): for a part of a URL."""
    return quote(text.encode("latin-1"), safe="")


@module.transformation("rest.unescape")
def _unescape(text: str) -> Value:
    """Percent-escapes resolved."""
    return unquote_to_bytes(text.encode("latin-1")).decode("latin-1")


def _transfer(
    kind: type[Transfer],
    ctx: Context,
    url: str,
    body: str | None,
    content_type: str | None,
    out: Var,
    ctype: Var | None,
    code: Var | None,
) -> Transfer | int:
    lines: list[str] = ctx.slots.pop(SLOT, []) if ctx.slots else []
    headers = [header for line in lines if (header := Header.of_line(line)) is not None]
    try:
        parsed = parse_http_url(url)
    except ValueError as error:
        log(ERROR, "rest_client", kind.name, f"{url[:200]}: {error}")
        return INTERNAL
    if parsed.credentials is not None:
        basic = base64.b64encode(parsed.credentials.encode("latin-1")).decode()
        headers.append(Header("authorization", f"Authorization: Basic {basic}"))
    if body is not None and content_type and not any(header.name == "content-type" for header in headers):
        headers.append(Header("content-type", f"Content-Type: {_one_line(content_type)}"))
    request = request_bytes(kind.method, parsed, headers, None if body is None else body.encode("latin-1"))
    targets = Targets(out.text, None if ctype is None else ctype.text, None if code is None else code.text)
    return kind(parsed.origin, request, targets)


def _one_line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")
