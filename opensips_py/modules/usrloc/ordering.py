"""The contacts of one user in the order in which they are tried and listed, and which of them are the same.

A request may name thousands of them, and RFC 3261 19.1.4 compares URIs pairwise. So contacts are found by what equal URIs must
have in common; only those are compared that differ in parameters alone, of which there may be few.
"""

from __future__ import annotations

from collections.abc import Iterable

from opensips_py.modules.usrloc.contact import Contact
from opensips_py.sip.uri import unescape, uri_or_none

MAX_ALIKE = 20
"""Contacts whose URIs differ in nothing but parameters and headers."""


class Order:
    """What the parameters say."""

    newest_first = False
    """``desc_time_order``: not the highest q but the newest contact comes first."""


class TooManyAlike(Exception):
    """More than MAX_ALIKE contacts differ in the parameters of their URIs alone."""


class Contacts:
    """The contacts of one user while they are being changed.

    The highest q comes first, of equal ones the oldest; with ``desc_time_order`` the one that was registered last.
    """

    def __init__(self, contacts: Iterable[Contact], by_call_id: bool = False) -> None:
        """``by_call_id``: contacts are the same by URI and Call-ID, not by URI alone."""
        self._by_call_id = by_call_id
        self._all: list[Contact | None] = []
        self._alike: dict[tuple[object, ...], list[int]] = {}
        for contact in contacts:
            self._alike.setdefault(self._key(contact.uri, contact.call_id), []).append(len(self._all))
            self._all.append(contact)
        self._old = len(self._all)

    def _key(self, uri: str, call_id: str) -> tuple[object, ...]:
        """What the same contacts have in common."""
        parts = uri_or_none(uri)
        call_id = call_id if self._by_call_id else ""
        if parts is None:
            return uri, call_id
        return (
            *(parts.kind, unescape(parts.user or ""), unescape(parts.password or "")),
            *(unescape(parts.host or "").lower(), parts.port, call_id),
        )

    def _places(self, uri: str, call_id: str) -> list[int]:
        """Where the same ones are."""
        found = []
        for i in self._alike.get(self._key(uri, call_id), ()):
            contact = self._all[i]
            if contact is not None and contact.same(uri):
                found.append(i)
        return found

    def first(self, uri: str, call_id: str = "") -> Contact | None:
        """The first one that is the same."""
        places = self._places(uri, call_id)
        return self._all[places[0]] if places else None

    def remove(self, uri: str, call_id: str = "") -> None:
        """Remove all that are the same."""
        places = self._places(uri, call_id)
        if places:
            for i in places:
                self._all[i] = None
            key = self._key(uri, call_id)
            self._alike[key] = [i for i in self._alike[key] if self._all[i] is not None]

    def put(self, new: Contact) -> None:
        """Put one in place of the same, or add it. Raises TooManyAlike."""
        if Order.newest_first:
            self.remove(new.uri, new.call_id)
        else:
            places = self._places(new.uri, new.call_id)
            if places:
                self._all[places[0]] = new
                return
        alike = self._alike.setdefault(self._key(new.uri, new.call_id), [])
        if len(alike) >= MAX_ALIKE:
            raise TooManyAlike
        alike.append(len(self._all))
        self._all.append(new)

    def in_order(self) -> list[Contact]:
        """All of them."""
        if Order.newest_first:
            newest_first = [*reversed(self._all[self._old :]), *self._all[: self._old]]
            return [contact for contact in newest_first if contact is not None]
        return sorted((contact for contact in self._all if contact is not None), key=_by_quality)


def _by_quality(contact: Contact) -> int:
    return -contact.q
