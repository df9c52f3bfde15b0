"""Management over a named pipe (OpenSIPS module mi_fifo). The process that serves it is ``workers.mi_process``."""

from __future__ import annotations

import grp
import os
import pwd

from ipc.fifo import FifoError, RequestFifo
from opensips_py.script.declarations import ConfigError, Module

module = Module("mi_fifo", doc="Management over a named pipe (OpenSIPS module mi_fifo)")

fifo_name = module.param("fifo_name", str, "/tmp/opensips_fifo", doc="path of the FIFO on which commands arrive")
fifo_mode = module.param("fifo_mode", int, 0o660, doc="its permissions")
fifo_user = module.param("fifo_user", object, "", doc="its owner, a name or a number; empty: the server's user")
fifo_group = module.param("fifo_group", object, "", doc="its group, a name or a number; empty: the server's group")
reply_dir = module.param("reply_dir", str, "/tmp/", doc="put in front of the reply FIFO's name: a directory with its slash")
pretty_printing = module.param("pretty_printing", int, 0, doc="1: answers are indented (clients that read one line need 0)")
module.param("trace_destination", str, "", doc="where commands are traced to", no_effect="commands are not traced")
module.param("trace_bwlist", str, "", doc="which commands are traced", no_effect="commands are not traced")


@module.on_config
def check() -> None:
    """Refuse what the process could not serve, while the server can still say so to who starts it."""
    if not fifo_name.value:
        raise ConfigError("fifo_name is empty: set it to a path")
    if not 0 < fifo_mode.value <= 0o777:
        raise ConfigError(f"fifo_mode {fifo_mode.value:#o} is not a permission (0600, 0660, …)")
    if not os.path.isdir(reply_dir.value):
        raise ConfigError(f'reply_dir "{reply_dir.value}" is not a directory')
    if not reply_dir.value.endswith("/"):
        raise ConfigError(f'reply_dir "{reply_dir.value}" must end with a slash: it is put in front of the reply FIFO\'s name')
    owner()
    group()
    try:
        RequestFifo.check_path(fifo_name.value)
    except FifoError as error:
        raise ConfigError(str(error)) from error


def owner() -> int:
    """User id for the FIFO; -1: unchanged. Raises ConfigError."""
    text = str(fifo_user.value)
    if not text:
        return -1
    try:
        return int(text) if text.isdecimal() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ConfigError(f'fifo_user "{text}": there is no such user') from None


def group() -> int:
    """Group id for the FIFO; -1: unchanged. Raises ConfigError."""
    text = str(fifo_group.value)
    if not text:
        return -1
    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise ConfigError(f'fifo_group "{text}": there is no such group') from None
