"""``opensips-py-mi COMMAND [name=value …]``: run one management command over the server's FIFO and print its result.

A value that begins with ``[`` or ``{`` or ``"`` is read as JSON, ``a=[load:,core:]`` also without the quotes; anything
else is text. Exit status: 0 the command has succeeded, 1 the server has answered with an error, 2 the command line is
wrong, 3 no answer (the server does not run, or the FIFO may not be used).
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import select
import stat
import sys
import time
from collections.abc import Sequence
from typing import Any

DEFAULT_FIFO = "/tmp/opensips_fifo"
DEFAULT_REPLY_DIR = "/tmp/"
INVALID_PARAMS = -32602
OK, REFUSED, USAGE, NO_ANSWER = 0, 1, 2, 3


class NoAnswer(Exception):
    """The command did not get an answer; the text says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="opensips-py-mi",
        description="Run a management command of a running server and print its result as JSON.",
        epilog="Examples: opensips-py-mi ps; opensips-py-mi get_statistics statistics=[load:,core:]; opensips-py-mi which",
    )
    parser.add_argument("-f", "--fifo", default=DEFAULT_FIFO, help="the server's FIFO, modparam fifo_name (default %(default)s)")
    parser.add_argument(
        "-r", "--reply-dir", default=DEFAULT_REPLY_DIR, help="directory for answers, modparam reply_dir (default %(default)s)"
    )
    parser.add_argument("-t", "--timeout", type=float, default=10.0, help="seconds to wait (default %(default)s)")
    parser.add_argument("command", help='name of the command; "which" lists them all')
    parser.add_argument("parameters", nargs="*", metavar="name=value", help="its parameters, or values alone in their order")
    options = parser.parse_args(arguments)
    try:
        params = parse_parameters(options.parameters)
    except ValueError as error:
        parser.error(str(error))
    try:
        answer = call(options.fifo, options.reply_dir, options.command, params, options.timeout)
        if "error" in answer:
            print(f"opensips-py-mi: {options.command}: {describe(answer['error'])}", file=sys.stderr)
            if answer["error"].get("code") == INVALID_PARAMS:
                known = call(options.fifo, options.reply_dir, "which", [options.command], options.timeout).get("result")
                print(f"opensips-py-mi: {explain(options.command, params, known)}", file=sys.stderr)
            return REFUSED
    except NoAnswer as error:
        print(f"opensips-py-mi: {error}", file=sys.stderr)
        return NO_ANSWER
    try:
        print(json.dumps(answer.get("result"), indent=4, ensure_ascii=False), flush=True)
    except BrokenPipeError:  # head has seen enough; what is left in the buffer has to go somewhere at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def explain(command: str, params: dict[str, Any] | list[Any], recipes: Any) -> str:
    """What a command takes, after it was called in another way; ``recipes`` is the server's answer to ``which COMMAND``."""
    forms = [" ".join([command, *(f"{name}=…" for name in recipe)]) for recipe in recipes or []]
    text = "write " + ", or ".join(forms) if forms else f"{command} cannot be looked up with which"
    if not isinstance(params, dict):  # by position: the names are those of the form with as many parameters
        names: list[str] = next((recipe for recipe in recipes or [] if len(recipe) == len(params)), [])
        params = dict(zip(names, params, strict=False))
    lists = [f"{name}=[{value}]" for name, value in params.items() if isinstance(value, str) and not value.lstrip("-").isdigit()]
    if lists:
        text += f"; a list is written in brackets: {' '.join(lists)}"
    return text


def parse_parameters(texts: Sequence[str]) -> dict[str, Any] | list[Any]:
    """Parameters of the command: by name when they are ``name=value``, by position when none is."""
    by_name: dict[str, Any] = {}
    by_position: list[Any] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name.replace("_", "").isalnum():
            if name in by_name:
                raise ValueError(f"parameter {name} is given twice")
            by_name[name] = parse_value(value)
        else:
            by_position.append(parse_value(text))
    if by_name and by_position:
        raise ValueError("either all parameters have a name (name=value) or none has")
    return by_name or by_position


def parse_value(text: str) -> Any:
    """A parameter's value: JSON where it looks like it, else text."""
    if text[:1] in ("[", "{", '"'):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            if text[0] == "[" and text[-1] == "]" and '"' not in text:
                return [item.strip() for item in text[1:-1].split(",") if item.strip()]
            raise ValueError(f"{text}: not JSON ({error})") from error
    return text


def describe(error: dict[str, Any]) -> str:
    """An error object in one line."""
    text = f"{error.get('message')} ({error.get('code')})"
    if error.get("data"):
        text += f": {error['data']}"
    if error.get("code") == -32601:
        text += '; "opensips-py-mi which" lists the commands'
    return text


def call(fifo: str, reply_dir: str, method: str, params: dict[str, Any] | list[Any], timeout: float) -> dict[str, Any]:
    """Send one request and wait for its answer, the JSON-RPC object. Raises NoAnswer."""
    deadline = time.monotonic() + timeout
    request = {"jsonrpc": "2.0", "id": str(os.getpid()), "method": method}
    if params:
        request["params"] = params  # type: ignore[assignment]
    writer = _open_fifo(fifo)
    try:
        name, reader = _make_reply_fifo(reply_dir)
        try:
            _send(writer, f":{name}:{json.dumps(request)}".encode(), deadline, fifo)
            return _receive(reader, deadline, fifo)
        finally:
            os.close(reader)
            os.unlink(os.path.join(reply_dir, name))
    finally:
        os.close(writer)


def _open_fifo(fifo: str) -> int:
    try:
        if not stat.S_ISFIFO(os.stat(fifo).st_mode):
            raise NoAnswer(f"{fifo} is not a FIFO: give the server's modparam fifo_name with -f")
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoAnswer(f"there is no FIFO {fifo}: the server does not run, or has another fifo_name (give it with -f)") from None
    except PermissionError:
        raise NoAnswer(f"{fifo}: permission denied; become a member of its group, or root") from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise NoAnswer(f"nobody reads {fifo}: the server does not run any more") from None
        raise NoAnswer(f"{fifo}: {error.strerror}") from None


def _make_reply_fifo(directory: str) -> tuple[str, int]:
    name = f"opensips_py_mi_{os.getpid()}_{os.urandom(6).hex()}"
    path = os.path.join(directory, name)
    try:
        os.mkfifo(path, 0o600)
        os.chmod(path, 0o666)  # the server may be another user
        return name, os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NoAnswer(f"cannot make a FIFO in {directory}: {error.strerror}; give the server's reply_dir with -r") from None


def _send(fd: int, data: bytes, deadline: float, fifo: str) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            if not select.select([], [fd], [], max(0.0, deadline - time.monotonic()))[1]:
                raise NoAnswer(f"the server does not read {fifo}") from None
        except BrokenPipeError:
            raise NoAnswer(f"the server has closed {fifo}") from None


def _receive(fd: int, deadline: float, fifo: str) -> dict[str, Any]:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise NoAnswer(f"no answer on {fifo} in time; is -r the server's modparam reply_dir?")
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        data += chunk
    try:
        answer = json.loads(data)
    except ValueError:
        raise NoAnswer(f"the answer of the server is not JSON: {data[:200]!r}") from None
    if not isinstance(answer, dict):
        raise NoAnswer(f"the answer of the server is not JSON-RPC: {data[:200]!r}")
    return answer


if __name__ == "__main__":
    sys.exit(main())
