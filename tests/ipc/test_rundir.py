from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ipc import rundir
from ipc.rundir import RunDir, RunDirError
from tests.ipc.processes import die, fork, killed, succeeded

SOCKETS = ["udp:127.0.0.1:20301", "udp:[::1]:20301"]


@pytest.fixture
def acquire(directory: str) -> Callable[[], RunDir]:
    return lambda: RunDir.acquire(SOCKETS, root=directory)


def test_the_directory_is_private_and_goes_away_at_the_end(acquire: Callable[[], RunDir]) -> None:
    held = acquire()
    assert stat.S_IMODE(os.stat(held.path).st_mode) == 0o700
    Path(held.path, "data").write_text("x")
    held.release()
    assert not os.path.exists(held.path)
    held.release()


def test_the_order_of_the_sockets_does_not_matter_other_sockets_do(directory: str) -> None:
    first = RunDir.acquire(SOCKETS, root=directory)
    other = RunDir.acquire(["udp:127.0.0.1:20302"], root=directory)
    assert first.path != other.path
    path = first.path
    first.release()
    again = RunDir.acquire(SOCKETS[::-1], root=directory)
    assert again.path == path
    again.release()
    other.release()


def test_equal_sockets_in_another_network_namespace_are_other_sockets(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RunDir.acquire(SOCKETS, root=directory)
    monkeypatch.setattr(rundir, "_network_namespace", lambda: "another")
    other = RunDir.acquire(SOCKETS, root=directory)
    assert first.path != other.path
    first.release()
    other.release()


def test_a_second_server_with_the_same_sockets_gets_a_clear_error(
    acquire: Callable[[], RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir, "DYING_SECONDS", 0.05)
    held = acquire()
    with pytest.raises(RunDirError, match=rf"udp:127.0.0.1:20301.*is running as process {os.getpid()}"):
        acquire()
    held.release()


def test_what_a_killed_server_left_is_cleaned(acquire: Callable[[], RunDir]) -> None:
    def server() -> None:
        held = acquire()
        Path(held.path, "data.mdb").write_text("left over")
        os.mkdir(held.path + "/sub")
        Path(held.path, "sub", "x").write_text("left over")
        die()

    assert killed(fork(server))
    held = acquire()
    assert os.listdir(held.path) == ["alive"]
    held.release()


def test_the_directory_is_in_use_until_the_last_process_of_the_server_is_gone(
    acquire: Callable[[], RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir, "DYING_SECONDS", 0.05)

    def server() -> None:
        acquire()
        fork(lambda: time.sleep(0.3))
        die()

    assert killed(fork(server))
    with pytest.raises(RunDirError):
        acquire()
    monkeypatch.setattr(rundir, "DYING_SECONDS", 5.0)
    held = acquire()  # waits for the worker
    held.release()


def test_something_that_is_not_our_directory_is_refused(directory: str) -> None:
    path = RunDir.acquire(SOCKETS, root=directory)
    name = path.path
    path.release()
    os.symlink("/tmp", name)
    with pytest.raises(RunDirError, match="not a directory of this user"):
        RunDir.acquire(SOCKETS, root=directory)


def test_a_missing_file_system_in_memory_is_a_clear_error(directory: str) -> None:
    with pytest.raises(RunDirError, match="does not exist"):
        RunDir.acquire(SOCKETS, root=directory + "/nowhere")


def test_servers_that_start_together_never_both_win(directory: str) -> None:
    def start(n: int) -> None:
        for _ in range(30):
            held = RunDir.acquire(SOCKETS, root=directory)
            Path(directory, f"holder{n}").touch()
            assert not Path(directory, f"holder{1 - n}").exists()
            time.sleep(0.001)
            os.unlink(Path(directory, f"holder{n}"))
            held.release()

    children = [fork(partial(start, n)) for n in (0, 1)]
    assert all([succeeded(pid) for pid in children])


OTHER_USER = 12345


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make files of others")


def test_a_name_that_another_user_has_taken_stops_nobody(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_root()
    monkeypatch.setattr(rundir, "DYING_SECONDS", 0.05)
    os.chmod(directory, 0o1777)
    first = RunDir.acquire(SOCKETS, root=directory)
    name = first.path
    first.release()
    os.mkdir(name, 0o777)
    os.chown(name, OTHER_USER, OTHER_USER)
    held = RunDir.acquire(SOCKETS, root=directory)
    assert held.path.startswith(name + ".") and held.displaced is not None and str(OTHER_USER) in held.displaced
    assert os.stat(held.path).st_mode & 0o777 == 0o700
    with pytest.raises(RunDirError, match="is running"):
        RunDir.acquire(SOCKETS, root=directory)
    held.release()
    assert os.listdir(directory) == [os.path.basename(name)]


def test_a_displaced_directory_of_a_killed_server_is_used_again(directory: str) -> None:
    needs_root()
    first = RunDir.acquire(SOCKETS, root=directory)
    os.rename(first.path, first.path + ".0123")
    os.mkdir(first.path)
    os.chown(first.path, OTHER_USER, OTHER_USER)
    os.mkdir(first.path + ".0000")
    os.chown(first.path + ".0000", OTHER_USER, OTHER_USER)
    os.close(first._lock)
    held = RunDir.acquire(SOCKETS, root=directory)
    assert held.path == first.path + ".0123"
    held.release()


def test_a_place_where_others_may_rename_what_is_ours_is_refused(directory: str) -> None:
    os.chmod(directory, 0o777)
    with pytest.raises(RunDirError, match="sticky"):
        RunDir.acquire(SOCKETS, root=directory)


def test_what_killed_servers_with_other_sockets_left_is_removed(directory: str) -> None:
    def server(names: list[str]) -> None:
        RunDir.acquire(names, root=directory)
        die()

    for port in (1, 2):
        assert killed(fork(partial(server, [f"udp:127.0.0.1:{port}"])))
    living = RunDir.acquire(["udp:127.0.0.1:3"], root=directory)
    Path(directory, "something else").mkdir()
    held = RunDir.acquire(SOCKETS, root=directory)
    assert sorted(os.listdir(directory)) == sorted(["something else", os.path.basename(living.path), os.path.basename(held.path)])
    held.release()
    living.release()
