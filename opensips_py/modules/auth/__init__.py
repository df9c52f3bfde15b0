"""Digest authentication of requests (OpenSIPS module auth; RFC 3261 22, RFC 7616, RFC 8760).

``www_challenge()`` and ``proxy_challenge()`` ask for credentials, ``pv_www_authorize()`` and ``pv_proxy_authorize()`` compare
them with what variables hold; module auth_db compares them with a database. Nothing is kept about a challenge: the nonce says
itself until when it holds, and carries a check value (:mod:`opensips_py.modules.auth.nonce`). What is kept, for
``nonce_expire`` seconds and for all processes, is which nonces were used by those who knew the password.
"""

from __future__ import annotations

from opensips_py.modules.auth import authorize, challenge, remote_party_id  # noqa: F401  (their functions declare themselves)
from opensips_py.modules.auth.declared import module

__all__ = ["module"]
