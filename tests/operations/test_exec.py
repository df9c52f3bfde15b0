"""exec(): real programs, their output, their end, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from opensips_py.engine.operation import BUSY, LOST, READ, Done
from opensips_py.modules.exec import children, given_environment, program_run
from opensips_py.modules.exec.child_places import Places
from opensips_py.modules.exec.program_run import ExecOperation, Limits
from opensips_py.server.process import this
from tests.operations.driving import Driver, Taker, drive, run, spin, takers

pytestmark = pytest.mark.usefixtures("no_leaks")

ENVIRONMENT = {b"PATH": b"/usr/bin:/bin"}


def program(
    command: str,
    stdin: str = "",
    out: str | None = None,
    err: str | None = None,
    environment: dict[bytes, bytes] | None = None,
    limits: Limits | None = None,
) -> ExecOperation:
    return ExecOperation(
        command.encode("latin-1"), stdin.encode("latin-1"), out, err, environment or ENVIRONMENT, limits or Limits()
    )


def lines(done: Done, text: str = "$avp(out)") -> list[object]:
    return [value for name, value in done.outputs if name == text]


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b") ")[2][:1] in b"ZX"
    except OSError:
        return True


@pytest.fixture
def taker() -> Iterator[Callable[[], Taker]]:
    yield from takers("opensips_py.modules.exec.program_run")


@pytest.mark.parametrize(
    ("output", "values"),
    [
        (r"hello\nworld\n", ["hello", "world"]),
        (r"x\n\ny\n", ["x", "", "y"]),
        (r"no line end", ["no line end"]),
        (r"\n", [""]),
        (r"", []),
        (r"a\000b\377\r\n", ["a\0b\xff\r"]),
    ],
)
def test_each_line_of_output_is_one_value(output: str, values: list[str]) -> None:
    done = run(program(f"printf '{output}'", out="$avp(out)"))
    assert (done.rc, lines(done)) == (1, values)


def test_a_variable_that_is_no_stack_keeps_the_last_line() -> None:
    assert run(program("echo v1; echo v2", out="$var(o)")).outputs == [("$var(o)", "v2")]


def test_both_streams_are_read_in_async_too() -> None:
    done = run(program("echo to-out; echo to-err >&2", out="$avp(out)", err="$avp(err)"))
    assert done.outputs == [("$avp(out)", "to-out"), ("$avp(err)", "to-err")]


def test_megabytes_in_and_out_do_not_deadlock() -> None:
    text = "x" * 1023 + "\n"
    began = time.process_time()
    done = run(program("cat", text * 4096, out="$avp(out)"))
    assert time.process_time() - began < 3.0
    assert lines(done) == ["x" * 1023] * 4096


def test_a_program_that_does_not_read_its_input_does_no_harm() -> None:
    assert run(program("echo done", "y" * 1_000_000, out="$avp(out)")) == Done(1, [("$avp(out)", "done")])


def test_output_above_the_limit_kills_the_program() -> None:
    op = program("yes", out="$avp(out)", limits=Limits(output=1_000_000))
    driver = Driver(op)
    pid = op._child.pid if op._child else 0
    assert drive(driver)[0] == Done(-1)
    spin(until=lambda: children.reap_left() == 0)
    assert gone(pid)


def test_environment_reaches_the_program() -> None:
    environment = ENVIRONMENT | given_environment(["A=old", "A=b=c d", "plain", 7])
    done = run(program("echo $A; echo $OSIPS_EXEC_0 $OSIPS_EXEC_1", out="$avp(out)", environment=environment))
    assert lines(done) == ["b=c d", "7 plain"]


def test_without_variable_async_returns_2_at_once_and_the_program_goes_on(tmp_path: Path) -> None:
    driver = Driver(program(f"sleep 0.1; echo ran > {tmp_path}/mark"))
    assert driver.result == Done(2)
    driver.op.close()
    spin(until=lambda: (tmp_path / "mark").exists() and children.reap_left() == 0)


def test_without_variable_a_plain_call_does_not_wait() -> None:
    assert Driver(program("sleep 0.05"), "plain").result == Done(1)
    spin(until=lambda: children.reap_left() == 0)


@pytest.mark.parametrize(
    ("command", "rc"), [("true", 1), ("exit 3", -1), ("kill -9 $$", -1), ("surely-no-such-program 2>/dev/null", -1)]
)
def test_launch_without_variable_reports_how_the_program_ended(command: str, rc: int) -> None:
    assert run(program(command), "launch") == Done(rc)


def test_launch_reports_a_program_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", refuse)
    assert run(program("true", "input", out="$avp(out)"), "launch") == Done(-1)


def test_exit_status_is_not_the_return_code_when_there_is_output() -> None:
    assert run(program("echo x; exit 5", out="$avp(out)")).rc == 1


@pytest.mark.parametrize(("command", "rc"), [("echo x; exit 5", -1), ("echo x", 1)])
def test_exit_status_is_the_return_code_when_asked_for(command: str, rc: int) -> None:
    done = run(program(command, out="$avp(out)", limits=Limits(rc_from_exit_status=True)))
    assert done == Done(rc, [("$avp(out)", "x")])


def test_a_program_that_closes_its_output_is_not_waited_for() -> None:
    began = this.clock.now()
    assert run(program("echo x; exec >&- 2>&-; exec sleep 3", out="$avp(out)")) == Done(1, [("$avp(out)", "x")])
    assert this.clock.now() - began < 2.5
    spin(until=lambda: children.reap_left() == 0)


def test_what_the_program_left_behind_delays_the_end_by_the_grace_only() -> None:
    began = this.clock.now()
    done = run(program("sleep 4 & echo early", out="$avp(out)", limits=Limits(grace=0.1)))
    assert done == Done(1, [("$avp(out)", "early")])
    assert this.clock.now() - began < 3


def test_output_within_the_grace_counts() -> None:
    done = run(program("(sleep 0.1; echo late) & echo early", out="$avp(out)"))
    assert lines(done) == ["early", "late"]


def test_time_to_kill_ends_the_whole_group(tmp_path: Path) -> None:
    command = f"echo started; sleep 30 & echo $! > {tmp_path}/grandchild; wait"
    done = run(program(command, out="$avp(out)", limits=Limits(seconds=0.2)))
    assert done == Done(1, [("$avp(out)", "started")])
    grandchild = int((tmp_path / "grandchild").read_text())
    spin(until=lambda: children.reap_left() == 0 and gone(grandchild))


def test_time_to_kill_holds_for_a_program_nobody_waits_for() -> None:
    assert Driver(program("sleep 30", limits=Limits(seconds=0.1))).result == Done(2)
    spin(until=lambda: children.reap_left() == 0)


def test_time_to_kill_ends_a_program_that_ignores_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "TERM_GRACE", 0.1)
    op = program("trap '' TERM; echo up; while :; do sleep 0.02; done", out="$avp(out)", limits=Limits(seconds=0.2))
    assert run(op) == Done(1, [("$avp(out)", "up")])
    spin(until=lambda: children.reap_left() == 0)


def test_launch_of_a_program_that_is_killed_in_time_reports_failure() -> None:
    assert run(program("sleep 30", limits=Limits(seconds=0.1)), "launch") == Done(-1)
    spin(until=lambda: children.reap_left() == 0)


def test_the_deadline_of_async_gives_minus_1_and_kills() -> None:
    op = program("sleep 30", out="$avp(out)")
    driver = Driver(op)
    pid = op._child.pid if op._child else 0
    assert op.expire() == Done(-1)
    driver.result = Done(-1)
    spin(until=lambda: children.reap_left() == 0 and gone(pid))


def test_closing_kills_and_can_be_repeated() -> None:
    op = program("sleep 30", out="$avp(out)", err="$avp(err)")
    Driver(op)
    op.close()
    op.close()
    spin(until=lambda: children.reap_left() == 0)


def test_signals_ignored_by_the_server_are_not_ignored_by_programs() -> None:
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        done = run(program("(kill -TERM $(sh -c 'echo $PPID')); echo survived $?", out="$avp(out)"))
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert lines(done) == ["survived 143"]


def test_programs_inherit_none_of_our_descriptors() -> None:
    alone = lines(run(program("ls /proc/self/fd", "in", out="$avp(out)")))
    others = [Driver(program("sleep 5", "in", "$avp(out)", "$avp(err)")) for _ in range(3)]
    assert lines(run(program("ls /proc/self/fd", "in", out="$avp(out)"))) == alone
    for other in others:
        other.op.close()


def test_many_at_once() -> None:
    drivers = [Driver(program(f"sleep 0.05; echo {n}", out="$avp(out)")) for n in range(40)]
    assert [lines(done) for done in drive(*drivers)] == [[str(n)] for n in range(40)]
    spin(until=lambda: children.reap_left() == 0)


def test_another_process_goes_on_half_way(taker: Callable[[], Taker], tmp_path: Path) -> None:
    op = program(f"echo before; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; printf 'af'; echo ter", out="$avp(out)")
    driver = Driver(op)
    state = op.freeze()
    while not driver.journal:
        driver.turn(0.1)
    other = taker()
    other.hand_over("exec", state, op.fds(), driver.journal)
    op.forget()
    (tmp_path / "go").touch()
    assert other.result() == Done(1, [("$avp(out)", "before"), ("$avp(out)", "after")])
    spin(until=lambda: children.reap_left() == 0)


@pytest.mark.parametrize(("status", "rc"), [(0, 1), (4, -1)])
def test_another_process_learns_the_exit_status_of_a_stuck_workers_child(
    taker: Callable[[], Taker], tmp_path: Path, status: int, rc: int
) -> None:
    op = program(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit {status}")
    Driver(op, "launch")
    other = taker()
    other.hand_over("exec", op.freeze(), op.fds(), b"", "launch")
    (tmp_path / "go").touch()
    assert other.result() == Done(rc)
    op.forget()
    spin(until=lambda: children.reap_left() == 0)


def test_another_process_learns_the_exit_status_from_the_store(taker: Callable[[], Taker], process: SimpleNamespace) -> None:
    op = program("exit 7")
    Driver(op, "launch")
    state, fds = op.freeze(), [os.dup(fd) for fd in op.fds()]
    op.forget()
    spin(until=lambda: children.reap_left() == 0)
    assert list(process.store.values()) == [str(7 << 8).encode()]
    other = taker()
    other.hand_over("exec", state, fds, b"", "launch", process.store)
    assert other.result() == Done(-1)
    for fd in fds:
        os.close(fd)


def test_a_program_whose_descriptors_are_lost_is_lost() -> None:
    op = program("sleep 5", out="$avp(out)")
    Driver(op)
    assert ExecOperation.thaw(op.freeze(), [], b"").start() == Done(LOST)
    op.close()
    spin(until=lambda: children.reap_left() == 0)


def test_a_taker_that_gives_up_kills_the_program() -> None:
    op = program("sleep 30", out="$avp(out)")
    Driver(op)
    pid = op._child.pid if op._child else 0
    heir = ExecOperation.thaw(op.freeze(), [os.dup(fd) for fd in op.fds()], b"")
    op.forget()
    assert heir.start() is None
    heir.close()
    spin(until=lambda: children.reap_left() == 0 and gone(pid))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        raise AssertionError("still there")


def test_an_output_that_ends_before_the_other_is_not_reported_again_and_again(process: SimpleNamespace) -> None:
    """The attendant has a duplicate of the pipe, so that closing alone does not take it out of epoll."""
    driver = Driver(program("exec 1>&-; sleep 0.3; echo end >&2", out="$avp(out)", err="$avp(err)"))
    process.keeper.keep("pipes", driver.op.fds())
    spin(until=lambda: driver.turn(0.01) is not None or len(driver.op.fds()) == 2)
    again = 0
    for _ in range(10):
        again += bool(select.select([driver.op.fileno()], [], [], 0)[0])
        driver.turn(0.0)
    assert again < 10
    assert drive(driver)[0].outputs == [("$avp(err)", "end")]


def test_what_the_reactor_watches_is_removed_before_it_is_closed(process: SimpleNamespace) -> None:
    driver = Driver(program("sleep 5", out="$avp(out)"))
    process.reactor.add(driver.op.fileno(), READ, lambda events: None)
    driver.op.close()
    assert process.reactor._callbacks == {} and not process.errors


# --- how many programs run at the same time -----------------------------------------------------------------------------


@pytest.fixture
def two_places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    made = Places()
    made.most, made.queue = 2, 2
    for module in (children, program_run):
        monkeypatch.setattr(module, "places", made)
    yield made
    spin(until=lambda: children.reap_left() == 0)
    assert (made.taken, made._promised, len(made._waiting)) == (0, 0, 0)


def test_calls_beyond_the_limit_wait_for_a_program_to_end(two_places: Places, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    drivers = [Driver(program(f"read x < {fifo}; echo {n}", out="$avp(out)")) for n in range(4)]
    assert (two_places.taken, [driver.op.fds() == [] for driver in drivers]) == (2, [False, False, True, True])
    assert Driver(program("echo", out="$avp(out)")).result == Done(BUSY)
    assert run(program("echo", out="$avp(out)"), "plain") == Done(BUSY)
    while any(driver.result is None for driver in drivers):
        with contextlib.suppress(OSError), open(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), "w") as writer:
            writer.write("x\n")
        spin(0.01)
        for driver in drivers:
            driver.turn(0.01)
            assert two_places.taken <= 2
    assert [driver.result for driver in drivers] == [Done(1, [("$avp(out)", str(n))]) for n in range(4)]


def test_programs_that_nobody_waits_for_hold_their_places(two_places: Places) -> None:
    for _ in range(2):
        assert run(program("exec sleep 0.2"), "plain") == Done(1)
    assert run(program("true"), "plain") == Done(BUSY)
    spin(until=lambda: two_places.taken == 0)
    assert run(program("true"), "plain") == Done(1)


@pytest.mark.parametrize("how", ["close", "expire", "forget"])
def test_a_call_that_waits_no_more_leaves_the_line(two_places: Places, how: str) -> None:
    first = [Driver(program("exec sleep 5", out="$avp(out)")) for _ in range(2)]
    waiter, behind = Driver(program("echo no", out="$avp(out)")), Driver(program("echo yes", out="$avp(out)"))
    getattr(waiter.op, how)()
    first[0].op.close()
    spin(until=lambda: behind.woken)
    if how == "close":  # the same of one that was told to go
        behind.op.close()
    else:
        assert drive(behind) == [Done(1, [("$avp(out)", "yes")])]
    first[1].op.close()


def test_a_call_that_waits_goes_on_in_another_process(two_places: Places, taker: Callable[[], Taker]) -> None:
    first = [Driver(program("exec sleep 5", out="$avp(out)")) for _ in range(2)]
    waiter = Driver(program("cat; echo $X", "in\n", out="$avp(out)", environment={**ENVIRONMENT, b"X": b"y"}))
    other = taker()
    other.hand_over("exec", waiter.state, [], b"")
    assert other.result() == Done(1, [("$avp(out)", "in"), ("$avp(out)", "y")])
    waiter.op.forget()
    for one in first:
        one.op.close()


def test_the_deadline_holds_while_a_call_waits(two_places: Places) -> None:
    first = [Driver(program("exec sleep 5", out="$avp(out)")) for _ in range(2)]
    assert run(program("echo", out="$avp(out)", limits=Limits(seconds=0.1))) == Done(BUSY)
    for one in first:
        one.op.close()


def test_lines_count_more_than_their_bytes_where_each_becomes_a_value() -> None:
    lines_ = "yes '' | head -n 10000"
    assert run(program(lines_, out="$avp(out)", limits=Limits(output=1 << 20))) == Done(-1)
    assert run(program(lines_, out="$var(out)", limits=Limits(output=1 << 20))).rc == 1
