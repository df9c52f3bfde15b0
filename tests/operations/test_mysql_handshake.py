"""Who gets the database's password: nobody over the network but the server whose key is known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pymysql import _auth
from pymysql.charset import charset_by_name
from pymysql.constants import CLIENT

from opensips_py.db.database import DatabaseError
from opensips_py.db.mysql.database import MysqlDatabase
from opensips_py.db.mysql.handshake import LONGEST_PACKET, MOST_PACKETS, Handshake
from opensips_py.db.mysql.url import DatabaseUrl, parse_database_url
from opensips_py.db.statement import Raw, select
from scripts.testbed.mariadb import MariaDB

PASSWORD = b"top-secret"
SALT = bytes(range(1, 21))
CLEAR, OLD, DIALOG = b"mysql_clear_password", b"mysql_old_password", b"dialog"
NATIVE, CACHING, SHA256 = b"mysql_native_password", b"caching_sha2_password", b"sha256_password"
CAPABILITIES = 0x00FFFFFF

KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
OK = b"\0\0\0\2\0\0\0"
FULL, FAST = b"\1\4", b"\1\3"


def url(**parts: str) -> DatabaseUrl:
    where = f"?unix_socket={parts['unix_socket']}" if parts else ""
    return parse_database_url(f"mysql://voip:{PASSWORD.decode()}@127.0.0.1:3306/voip{where}")


def greeting(plugin: bytes = NATIVE, capabilities: int = CAPABILITIES) -> bytes:
    low, high = capabilities.to_bytes(4, "little")[:2], capabilities.to_bytes(4, "little")[2:]
    head = b"\x0a8.0.36\0" + b"\7\0\0\0" + SALT[:8] + b"\0" + low + b"\x21\2\0" + high + bytes((21,)) + bytes(10)
    return head + SALT[8:] + b"\0" + plugin + b"\0"


def switch(plugin: bytes, data: bytes = SALT + b"\0") -> bytes:
    return b"\xfe" + plugin + b"\0" + data


class Server:
    """A server that says what a test has it say, in order, and keeps what it is sent."""

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._sequence = 0
        self.sent: list[bytes] = []
        self.ready = False

    def say(self, packet: bytes) -> bytes:
        """One packet; what the client answers."""
        data = len(packet).to_bytes(3, "little") + bytes((self._sequence,)) + packet
        self._sequence += 1
        out, self.ready = self._handshake.feed(data)
        answer = b""
        while out:
            size = int.from_bytes(out[:3], "little")
            answer, self._sequence = out[4 : 4 + size], out[3] + 1
            self.sent.append(answer)
            out = out[4 + size :]
        return answer

    @property
    def everything(self) -> bytes:
        return b"".join(self.sent)


def over_tcp(key: bytes | None = None) -> Server:
    return Server(Handshake(url(), key))


def over_socket(key: bytes | None = None) -> Server:
    return Server(Handshake(url(unix_socket="/run/db.sock"), key))


def decrypted(data: bytes) -> bytes:
    clear = KEY.decrypt(data, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))
    return bytes(a ^ SALT[i % 20] for i, a in enumerate(clear)).removesuffix(b"\0")


# --- what a hostile server tries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [NATIVE, CACHING, SHA256, CLEAR, OLD, DIALOG, b"made_up", b""])
@pytest.mark.parametrize(
    ("then", "says"),
    [
        ([switch(CLEAR)], "clear"),
        ([switch(DIALOG, b"\2Password: ")], "clear"),
        ([switch(OLD)], "whoever listens can break"),
        ([b"\xfe"], "whoever listens can break"),
        ([switch(CACHING), FULL], "anybody may have made"),
        ([switch(SHA256)], "anybody may have made"),
        ([switch(SHA256), b"\1" + PEM], "anybody may have made"),
        ([switch(b"client_ed25519")], "not supported"),
        ([switch(NATIVE), switch(CLEAR)], "twice"),
        ([b"\1" + PEM], "what was not begun"),
    ],
)
def test_no_server_on_the_network_gets_the_password(first: bytes, then: list[bytes], says: str) -> None:
    server = over_tcp()
    server.say(greeting(first))
    with pytest.raises(pymysql.OperationalError, match=says):
        for packet in then:
            server.say(packet)
    assert PASSWORD not in server.everything
    assert all(len(answer) < 250 for answer in server.sent)  # nothing that is encrypted with RSA


def test_full_authentication_needs_the_key_that_is_known_and_no_other() -> None:
    with pytest.raises(pymysql.OperationalError, match="server_public_key"):
        server = over_tcp()
        server.say(greeting(CACHING))
        server.say(FULL)
    server = over_tcp(PEM)
    server.say(greeting(CACHING))
    assert decrypted(server.say(FULL)) == PASSWORD
    server.say(OK)
    server.say(OK)
    assert server.ready


def test_a_key_of_the_servers_own_is_not_taken_for_the_known_one() -> None:
    other = rsa.generate_private_key(65537, 2048).public_key()
    pem = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    server = over_tcp(PEM)
    assert decrypted(server.say(greeting(SHA256)).split(b"voip\0", 1)[1][3:259]) == PASSWORD
    with pytest.raises(pymysql.OperationalError, match="not begun"):
        server.say(b"\1" + pem)


def test_over_a_unix_socket_the_server_may_ask_for_the_password() -> None:
    for packets in ([switch(CLEAR)], [switch(DIALOG, b"\2Password: ")], [switch(CACHING), FULL]):
        server = over_socket()
        server.say(greeting())
        for packet in packets:
            answer = server.say(packet)
        assert answer == PASSWORD + b"\0"
    server = over_socket()
    server.say(greeting())
    assert server.say(switch(SHA256)) == b"\1"
    assert decrypted(server.say(b"\1" + PEM)) == PASSWORD


@pytest.mark.parametrize(
    ("plugin", "response"),
    [(NATIVE, _auth.scramble_native_password(PASSWORD, SALT)), (CACHING, _auth.scramble_caching_sha2(PASSWORD, SALT))],
)
def test_a_challenge_is_answered_in_the_greeting_and_after_a_switch(plugin: bytes, response: bytes) -> None:
    server = over_tcp()
    login = server.say(greeting(plugin))
    assert response in login and login.endswith(b"_pid" + login.rpartition(b"_pid")[2])
    flags = int.from_bytes(login[:4], "little")
    assert not flags & (CLIENT.LOCAL_FILES | CLIENT.MULTI_STATEMENTS)
    assert server.say(switch(plugin)) == response
    if plugin == CACHING:
        assert server.say(FAST) == b""
    assert server.say(OK) == b"\3SET NAMES utf8mb4"
    server.say(OK)
    assert server.ready


@pytest.mark.parametrize(
    "packet", [b"", b"\x0a", b"\x09" + greeting()[1:], greeting()[:20], greeting(capabilities=0), b"\x0a" * 40]
)
def test_a_greeting_that_is_none_is_refused(packet: bytes) -> None:
    with pytest.raises(pymysql.OperationalError):
        over_tcp().say(packet)


def test_a_local_file_is_never_given() -> None:
    server = over_tcp()
    server.say(greeting())
    server.say(OK)
    with pytest.raises(pymysql.OperationalError, match="SET NAMES"):
        server.say(b"\xfb/etc/passwd")


def test_the_handshake_is_bounded() -> None:
    with pytest.raises(pymysql.OperationalError, match="more than belongs"):
        Handshake(url()).feed((LONGEST_PACKET + 1).to_bytes(3, "little") + b"\0")
    server = over_tcp()
    server.say(greeting(CACHING))
    with pytest.raises(pymysql.OperationalError, match="more than belongs"):
        for _ in range(MOST_PACKETS):
            server.say(FAST)
    with pytest.raises(pymysql.OperationalError, match="packet number 7"):
        Handshake(url()).feed(b"\1\0\0\7x")
    with pytest.raises(pymysql.OperationalError, match="nobody has asked"):
        server = over_tcp()
        server.say(greeting())
        server.say(OK)
        server._handshake.feed(b"\7\0\0\1" + OK + b"\1\0\0\0\0")


def test_a_refusal_of_the_server_is_told() -> None:
    server = over_tcp()
    server.say(greeting())
    with pytest.raises(pymysql.OperationalError) as refused:
        server.say(b"\xff\x15\x04#28000Access denied for user")
    assert refused.value.args == (1045, "Access denied for user")


# --- keys and charsets in URLs ---------------------------------------------------------------------------------------------


def test_the_key_is_read_from_the_file_that_the_url_names(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(PEM)
    assert parse_database_url(f"mysql://a:b@h/d?public_key={path}").public_key == PEM
    path.write_text("no key")
    for text in (str(path), str(tmp_path / "missing"), str(tmp_path)):
        with pytest.raises(ValueError, match="public key"):
            parse_database_url(f"mysql://a:b@h/d?public_key={text}")


@pytest.mark.parametrize("charset", ["gbk", "sjis", "big5", "cp932", "gb18030", "none", "utf8mb4; drop table x"])
def test_charsets_in_which_nothing_can_be_escaped_are_refused(charset: str) -> None:
    with pytest.raises(ValueError, match="charset"):
        parse_database_url(f"mysql://a:b@h/d?charset={charset}")


# --- PyMySQL: what is used of it --------------------------------------------------------------------------------------


def test_what_is_used_of_pymysql_does_what_it_did() -> None:
    """Parts of it are private: a version in which they are gone or different must not be used unseen."""
    sha1 = hashlib.sha1
    one = sha1(PASSWORD).digest()
    mask = sha1(SALT + sha1(one).digest()).digest()
    assert _auth.scramble_native_password(PASSWORD, SALT) == bytes(a ^ b for a, b in zip(one, mask, strict=True))
    first = hashlib.sha256(PASSWORD).digest()
    mask = hashlib.sha256(hashlib.sha256(first).digest() + SALT).digest()
    assert _auth.scramble_caching_sha2(PASSWORD, SALT) == bytes(a ^ b for a, b in zip(first, mask, strict=True))
    assert _auth.scramble_native_password(b"", SALT) == _auth.scramble_caching_sha2(b"", SALT) == b""
    assert decrypted(_auth.sha2_rsa_encrypt(PASSWORD, SALT, PEM)) == PASSWORD
    assert [getattr(charset_by_name(name), "id", None) for name in ("utf8mb4", "latin1", "none")] == [45, 8, None]
    assert (CLIENT.PROTOCOL_41, CLIENT.SECURE_CONNECTION, CLIENT.PLUGIN_AUTH) == (1 << 9, 1 << 15, 1 << 19)
    assert pymysql.OperationalError(1, "x").args == (1, "x")


@pytest.fixture(scope="module")
def database() -> Iterator[MariaDB]:
    server = MariaDB()
    server.as_root("create table t(a int, b varchar(9))", "insert into t values(1,'x'),(2,NULL)")
    yield server
    server.remove()


def test_rows_are_read_before_the_fork(database: MariaDB) -> None:
    for text in (database.url, f"mysql://root:@localhost/opensips?unix_socket={database.home}/socket"):
        assert MysqlDatabase(text).read(select([], "t", order="a")).rows == [[1, "x"], [2, None]]
    with pytest.raises(DatabaseError, match="doesn't exist"):
        MysqlDatabase(database.url).read(select([], "missing"))
    with pytest.raises(DatabaseError, match="Access denied"):
        MysqlDatabase(database.url.replace("opensipsrw", "wrong")).read(Raw("select 1"))
