"""A server that is told to be somebody else keeps nothing of root, or does not start."""

from __future__ import annotations

import grp
import os
import pwd
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from opensips_py.modules.exec.program_run import ExecOperation, Limits
from workers import privileges
from workers.privileges import PrivilegeError, check_account, drop_privileges, find_account, left_of_root

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has something to give up")

NOBODY = pwd.getpwnam("nobody")


def in_child(work: Callable[[], str]) -> str:
    """What ``work`` returns, or the text of what it raises, in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = work()
        except PrivilegeError as error:
            text = f"refused: {error}"
        except BaseException:
            text = traceback.format_exc()
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        found = pipe.read().decode()
    os.waitpid(pid, 0)
    return found


def ids_of_exec_child() -> str:
    """Line of ids of a program that exec() runs."""
    op = ExecOperation(b"id -u; id -g; id -G; grep -E ^Cap[IPEA] /proc/self/status", b"", "$avp(out)", None, {}, Limits())
    done = op.start()
    while done is None:
        done = op.advance()
    return "\n".join(str(value) for _, value in done.outputs)


@as_root
@pytest.mark.parametrize(
    ("user", "group", "ids"),
    [
        ("nobody", None, (NOBODY.pw_uid, NOBODY.pw_gid)),
        ("nobody", "12346", (NOBODY.pw_uid, 12346)),
        ("12345", "12346", (12345, 12346)),
        ("12345", "nogroup", (12345, grp.getgrnam("nogroup").gr_gid)),
        (str(NOBODY.pw_uid), None, (NOBODY.pw_uid, NOBODY.pw_gid)),
    ],
)
def test_nothing_of_root_is_left_in_the_server_and_what_it_runs(user: str, group: str | None, ids: tuple[int, int]) -> None:
    def work() -> str:
        os.setgroups([0, 4])
        drop_privileges(user, group)
        assert not left_of_root("/proc/self/status")
        assert (os.getresuid(), os.getresgid()) == ((ids[0],) * 3, (ids[1],) * 3)
        return ids_of_exec_child()

    lines = in_child(work).splitlines()
    assert lines[:2] == [str(ids[0]), str(ids[1])]
    assert not {"0", "4"} & set(lines[2].split())
    assert {int(line.split()[1], 16) for line in lines[3:]} == {0} and len(lines) == 7


@as_root
@pytest.mark.parametrize("group", ["nogroup", "12346"])
def test_only_a_group_replaces_all_of_roots_groups(group: str) -> None:
    def work() -> str:
        os.setgroups([0, 4])
        drop_privileges(None, group)
        return f"{os.getuid()} {os.getgroups()} {os.getresgid()}"

    gid = find_account(None, group)[1]
    assert in_child(work) == f"0 [{gid}] {(gid, gid, gid)}"


@as_root
@pytest.mark.parametrize(
    ("user", "group", "says"),
    [
        ("12345", None, "name a group with -g"),
        ("nobody", "0", "-g 0 is root's own"),
        ("nobody", "root", "-g root is root's own"),
        ("12345", "0", "-g 0 is root's own"),
        ("4294967295", "12346", "would keep of root"),  # "leave it as it is", to the kernel
    ],
)
def test_what_would_leave_something_of_root_is_refused(user: str, group: str | None, says: str) -> None:
    def work() -> str:
        drop_privileges(user, group)
        return f"{os.getresuid()} {os.getgroups()}"

    assert says in in_child(work)


@as_root
def test_a_member_of_roots_group_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 0])
    with pytest.raises(PrivilegeError, match="member of root's group"):
        check_account("nobody", None)


@as_root
@pytest.mark.parametrize(("without", "left"), [("setresuid", "Uid"), ("setresgid", "Gid"), ("setgroups", "Groups")])
def test_a_change_that_did_not_happen_is_noticed(without: str, left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> str:
        os.setgroups([0])
        monkeypatch.setattr(os, without, lambda *arguments: None)
        drop_privileges("nobody", None)
        return "started"

    assert left in in_child(work)


@as_root
def test_capabilities_that_survive_the_change_of_user_are_dropped_or_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> str:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        assert prctl(8, 1, 0, 0, 0) == 0  # PR_SET_KEEPCAPS
        drop_privileges("nobody", None)
        return "started, left: " + " ".join(left_of_root("/proc/self/status"))

    assert in_child(work) == "started, left: "
    monkeypatch.setattr(privileges, "_drop_capabilities", lambda: None)
    assert "CapPrm" in in_child(work)


def test_without_user_and_group_nothing_changes() -> None:
    before = (os.getresuid(), os.getresgid(), os.getgroups())
    drop_privileges(None, None)
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@pytest.mark.parametrize(
    ("user", "group"), [("no-such-user", None), ("99999999999", None), (None, "no-such"), (None, "99999999999"), ("²", None)]
)
def test_an_account_that_cannot_be_is_refused(user: str | None, group: str | None) -> None:
    with pytest.raises(PrivilegeError, match=r"bad (user|group) name"):
        find_account(user, group)


def test_left_of_root_reads_every_kind_of_id(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Name:\tx\nUid:\t5\t5\t0\t5\nGid:\t5\t5\t5\t0\nGroups:\t5 0 \n"
        "CapInh:\t0000000000000001\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000400\nCapAmb:\t0000000000000000\n"
    )
    assert left_of_root(str(status)) == ["Uid", "Gid", "Groups", "CapInh", "CapEff"]
