"""Named pipes for management: the request FIFO, and the FIFOs on which clients wait for answers.

A request is ``:reply_name:{...}``: the name of a FIFO in the reply directory that the client has made and reads, then
one JSON object. An empty name asks for no answer. Several requests may follow each other, and one may come in pieces.

Names come from outside. A reply goes only to a FIFO that lies directly in the reply directory: the name may not contain
``.``, ``/`` or ``\\``, and what is found must be a FIFO, not a symbolic link, with no second link, and still the same
file after it has been opened.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import stat
from typing import NamedTuple

MAX_REQUEST = 1 << 20
"""Longest request in bytes. What is longer is dropped."""
MAX_NAME = 255
"""Longest reply name (NAME_MAX)."""

_HEAD = re.compile(rb"\s*:([^:\x00-\x20]{0,%d}):\s*(?=\{)" % MAX_NAME)
_PART_OF_HEAD = re.compile(rb"\s*(:([^:\x00-\x20]{0,%d}(:\s*)?)?)?\Z" % MAX_NAME)
# Outside of strings JSON never has ':' name ':', and inside of them a quote is escaped: this can only be a new request
# after one that was left unfinished.
_NEXT = re.compile(rb':[^:"{}\x00-\x20]{0,%d}:\s*\{\s*"(?:jsonrpc|method|id|params)"' % MAX_NAME)
_OVERLAP = MAX_NAME + 64
_BRACES_AND_QUOTES = re.compile(rb'[{}"]')
_INSIDE_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*', re.DOTALL)


class FifoError(Exception):
    """A FIFO cannot be used; the text says why and what to do."""


class NoReader(Exception):
    """Nobody has opened the reply FIFO for reading (yet)."""


class Request(NamedTuple):
    """One request as framed."""

    reply_name: str
    """Empty: no answer is wanted."""
    body: bytes
    """Text of one JSON object (its braces match; it may still be nonsense)."""


class Framer:
    """Cuts the byte stream of the request FIFO into requests.

    Its memory is bounded by MAX_REQUEST and one read, and every byte is looked at a fixed number of times, whatever is written.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body = 0
        self._seen = 0
        self._depth = 0
        self._in_string = False
        self._name = ""
        self._next = -1
        """Where the next head begins in the buffer; -1: not before ``_clear``."""
        self._clear = 0
        """No head begins before this offset, except at ``_next``."""
        self.dropped: list[str] = []
        """What was thrown away, in words, since the caller last cleared it."""

    @property
    def unfinished(self) -> bool:
        """A request has begun and its end is awaited."""
        return bool(self._buffer)

    def abandon(self) -> None:
        """Drop the request that has begun."""
        if self._buffer:
            self.dropped.append(f"half a request ({len(self._buffer)} bytes)")
            self._restart(len(self._buffer))

    def feed(self, data: bytes) -> list[Request]:
        """Take bytes that were read; the requests that are complete with them."""
        self._buffer += data
        out: list[Request] = []
        while self._buffer:
            if self._body == 0 and not self._head():
                break
            following = self._next_head(self._body)
            end = self._end_of_body(len(self._buffer) if following is None else following)
            if end is not None:
                out.append(Request(self._name, bytes(self._buffer[self._body : end])))
                self._restart(end)
            elif following is not None:
                # a new head in the middle of what has not ended properly: a client has left half a request behind
                self.dropped.append(f"half a request ({following} bytes)")
                self._restart(following)
            else:
                if len(self._buffer) > MAX_REQUEST:
                    self.dropped.append(f"a request longer than {MAX_REQUEST} bytes")
                    self._restart(len(self._buffer))
                break
        return out

    def _head(self) -> bool:
        """Find ``:name:`` at the front; False: more is needed, or the buffer is used up."""
        head = _HEAD.match(self._buffer)
        if head is not None:
            self._name = head[1].decode("latin-1")
            self._body = self._seen = head.end()
            return True
        if self._buffer.isspace():
            self._restart(len(self._buffer))
            return False
        if len(self._buffer) < 2 * MAX_NAME and _PART_OF_HEAD.match(self._buffer) is not None:
            return False
        found = self._next_head(1)
        cut = len(self._buffer) if found is None else found
        self.dropped.append(f"{cut} bytes that are not a request (:reply_fifo:{{...}})")
        self._restart(cut)
        return bool(self._buffer) and self._head()

    def _next_head(self, start: int) -> int | None:
        """Where the first head at or after ``start`` begins; None: there is none yet."""
        if self._next < start:
            found = _NEXT.search(self._buffer, max(start, self._clear))
            if found is None:
                self._next = -1
                self._clear = max(start, len(self._buffer) - _OVERLAP)
                return None
            self._next = self._clear = found.start()
        return self._next

    def _end_of_body(self, limit: int) -> int | None:
        """Offset after the brace that closes the object; None: it is not before ``limit``."""
        buffer, at = self._buffer, self._seen
        while at < limit:
            if self._in_string:
                inside = _INSIDE_STRING.match(buffer, at, limit)
                assert inside is not None  # it matches the empty string
                at = inside.end()
                if at >= limit or buffer[at] != 0x22:
                    break
                self._in_string = False
                at += 1
            found = _BRACES_AND_QUOTES.search(buffer, at, limit)
            if found is None:
                at = limit
                break
            at = found.end()
            if found[0] == b'"':
                self._in_string = True
                continue
            self._depth += 1 if found[0] == b"{" else -1
            if self._depth == 0:
                return at
        self._seen = at
        return None

    def _restart(self, cut: int) -> None:
        del self._buffer[:cut]
        self._body = self._seen = self._depth = 0
        self._in_string = False
        self._next = self._next - cut if self._next >= cut else -1
        self._clear = max(self._clear - cut, 0)


