"""``{uri.…}``, ``{nameaddr.…}``, ``{via.…}`` and ``{ip.…}``."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

from opensips_py.script import names
from opensips_py.script.context import Context, Value
from opensips_py.script.transformations import Step, declare_factory, transformation
from opensips_py.script.variable_syntax import TransformationText, VariableError
from opensips_py.sip.errors import ParseError
from opensips_py.sip.nameaddr import NameAddr, parse_nameaddr
from opensips_py.sip.uri import uri_or_none
from opensips_py.sip.via import parse_via

if TYPE_CHECKING:
    from opensips_py.script.variables import Registry


def _part(name: str, attribute: str, doc: str) -> None:
    @transformation(f"uri.{name}", doc=doc)
    def _read(text: str) -> Value:
        uri = uri_or_none(text)
        value = None if uri is None else getattr(uri, attribute)
        return value or None


for _name, _attribute, _doc in (
    ("user", "user", "User of the URI."),
    ("host", "host", "Host of the URI."),
    ("domain", "host", "Host of the URI."),
    ("passwd", "password", "Password of the URI."),
    ("params", "params_text", "All parameters of the URI."),
    ("headers", "headers_text", "Headers of the URI, the part behind ?."),
    ("schema", "scheme", "Scheme of the URI."),
):
    _part(_name, _attribute, _doc)


@transformation("uri.port")
def _uri_port(text: str) -> Value:
    """Port that the URI names."""
    uri = uri_or_none(text)
    return None if uri is None or not uri.port else uri.port


@transformation("uri.param", str)
def _uri_param(text: str, name: str) -> Value:
    """Value of a URI parameter; an empty text when it has none."""
    uri = uri_or_none(text)
    name = name.strip().lower()
    return None if uri is None or name not in uri.params else uri.params[name] or ""


def _known_param(name: str, parameter: str) -> None:
    @transformation(f"uri.{name}", doc=f"Value of the URI parameter {parameter}.")
    def _read(text: str) -> Value:
        uri = uri_or_none(text)
        return None if uri is None else uri.params.get(parameter) or None


for _name, _parameter in (
    ("transport", "transport"),
    ("ttl", "ttl"),
    ("uparam", "user"),
    ("maddr", "maddr"),
    ("method", "method"),
    ("lr", "lr"),
    ("r2", "r2"),
):
    _known_param(_name, _parameter)


@lru_cache(1024)
def _nameaddr(text: str) -> NameAddr | None:
    try:
        return parse_nameaddr(text)
    except ParseError:
        return None


@transformation("nameaddr.name")
def _nameaddr_name(text: str) -> Value:
    """Display name of an address."""
    address = _nameaddr(text)
    return None if address is None else address.display or None


@transformation("nameaddr.uri")
def _nameaddr_uri(text: str) -> Value:
    """URI of an address."""
    address = _nameaddr(text)
    return None if address is None else address.uri or None


@transformation("nameaddr.len")
def _nameaddr_len(text: str) -> Value:
    """Length of the address without its parameters."""
    address = _nameaddr(text)
    if address is None:
        return None
    end = address.value.find(">", len(address.display))
    return end + 1 if end >= 0 else len(address.uri)


@transformation("nameaddr.params")
def _nameaddr_params(text: str) -> Value:
    """All parameters of an address."""
    address = _nameaddr(text)
    return None if address is None else address.tail.strip() or None


@transformation("nameaddr.param", str)
def _nameaddr_param(text: str, name: str) -> Value:
    """Value of a parameter of an address."""
    address = _nameaddr(text)
    return None if address is None else address.params.get(name.strip().lower())


def _via(name: str, attribute: str, doc: str) -> None:
    @transformation(f"via.{name}", doc=f"{doc} of the first Via.")
    def _read(text: str) -> Value:
        try:
            value = getattr(parse_via(first_value(text)), attribute)
        except ParseError:
            return None
        return None if value is None or value == "" else value


def first_value(text: str) -> str:
    """The first of a list of values: ``{via.…}`` looks at the top one."""
    from opensips_py.sip.headers import split_values

    return split_values(text)[0]


for _name, _attribute, _doc in (
    ("name", "name", "Protocol name"),
    ("version", "version", "Protocol version"),
    ("transport", "transport", "Transport"),
    ("host", "host", "Host"),
    ("domain", "host", "Host"),
    ("port", "port", "Port"),
    ("comment", "comment", "Comment"),
    ("params", "tail", "All parameters"),
    ("branch", "branch", "Parameter branch"),
    ("received", "received", "Parameter received"),
    ("rport", "rport", "Parameter rport"),
):
    _via(_name, _attribute, _doc)


@transformation("via.param", str)
def _via_param(text: str, name: str) -> Value:
    """Value of a parameter of the Via; an empty text when it has none."""
    try:
        params = parse_via(first_value(text)).params
    except ParseError:
        return None
    name = name.strip().lower()
    return (params[name] or "") if name in params else None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text)
    except ValueError:
        return None


@transformation("ip.family")
def _ip_family(text: str) -> Value:
    """Of the binary form, as ``{ip.pton}`` gives it."""
    return {4: "INET", 16: "INET6"}.get(len(text))


@transformation("ip.ntop")
def _ip_ntop(text: str) -> Value:
    """Text of an address in binary form."""
    if len(text) not in (4, 16):
        return None
    return str(ipaddress.ip_address(text.encode("latin-1")))


@transformation("ip.pton")
def _ip_pton(text: str) -> Value:
    """Binary form of an address."""
    address = _address(text)
    return None if address is None else address.packed.decode("latin-1")


@transformation("ip.isip")
def _ip_isip(text: str) -> Value:
    """1 when the text is an IP address, 0 otherwise."""
    return int(_address(text) is not None)


@transformation("ip.isip4")
def _ip_isip4(text: str) -> Value:
    """1 when the text is an IPv4 address, 0 otherwise."""
    return int(isinstance(_address(text), ipaddress.IPv4Address))


@transformation("ip.isip6")
def _ip_isip6(text: str) -> Value:
    """1 when the text is an IPv6 address, 0 otherwise."""
    return int(isinstance(_address(text), ipaddress.IPv6Address))


def _resolve(text: TransformationText, registry: Registry) -> Step:
    """The first address of a name. Other requests are served while it is looked up."""
    if text.parameters is not None:
        raise VariableError("{ip.resolve} takes no parameter", text.offset)

    def step(ctx: Context, value: Value) -> Value:
        name = str(value)
        address = _address(name)
        return names.first_address(ctx, name) if address is None else str(address)

    return step


declare_factory("ip.resolve", "", _resolve)


@lru_cache(1024)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None


def _check_network(text: object) -> str | None:
    return None if _network(str(text)) is not None else f"{text!r} is not a network such as 10.0.0.0/8"


@transformation("ip.matches", str, check=_check_network)
def _ip_matches(text: str, network: str) -> Value:
    """1 when the address is in a network (address/length or address/mask), 0 otherwise."""
    address, net = _address(text), _network(network)
    return None if address is None or net is None else int(address in net)


PRIVATE_NETWORKS = [
    ipaddress.ip_network(text)
    # RFC 1918, RFC 6598 (shared address space of carriers), RFC 7335
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/29")
]


@transformation("ip.isprivate")
def _ip_isprivate(text: str) -> Value:
    """1 for an address of private use (RFC 1918 and its like), 0 otherwise."""
    address = _address(text)
    if address is None:
        return None
    return int(any(address in network for network in PRIVATE_NETWORKS))
