"""``{uri.…}``, ``{nameaddr.…}``, ``{via.…}`` and ``{ip.…}``."""

from __future__ import annotations

import ipaddress
import re

from opensips_py.script import names
from opensips_py.script.context import Context, Value
from opensips_py.script.transformations import Fixed, Step, declare_factory, transformation
from opensips_py.script.transformations_list import parameter
from opensips_py.script.variable import Variables
from opensips_py.script.variable_syntax import TransformationText, VariableError
from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import LWS as BLANKS
from opensips_py.sip.headers import split_values
from opensips_py.sip.nameaddr import NameAddr, parse_nameaddr
from opensips_py.sip.params import unquote
from opensips_py.sip.remembered import remembered
from opensips_py.sip.uri import loose_uri
from opensips_py.sip.via import Via, parse_via


def _part(name: str, attribute: str, doc: str) -> None:
    @transformation(f"uri.{name}", doc=doc)
    def _read(text: str) -> Value:
        uri = loose_uri(text)
        value = None if uri is None else getattr(uri, attribute)
        return value or None


for _name, _attribute, _doc in (
    ("user", "user", "User of the URI."),
    ("host", "host", "Host of the URI."),
    ("domain", "host", "Host of the URI."),
    ("passwd", "password", "Password of the URI."),
    ("params", "params_text", "All parameters of the URI."),
    ("headers", "headers_text", "Headers of the URI, the part after ?."),
    ("schema", "scheme", "Scheme of the URI."),
):
    _part(_name, _attribute, _doc)


@transformation("uri.port")
def _uri_port(text: str) -> Value:
    """Port that the URI names; 0 in sums when it names none."""
    uri = loose_uri(text)
    return None if uri is None else uri.port


@transformation("uri.port_or_0", doc="the same with 0 for none: what `$(ru{uri.port})` is in sums")
def _uri_port_in_sums(text: str) -> Value:
    uri = loose_uri(text)
    return None if uri is None else uri.port or 0


@transformation("uri.param", str)
def _uri_param(text: str, name: str) -> Value:
    """Value of a URI parameter; an empty text when it has none."""
    uri = loose_uri(text)
    return None if uri is None else parameter(uri.params_text, name)


def _known_param(name: str, known: str) -> None:
    @transformation(f"uri.{name}", doc=f"Value of the URI parameter {known}.")
    def _read(text: str) -> Value:
        uri = loose_uri(text)
        return None if uri is None else uri.params.get(known) or None


for _name, _known in (
    ("transport", "transport"),
    ("ttl", "ttl"),
    ("uparam", "user"),
    ("maddr", "maddr"),
    ("method", "method"),
    ("lr", "lr"),
    ("r2", "r2"),
):
    _known_param(_name, _known)


@remembered
def _nameaddr(text: str) -> NameAddr | None:
    """An address; one with a parameter that has nothing behind its ``=`` is none, nor is one without a URI."""
    try:
        address = parse_nameaddr(text)
    except ParseError:
        return None
    return address if address.uri and "" not in address.params.values() else None


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
    """Length of the text up to the parameters; two more when there are none, as in OpenSIPS."""
    address = _nameaddr(text)
    if address is None:
        return None
    head = address.value[: len(address.value) - len(address.tail)].rstrip(BLANKS).removesuffix(";").rstrip(BLANKS)
    return text.find(address.value) + len(head) + (0 if address.tail else 2)


@transformation("nameaddr.params")
def _nameaddr_params(text: str) -> Value:
    """All parameters of an address."""
    address = _nameaddr(text)
    return None if address is None else address.tail.strip() or None


@transformation("nameaddr.param", Fixed)
def _nameaddr_param(text: str, name: str) -> Value:
    """Value of a parameter of an address."""
    address = _nameaddr(text)
    return None if address is None else address.params.get(name.strip().lower())


def top_via(text: str) -> Via | None:
    """The first of a list of Via values."""
    try:
        return parse_via(split_values(text)[0])
    except ParseError:
        return None


def _via(name: str, attribute: str, doc: str) -> None:
    @transformation(f"via.{name}", doc=f"{doc} of the first Via.")
    def _read(text: str) -> Value:
        via = top_via(text)
        value = None if via is None else getattr(via, attribute)
        return None if value is None or value == "" else value


