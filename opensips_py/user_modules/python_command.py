"""A user's function as a management command: at once, or on a thread or the asyncio loop while others are served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opensips_py.engine.operation import READ
from opensips_py.engine.thread_job import QueueFull
from opensips_py.mi.dispatcher import SERVER_ERROR, Later
from opensips_py.script.declarations import MIError
from opensips_py.script.outputs import to_script, to_unicode
from opensips_py.server.process import this
from opensips_py.user_modules.python_call import Job, report_failure


def at_once(body: Callable[..., Any]) -> Callable[..., Any]:
    """The handler for a function that does not wait."""

    def handler(**given: Any) -> Any:
        result = body(**_unicode(given))
        return result if isinstance(result, Later) else _result(result)

    return handler


def later(body: Callable[..., Any], begin: Callable[[Callable[[], Any]], Job]) -> Callable[..., Later]:
    """The handler for a function that takes time: the answer is sent when it has ended."""

    def handler(**given: Any) -> Later:
        arguments = _unicode(given)
        try:
            job = begin(lambda: body(**arguments))
        except QueueFull as full:
            raise MIError(SERVER_ERROR, "Server error", str(full)) from None
        answer = Later()
        this.reactor.add(job.fd, READ, lambda events: _ended(job, answer, body.__name__))
        return answer

    return handler


def _ended(job: Job, answer: Later, name: str) -> None:
    if not job.done:
        return
    this.reactor.remove(job.fd)
    try:
        result = _result(job.result())
    except MIError as error:
        answer.failed(error)
    except BaseException as error:
        report_failure(error, f"management command, {name}()")
        answer.failed(MIError(SERVER_ERROR, "Server error", f"{type(error).__name__} in the command's function"))
    else:
        answer.done(result)
    finally:
        job.close()


def _unicode(given: dict[str, Any]) -> dict[str, Any]:
    return {name: to_unicode(value) if isinstance(value, str) else value for name, value in given.items()}


def _result(result: Any) -> Any:
    return "OK" if result is None else _script(result)


def _script(result: Any) -> Any:
    """Texts as the management interface expects them."""
    if isinstance(result, str):
        return to_script(result)
    if isinstance(result, dict):
        return {_script(key): _script(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [_script(value) for value in result]
    return result
