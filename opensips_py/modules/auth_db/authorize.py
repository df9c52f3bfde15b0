"""www_authorize(), proxy_authorize()."""

from __future__ import annotations

from typing import Any

from opensips_py import db
from opensips_py.engine.operation import BUSY, Done
from opensips_py.modules.auth import credentials
from opensips_py.modules.auth.credentials import FAILED, PROXY, WWW, Claim, Verdict
from opensips_py.modules.auth_db import declared
from opensips_py.modules.auth_db.declared import Loaded, TableName, module
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import R


class _Judged(Done):
    """The end of an authorization, with what is kept with the message."""

    _slots: dict[str, Any]

    @classmethod
    def of(cls, verdict: Verdict, outputs: list[tuple[str, Value]]) -> _Judged:
        done = cls(verdict.rc, outputs)
        done._slots = dict(verdict.slots)
        return done

    @property
    def slots(self) -> dict[str, Any]:
        return self._slots


class Authorize(db.Query):
    """The row of a user, against which credentials are judged."""

    keeps = Claim
    kept: Claim

    def answer(self, result: db.Result) -> Done:
        row = result.rows[0] if result.rows else None
        stored = None if row is None or row[0] is None else str(row[0])
        if declared.calculate_ha1.value:
            ha1 = self.kept.hashed(stored or "")  # of an unknown user as well: it takes as long
        else:
            ha1 = (stored or "").lower()
        verdict = credentials.judge(self.kept, ha1 if stored else None, known=row is not None)
        outputs: list[tuple[str, Value]] = []
        if verdict.rc == credentials.AUTHORIZED and row is not None:
            for target, cell in zip(Loaded.targets, row[1:], strict=True):
                if cell is not None:
                    outputs.append((target, repr(cell) if isinstance(cell, float) else cell))
        return _Judged.of(verdict, outputs)

    def failed(self, done: Done) -> Done:
        """-1 and -4 would mean something else here."""
        return Done(FAILED) if done.rc in (-1, BUSY) else done

    def expire(self) -> Done:
        super().expire()
        return Done(FAILED)


class WwwAuthorize(Authorize):
    """``www_authorize()``."""

    name = "www_authorize"


class ProxyAuthorize(Authorize):
    """``proxy_authorize()``."""

    name = "proxy_authorize"


@module.operation(routes=R)
def www_authorize(ctx: Context, realm: str, table: TableName) -> Authorize | int:
    """Compare the credentials in Authorization with the user's row in ``table``.

    1 they are right, -1 no such user, -2 wrong password, -3 the nonce is not ours, has ended or was used, -4 no credentials for
    the realm, -5 the database does not answer, or credentials that lack something. ``realm`` empty: the host of To for a
    REGISTER, else of From. ACK and CANCEL pass.
    """
    return _authorize(ctx, WwwAuthorize, WWW, realm, table)


@module.operation(routes=R)
def proxy_authorize(ctx: Context, realm: str, table: TableName) -> Authorize | int:
    """The same for Proxy-Authorization."""
    return _authorize(ctx, ProxyAuthorize, PROXY, realm, table)


def _authorize(ctx: Context, query: type[Authorize], header: str, realm: str, table: str) -> Authorize | int:
    claim = credentials.claim(ctx, header, realm)
    if isinstance(claim, int):
        return claim
    where = {declared.user_column.value: claim.user}
    if declared.use_domain.value:
        where[declared.domain_column.value] = claim.domain or claim.realm
    return query(declared.database.open(), db.select([_column(claim), *Loaded.columns], table, where, limit=1), claim)


def _column(claim: Claim) -> str:
    """The column with what the claim is judged by."""
    if declared.calculate_ha1.value:
        return declared.password_column.value
    if claim.hash_name == "SHA-256":
        return declared.hash_column_sha256.value
    if claim.hash_name == "SHA-512-256":
        return declared.hash_column_sha512t256.value
    return declared.password_column_2.value if claim.domain else declared.password_column.value
