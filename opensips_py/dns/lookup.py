"""Waiting for the DNS: the servers of hops as an operation, the addresses of a host for a connection.

Both have a descriptor (an eventfd) that becomes readable when the resolver of the process has found out more.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

import msgspec

from opensips_py.dns.records import Answer, Question
from opensips_py.dns.resolver import resolver
from opensips_py.dns.rfc3263 import Abilities, Hop, Located, family_of, locate
from opensips_py.engine.operation import READ, Done, Operation
from opensips_py.server.process import this, unwatch

FURTHER = 0.5
"""Seconds that the addresses of further choices are waited for once the first is known."""


class _Waiting:
    """Questions that one look-up has asked, and what it has learnt.

    Its answers are its own: it must not have to ask again for what the cache keeps for a moment only.
    """

    __slots__ = ("_answers", "_asked", "fd")

    def __init__(self) -> None:
        self.fd = -1
        """Readable when an answer has come; -1 while nothing had to be asked."""
        self._asked: set[Question] = set()
        self._answers: dict[Question, Answer] = {}

    def known(self, question: Question) -> Answer | None:
        """The answer, if there is one already."""
        answer = self._answers.get(question)
        if answer is None:
            answer = resolver().known(question)
            if answer is not None:
                self._answers[question] = answer
        return answer

    def ask(self, questions: Sequence[Question]) -> None:
        """Ask those that have not been asked yet."""
        if self.fd < 0:
            self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for question in questions:
            if question not in self._asked:
                self._asked.add(question)
                resolver().ask(question, self._answered)

    def _answered(self, question: Question, answer: Answer) -> None:
        self._asked.discard(question)
        self._answers[question] = answer
        if self.fd >= 0:
            os.eventfd_write(self.fd, 1)

    def seen(self) -> None:
        """What has come up to now is taken note of."""
        if self.fd >= 0:
            try:
                os.eventfd_read(self.fd)
            except BlockingIOError:
                pass

    def close(self) -> None:
        """Do not wait any more. Idempotent."""
        for question in self._asked:
            resolver().stop_waiting(question, self._answered)
        self._asked.clear()
        if self.fd >= 0:
            unwatch(self.fd)
            os.close(self.fd)
            self.fd = -1


class _State(msgspec.Struct, array_like=True):
    """What another process needs to ask again."""

    hops: list[Hop]
    able: Abilities
    draw: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_State).decode


class Location(Operation):
    """Locate the servers of ``hops`` (RFC 3263). ``found`` has the outcome; it is always Done(1)."""

    name = "dns"
    takes_default_deadline = False

    def __init__(self, hops: Sequence[Hop], able: Abilities, draw: int) -> None:
        self._state = _State(list(dict.fromkeys(hops)), able, draw)
        self._waiting = _Waiting()
        self.found: dict[Hop, Located] = {}

    def start(self) -> Done | None:
        return Done(1) if self._look() else None

    def fileno(self) -> int:
        return self._waiting.fd

    def advance(self) -> Done | None:
        if self.found_all():
            self.close()
            return Done(1)
        return None

    def found_all(self) -> bool:
        """Take note of what has come; ask for what is to be known next."""
        self._waiting.seen()
        return self._look()

    def _look(self) -> bool:
        able, draw, known = self._state.able, self._state.draw, self._waiting.known
        missing: list[Question] = []
        usable = True
        for hop in self._state.hops:
            located = self.found[hop] = locate(hop, able, known, draw)
            missing += located.missing
            if located.missing and not located.usable:
                usable = False
        if not missing:
            return True
        if usable and self.deadline is None:
            self.deadline = this.clock.now() + FURTHER
        self._waiting.ask(missing)
        return False

    @property
    def counts_as_timeout(self) -> bool:
        """Never: the first choices are known."""
        return False

    def expire(self) -> Done:
        self.close()
        return Done(1)

    def close(self) -> None:
        self._waiting.close()

    def then(self, call: Callable[[dict[Hop, Located]], object]) -> None:
        """Where nobody waits: start, and call ``call`` with what was found, from the event loop of this process."""
        if self.start() is not None:
            call(self.found)
            return
        reactor, fd = this.reactor, self.fileno()

        def answered(events: int) -> None:
            if self.found_all():
                reactor.remove(fd, answered)
                self.close()
                call(self.found)

        reactor.add(fd, READ, answered)

    def freeze(self) -> bytes:
        return _encode(self._state)

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        question = _decode(state)
        return cls(question.hops, question.able, question.draw)


class HostAddresses:
    """Addresses of a host for a TCP connection: those of IPv6 when there is none of IPv4. ``fd`` is readable when ``done``."""

    __slots__ = ("_host", "_waiting", "found")

    def __init__(self, host: str) -> None:
        self._host = host.lower().rstrip(".")
        self._waiting = _Waiting()
        family = family_of(host)
        self.found: list[tuple[int, str]] | None = None if family is None else [(family, host)]
        """Family and address; empty: there is none."""
        if family is None:
            self._look()

    @property
    def fd(self) -> int:
        """Descriptor to wait for; -1 when done."""
        return self._waiting.fd

    @property
    def done(self) -> bool:
        """Whether ``found`` is there. Asks for what is to be known next."""
        if self.found is None:
            self._waiting.seen()
            self._look()
        return self.found is not None

    def _look(self) -> None:
        for type, family in (("A", socket.AF_INET), ("AAAA", socket.AF_INET6)):
            question = Question(self._host, type)
            answer = self._waiting.known(question)
            if answer is None:
                self._waiting.ask([question])
                return
            if answer.records:
                self.found = [(family, record) for record in answer.records if isinstance(record, str)]
                self.close()
                return
        self.found = []
        self.close()

    def close(self) -> None:
        """Do not wait any more. Idempotent."""
        self._waiting.close()


class HostLookUp(Operation):
    """:class:`HostAddresses` as an operation. ``first`` has the first address, None when there is none; always Done(1)."""

    name = "dns_host"
    takes_default_deadline = False

    def __init__(self, host: str) -> None:
        self._host = host
        self._addresses = HostAddresses(host)

    @property
    def first(self) -> str | None:
        """The first address."""
        found = self._addresses.found
        return found[0][1] if found else None

    def start(self) -> Done | None:
        return self.advance()

    def fileno(self) -> int:
        return self._addresses.fd

    def advance(self) -> Done | None:
        return Done(1) if self._addresses.done else None

    def expire(self) -> Done:
        self.close()
        return Done(-1)

    def close(self) -> None:
        self._addresses.close()

    def freeze(self) -> bytes:
        return self._host.encode("latin-1")

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        return cls(state.decode("latin-1"))
