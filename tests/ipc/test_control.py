from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from ipc.control import ControlError, ControlHub, ControlLine
from opensips_py.server.process import this
from tests.ipc.processes import die, fork
from tests.ipc.test_descriptors import reactor
from workers.reactor import EpollReactor


def until(loop: EpollReactor, condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Run a reactor until something is so."""
    deadline = this.clock.now() + seconds
    loop._stopping = False

    def look() -> None:
        if condition() or this.clock.now() > deadline:
            loop.stop()
        else:
            loop.call_at(this.clock.now() + 0.002, look)

    look()
    loop.run()
    assert condition()


def child_process(directory: str, slot: int) -> int:
    """A process on the channel: it answers ``who`` with its slot, fails on ``fail`` and ends on ``end``."""

    def work() -> None:
        loop = reactor()

        def obey(command: str, arguments: dict[str, Any]) -> Any:
            if command == "end":
                loop.stop()
                return None
            if command == "fail":
                raise ValueError("as asked")
            if command == "die":
                die()
            return [slot, command, arguments]

        line = ControlLine(directory, slot, loop, obey)
        loop.run()
        line.close()

    return fork(work)


def test_a_command_reaches_one_process_and_its_answer_comes_back(directory: str) -> None:
    pids = [child_process(directory, slot) for slot in (1, 2)]
    loop = reactor()
    hub = ControlHub(directory, loop, lambda command, arguments: None)
    until(loop, lambda: hub.slots == [1, 2])
    answers: list[Any] = []
    assert hub.send(2, "who", {"x": [1, "a"]}, lambda result, error: answers.append((result, error)))
    hub.send(1, "fail", {}, lambda result, error: answers.append((result, error)))
    until(loop, lambda: len(answers) == 2)
    assert sorted(answers, key=str) == [(None, "ValueError: as asked"), ([2, "who", {"x": [1, "a"]}], None)]
    hub.send_all("end")
    until(loop, lambda: True)
    assert all([_ends(loop, pid) for pid in pids])
    hub.close()


def _ends(loop: EpollReactor, pid: int) -> bool:
    ended: list[int] = []

    def gone() -> bool:
        if not ended and os.waitpid(pid, os.WNOHANG) == (pid, 0):
            ended.append(pid)
        return bool(ended)

    until(loop, gone)
    return True


def test_a_process_asks_the_attendant_and_everybody(directory: str) -> None:
    peer = child_process(directory, 2)

    def asker() -> None:
        loop = reactor()
        line = ControlLine(directory, 1, loop, lambda command, arguments: "own " + command)
        answers: dict[str, Any] = {}
        line.send("who", {}, lambda result, error: answers.update(attendant=result))
        until(loop, lambda: "attendant" in answers)
        while set(answers.get("all", {})) != {"0", "1", "2"}:
            answers.pop("all", None)
            line.send_all("who", {"n": 1}, lambda result, error: answers.update(all=result))
            until(loop, lambda: "all" in answers)
        assert answers == {
            "attendant": "attendant who",
            "all": {"0": "attendant who", "1": "own who", "2": [2, "who", {"n": 1}]},
        }
        line.close()

    pid = fork(asker)
    loop = reactor()
    hub = ControlHub(directory, loop, lambda command, arguments: "attendant " + command)
    assert _ends(loop, pid)
    hub.send(2, "end")
    assert _ends(loop, peer)
    hub.close()


def test_a_killed_process_costs_its_answer_only_and_is_replaced(directory: str) -> None:
    pids = [child_process(directory, slot) for slot in (1, 2)]
    loop = reactor()
    hub = ControlHub(directory, loop, lambda command, arguments: None)
    until(loop, lambda: hub.slots == [1, 2])
    hub.send(1, "die")
    deadline = this.clock.now() + 5
    until(loop, lambda: True)
    while os.waitpid(pids[0], os.WNOHANG) == (0, 0):
        until(loop, lambda: True)
        assert this.clock.now() < deadline
    done: list[dict[int, Any]] = []
    hub.send_all("who", {}, done.append, seconds=0.2)
    until(loop, lambda: bool(done))
    assert list(done[0]) == [2]

    replacement = child_process(directory, 1)
    answers: list[Any] = []

    def reached() -> bool:
        if not answers:
            hub.send(1, "who", {}, lambda result, error: answers.append(result) if error is None else None)
        return bool(answers)

    until(loop, reached)
    assert answers[0] == [1, "who", {}]
    hub.send_all("end")
    assert _ends(loop, pids[1])
    assert _ends(loop, replacement)
    hub.close()


def test_sending_to_a_slot_that_nobody_has_is_told_at_once(directory: str) -> None:
    loop = reactor()
    hub = ControlHub(directory, loop, lambda command, arguments: None)
    assert hub.send(7, "who", {}, lambda result, error: None) is False
    done: list[dict[int, Any]] = []
    hub.send_all("who", {}, done.append)
    assert done == [{}]
    hub.close()


def test_a_directory_too_deep_for_a_socket_is_a_clear_error(directory: str) -> None:
    with pytest.raises(ControlError, match="too long"):
        ControlHub(directory + "/" + "x" * 100, reactor(), lambda command, arguments: None)


def test_a_command_without_answer_in_time_is_reported(directory: str) -> None:
    loop = reactor()
    line = ControlLine(directory, 1, loop, lambda command, arguments: None)  # there is no attendant
    answers: list[Any] = []
    line.send("who", {}, lambda result, error: answers.append((result, error)), seconds=0.05)
    until(loop, lambda: bool(answers))
    assert answers == [(None, "no answer in time")]
    line.close()
