"""The directory in memory that the processes of one running server share.

``/dev/shm/opensips-py-<uid>-<hash of the names and the network namespace>``: made at the start, removed at the end. A lock
file in it is held (``flock``, released by the kernel) as long as any process of the server lives; the directory of a killed
server is thereby known as left over, and the next start empties it. The directory belongs to this user alone. The name can
be told in advance: when another user has taken it, the directory gets a name that cannot.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Sequence

from ipc.clock import clock

ROOT = "/dev/shm"
DYING_SECONDS = 1.0
"""How long processes of a server that was just killed may still hold the lock."""
_LOCK = "alive"


class RunDirError(Exception):
    """No run directory can be had; the text says why and what to do."""


class RunDir:
    """The run directory of this server, locked."""

    __slots__ = ("_lock", "displaced", "path")

    def __init__(self, path: str, lock: int, displaced: str | None = None) -> None:
        self.path = path
        """Absolute path of the directory (mode 0700)."""
        self.displaced = displaced
        """A line for the log when another user has taken its name."""
        self._lock = lock

    @classmethod
    def acquire(cls, names: Sequence[str], root: str = ROOT) -> RunDir:
        """The run directory of the server that listens on ``names``, empty but for its lock file.

        Raises RunDirError when such a server runs, or when the directory cannot be made.
        """
        told_apart_by = [_network_namespace(), *sorted(names)]
        digest = hashlib.blake2b("\n".join(told_apart_by).encode(), digest_size=6).hexdigest()
        _check_root(root)
        path, displaced = _place(os.path.join(root, f"opensips-py-{os.geteuid()}-{digest}"))
        deadline = clock.now() + DYING_SECONDS
        while True:
            lock = _lock(path)
            if lock is not None:
                break
            if clock.now() >= deadline:
                raise RunDirError(
                    f"{path} is in use: a server with the same sockets ({', '.join(names)}) is running{_holder(path)}; "
                    "stop it, or let this one listen elsewhere"
                )
            time.sleep(0.02)
        rundir = cls(path, lock, displaced)
        rundir._clean()
        _remove_left_over(root)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        return rundir

    def _clean(self) -> None:
        """Remove what a killed server has left."""
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name == _LOCK:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)

    def release(self) -> None:
        """Remove the directory and let go of the lock."""
        if self._lock < 0:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1


def _network_namespace() -> str:
    """What tells equal addresses in different networks apart; containers may share the memory. Empty when it is unknown."""
    try:
        return str(os.stat("/proc/self/ns/net").st_ino)
    except OSError:
        return ""


def _check_root(root: str) -> None:
    """Where others may write, they could rename what is ours unless the sticky bit is set."""
    try:
        mode = os.stat(root).st_mode
    except OSError:
        return  # said when the directory is made
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise RunDirError(f"every user may remove files of others in {root}: set its sticky bit (chmod +t {root})")


def _place(path: str) -> tuple[str, str | None]:
    """The path for the directory, and a line for the log when it is not ``path``."""
    try:
        owner = os.lstat(path).st_uid
    except OSError:
        return path, None
    if owner == os.geteuid():
        return path, None
    directory, name = os.path.split(path)
    left_over = sorted(entry for entry in os.listdir(directory) if entry.startswith(f"{name}."))
    ours = [place for place in (os.path.join(directory, entry) for entry in left_over) if _is_ours(place)]
    other = ours[0] if ours else f"{path}.{secrets.token_hex(8)}"
    return other, f"{path} belongs to user {owner}, who has no business there: the run directory is {other}"


def _is_ours(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _lock(path: str) -> int | None:
    """The descriptor of the locked lock file in ``path``; None when somebody else has it."""
    try:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise RunDirError(f"{path} exists and is not a directory of this user: remove it") from None
            os.chmod(path, 0o700)
        file = os.path.join(path, _LOCK)
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(path)):
            raise RunDirError(f"{os.path.dirname(path)} does not exist: the server needs a file system in memory there") from None
        return None  # its former owner is just removing it
    except OSError as error:
        raise RunDirError(f"cannot make the run directory {path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # the former owner may have removed the file between our open and our lock
        if os.path.samestat(os.fstat(fd), os.stat(file)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _remove_left_over(root: str) -> None:
    """Remove what killed servers of this user have left, whatever their sockets were: it is memory."""
    for entry in os.listdir(root):
        path = os.path.join(root, entry)
        if not entry.startswith(f"opensips-py-{os.geteuid()}-") or not _is_ours(path):
            continue
        try:
            fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # one that is just being made, or removed
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # its server lives
        finally:
            os.close(fd)


def _holder(path: str) -> str:
    try:
        with open(os.path.join(path, _LOCK), encoding="ascii", errors="replace") as file:
            pid = file.read(32).strip()
    except OSError:
        return ""
    return f" as process {pid}" if pid.isdigit() else ""
