"""The resolver against a real DNS server with faults."""

from __future__ import annotations

import pytest

from opensips_py.dns.records import MOST_RECORDS, Answer, Naptr, Question, Srv, Status
from opensips_py.dns.resolver import MOST_ANSWERS
from opensips_py.server.process import this
from tests.conftest import StartDns
from tests.dns.conftest import Asking
from tests.support.driven_clock import DrivenClock

ZONE = """
a.test.                60 IN A     192.0.2.1
a.test.                60 IN A     192.0.2.2
a.test.                60 IN AAAA  2001:db8::1
short.test.             0 IN A     192.0.2.9
alias.test.            60 IN CNAME a.test.
_sip._udp.srv.test.    60 IN SRV   10 60 5070 A.test.
_sip._udp.none.test.   60 IN SRV   0 0 0 .
srv.test.              60 IN NAPTR 50 100 "s" "SIP+D2U" "" _sip._udp.srv.test.
host.inner.test.       60 IN A     192.0.2.77
"""


def test_records_of_each_type_are_read(asking: Asking, dns: StartDns) -> None:
    asking.set(dns_servers=dns(ZONE).address)
    assert asking.ask("a.test").records == ("192.0.2.1", "192.0.2.2")
    assert asking.ask("a.test", "AAAA").records == ("2001:db8::1",)
    assert asking.ask("alias.test").records == ("192.0.2.1", "192.0.2.2")
    assert asking.ask("_sip._udp.srv.test", "SRV").records == (Srv(10, 60, 5070, "a.test"),)
    assert asking.ask("_sip._udp.none.test", "SRV").records == (Srv(0, 0, 0, ""),)
    assert asking.ask("srv.test", "NAPTR").records == (Naptr(50, 100, "s", "SIP+D2U", "_sip._udp.srv.test"),)


def test_an_answer_is_kept_for_its_time_to_live(asking: Asking, dns: StartDns, monkeypatch: pytest.MonkeyPatch) -> None:
    server = dns(ZONE)
    asking.set(dns_servers=server.address)
    for _ in range(3):
        asking.ask("a.test")
    assert server.asked["a.test A"] == 1
    DrivenClock(monkeypatch).now += 61
    assert asking.resolver.known(Question("a.test", "A")) is None


def test_a_record_without_time_to_live_serves_those_who_wait_now(asking: Asking, dns: StartDns) -> None:
    asking.set(dns_servers=dns(ZONE).address)
    assert asking.ask("short.test").records == ("192.0.2.9",)
    assert asking.ask("short.test").seconds == 1


def test_absence_is_kept_as_long_as_the_soa_says(asking: Asking, dns: StartDns) -> None:
    server = dns(ZONE, negative_ttl=7)
    asking.set(dns_servers=server.address)
    assert asking.ask("nowhere.test")[:1] + asking.ask("nowhere.test")[2:] == (Status.NO_NAME, 7)
    assert asking.ask("a.test", "NAPTR")[:1] + asking.ask("a.test", "NAPTR")[2:] == (Status.NO_DATA, 7)
    assert (server.asked["nowhere.test A"], server.asked["a.test NAPTR"]) == (1, 1)


def test_absence_is_not_believed_for_days(asking: Asking, dns: StartDns) -> None:
    asking.set(dns_servers=dns(ZONE, negative_ttl=500_000).address)
    assert asking.ask("nowhere.test").seconds == 900


def test_one_look_up_serves_all_who_wait(asking: Asking, dns: StartDns) -> None:
    server = dns(ZONE)
    server.fail("a.test", delay=0.1)
    asking.set(dns_servers=server.address)
    answers = asking.together([Question("a.test", "A")] * 50)
    assert {answer.records for answer in answers} == {("192.0.2.1", "192.0.2.2")}
    assert server.asked["a.test A"] == 1


def test_look_ups_go_on_at_the_same_time(asking: Asking, dns: StartDns) -> None:
    zone = "\n".join(f"n{n}.test. 60 IN A 192.0.2.{n}" for n in range(1, 101))
    server = dns(zone)
    for n in range(1, 101):
        server.fail(f"n{n}.test", delay=0.3)
    asking.set(dns_servers=server.address, dns_retr_time=20)
    start = this.clock.now()
    answers = asking.together([Question(f"n{n}.test", "A") for n in range(1, 101)])
    assert [answer.records for answer in answers] == [(f"192.0.2.{n}",) for n in range(1, 101)]
    assert this.clock.now() - start < 15, "a hundred look-ups one after the other would take thirty seconds"


