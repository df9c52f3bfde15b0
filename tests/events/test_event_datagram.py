"""Events reach other programs in datagrams, as long as they have subscribed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opensips_py.modules import event_datagram
from scripts.testbed.server import MIError, Server
from tests.support.sip_client import SipClient

SCRIPT = """
loadmodule "sl.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "event_datagram.so"
startup_route {
    subscribe_event("E_UL_AOR_INSERT", "udp:127.0.0.1:UDP_PORT");
    subscribe_event("E_UL_CONTACT_DELETE", "unix:UNIX_PATH", 100);
    subscribe_event("E_OWN", "carrier:pigeon");
    xlog("@@refused $rc\\n");
}
route {
    if ($rm == "REGISTER") {
        save("location");
        exit;
    }
    $avp(value) = "two";
    $avp(value) = 1;
    raise_event("E_OWN", $avp(value));
    sl_send_reply(200, "OK");
}
"""


class Listener:
    """A program that listens to events."""

    def __init__(self, family: int, address: tuple[str, int] | str) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)

    def event(self) -> dict[str, object]:
        """The next event."""
        data: dict[str, object] = json.loads(self.socket.recv(65536))
        assert data.pop("jsonrpc") == "2.0"
        assert "id" not in data
        return data

    def nothing(self) -> bool:
        self.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            self.socket.recv(65536)
        return True


@pytest.fixture
def udp() -> Iterator[Listener]:
    listener = Listener(socket.AF_INET, ("127.0.0.1", 0))
    yield listener
    listener.socket.close()


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(socket.AF_UNIX, str(tmp_path / "events"))
    yield listener
    listener.socket.close()


def test_events_reach_programs_that_have_subscribed(
    server: Callable[..., Server], client: Callable[..., SipClient], udp: Listener, unix: Listener
) -> None:
    port, path = udp.socket.getsockname()[1], unix.socket.getsockname()
    running = server(SCRIPT.replace("UDP_PORT", str(port)).replace("UNIX_PATH", path))
    running.wait_log("@@refused -1")
    phone = client(running.address)
    phone.request("REGISTER", "sip:{server}", cseq="3")
    assert phone.final().status == 200
    assert udp.event() == {"method": "E_UL_AOR_INSERT", "params": {"domain": "location", "aor": "bob"}}
    running.mi("ul_rm", ["location", "bob"])
    gone = unix.event()["params"]
    assert isinstance(gone, dict)
    assert gone["uri"] == f"sip:alice@127.0.0.1:{phone.port}"
    assert gone["socket"] == f"udp:127.0.0.1:{running.port}"
    assert gone["cseq"] == 3
    assert abs(gone["expires"] - time.time() - 3600) < 30
    assert " ".join(gone) == ("domain aor uri received path qval user_agent socket bflags expires callid cseq attr latency shtag")

    running.mi("event_subscribe", ["E_OWN", f"udp:127.0.0.1:{port}", 50])
    subscriber = running.mi("subscribers_list", ["E_OWN", f"udp:127.0.0.1:{port}"])["Event"]["Subscriber"]
    assert 0 < subscriber.pop("ttl") <= 50
    assert subscriber == {"socket": f"udp:127.0.0.1:{port}", "expire": 50}
    phone.request("OPTIONS")
    assert phone.final().status == 200
    assert udp.event() == {"method": "E_OWN", "params": [1, "two"]}
    running.mi("event_subscribe", ["E_OWN", f"udp:127.0.0.1:{port}", 0])
    phone.request("OPTIONS")
    assert phone.final().status == 200
    assert udp.nothing()


def test_what_is_no_event_or_no_socket_is_refused(server: Callable[..., Server], udp: Listener) -> None:
    running = server(SCRIPT.replace("UDP_PORT", str(udp.socket.getsockname()[1])).replace("UNIX_PATH", "/tmp/x"))
    for arguments in (["E_NO", "udp:127.0.0.1:9"], ["E_OWN", "udp:host"], ["E_OWN", "unix:x"], ["E_OWN", "x"]):
        with pytest.raises(MIError, match="400 Bad parameter value"):
            running.mi("event_subscribe", arguments)
    with pytest.raises(MIError, match="Invalid params"):
        running.mi("event_subscribe", ["E_OWN", "udp:127.0.0.1:9", -1])


def test_an_event_without_parameters_has_none() -> None:
    assert event_datagram.notification("E_X", ()) == b'{"jsonrpc":"2.0","method":"E_X"}'
