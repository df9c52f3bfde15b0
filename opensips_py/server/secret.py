"""The secret that a server is given, so that it makes the same branches, tags and keys after a restart and on another machine."""

from __future__ import annotations

import os
import stat

from opensips_py.script.parameters import SHORTEST_SECRET, Settings
from opensips_py.server.log import WARNING, log

_MOST = 65536
"""Bytes read of a file."""


class SecretError(Exception):
    """No secret can be had from the file. The text never shows any of it."""


def given_secret(settings: Settings) -> bytes | None:
    """The secret of ``server_secret`` or ``server_secret_file``; None when neither is set."""
    if settings.server_secret_file is None:
        return None if settings.server_secret is None else str(settings.server_secret).encode("latin-1")
    if settings.server_secret is not None:
        raise SecretError("server_secret and server_secret_file are both set: leave one out")
    return _read(settings.server_secret_file)


def _read(path: str) -> bytes:
    """What is in the file, without white space around it."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MOST + 1).strip()
    except (OSError, ValueError) as error:
        raise SecretError(f"server_secret_file {path}: {getattr(error, 'strerror', None) or error}") from None
    if not SHORTEST_SECRET <= len(text) <= _MOST:
        raise SecretError(f"server_secret_file {path}: the secret has {SHORTEST_SECRET} to {_MOST} characters")
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        warning = f"server_secret_file {path} can be written by its group, or used by others: chmod g-w,o= {path}"
        log(WARNING, "core", "main", warning)
    return text
