"""www_challenge(), proxy_challenge()."""

from __future__ import annotations

from typing import Annotated, Any

from opensips_py.modules.auth import credentials, nonce
from opensips_py.modules.auth.declared import Settings, module
from opensips_py.script.context import Context
from opensips_py.script.declarations import Line, R
from opensips_py.server.log import ERROR, log
from opensips_py.tm import server_transaction, stateless

_QOPS = ("auth", "auth-int")


def _qop(text: str) -> str | None:
    """``auth``, ``auth-int`` or both, as they stand in a challenge; None when it is something else."""
    words = [word.strip() for word in text.split(",")]
    return ",".join(words) if text and len(set(words)) == len(words) and all(word in _QOPS for word in words) else None


def _qop_fault(text: str, registry: Any) -> str | None:
    return None if _qop(text) else f'Bad qop type "{text}": it is "auth", "auth-int" or "auth,auth-int"'


QopText = Annotated[str, "str", _qop_fault]


@module.function(routes=R)
def www_challenge(ctx: Context, realm: Line, qop: QopText | None = None) -> int:
    """Answer 401 with a challenge, and end the script. ``realm`` empty: the host of To for a REGISTER, else of From."""
    return _challenge(ctx, 401, "Unauthorized", "WWW-Authenticate", realm, qop)


@module.function(routes=R)
def proxy_challenge(ctx: Context, realm: Line, qop: QopText | None = None) -> int:
    """Answer 407 with a challenge, and end the script."""
    return _challenge(ctx, 407, "Proxy Authentication Required", "Proxy-Authenticate", realm, qop)


def _challenge(ctx: Context, code: int, reason: str, header: str, realm: str, qop: str | None) -> int:
    shown = None if qop is None else _qop(qop)
    if qop is not None and shown is None:
        log(ERROR, "auth", "challenge", f"bad qop type {qop!r}")
        return -1
    asked = realm or credentials.realm_of(ctx)
    if asked is None:
        log(ERROR, "auth", "challenge", "there is no realm: From or To has no host")
        return -1
    quoted = asked.replace("\\", "\\\\").replace('"', '\\"')
    text = f'{header}: Digest realm="{quoted}", nonce="{nonce.make()}"'
    if shown is not None:
        text += f', qop="{shown}"'
    if ctx.slots.pop(credentials.STALE_SLOT, False):
        text += ", stale=true"
    if Settings.algorithms == ("MD5",):
        lines = f"{text}\r\n"  # which is what a challenge without an algorithm means
    else:
        lines = "".join(f"{text}, algorithm={name}\r\n" for name in Settings.algorithms)
    if ctx.tx is not None:
        sent = server_transaction.reply(ctx, code, reason, lines)
    else:
        sent = stateless.send(ctx, code, reason, lines)
    return 0 if sent >= 0 else -1
