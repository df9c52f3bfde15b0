"""The operations behind the core's cache functions, on Redis."""

from __future__ import annotations

from typing import cast

from opensips_py.clients.service.description import ServiceError
from opensips_py.clients.service.operation import Answer, ServiceOperation
from opensips_py.core.cachedb import NULL
from opensips_py.engine.operation import Done
from opensips_py.modules.cachedb_redis import nodes
from opensips_py.modules.cachedb_redis.nodes import ASKING
from opensips_py.modules.cachedb_redis.protocol import Replies, redirection
from opensips_py.script.context import Value

NOT_FOUND = -2
NOT_A_NUMBER = -3
_LOW, _HIGH = -0x80000000, 0x7FFFFFFF


class RedisOperation(ServiceOperation):
    """Commands with as many replies; the last element of ``targets`` is their number."""

    def new_answer(self) -> Answer:
        return Replies(int(self.targets[-1]) + self._asking, self.holding)

    @property
    def _asking(self) -> int:
        """How many commands go before those asked for."""
        return int(self.question.startswith(ASKING))

    def result(self, answer: Answer) -> Done:
        replies = cast(Replies, answer)
        there = redirection(replies.values[self._asking])
        if there is not None:
            raise nodes.elsewhere(self.service, there, self.question.removeprefix(ASKING))
        first = replies.checked()[self._asking]
        return Done(1) if replies.is_status(self._asking) else self.meaning(first)

    def meaning(self, reply: object) -> Done:
        """What the first reply means, if it is no status."""
        return Done(1)

    def outputs(self, value: Value) -> list[tuple[str, Value]]:
        """The value for the variable that the script has named."""
        return [(self.targets[0], value)] if len(self.targets) > 1 else []


class CacheStore(RedisOperation):
    """SET."""

    name = "cache_store"


class CacheRemove(RedisOperation):
    """DEL."""

    name = "cache_remove"


class CacheFetch(RedisOperation):
    """GET."""

    name = "cache_fetch"
    repeatable = True

    def meaning(self, reply: object) -> Done:
        return Done(NOT_FOUND) if reply is None else Done(1, self.outputs(_text(reply)))


class CacheCounterFetch(RedisOperation):
    """GET of a number."""

    name = "cache_counter_fetch"
    repeatable = True

    def meaning(self, reply: object) -> Done:
        if reply is None or reply == b"":
            return Done(NOT_FOUND)
        try:
            value = int(_text(reply))
        except ValueError:
            return Done(NOT_A_NUMBER)
        return Done(1, self.outputs(value))


class CacheAdd(RedisOperation):
    """INCRBY, EXPIRE."""

    name = "cache_add"

    def meaning(self, reply: object) -> Done:
        if not isinstance(reply, int):
            raise ServiceError(f"a number is expected, not {reply!r}")
        return Done(1, self.outputs(reply))


class CacheSub(CacheAdd):
    """DECRBY, EXPIRE."""

    name = "cache_sub"


class CacheRawQuery(RedisOperation):
    """Any command. Each element of an array is a value of the first AVP named, the first on top."""

    name = "cache_raw_query"

    def meaning(self, reply: object) -> Done:
        if reply is None:
            return Done(NOT_FOUND)
        if len(self.targets) < 2:
            return Done(1)
        elements = reply if isinstance(reply, list) else [reply]
        plain = [element for element in elements if isinstance(element, bytes | int) or element is None]
        return Done(1, [(self.targets[0], NULL if element is None else _value(element)) for element in reversed(plain)])


def _text(reply: object) -> str:
    return reply.decode("latin-1") if isinstance(reply, bytes) else str(reply)


def _value(reply: bytes | int) -> str | int:
    """Numbers as far as a script's 32 bits hold them."""
    return reply if isinstance(reply, int) and _LOW <= reply <= _HIGH else _text(reply)
