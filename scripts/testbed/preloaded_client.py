"""A server on the command line, forked from the preloaded process: ``python -I -S preloaded_client.py SOCKET arguments``.

It passes signals on and ends as the server does. Nothing is imported that takes time: it starts in a hundredth of a second.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import posix
import sys

PASSED_ON = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2)


def encode(text: str) -> bytes:
    return text.encode(sys.getfilesystemencoding(), "surrogateescape")


def read_number(connection: _socket.socket) -> int:
    text = b""
    while not text.endswith(b"\n"):
        part = connection.recv(1)
        if not part:
            raise SystemExit("the preloaded process is gone")
        text += part
    return int(text)


def main(path: str, *arguments: str) -> int:
    environment = [b"%b=%b" % item for item in posix.environ.items()]
    words = [posix.getcwdb(), b"%d" % len(arguments), *map(encode, arguments), *environment]
    body = b"\0".join(words)
    data = b"%d\0" % len(body) + body
    _signal.pthread_sigmask(_signal.SIG_BLOCK, PASSED_ON)
    connection = _socket.socket(_socket.AF_UNIX)
    connection.connect(path)
    rights = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    sent = connection.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    if sent < len(data):  # a server that ended already has closed the connection, and sending nothing would fail
        connection.sendall(data[sent:])
    pid = read_number(connection)
    for number in PASSED_ON:
        _signal.signal(number, lambda number, _: posix.kill(pid, number))
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, PASSED_ON)
    status = read_number(connection)
    try:
        posix.killpg(pid, _signal.SIGKILL)  # who starts this one kills its group at the end, and means the server's
    except ProcessLookupError:
        pass
    if status < 0:
        if -status in PASSED_ON:
            _signal.signal(-status, _signal.SIG_DFL)
        posix.kill(posix.getpid(), -status)
    return status


sys.exit(main(*sys.argv[1:]))
