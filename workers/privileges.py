"""Root's privileges, given up for good: user, all groups, saved ids, capabilities, of every thread.

A process that was root until now trusts no call to have done all of it: what the kernel says afterwards is looked at, and
the server does not start when anything of root is left. Programs that ``exec`` runs inherit what is left.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd

ROOT = 0
_CAPABILITY_VERSION = 0x20080522
"""``_LINUX_CAPABILITY_VERSION_3`` (capset(2)): two words of 32 capabilities each."""
_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")
"""Lines of /proc/PID/status. The bounding set is not looked at: it gives nothing by itself."""


class PrivilegeError(Exception):
    """The process cannot become who it is to be; the text says why."""


def find_account(user: str | None, group: str | None) -> tuple[int | None, int | None]:
    """Numbers of a user and a group, each given by name or number. The group of a user is his own if none is given."""
    uid = gid = None
    if user is not None:
        number = _number(user)
        try:
            entry = pwd.getpwnam(user) if number is None else pwd.getpwuid(number)
            uid, gid = entry.pw_uid, entry.pw_gid
        except (KeyError, OverflowError):
            if number is None or number >= 1 << 32:
                raise PrivilegeError(f"bad user name/uid number: {user}") from None
            uid = number
    if group is not None:
        number = _number(group)
        try:
            gid = grp.getgrnam(group).gr_gid if number is None else number
        except KeyError:
            raise PrivilegeError(f"bad group name/gid number: {group}") from None
        if gid >= 1 << 32:
            raise PrivilegeError(f"bad group name/gid number: {group}")
    return uid, gid


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def check_account(user: str | None, group: str | None) -> None:
    """Refuse what would leave something of root, before anything is opened. Raises PrivilegeError."""
    uid, gid = find_account(user, group)
    if uid is None or uid == ROOT or ROOT not in os.getresuid():
        return
    if gid is None:
        raise PrivilegeError(f"-u {user}: there is no such account, so its group is not known; name a group with -g")
    if gid == ROOT:
        given = f"-g {group} is" if group is not None else f"the group of user {user} is"
        raise PrivilegeError(f"{given} root's own: a server that is not root must not keep it; choose another with -g")
    if ROOT in _groups_of(uid, gid):
        raise PrivilegeError(f"user {user} is a member of root's group: take it out of the group, or choose another user")


def drop_privileges(user: str | None, group: str | None) -> None:
    """Become ``user`` and ``group`` for good; called when the sockets are open. Without both nothing happens.

    Raises PrivilegeError, also when anything of root would be left.
    """
    uid, gid = find_account(user, group)
    if uid is None and gid is None:
        return
    check_account(user, group)
    was_root = ROOT in os.getresuid()
    try:
        if gid is not None:
            if was_root:
                os.setgroups(_groups_of(uid, gid))
            os.setresgid(gid, gid, gid)
        if uid is not None:
            os.setresuid(uid, uid, uid)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise PrivilegeError(f"cannot change to uid {uid}, gid {gid}: {why}") from error
    if was_root and uid is not None and uid != ROOT:
        _drop_capabilities()
        _check(uid)


def _groups_of(uid: int | None, gid: int) -> list[int]:
    """All groups: those of the account in the system's files, and ``gid``."""
    try:
        return os.getgrouplist(pwd.getpwuid(-1 if uid is None else uid).pw_name, gid)
    except (KeyError, OverflowError):
        return [gid]


def _drop_capabilities() -> None:
    """The change of user has dropped them unless the process was started with other rules (capabilities(7), securebits)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)())


def _check(uid: int) -> None:
    """Raises PrivilegeError when any thread has anything of root."""
    left: list[str] = []
    for thread in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else []:
        left += left_of_root(f"/proc/self/task/{thread}/status")
    if ROOT in os.getresuid() or ROOT in os.getresgid() or ROOT in os.getgroups():  # /proc may be missing in a chroot
        left.append("ids")
    if left:
        raise PrivilegeError(f"uid {uid}: the process would keep of root: {', '.join(dict.fromkeys(left))}")


def left_of_root(status: str) -> list[str]:
    """What a thread has of root, by its ``status`` file in /proc: user and group ids of any kind, groups, capabilities."""
    with open(status) as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    left = [name for name in ("Uid", "Gid", "Groups") if str(ROOT) in lines[name].split()]
    return left + [name for name in _CAPABILITIES if int(lines[name], 16)]