def test_identifiers_and_source_ports_are_not_to_be_guessed(asking: Asking, dns: StartDns) -> None:
    zone = "\n".join(f"n{n}.test. 60 IN A 192.0.2.1" for n in range(64))
    server = dns(zone)
    asking.set(dns_servers=server.address)
    asking.together([Question(f"n{n}.test", "A") for n in range(64)])
    assert len(set(server.ports)) > 48 and len(set(server.identifiers)) > 48
    steps = {b - a for a, b in zip(server.identifiers, server.identifiers[1:], strict=False)}
    assert len(steps) > 48


def test_a_response_with_a_wrong_identifier_is_passed_over(asking: Asking, dns: StartDns) -> None:
    server = dns(ZONE)
    server.fail("a.test", forged=True, delay=0.1)
    asking.set(dns_servers=server.address)
    assert asking.ask("a.test").records == ("192.0.2.1", "192.0.2.2")


def test_a_truncated_response_is_asked_for_over_tcp(asking: Asking, dns: StartDns) -> None:
    server = dns("\n".join(f"big.test. 60 IN A 10.0.{n // 250}.{n % 250 + 1}" for n in range(600)))
    server.fail("big.test", truncated=True)
    asking.set(dns_servers=server.address)
    assert len(asking.ask("big.test").records) == MOST_RECORDS
    assert server.asked["tcp"] == 1


def test_a_response_over_tcp_that_is_too_long_is_none(asking: Asking, dns: StartDns) -> None:
    server = dns("\n".join(f"huge.test. 60 IN A 10.0.{n >> 8}.{n & 255}" for n in range(1100)))
    server.fail("huge.test", truncated=True)
    asking.set(dns_servers=server.address)
    assert asking.ask("huge.test").status is Status.FAILED


def test_a_server_without_edns_is_asked_without(asking: Asking, dns: StartDns) -> None:
    server = dns(ZONE)
    server.fail("a.test", no_edns=True)
    asking.set(dns_servers=server.address)
    assert asking.ask("a.test").records == ("192.0.2.1", "192.0.2.2")
    assert server.asked["a.test A"] == 2


def test_a_server_that_is_not_there_is_passed_over_at_once(asking: Asking, dns: StartDns) -> None:
    gone, server = dns(), dns(ZONE)
    gone.close()
    asking.set(dns_servers=f"{gone.address} {server.address}", dns_retr_time=60)
    start = this.clock.now()
    assert asking.ask("a.test").status is Status.FOUND
    assert this.clock.now() - start < 30


def test_a_silent_server_is_passed_over_after_its_time(asking: Asking, dns: StartDns) -> None:
    silent, server = dns(ZONE), dns(ZONE)
    silent.fail("a.test", silent=True)
    asking.set(dns_servers=f"{silent.address} {server.address}", dns_retr_time=1)
    start = this.clock.now()
    assert asking.ask("a.test").status is Status.FOUND
    assert this.clock.now() - start >= 1
    assert silent.asked["a.test A"] == 1


