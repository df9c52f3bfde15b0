"""LDAP messages (RFC 4511), as the library ldap3 makes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ldap3.core.exceptions import LDAPExceptionError
from ldap3.operation.bind import bind_operation
from ldap3.operation.search import search_operation
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from ldap3.strategy.base import BaseStrategy
from ldap3.utils import asn1

from opensips_py.clients.service.description import ServiceError
from opensips_py.engine.holding import VALUE, Holding
from opensips_py.modules.ldap.url import LdapUrl, UrlError

Entry = tuple[str, dict[str, list[str]]]
"""DN, and values by the lower-case name of their attribute."""

# the library's annotations (types-ldap3) leave these out
_encode: Callable[[Any], bytes] = getattr(asn1, "encode")  # noqa: B009
_decode: Callable[[bytes], dict[str, Any]] = asn1.decode_message_fast
_result_of: Callable[[Any], dict[str, Any]] = asn1.ldap_result_to_dict_fast
_size: Callable[[bytes], int] = BaseStrategy.compute_ldap_message_size

_BIND, _SEARCH = 1, 2
# One search at a time is under way on a connection, and one that ends before its answer closes it: so every search may have
# the same number, and its bytes can be kept.
_BIND_RESPONSE, _ENTRY, _SEARCH_DONE, _REFERENCE = 1, 4, 5, 19
UNBIND = b"\x30\x05\x02\x01\x03\x42\x00"


_LONGEST_KEPT = 512
"""Characters in a search whose bytes are kept for the next time: what is looked for comes from the network."""


def _message(number: int, what: str, operation: Any) -> bytes:
    message = LDAPMessage()
    message["messageID"] = MessageID(number)
    message["protocolOp"] = ProtocolOp().setComponentByName(what, operation)
    return bytes(_encode(message))


def bind(version: int, dn: str, password: str) -> bytes:
    """A simple bind; without a DN an anonymous one."""
    method = "SIMPLE" if dn else "ANONYMOUS"
    return _message(_BIND, "bindRequest", bind_operation(version, method, _unicode(dn), _unicode(password) if dn else None))


def search(url: LdapUrl) -> bytes:
    """A search. UrlError when its filter is not one (RFC 4515)."""
    if len(url.base) + len(url.filter) > _LONGEST_KEPT:
        return _search.__wrapped__(url)
    return _search(url)


@lru_cache(1024)
def _search(url: LdapUrl) -> bytes:
    try:
        request = search_operation(
            _unicode(url.base),
            _unicode(url.filter),
            url.scope,
            "NEVER",
            [_unicode(name) for name in url.attributes] or ["*"],
            *(0, 0, False, None, None, None, None),
        )
        return _message(_SEARCH, "searchRequest", request)
    except (LDAPExceptionError, ValueError, IndexError) as error:
        raise UrlError(f"{url.filter} is not a filter: {error}") from None


def _unicode(text: str) -> str:
    """LDAP's texts are UTF-8."""
    return text.encode("latin-1").decode("utf-8", "replace")


LONGEST_MESSAGE = 131_072
"""Bytes of a message, which is one entry: the decoder takes 2 us for each element, and nobody else has a turn meanwhile."""
_MOST_SMALL = 8192
_SMALL = bytes(range(4))
_LONGEST_HEAD = 32
"""Bytes from which the length of a message is known, or that it is not a message."""


class Messages:
    """Splits what is received into messages."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._need = 0
        """Bytes of the message at the front; 0: not known yet."""

    def feed(self, data: bytes) -> list[tuple[int, Any]]:
        """Kind and content of each complete message. Raises ServiceError."""
        rest = self._rest
        rest += data
        found: list[tuple[int, Any]] = []
        at = 0
        while True:
            if not self._need:
                self._need = self._length(bytes(rest[at : at + _LONGEST_HEAD]))
            if not self._need or len(rest) - at < self._need:
                break
            data = bytes(rest[at : at + self._need])
            if len(data) - len(data.translate(None, _SMALL)) > _MOST_SMALL:  # each element of up to 3 bytes has such a byte
                raise ServiceError("a message has too many values")
            try:
                message = _decode(data)
                found.append((message["protocolOp"], message["payload"]))
            except Exception as error:  # the decoder has no error of its own: whatever is not LDAP ends in one of Python's
                raise ServiceError(f"the server does not speak LDAP: {error!r:.200}") from None
            at += self._need
            self._need = 0
        del rest[:at]
        return found

    def _length(self, head: bytes) -> int:
        """Bytes of the message that begins so; 0: not known yet. Raises ServiceError."""
        if head and head[0] != 0x30:
            raise ServiceError("the server does not speak LDAP")
        size = _size(head)
        if size > LONGEST_MESSAGE or (size < 0 and len(head) == _LONGEST_HEAD):
            raise ServiceError(f"a message is longer than {LONGEST_MESSAGE} bytes")
        return max(0, size)


class LdapLogin:
    """The bind."""

    def __init__(self, version: int, dn: str, password: str) -> None:
        self._request = bind(version, dn, password)
        self._messages = Messages()

    def begin(self) -> bytes:
        """The request."""
        return self._request

    def feed(self, data: bytes) -> bool:
        """True when the server has accepted it."""
        for kind, payload in self._messages.feed(data):
            if kind != _BIND_RESPONSE:
                raise ServiceError(f"an answer to the bind is expected, not a message of kind {kind}")
            _check(payload)
            return True
        return False


class SearchAnswer:
    """The entries that a search has found."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._messages = Messages()
        self.entries: list[Entry] = []
        self._end: Any = None

    def feed(self, data: bytes) -> bool:
        """True when the search is over."""
        for kind, payload in self._messages.feed(data):
            if kind == _ENTRY:
                self._add(payload)
            elif kind == _SEARCH_DONE:
                self._end = payload
                return True
            elif kind != _REFERENCE:  # another server has more: not followed, as in OpenSIPS
                raise ServiceError(f"an answer to the search is expected, not a message of kind {kind}")
        return False

    def _add(self, payload: Any) -> None:
        try:
            entry = _entry(payload)
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise ServiceError(f"the server does not speak LDAP: {error!r:.200}") from None
        self._holding.take(VALUE * (1 + sum(1 + len(values) for values in entry[1].values())))
        self.entries.append(entry)

    def check(self) -> None:
        """Raises ServiceError when the search has failed."""
        _check(self._end)


def _entry(payload: Any) -> Entry:
    attributes: dict[str, list[str]] = {}
    for _, _, _, (name, values) in payload[1][3]:
        attributes[name[3].decode("latin-1").lower()] = [value[3].decode("latin-1") for value in values[3]]
    return payload[0][3].decode("latin-1"), attributes


def _check(payload: Any) -> None:
    try:
        result = _result_of(payload)
    except Exception as error:  # as in Messages
        raise ServiceError(f"the server does not speak LDAP: {error!r:.200}") from None
    if result["result"]:
        detail = f": {result['message']}" if result["message"] else ""
        raise ServiceError(f"{result['description']} ({result['result']}){detail}")
