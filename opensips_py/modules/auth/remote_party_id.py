"""append_rpid_hf(), is_rpid_user_e164(): the address that a subscriber may be known by (draft-ietf-sip-privacy)."""

from __future__ import annotations

import re

from opensips_py.modules.auth.declared import Settings, module, rpid_prefix, rpid_suffix
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, Line, R
from opensips_py.sip.errors import ParseError
from opensips_py.sip.nameaddr import parse_nameaddr
from opensips_py.sip.uri import loose_uri

_E164 = re.compile(r"\+[0-9]{2,15}")


@module.function(routes=R | F | B)
def append_rpid_hf(ctx: Context, prefix: Line | None = None, suffix: Line | None = None) -> int:
    """Add Remote-Party-ID with the address in ``rpid_avp``, between prefix and suffix. -1 when it has no address."""
    address = Settings.rpid.get(ctx)
    if address is None or not {"\r", "\n", "\0"}.isdisjoint(str(address)):
        return -1
    before = rpid_prefix.value if prefix is None else prefix
    after = rpid_suffix.value if suffix is None else suffix
    ctx.msg.append_header(f"Remote-Party-ID: {before}{address}{after}\r\n")
    return 1


@module.function(routes=R)
def is_rpid_user_e164(ctx: Context) -> int:
    """Whether the user of the address in ``rpid_avp`` is a telephone number with its country code: ``+`` and digits."""
    address = Settings.rpid.get(ctx)
    if address is None:
        return -1
    try:
        uri = loose_uri(parse_nameaddr(str(address)).uri)
    except ParseError:
        return -1
    return 1 if uri is not None and _E164.fullmatch(uri.user or "") else -1