for _name, _attribute, _doc in (
    ("name", "name", "Protocol name"),
    ("version", "version", "Protocol version"),
    ("transport", "transport", "Transport"),
    ("host", "host", "Host"),
    ("domain", "host", "Host"),
    ("port", "port", "Port (0 in sums when it names none)"),
    ("comment", "comment", "Comment"),
):
    _via(_name, _attribute, _doc)


@transformation("via.port_or_0", doc="the same with 0 for none: what `{via.port}` is in sums")
def _via_port_in_sums(text: str) -> Value:
    via = top_via(text)
    return None if via is None else via.port or 0


@transformation("via.params")
def _via_params(text: str) -> Value:
    """All parameters of the first Via, the last quote missing when that ends them, as in OpenSIPS."""
    via = top_via(text)
    return None if via is None else via.tail.removesuffix('"') or None


def _known_via_param(name: str) -> None:
    @transformation(f"via.{name}", doc=f"Parameter {name} of the first Via.")
    def _read(text: str) -> Value:
        via = top_via(text)
        value = None if via is None else via.params.get(name)
        return None if value is None else unquote(value) or None


for _name in ("branch", "received", "rport"):
    _known_via_param(_name)


@transformation("via.param", str)
def _via_param(text: str, name: str) -> Value:
    """Value of a parameter of the first Via; an empty text when it has none."""
    via = top_via(text)
    name = name.strip().lower()
    if via is None or name not in via.params:
        return None
    value = via.params[name]
    return "" if value is None else unquote(value)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@remembered
def _address(text: str) -> Address | None:
    """An address, IPv6 with or without brackets; as OpenSIPS reads them, without an IPv4 tail and without a zone."""
    bare = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    if ":" in bare and ("." in bare or "%" in bare):
        return None
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        return None


@transformation("ip.family")
def _ip_family(text: str) -> Value:
    """Of the binary form, as ``{ip.pton}`` gives it."""
    return {4: "INET", 16: "INET6"}.get(len(text))


@transformation("ip.ntop")
def _ip_ntop(text: str) -> Value:
    """Text of an address in binary form; IPv6 in full, in upper case."""
    packed = text.encode("latin-1")
    if len(packed) == 4:
        return ".".join(map(str, packed))
    if len(packed) != 16:
        return None
    return ":".join(f"{packed[i] << 8 | packed[i + 1]:X}" for i in range(0, 16, 2))


@transformation("ip.pton")
def _ip_pton(text: str) -> Value:
    """Binary form of an address."""
    address = _address(text)
    return None if address is None else address.packed.decode("latin-1")


@transformation("ip.isip")
def _ip_isip(text: str) -> Value:
    """1 when the text is an IP address, 0 otherwise."""
    return int(_address(text) is not None) if text else None


@transformation("ip.isip4")
def _ip_isip4(text: str) -> Value:
    """1 when the text is an IPv4 address, 0 otherwise."""
    return int(isinstance(_address(text), ipaddress.IPv4Address)) if text else None


@transformation("ip.isip6")
def _ip_isip6(text: str) -> Value:
    """1 when the text is an IPv6 address, 0 otherwise."""
    return int(isinstance(_address(text), ipaddress.IPv6Address)) if text else None


def _resolve(text: TransformationText, registry: Variables) -> Step:
    """The first address of a name. Other requests are served while it is looked up."""
    if text.parameters is not None:
        raise VariableError("{ip.resolve} takes no parameter", text.offset)

    def step(ctx: Context, value: Value) -> Value:
        name = str(value)
        address = _address(name)
        return names.first_address(ctx, name) if address is None else str(address)

    return step


declare_factory("ip.resolve", "", _resolve)


_PREFIX = re.compile("[^/]+/[0-9]{1,3}").fullmatch


@remembered
def _network(text: str) -> Network | None:
    text = text.strip()
    if not _PREFIX(text):
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


@transformation("ip.matches", str)
def _ip_matches(text: str, network: str) -> Value:
    """1 when the address is in a network (``address/length``), 0 when not; NULL for an address of the other family."""
    address, net = _address(text), _network(network)
    return None if address is None or net is None or address.version != net.version else int(address in net)


PRIVATE_NETWORKS = [
    ipaddress.ip_network(text)
    # RFC 1918, RFC 6598 (shared address space of carriers), RFC 7335
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/29")
]


@transformation("ip.isprivate")
def _ip_isprivate(text: str) -> Value:
    """1 for an address of private use (RFC 1918 and its like), 0 otherwise."""
    address = _address(text)
    return int(address is not None and any(address in network for network in PRIVATE_NETWORKS)) if text else None
