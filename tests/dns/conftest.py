"""A resolver in the test's own process, and a DNS server for it."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from opensips_py.dns import resolver as resolver_module
from opensips_py.dns.records import Answer, Question
from opensips_py.dns.resolver import Resolver
from opensips_py.engine.blocking_wait import drive
from opensips_py.engine.operation import Done, Operation
from opensips_py.script.parameters import Settings
from opensips_py.server.process import NO_REACTOR, this


class Asking:
    """The resolver of this process, with core parameters at choice."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings()
        self.settings.dns_use_search_list = 0
        self.settings.dns_retr_time = 1
        self.settings.dns_retr_no = 2
        self.resolver = Resolver()
        monkeypatch.setattr(this, "program", SimpleNamespace(settings=self.settings), raising=False)
        monkeypatch.setattr(this, "reactor", NO_REACTOR)
        monkeypatch.setattr(resolver_module._own, "resolver", self.resolver)

    def set(self, **settings: Any) -> None:
        """Set core parameters."""
        fresh = Settings()
        for name in ("dns_use_search_list", "dns_retr_time", "dns_retr_no", "dns_servers"):
            setattr(fresh, name, getattr(self.settings, name))
        for name, value in settings.items():
            setattr(fresh, name, value)
        self.settings = fresh
        this.program.settings = fresh

    def ask(self, name: str, type: str = "A") -> Answer:
        """Look a name up, waiting for it."""
        return self.together([Question(name, type)])[0]

    def together(self, questions: list[Question]) -> list[Answer]:
        """Look names up at the same time."""
        waiting = Waiting(self.resolver, questions)
        drive(waiting)
        return [waiting.answers[question] for question in questions]

    @staticmethod
    def drive(operation: Operation) -> Done:
        """Run an operation to its end."""
        return drive(operation)


class Waiting(Operation):
    """Done when all questions have been answered."""

    name = "waiting"

    def __init__(self, resolver: Resolver, questions: list[Question]) -> None:
        self._resolver = resolver
        self._questions = questions
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.answers: dict[Question, Answer] = {}

    def start(self) -> Done | None:
        for question in self._questions:
            known = self._resolver.known(question)
            if known is None:
                self._resolver.ask(question, self._one_more)
            else:
                self.answers[question] = known
        return self.advance()

    def _one_more(self, question: Question, answer: Answer) -> None:
        self.answers[question] = answer
        os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        return self._fd

    def advance(self) -> Done | None:
        if len(self.answers) < len(set(self._questions)):
            return None
        os.close(self._fd)
        return Done(1)


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    return Asking(monkeypatch)
