"""The sockets that a script asks for: ``socket=`` lines, ``-l`` options, or all addresses of the machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Container, Mapping

from opensips_py.script import ast, settings
from opensips_py.script.context import ListenSocket
from opensips_py.script.declarations import Module
from opensips_py.script.diagnostics import Findings
from opensips_py.script.lexer import tokens
from opensips_py.script.migration import PAGE
from opensips_py.script.parameters import Settings
from opensips_py.script.preprocess import Source
from opensips_py.script.token_stream import SyntaxFault

SERVED = ("udp", "tcp")
"""Transports that exist here."""


def resolve(
    given: Settings, modules: Mapping[str, Module], missing: Container[str], extra: list[str], findings: Findings, path: str
) -> tuple[list[ListenSocket], list[tuple[str | None, str, int | None]]]:
    """All sockets in order, and the aliases. ``extra`` are the addresses of ``-l``, which may name a socket of the script
    again; ``modules`` are the loaded ones by name, and ``missing`` those that do not exist here, which has been said."""
    out: list[ListenSocket] = []
    endpoints: list[ast.Endpoint] = [*given.socket, *given.listen]
    options = [endpoint for text in extra if (endpoint := _option(text, findings)) is not None]
    if not endpoints and not options:
        for proto in SERVED:
            if f"proto_{proto}" in modules:
                endpoints.append(ast.Endpoint(proto, "*", None, file=path, line=1, column=1, end=2))
    seen: set[tuple[str, str, int]] = set()
    for endpoint in [*endpoints, *options]:
        if f"proto_{endpoint.proto}" not in missing:
            _add(endpoint, given, modules, findings, out, seen, again=endpoint in options)
    aliases = [(None if e.proto == "any" else e.proto, e.host, e.port) for e in given.alias]
    return out, aliases


def _option(text: str, findings: Findings) -> ast.Endpoint | None:
    """``-l [proto:]address[:port]``."""
    where = f"-l {text}"
    stream = settings.SettingParser(tokens(Source(f"socket={text}\n", [(where, 1)]), findings), findings)
    try:
        value = stream.setting().value
    except SyntaxFault:
        return None
    return value if isinstance(value, ast.Endpoint) else None


def _add(
    endpoint: ast.Endpoint,
    given: Settings,
    modules: Mapping[str, Module],
    findings: Findings,
    out: list[ListenSocket],
    seen: set[tuple[str, str, int]],
    *,
    again: bool,
) -> None:
    proto = endpoint.proto or "udp"
    if proto == "any":
        proto = "udp"
    if proto not in SERVED:
        if proto in settings.PROTOCOLS:
            findings.error(endpoint, f"not supported yet: sockets of protocol {proto}", f"use {' or '.join(SERVED)}; see {PAGE}")
        return
    module = modules.get(f"proto_{proto}")
    if module is None:
        findings.error(
            endpoint, f"listeners found for protocol {proto}, but no module can handle it", f'add loadmodule "proto_{proto}.so"'
        )
        return
    if proto != "udp" and endpoint.workers is not None:
        findings.notice(endpoint, "use_workers has no effect", "tcp_workers processes serve all TCP sockets")
    if endpoint.anycast:
        findings.notice(endpoint, "anycast has no effect", "one server does not share transactions with others")
    if endpoint.scaling_profile:
        findings.notice(endpoint, "use_auto_scaling_profile has no effect", "the number of workers is fixed")
    if endpoint.workers is not None and endpoint.workers < 1:
        findings.error(endpoint, "use_workers needs at least 1")
    port: int = endpoint.port or module.params[f"{proto}_port"].value
    for host in addresses(endpoint.host, endpoint, findings):
        key = (proto, host, port)
        if key in seen:
            if again:
                continue
            findings.error(endpoint, f"socket {proto}:{host}:{port} is given twice")
            continue
        seen.add(key)
        out.append(
            ListenSocket(
                index=len(out),
                proto=proto,
                host=host,
                port=port,
                advertised_host=endpoint.advertised_host or given.advertised_address,
                advertised_port=endpoint.advertised_port or given.advertised_port,
                tag=endpoint.tag,
                workers=endpoint.workers or 0,
            )
        )


def addresses(host: str, at: ast.Endpoint, findings: Findings) -> list[str]:
    """The IP addresses that ``host`` means: itself, an interface's, a name's, or (``*``) all of the machine's."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    import psutil  # most scripts name their addresses, and start without it

    interfaces = psutil.net_if_addrs()
    if host == "*":
        return [a.address for entries in interfaces.values() for a in entries if a.family == socket.AF_INET] or ["127.0.0.1"]
    if host in interfaces:
        found = [a.address for a in interfaces[host] if a.family == socket.AF_INET]
        if not found:
            findings.error(at, f"interface {host} has no IPv4 address")
        return found
    try:
        info = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as e:
        findings.error(
            at,
            f"cannot resolve {host}: {getattr(e, 'strerror', None) or 'not a host name'}",
            "write an address, the name of an interface, or *",
        )
        return []
    return [str(info[0][4][0])]
