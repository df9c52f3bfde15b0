"""examples/auth.cfg: phones with accounts in an SQLite file, made as its head says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts import db
from scripts.testbed.server import Server
from tests.support.digest_client import answer
from tests.support.sip_client import Message, SipClient

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "auth.cfg"
PASSWORDS = {"alice": "wonder", "bob": "builder"}

MakeClient = Callable[..., SipClient]


@pytest.fixture
def running(server: Callable[..., Server], tmp_path: Path) -> Iterator[Server]:
    url = f"sqlite://{tmp_path}/accounts.db"
    assert db.main(["create", url]) == 0
    for user, password in PASSWORDS.items():
        assert db.main(["add-user", "--password", password, f"{user}@home.example", url]) == 0
    text = EXAMPLE.read_text().replace("sqlite:///tmp/accounts.db", url)
    text = text.replace("socket=udp:127.0.0.1:5060", "socket=udp:127.0.0.1:{port}").replace("/tmp/opensips_fifo", "{tmp}/fifo")
    yield server(
        text.replace('loadmodule "signaling.so"', 'modparam("mi_fifo", "reply_dir", "{tmp}/")\nloadmodule "signaling.so"')
    )


def ask(phone: SipClient, method: str, user: str, to: str, credentials: str = "") -> Message:
    """One request of ``user``; the final reply."""
    header = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
    extra = f"{header}: {credentials}\n" if credentials else ""
    phone.send(
        f"{method} sip:{to}@home.example SIP/2.0\nVia: SIP/2.0/UDP {{ip}}:{{port}};branch={{branch}}\nMax-Forwards: 70\n"
        f"From: <sip:{user}@home.example>;tag={{tag}}\nTo: <sip:{to}@home.example>\nCall-ID: {{call_id}}\nCSeq: 1 {method}\n"
        f"Contact: <sip:{user}@{{ip}}:{{port}}>\n{extra}\n"
    )
    return phone.final()


def credentials_for(challenge: Message, method: str, user: str, to: str, password: str) -> str:
    text = challenge.header("WWW-Authenticate" if method == "REGISTER" else "Proxy-Authenticate")
    return answer(text, user, password, method, f"sip:{to}@home.example", qop="auth")


def request(phone: SipClient, method: str, user: str, to: str, password: str | None = None) -> Message:
    """A request whose challenge is answered."""
    challenge = ask(phone, method, user, to)
    assert challenge.status == (401 if method == "REGISTER" else 407)
    return ask(phone, method, user, to, credentials_for(challenge, method, user, to, password or PASSWORDS[user]))


def test_phones_register_and_reach_each_other(running: Server, client: MakeClient) -> None:
    alice, bob = client(running.address), client(running.address)
    answered = request(bob, "REGISTER", "bob", "bob")
    assert answered.status == 200
    assert f"sip:bob@127.0.0.1:{bob.port}" in answered.header("Contact")
    challenge = ask(alice, "OPTIONS", "alice", "bob")
    assert challenge.status == 407
    right = credentials_for(challenge, "OPTIONS", "alice", "bob", PASSWORDS["alice"])
    alice.send(
        "OPTIONS sip:bob@home.example SIP/2.0\nVia: SIP/2.0/UDP {ip}:{port};branch={branch}\nMax-Forwards: 70\n"
        "From: <sip:alice@home.example>;tag={tag}\nTo: <sip:bob@home.example>\nCall-ID: {call_id}\nCSeq: 2 OPTIONS\n"
        f"Proxy-Authorization: {right}\n\n"
    )
    got = bob.receive()
    assert (got.method, got.all("Proxy-Authorization")) == ("OPTIONS", [])
    bob.reply(got, 200)
    assert alice.final().status == 200


def test_who_is_refused(running: Server, client: MakeClient) -> None:
    phone = client(running.address)
    assert request(phone, "REGISTER", "bob", "bob", "wrong").status == 401
    assert request(phone, "REGISTER", "carol", "carol", "wrong").status == 401
    assert request(phone, "OPTIONS", "alice", "carol").status == 404
    challenge = ask(phone, "REGISTER", "alice", "bob")
    stolen = credentials_for(challenge, "REGISTER", "alice", "bob", PASSWORDS["alice"])
    assert ask(phone, "REGISTER", "alice", "bob", stolen).status == 403
