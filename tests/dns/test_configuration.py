"""resolv.conf, the core parameters that go before it, and /etc/hosts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opensips_py.dns import configuration, hosts
from opensips_py.dns.configuration import adapt, read
from opensips_py.dns.hosts import Hosts
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.script.name_servers import server_of
from opensips_py.script.parameters import Settings
from opensips_py.script.program import load
from tests.conftest import StartDns
from tests.dns.conftest import Asking

RESOLV_CONF = """
# a comment
nameserver 192.0.2.1
nameserver 2001:db8::53
nameserver fe80::1%eth0
nameserver 192.0.2.4
search Example.org. corp.example
options ndots:2 timeout:3 attempts:4 rotate
"""


def settings(**given: object) -> Settings:
    made = Settings()
    for name, value in given.items():
        setattr(made, name, value)
    return made


def test_resolv_conf_is_read() -> None:
    found = read(RESOLV_CONF)
    assert found.servers == [("192.0.2.1", 53), ("2001:db8::53", 53), ("fe80::1", 53)]
    assert found.search == ["example.org", "corp.example"]
    assert (found.ndots, found.timeout, found.attempts) == (2, 3.0, 4)


def test_an_empty_resolv_conf_means_this_machine() -> None:
    found = read("")
    assert (found.servers, found.timeout, found.attempts) == ([("127.0.0.1", 53)], 5.0, 2)


def test_core_parameters_go_before_it() -> None:
    found = adapt(read(RESOLV_CONF), settings(dns_servers_no=2, dns_retr_time=1, dns_retr_no=7, dns_use_search_list=0))
    assert found.servers == [("192.0.2.1", 53), ("2001:db8::53", 53)]
    assert (found.timeout, found.attempts, found.search) == (1.0, 7, [])
    assert adapt(read(RESOLV_CONF), settings(dns_servers="127.0.0.1:5353 [::1]:54 ::1")).servers == [
        ("127.0.0.1", 5353),
        ("::1", 54),
        ("::1", 53),
    ]


@pytest.mark.parametrize("text", ["", ":53", "127.0.0.1:99999", "ns.example", "[::1]53"])
def test_what_is_no_server(text: str) -> None:
    assert server_of(text) is None


def test_names_with_few_dots_are_tried_in_the_search_list_first() -> None:
    found = read(RESOLV_CONF)
    assert found.candidates("pbx") == ["pbx.example.org", "pbx.corp.example", "pbx"]
    assert found.candidates("a.b.c") == ["a.b.c", "a.b.c.example.org", "a.b.c.corp.example"]
    assert found.candidates("pbx.") == ["pbx"]


def test_the_search_list_is_used(asking: Asking, dns: StartDns, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search one.test two.test\n")
    monkeypatch.setattr(configuration, "RESOLV_CONF", str(file))
    server = dns("pbx.two.test. 60 IN A 192.0.2.1\nfull.name. 60 IN A 192.0.2.2")
    asking.set(dns_servers=server.address, dns_use_search_list=1)
    assert asking.ask("pbx").records == ("192.0.2.1",)
    assert server.asked["pbx.one.test A"] == 1 and server.asked["pbx A"] == 0
    assert asking.ask("full.name").records == ("192.0.2.2",)
    assert not asking.ask("nowhere.at").records
    assert server.asked["nowhere.at A"] == server.asked["nowhere.at.one.test A"] == server.asked["nowhere.at.two.test A"] == 1


def test_a_changed_resolv_conf_is_noticed(asking: Asking, dns: StartDns, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    monkeypatch.setattr(configuration, "RESOLV_CONF", str(file))
    monkeypatch.setattr(configuration, "LOOK_AGAIN", 0.0)
    file.write_text("search one.test\n")
    server = dns("a.one.test. 60 IN A 192.0.2.1\nb.two.test. 60 IN A 192.0.2.2")
    asking.set(dns_servers=server.address, dns_use_search_list=1)
    assert asking.ask("a").records == ("192.0.2.1",)
    file.write_text("search two.test\n")
    os.utime(file, (1, 1))
    assert asking.ask("b").records == ("192.0.2.2",)


def test_hosts_are_read() -> None:
    found = hosts.read("127.0.0.1 localhost me # names\n::1\tlocalhost\n10.0.0.1 gw GW.example\nnonsense x\n10.0.0.2 gw\n")
    assert found["localhost"] == {"A": ("127.0.0.1",), "AAAA": ("::1",)}
    assert found["gw"] == {"A": ("10.0.0.1", "10.0.0.2")}
    assert found["gw.example"] == {"A": ("10.0.0.1",)}
    assert "x" not in found


def test_changed_hosts_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "LOOK_AGAIN", 0.0)
    file = tmp_path / "hosts"
    table = Hosts(str(file))
    assert table.addresses("pbx", "A") is None
    file.write_text("10.0.0.1 pbx\n")
    assert table.addresses("pbx", "A") == ("10.0.0.1",)
    assert table.addresses("pbx", "AAAA") == ()
    assert table.addresses("pbx", "SRV") == ()
    file.write_text("10.0.0.2 pbx.example\n")
    assert table.addresses("pbx", "A") is None


def test_names_of_this_machine_and_names_that_never_exist_are_not_asked(asking: Asking, dns: StartDns) -> None:
    server = dns()
    asking.set(dns_servers=server.address)
    assert asking.ask("a.localhost").records == ("127.0.0.1",)
    assert asking.ask("localhost", "AAAA").records == ("::1",)
    assert not asking.ask("what.invalid").records
    assert not server.asked


def test_a_name_in_etc_hosts_has_no_srv_and_no_naptr(
    asking: Asking, dns: StartDns, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "hosts"
    file.write_text("10.0.0.1 pbx.test\n")
    monkeypatch.setattr(asking.resolver, "_hosts", Hosts(str(file)))
    server = dns("_sip._udp.pbx.test. 60 IN SRV 0 0 5070 other.test.")
    asking.set(dns_servers=server.address)
    assert asking.ask("pbx.test").records == ("10.0.0.1",)
    for name, type in (("pbx.test", "NAPTR"), ("_sip._udp.pbx.test", "SRV"), ("_sip._udp.localhost", "SRV")):
        assert not asking.ask(name, type).records
    assert not server.asked


@pytest.mark.parametrize(
    ("value", "word"), [("ns.example.org", "ns.example.org"), ("127.0.0.1 ::1:x", "::1:x"), ("", "no name server")]
)
def test_wrong_name_servers_are_refused_when_the_script_is_checked(tmp_path: Path, value: str, word: str) -> None:
    script = tmp_path / "opensips.cfg"
    script.write_text(f'socket=udp:127.0.0.1:5060\ndns_servers="{value}"\nloadmodule "proto_udp.so"\nroute {{ exit; }}\n')
    with pytest.raises(ScriptErrors) as caught:
        load(str(script))
    [found] = [d for d in caught.value.diagnostics if d.severity == "error"]
    assert (found.line, found.column) == (2, 13) and word in found.message