_OWN_DIRECTORY = "set fifo_name to a path in a directory in which only the server's user may write"


def _owner(found: os.stat_result) -> str:
    """In words."""
    try:
        return f"user {pwd.getpwuid(found.st_uid).pw_name}"
    except KeyError:
        return f"user {found.st_uid}"


def _may_remove(path: str) -> bool:
    """Whether this process may remove what another user has made: not in a directory with a sticky bit (/tmp)."""
    directory = os.path.dirname(path) or "."
    return os.access(directory, os.W_OK) and not os.stat(directory).st_mode & stat.S_ISVTX


class RequestFifo:
    """The FIFO on which requests arrive."""

    def __init__(self, path: str, mode: int, uid: int = -1, gid: int = -1) -> None:
        self.path = path
        self._mode, self._uid, self._gid = mode, uid, gid
        self.fd = -1

    @staticmethod
    def check_path(path: str) -> None:
        """Refuse what may not be replaced by a FIFO: FifoError for anything but a left-over FIFO or nothing."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            directory = os.path.dirname(path) or "."
            if not os.path.isdir(directory):
                raise FifoError(f"{path}: the directory {directory} does not exist") from None
            return
        except OSError as error:
            raise FifoError(f"{path}: {error.strerror}") from error
        if not stat.S_ISFIFO(found.st_mode):
            raise FifoError(f"{path} exists and is not a FIFO ({_owner(found)} has made it): remove it, or set another fifo_name")
        try:
            writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):  # no reader: left over from a server that was killed
                if found.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0 and not _may_remove(path):
                    raise FifoError(f"{path} belongs to {_owner(found)}: {_OWN_DIRECTORY}") from error
                return
            raise FifoError(f"{path}, of {_owner(found)}: {error.strerror}; {_OWN_DIRECTORY}") from error
        os.close(writer)
        if found.st_uid != os.geteuid():
            raise FifoError(f"{path}, of {_owner(found)}, is read by another program: {_OWN_DIRECTORY}")
        raise FifoError(f"{path} is in use by another running server: stop it, or set another fifo_name")

    def open(self) -> None:
        """Make the FIFO, replacing a left-over one, and open it. Raises FifoError."""
        self.check_path(self.path)
        try:
            if os.path.lexists(self.path):
                os.unlink(self.path)
            os.mkfifo(self.path, 0o600)
            # reading and writing: without a writer of our own every client's close would be an end of file
            fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if not stat.S_ISFIFO(os.fstat(fd).st_mode):
                    raise FifoError(f"{self.path} was replaced by something that is not a FIFO")
                os.fchown(fd, self._uid, self._gid)
                os.fchmod(fd, self._mode)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise FifoError(f"cannot make the FIFO {self.path}: {error.strerror}; {_OWN_DIRECTORY}") from error
        self.fd = fd

    def is_there(self) -> bool:
        """Is the path still the FIFO that is open?"""
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self.fd))
        except OSError:
            return False

    def read(self, size: int = 65536) -> bytes:
        """What has arrived, at most ``size`` bytes; empty when there is nothing."""
        try:
            return os.read(self.fd, size)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close and remove the FIFO."""
        if self.fd < 0:
            return
        try:
            if self.is_there():
                os.unlink(self.path)
        except OSError:
            pass  # its directory may belong to somebody else by now; the next start replaces the FIFO
        os.close(self.fd)
        self.fd = -1


def open_reply(directory: str, name: str) -> int:
    """Open the reply FIFO ``name`` for writing (non-blocking). ``directory`` is put in front as it is.

    Raises NoReader when nobody reads it yet, FifoError when an answer may not be written there.
    """
    if not name or any(c in name for c in "./\\\0"):
        raise FifoError(f"reply FIFO {name!r}: a name may not contain '.', '/' or '\\'")
    path = directory + name
    try:
        before = os.lstat(path)
        _check_reply(path, before)
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise NoReader(path) from None
        raise FifoError(f"reply FIFO {path}: {error.strerror}") from error
    after = os.fstat(fd)
    try:
        _check_reply(path, after)
        if not os.path.samestat(before, after):
            raise FifoError(f"reply FIFO {path} was exchanged while it was opened")
    except FifoError:
        os.close(fd)
        raise
    return fd


def _check_reply(path: str, found: os.stat_result) -> None:
    if not stat.S_ISFIFO(found.st_mode):
        raise FifoError(f"reply FIFO {path} is not a FIFO")
    if found.st_nlink != 1:
        raise FifoError(f"reply FIFO {path} has {found.st_nlink} links")
