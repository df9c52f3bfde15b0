"""The resolver of one process: cache, /etc/hosts, and look-ups under way, each of which serves all who wait for it.

It has one descriptor (an epoll over the sockets of all exchanges). The reactor calls :meth:`Resolver.run` when that is readable
or a deadline has come; a plain call that waits in a process without event loop does the same.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
from collections.abc import Callable
from typing import Any

from opensips_py.dns.configuration import Configuration, Current
from opensips_py.dns.exchange import Exchange, Silence
from opensips_py.dns.hosts import Hosts
from opensips_py.dns.records import FAILED, Answer, Question, Status, size_of
from opensips_py.engine.operation import READ, WRITE
from opensips_py.script.declarations import Module
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import Reactor, this

statistics = Module("dns", doc="Names looked up")
_total = statistics.statistic("dns_total_queries", doc="look-ups that needed a name server")
_slow = statistics.statistic("dns_slow_queries", doc="look-ups that took longer than exec_dns_threshold")

_refused = statistics.statistic(
    "dns_refused_queries", doc="look-ups that were not made because 1,000 are under way in the process (ours)"
)

MOST_ANSWERS = 10_000
"""Answers kept; the oldest go first."""
MOST_BYTES = 8 << 20
"""Bytes that they may take, as estimated."""
MOST_AT_ONCE = 1000
"""Look-ups under way at once; what is asked beyond fails, so that made-up names in requests cannot take all descriptors."""
KEEP_FAILURE = 5.0
"""Seconds for which nobody is asked again what no server could tell (RFC 2308 7 allows up to five minutes)."""
FROM_FILE = 1.0
ADDRESSES = ("A", "AAAA")

Waiter = Callable[[Question, Answer], None]

_MASKS = {READ: select.EPOLLIN, WRITE: select.EPOLLOUT}


def _loopback(name: str, type: str) -> tuple[str, ...] | None:
    """Names that mean this machine wherever they are asked for (RFC 6761 6.3); None for others."""
    if name == "localhost" or name.endswith(".localhost"):
        return ("127.0.0.1",) if type == "A" else ("::1",) if type == "AAAA" else ()
    return None


def _host_of_service(name: str) -> str:
    """``example.com`` of ``_sip._udp.example.com``."""
    while name.startswith("_"):
        name = name.partition(".")[2]
    return name


class _LookUp:
    """A question under way: tried under each name that it may mean, in turn."""

    __slots__ = ("best", "candidates", "exchange", "question", "started", "waiters")

    def __init__(self, question: Question, candidates: list[str], now: float) -> None:
        self.question = question
        self.candidates = candidates
        self.exchange: Exchange | None = None
        self.waiters: list[Waiter] = []
        self.started = now
        self.best: Answer | None = None


class Resolver:
    """What this process knows and asks. Not for threads."""

    def __init__(self) -> None:
        self._current = Current()
        self._hosts = Hosts()
        self._silence = Silence()
        self._answers: dict[Question, tuple[float, Answer]] = {}
        self._bytes = 0
        """What the answers take, as estimated."""
        self._under_way: dict[Question, _LookUp] = {}
        self._by_fd: dict[int, _LookUp] = {}
        self._deadlines: list[tuple[float, int, _LookUp, Exchange]] = []
        self._numbers = itertools.count()
        self._epoll: select.epoll | None = None
        self._watched: Reactor | None = None
        self._timer: Any = None
        self._timer_at = 0.0

    # --- what is known ----------------------------------------------------------------------------------------------

    def known(self, question: Question) -> Answer | None:
        """The answer, if it need not be asked for."""
        host = question.name if question.type in ADDRESSES else _host_of_service(question.name)
        addresses = _loopback(host, question.type)
        if addresses is None:
            addresses = self._hosts.addresses(host, question.type)
        if addresses is not None:
            return Answer(Status.FOUND if addresses else Status.NO_DATA, addresses, FROM_FILE)
        kept = self._answers.get(question)
        if kept is None:
            return None
        if kept[0] <= this.clock.now():
            self._drop(question)
            return None
        return kept[1]

    def until(self, question: Question) -> float:
        """``this.clock.now()`` up to which what is :meth:`known` holds."""
        kept = self._answers.get(question)
        return this.clock.now() + FROM_FILE if kept is None else kept[0]

    def _keep(self, question: Question, answer: Answer, now: float) -> None:
        answers = self._answers
        self._drop(question)  # a new answer goes to the end: the order is that of age
        self._bytes += size_of(question, answer)
        answers[question] = (now + (KEEP_FAILURE if answer.status is Status.FAILED else answer.seconds), answer)
        while len(answers) > MOST_ANSWERS or self._bytes > MOST_BYTES:
            self._drop(next(iter(answers)))

    def _drop(self, question: Question) -> None:
        kept = self._answers.pop(question, None)
        if kept is not None:
            self._bytes -= size_of(question, kept[1])

    def forget(self) -> None:
        """Ask everything again."""
        self._answers.clear()
        self._bytes = 0

    # --- asking -----------------------------------------------------------------------------------------------------

    def ask(self, question: Question, waiter: Waiter) -> None:
        """Find out; ``waiter`` is called once, later, with the answer."""
        under_way = self._under_way.get(question)
        if under_way is not None:
            under_way.waiters.append(waiter)
            return
        now = this.clock.now()
        configuration = self._current.get()
        look_up = _LookUp(question, configuration.candidates(question.name), now)
        look_up.waiters.append(waiter)
        self._under_way[question] = look_up
        _total.add()
        if len(self._under_way) > MOST_AT_ONCE:
            _refused.add()
            log(WARNING, "core", "dns", f"{MOST_AT_ONCE} look-ups are under way: {question.name} is not looked up")
            self._later(look_up, FAILED)
        else:
            self._try(look_up, configuration, now)
        self._watch()

    def stop_waiting(self, question: Question, waiter: Waiter) -> None:
        """``waiter`` is not to be called any more. The look-up goes on: the answer will be wanted again."""
        under_way = self._under_way.get(question)
        if under_way is not None and waiter in under_way.waiters:
            under_way.waiters.remove(waiter)

    def _try(self, look_up: _LookUp, configuration: Configuration, now: float) -> None:
        """Ask for the next name that the question may mean."""
        if look_up.question.name.rpartition(".")[2] == "invalid":  # RFC 6761 6.4: there is none, and nobody is to be asked
            self._later(look_up, Answer(Status.NO_NAME, (), KEEP_FAILURE))
            return
        while True:
            name = look_up.candidates.pop(0)
            exchange = look_up.exchange = Exchange(
                Question(name, look_up.question.type), configuration, self._silence, self._unfollow
            )
            answer = exchange.start(now)
            if answer is None:
                self._follow(look_up)
                return
            if answer.status is Status.FAILED or not look_up.candidates:
                self._later(look_up, answer)  # found out at once, told later: nobody is called back while he asks
                return

    def _later(self, look_up: _LookUp, answer: Answer) -> None:
        look_up.exchange = None
        look_up.best = answer
        heapq.heappush(self._deadlines, (0.0, next(self._numbers), look_up, _NOTHING))

    def _follow(self, look_up: _LookUp) -> None:
        """Bring epoll and deadlines in line with what the exchange waits for now."""
        exchange = look_up.exchange
        assert exchange is not None
        if self._epoll is None:
            self._epoll = select.epoll()
        fd = exchange.fd
        if fd in self._by_fd:
            self._epoll.modify(fd, _MASKS[exchange.wants])
        else:
            self._epoll.register(fd, _MASKS[exchange.wants])
            self._by_fd[fd] = look_up
        heapq.heappush(self._deadlines, (exchange.deadline, next(self._numbers), look_up, exchange))

    def _unfollow(self, fd: int) -> None:
        """The descriptor is about to be closed."""
        if self._by_fd.pop(fd, None) is not None and self._epoll is not None:
            self._epoll.unregister(fd)

    # --- going on ---------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when :meth:`run` has something to do; -1 while nothing was ever asked."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def deadline(self) -> float | None:
        """``this.clock.now()`` at which :meth:`run` has something to do at the latest; None: nothing is under way."""
        heap = self._deadlines
        while heap:
            at, _, look_up, exchange = heap[0]
            if exchange is _NOTHING or (look_up.exchange is exchange and exchange.deadline <= at and exchange.fd >= 0):
                return at
            heapq.heappop(heap)
        return None

    def run(self) -> None:
        """Take what has come, lose patience where it is time. Never blocks; may be called without need."""
        now = this.clock.now()
        if self._epoll is not None and self._by_fd:
            for fd, _ in self._epoll.poll(0):
                look_up = self._by_fd.get(fd)
                if look_up is not None and look_up.exchange is not None:
                    self._went_on(look_up, look_up.exchange.step(now), now)
        while (at := self.deadline()) is not None and at <= now:
            _, _, look_up, exchange = heapq.heappop(self._deadlines)
            if exchange is _NOTHING:
                self._ended(look_up, look_up.best or FAILED, now)
            else:
                self._went_on(look_up, exchange.expire(now), now)
        self._watch()

    def _went_on(self, look_up: _LookUp, answer: Answer | None, now: float) -> None:
        if answer is None:
            self._follow(look_up)
            return
        if answer.status in (Status.NO_NAME, Status.NO_DATA) and look_up.candidates:
            if look_up.best is None or answer.status is Status.NO_DATA:
                look_up.best = answer
            self._try(look_up, self._current.get(), now)
            return
        self._ended(look_up, answer, now)

    def _ended(self, look_up: _LookUp, answer: Answer, now: float) -> None:
        if answer.status is Status.NO_NAME and look_up.best is not None:
            answer = look_up.best
        question = look_up.question
        if self._under_way.pop(question, None) is not look_up:
            return
        self._keep(question, answer, now)
        self._measure(question, now - look_up.started)
        for waiter in look_up.waiters:
            waiter(question, answer)

    @staticmethod
    def _measure(question: Question, seconds: float) -> None:
        threshold = this.program.settings.exec_dns_threshold
        if threshold and seconds * 1e6 >= threshold:
            _slow.add()
            took = round(seconds * 1e6)
            log(
                WARNING,
                "core",
                "dns",
                f"threshold exceeded : dns took too long - {took} us.Source : {question.name} {question.type}",
            )

    # --- the event loop of the process ------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Have the reactor call :meth:`run` in time."""
        reactor = this.reactor
        if self._epoll is not None and self._watched is not reactor:
            reactor.add(self._epoll.fileno(), READ, lambda events: self.run())
            self._watched, self._timer = reactor, None
        at = self.deadline()
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            reactor.cancel(self._timer)
        self._timer, self._timer_at = reactor.call_at(at, self._due), at

    def _due(self) -> None:
        self._timer = None
        self.run()


_NOTHING = Exchange(Question("", ""), Configuration(servers=[]), Silence())
"""Stands in the list of deadlines for an answer that was found without asking."""


class _OfProcess:
    """Each process has its own: sockets and epoll are not for sharing."""

    def __init__(self) -> None:
        self.resolver = Resolver()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.resolver = Resolver()


_own = _OfProcess()


def resolver() -> Resolver:
    """The resolver of this process."""
    return _own.resolver
