"""The order of a user's contacts: the one in which they are tried and listed."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.modules.usrloc.contact import Contact
from opensips_py.modules.usrloc.declared import desc_time_order


def put(contacts: list[Contact], new: Contact, is_same: Callable[[Contact], bool]) -> list[Contact]:
    """``contacts`` with ``new`` in place of the one that is the same, or added where it belongs.

    The highest q comes first, of equal ones the oldest; with ``desc_time_order`` the one that was registered last.
    """
    if desc_time_order.value:
        return [new, *(one for one in contacts if not is_same(one))]
    for i, one in enumerate(contacts):
        if is_same(one):
            changed = list(contacts)
            changed[i] = new
            break
    else:
        changed = [*contacts, new]
    changed.sort(key=_by_quality)
    return changed


def _by_quality(contact: Contact) -> int:
    return -contact.q
