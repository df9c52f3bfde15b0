"""The exchange after connecting to a MySQL server: greeting, authentication, ``SET NAMES``. Bytes in, bytes out.

**The password is not sent to whoever asks.** A challenge (mysql_native_password, the fast way of caching_sha2_password) is
answered anywhere. What would reveal the password itself is refused unless the server is known to be the right one: in clear
only over a Unix socket, encrypted only with a key that the administrator has given, or one that comes over a Unix socket.
A server cannot talk its way around this: by another plugin, by "full authentication", by a key of its own.

Everything that is read before the server has accepted the password is limited.

Protocol: MySQL's "Connection Phase". PyMySQL gives the computations and the numbers of character sets, nothing else.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

import pymysql
from pymysql._auth import scramble_caching_sha2, scramble_native_password, sha2_rsa_encrypt
from pymysql.charset import charset_by_name
from pymysql.constants import CLIENT

from opensips_py.db.mysql.url import DatabaseUrl

LONGEST_PACKET = 16_384
"""Bytes of a packet before the end of the handshake; those of real servers have less than a thousand."""
MOST_PACKETS = 12
SALT = 20

_OK, _MORE, _LOCAL_FILE, _SWITCH, _ERROR = 0x00, 0x01, 0xFB, 0xFE, 0xFF
_FAST_DONE, _FULL = 3, 4
_COM_QUERY = b"\x03"
_charset: Any = charset_by_name  # its annotations leave the number out
_MALFORMED = 2027
_REFUSED = 2061  # CR_AUTH_PLUGIN_ERR
_FLAGS = CLIENT.LONG_PASSWORD | CLIENT.LONG_FLAG | CLIENT.PROTOCOL_41 | CLIENT.TRANSACTIONS | CLIENT.SECURE_CONNECTION
_OPTIONAL = CLIENT.MULTI_RESULTS | CLIENT.PLUGIN_AUTH | CLIENT.PLUGIN_AUTH_LENENC_CLIENT_DATA | CLIENT.CONNECT_ATTRS
_NEEDED = CLIENT.PROTOCOL_41 | CLIENT.SECURE_CONNECTION | CLIENT.CONNECT_WITH_DB
"""Every server since MySQL 5.0 has them."""


class Handshake:
    """One exchange. ``key`` is the server's public RSA key (PEM), when the administrator knows it."""

    __slots__ = ("_database", "_expect", "_key", "_packets", "_password", "_received", "_salt", "_sequence", "_switched", "_url")

    def __init__(self, url: DatabaseUrl, key: bytes | None = None) -> None:
        self._url = url
        self._key = key
        self._password = url.password.encode("latin-1")
        self._received = bytearray()
        self._sequence = 0
        self._packets = 0
        self._salt = b""
        self._switched = False
        self._expect: Callable[[bytes], bytes | None] | None = self._greeting
        """What takes the next packet, and gives the answer to it; None: the connection is ready for queries."""

    @property
    def _private(self) -> bool:
        """Nobody but the server can be at the other end."""
        return self._url.unix_socket is not None

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Take received bytes; returns what to send, and whether the connection is ready for queries.

        Raises pymysql.OperationalError when the server refuses, or asks for what it is not to get.
        """
        received = self._received
        received += data
        out = b""
        while self._expect is not None and len(received) >= 4:
            size = int.from_bytes(received[:3], "little")
            if size > LONGEST_PACKET or self._packets >= MOST_PACKETS:
                raise _fault("the server sends more than belongs to a handshake")
            if len(received) < 4 + size:
                break
            if received[3] != self._sequence:
                raise _fault(f"packet number {received[3]} where {self._sequence} is expected")
            packet = bytes(received[4 : 4 + size])
            del received[: 4 + size]
            self._packets += 1
            self._sequence = (self._sequence + 1) & 255
            answer = self._take(packet)
            if answer is not None:
                out += len(answer).to_bytes(3, "little") + bytes((self._sequence,)) + answer
                self._sequence = (self._sequence + 1) & 255
        if self._expect is None and received:
            raise _fault("the server answers what nobody has asked")
        return out, self._expect is None

    def _take(self, packet: bytes) -> bytes | None:
        assert self._expect is not None
        if not packet:
            raise _fault("an empty packet")
        if packet[0] == _ERROR:
            raise pymysql.OperationalError(*_error(packet))
        return self._expect(packet)

    # --- greeting ---------------------------------------------------------------------------------------------------

    def _greeting(self, packet: bytes) -> bytes:
        if packet[0] != 10:
            raise _fault(f"version {packet[0]} of the protocol is not spoken")
        at = packet.find(b"\0") + 1
        if at == 0 or len(packet) < at + 31:
            raise _fault("the greeting is cut off")
        salt = packet[at + 4 : at + 12]
        low, high, length = struct.unpack_from("<H3xHB", packet, at + 13)
        flags = low | high << 16
        if flags & _NEEDED != _NEEDED:
            raise _fault("the server is older than MySQL 5.0")
        rest = packet[at + 31 :]
        second = max(13, length - 8)
        self._salt = (salt + rest[:second])[:SALT]
        plugin = rest[second:].partition(b"\0")[0] if flags & CLIENT.PLUGIN_AUTH else b"mysql_native_password"
        response = self._first(plugin)
        if response is None:  # not known, or not to be used here: the server names what it wants when it sees another one
            plugin = b"mysql_native_password"
            response = scramble_native_password(self._password, self._salt)
        self._expect = self._wait_for(plugin)
        return self._login(flags, plugin, response)

    def _login(self, flags: int, plugin: bytes, response: bytes) -> bytes:
        url = self._url
        answer = struct.pack("<IIB23x", _FLAGS | CLIENT.CONNECT_WITH_DB | (flags & _OPTIONAL), 0xFFFFFF, _charset(url.charset).id)
        answer += url.user.encode("latin-1") + b"\0"
        lenenc = flags & CLIENT.PLUGIN_AUTH_LENENC_CLIENT_DATA
        answer += _counted(response) if lenenc else bytes((len(response),)) + response
        answer += url.database.encode("latin-1") + b"\0"
        if flags & CLIENT.PLUGIN_AUTH:
            answer += plugin + b"\0"
        if flags & CLIENT.CONNECT_ATTRS:
            attributes = {b"program_name": b"opensips-py", b"_pid": b"%d" % os.getpid()}
            answer += _counted(b"".join(_counted(name) + _counted(value) for name, value in attributes.items()))
        return answer

    def _first(self, plugin: bytes) -> bytes | None:
        """The answer to a challenge, which may be given before anything is known of the server; None: there is none."""
        if plugin == b"mysql_native_password":
            return scramble_native_password(self._password, self._salt)
        if plugin == b"caching_sha2_password":
            return scramble_caching_sha2(self._password, self._salt)
        if plugin == b"sha256_password":
            if not self._password:
                return b"\0"
            if self._key is not None:
                return self._encrypted(self._key)
            return b"\1" if self._private else None  # asks for the server's key
        return None

    # --- authentication ---------------------------------------------------------------------------------------------

    def _wait_for(self, plugin: bytes) -> Callable[[bytes], bytes | None]:
        def expect(packet: bytes) -> bytes | None:
            kind = packet[0]
            if kind == _OK:
                return self._accepted()
            if kind == _SWITCH:
                return self._switch(packet[1:])
            if kind == _MORE:
                return self._more(plugin, packet[1:])
            raise _fault("neither accepted nor refused")

        return expect

    def _switch(self, packet: bytes) -> bytes:
        """The server wants another plugin."""
        if not packet:  # the byte alone asks for the password as before MySQL 4.1
            raise _refusal("mysql_old_password", "which whoever listens can break")
        if self._switched:
            raise _fault("the server changes its mind about the plugin twice")
        self._switched = True
        name, _, rest = packet.partition(b"\0")
        self._salt = rest[:SALT]
        self._expect = self._wait_for(name)
        shown = name[:64].decode("latin-1")
        answer = self._first(name)
        if answer is not None:
            return answer
        if name == b"mysql_clear_password" or (name == b"dialog" and rest[1:] in (b"Password: ", b"Password: \0")):
            return self._clear(shown)
        if name == b"mysql_old_password":
            raise _refusal(shown, "which whoever listens can break")
        if name == b"sha256_password":
            raise _refusal(shown, _NEEDS_KEY)
        raise _refusal(shown, "which is not supported")

    def _more(self, plugin: bytes, data: bytes) -> bytes | None:
        """The plugin goes on."""
        if plugin == b"caching_sha2_password":
            if data == bytes((_FAST_DONE,)):
                return None
            if data == bytes((_FULL,)):
                if self._private:
                    return self._clear("caching_sha2_password")
                if self._key is None:
                    raise _refusal("caching_sha2_password (full authentication)", _NEEDS_KEY)
                return self._encrypted(self._key)
        elif plugin == b"sha256_password" and self._private and self._key is None and self._password:
            return self._encrypted(data)
        raise _fault("the server goes on with what was not begun")

    def _clear(self, plugin: str) -> bytes:
        if not self._private:
            raise _refusal(
                plugin, "that is, the password in clear, which goes only over a Unix socket (unix_socket=PATH in the URL)"
            )
        return self._password + b"\0"

    def _encrypted(self, key: bytes) -> bytes:
        try:
            return bytes(sha2_rsa_encrypt(self._password, self._salt or b"\0", key))
        except (
            ValueError,
            TypeError,
            AttributeError,
        ) as error:  # no PEM, another kind of key, a password that is too long for it
            raise _fault(f"the server's public key cannot be used: {error}") from None

    # --- the end ----------------------------------------------------------------------------------------------------

    def _accepted(self) -> bytes:
        self._sequence = 0
        self._expect = self._named
        return _COM_QUERY + b"SET NAMES " + self._url.charset.encode("ascii")

    def _named(self, packet: bytes) -> None:
        if packet[0] != _OK:
            raise _fault("SET NAMES is not answered by OK")
        self._expect = None


_NEEDS_KEY = (
    "that is, the password encrypted with a key that anybody may have made; "
    "use a Unix socket, or give the server's own key (db_mysql, server_public_key, or public_key=FILE in the URL)"
)


def _refusal(plugin: str, why: str) -> pymysql.OperationalError:
    return pymysql.OperationalError(_REFUSED, f"the server asks for {plugin}, {why}")


def _fault(text: str) -> pymysql.OperationalError:
    return pymysql.OperationalError(_MALFORMED, text)


def _error(packet: bytes) -> tuple[int, str]:
    """Number and text of an error."""
    if len(packet) < 3:
        return _MALFORMED, "malformed packet"
    text = packet[3:512]
    return int.from_bytes(packet[1:3], "little"), (text[6:] if text[:1] == b"#" else text).decode("latin-1")


def _counted(data: bytes) -> bytes:
    """Bytes after their length (length-encoded)."""
    size = len(data)
    if size < 0xFB:
        return bytes((size,)) + data
    return b"\xfc" + size.to_bytes(2, "little") + data
