"""The secret that a server may be given: where it comes from, what is refused, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from opensips_py.engine import parked
from opensips_py.modules.auth import declared
from opensips_py.modules.uac import sealed
from opensips_py.script.parameters import Settings
from opensips_py.script.program import load
from opensips_py.server import secret
from opensips_py.server.secret import SecretError, given_secret
from opensips_py.tm import identity
from workers import launcher
from workers.daemon import FAILED

SECRET = "fsk3Zk2nq0VbX1Lw"


@pytest.fixture(autouse=True)
def random_afterwards() -> Iterator[None]:
    yield
    identity.derive_secrets(None)


def made() -> list[object]:
    """What a server makes with its secret."""
    declared.configure()
    return [
        identity.server_key("z9hG4bK1", "192.0.2.1", "INVITE"),
        identity.success_ack_key("c", "1 INVITE"),
        identity.stateless_branch_id("z9hG4bK1", "192.0.2.1", "INVITE"),
        identity.to_tag(identity.PREFIX + bytes(8)),
        identity.stateless_to_tag("z9hG4bK1", "192.0.2.1"),
        declared.Settings.key,
        sealed.key_of(""),
    ]


def test_servers_with_the_same_secret_make_the_same_and_know_what_the_other_made() -> None:
    identity.derive_secrets(SECRET.encode())
    here = made()
    text = sealed.seal(sealed.key_of(""), "dialog", "sip:a@b")
    identity.derive_secrets(None)
    assert not set(map(str, made())) & set(map(str, here))
    assert sealed.unseal(sealed.key_of(""), "dialog", text) is None
    identity.derive_secrets(SECRET.encode())
    assert made() == here
    assert sealed.unseal(sealed.key_of(""), "dialog", text) == "sip:a@b"
    assert identity.may_be_stateless_to_tag(str(here[4]))


def test_each_start_without_a_secret_draws_another() -> None:
    before = made()
    identity.derive_secrets(None)
    assert not set(map(str, made())) & set(map(str, before))


def of_script(tmp_path: Path, lines: str) -> Settings:
    script = tmp_path / "opensips.cfg"
    script.write_text(f'loadmodule "proto_udp.so"\nsocket=udp:127.0.0.1:5060\n{lines}\nroute {{ exit; }}\n')
    return load(str(script)).settings


def test_a_secret_in_the_script(tmp_path: Path) -> None:
    assert given_secret(of_script(tmp_path, f'server_secret="{SECRET}"')) == SECRET.encode()
    assert given_secret(of_script(tmp_path, "")) is None


def test_a_secret_in_a_file_without_the_white_space_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(secret, "log", lambda *what: said.append(str(what[-1])))
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o640)
    settings = of_script(tmp_path, f'server_secret_file="{file}"')
    assert given_secret(settings) == SECRET.encode()
    assert said == []
    file.chmod(0o644)
    assert given_secret(settings) == SECRET.encode()
    assert len(said) == 1 and str(file) in said[0] and SECRET not in said[0]


@pytest.mark.parametrize("text", ["", "short one", " " * 40, None])
def test_a_file_without_a_secret_is_refused_and_not_shown(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "secret"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SecretError, match=str(file)) as refused:
        given_secret(of_script(tmp_path, f'server_secret_file="{file}"'))
    assert "short one" not in str(refused.value)


def test_only_one_of_the_two_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="both"):
        given_secret(of_script(tmp_path, f'server_secret="{SECRET}"\nserver_secret_file="x"'))


def test_the_server_starts_with_the_secret_and_not_without_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(launcher, "log", lambda *what: said.append(str(what[-1])))
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o600)
    of_script(tmp_path, f'server_secret_file="{file}"')
    check = ["-c", "-f", str(tmp_path / "opensips.cfg")]
    assert launcher.main(check) == 0
    tag = identity.to_tag(b"key")
    identity.derive_secrets(SECRET.encode())
    assert identity.to_tag(b"key") == tag
    file.unlink()
    assert launcher.main(check) == FAILED
    assert any(str(file) in line for line in said)
    assert not any(SECRET in line for line in [*said, *capsys.readouterr()])


@pytest.mark.parametrize(
    "line", ['server_secret="fifteen letters"', "server_secret=12", "node_id=65536", "node_id=-1", 'node_id="a"']
)
def test_values_that_the_check_refuses(tmp_path: Path, line: str) -> None:
    with pytest.raises(Exception, match=r"opensips\.cfg:3:"):
        of_script(tmp_path, line)


def test_tokens_and_owners_of_two_nodes_differ() -> None:
    one, other = (parked.Tokens(node, 3, 1).next() for node in (0, 65535))
    assert one != other
    assert parked.maker_of(other) == (65535, 3, 1)
    heads = [
        parked.Parked(
            function="f", route=None, mode="async", started=0.0, deadline=None, owner=3, incarnation=1, fd_key=None,
            has_fds=False, node=node,
        )
        for node in (0, 7)
    ]  # fmt: skip
    assert parked.pack_owner(heads[0]) != parked.pack_owner(heads[1])
    assert parked.pack_owner(parked.decode_head(parked.encode(heads[1]))) == parked.pack_owner(heads[1])