def test_a_silent_server_is_asked_last_for_a_while(asking: Asking, dns: StartDns, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, server = dns(ZONE), dns(ZONE)
    silent.fail("a.test", silent=True)
    asking.set(dns_servers=f"{silent.address} {server.address}", dns_retr_time=1)
    asking.ask("a.test")
    assert asking.ask("short.test").status is Status.FOUND
    assert silent.asked["short.test A"] == 0, "the next question has to wait for a server that is known to be silent"
    DrivenClock(monkeypatch).now += 31
    assert asking.ask("host.inner.test").status is Status.FOUND
    assert silent.asked["host.inner.test A"] == 1


def test_when_no_server_was_heard_of_the_next_questions_fail_soon(asking: Asking, dns: StartDns) -> None:
    silent = dns(ZONE)
    for name in ("a.test", "b.test"):
        silent.fail(name, silent=True)
    asking.set(dns_servers=silent.address, dns_retr_time=2, dns_retr_no=1)
    assert asking.ask("a.test").status is Status.FAILED
    start = this.clock.now()
    assert asking.ask("b.test").status is Status.FAILED
    assert this.clock.now() - start < 1.9
    assert silent.asked["b.test A"] == 1
    assert asking.ask("short.test").status is Status.FOUND
    assert asking.resolver._silence.plan(asking.resolver._current.get(), this.clock.now())[1] == 2


def test_a_server_that_fails_is_passed_over(asking: Asking, dns: StartDns) -> None:
    failing, server = dns(ZONE), dns(ZONE)
    failing.fail("a.test", servfail=True)
    asking.set(dns_servers=f"{failing.address} {server.address}", dns_retr_time=60)
    assert asking.ask("a.test").status is Status.FOUND


def test_every_server_is_asked_as_often_as_dns_retr_no_says(asking: Asking, dns: StartDns) -> None:
    first, second, third = dns(), dns(), dns()
    for server in (first, second, third):
        server.fail("a.test", servfail=True)
    asking.set(dns_servers=" ".join(s.address for s in (first, second, third)), dns_retr_no=3, dns_servers_no=2)
    assert asking.ask("a.test").status is Status.FAILED
    assert [s.asked["a.test A"] for s in (first, second, third)] == [3, 3, 0]


def test_that_nobody_could_tell_is_kept_for_a_moment_only(asking: Asking, dns: StartDns, monkeypatch: pytest.MonkeyPatch) -> None:
    server = dns(ZONE)
    server.fail("a.test", servfail=True)
    asking.set(dns_servers=server.address)
    assert asking.ask("a.test").status is Status.FAILED
    server.fail("a.test")
    assert asking.ask("a.test").status is Status.FAILED
    DrivenClock(monkeypatch).now += 6
    assert asking.resolver.known(Question("a.test", "A")) is None


def test_what_cannot_be_a_name_is_not_asked(asking: Asking, dns: StartDns) -> None:
    server = dns(ZONE)
    asking.set(dns_servers=server.address)
    for name in ("a..test", ".a.test", "x" * 64 + ".test", "a." * 130 + "test"):
        assert asking.ask(name).status is Status.NO_NAME
    assert not server.asked


def test_localhost_is_found_in_etc_hosts(asking: Asking, dns: StartDns) -> None:
    server = dns()
    asking.set(dns_servers=server.address)
    assert "127.0.0.1" in asking.ask("localhost").records
    assert not server.asked


def test_the_cache_is_bounded_and_the_oldest_answers_go(asking: Asking) -> None:
    now = this.clock.now()
    for n in range(MOST_ANSWERS + 10):
        asking.resolver._keep(Question(f"n{n}", "A"), Answer(Status.FOUND, ("192.0.2.1",), 60), now)
    assert len(asking.resolver._answers) == MOST_ANSWERS
    assert asking.resolver.known(Question("n9", "A")) is None
    assert asking.resolver.known(Question(f"n{MOST_ANSWERS + 9}", "A")) is not None


def test_the_cache_is_bounded_in_bytes_too(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opensips_py.dns.resolver.MOST_BYTES", 100_000)
    large = Answer(Status.FOUND, tuple(Srv(n, 0, 5060, "x" * 250) for n in range(64)), 60)
    now = this.clock.now()
    for n in range(50):
        asking.resolver._keep(Question(f"n{n}", "SRV"), large, now)
        asking.resolver._keep(Question("n0", "SRV"), large, now)  # again and again: it counts once
    kept = [n for n in range(50) if asking.resolver.known(Question(f"n{n}", "SRV"))]
    assert kept == [0, 48, 49]
    asking.resolver.forget()
    assert asking.resolver._bytes == 0


def test_too_many_look_ups_at_once_fail_instead_of_using_all_descriptors(
    asking: Asking, dns: StartDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opensips_py.dns.resolver.MOST_AT_ONCE", 5)
    server = dns("\n".join(f"n{n}.test. 60 IN A 192.0.2.1" for n in range(8)))
    for n in range(8):
        server.fail(f"n{n}.test", delay=0.2)
    asking.set(dns_servers=server.address)
    answers = asking.together([Question(f"n{n}.test", "A") for n in range(8)])
    assert [answer.status for answer in answers] == [Status.FOUND] * 5 + [Status.FAILED] * 3


def test_no_descriptor_is_left(asking: Asking, dns: StartDns) -> None:
    import os

    server = dns(ZONE)
    server.fail("a.test", truncated=True)
    server.fail("silent.test", silent=True)
    asking.set(dns_servers=server.address, dns_retr_no=1)
    asking.ask("alias.test")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a.test", "silent.test", "nowhere.test", "short.test"):
        asking.ask(name)
    assert len(os.listdir("/proc/self/fd")) == before
