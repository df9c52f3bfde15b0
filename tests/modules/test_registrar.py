"""Modules registrar and usrloc: users register, and are found (RFC 3261 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipc.lmdb_store import LmdbStore
from opensips_py.modules.registrar import declared as registrar
from opensips_py.modules.registrar.lookup import is_contact_registered, is_ip_registered, is_registered, lookup, remove
from opensips_py.modules.registrar.save import save
from opensips_py.modules.usrloc import declared as usrloc
from opensips_py.modules.usrloc import location, management, ordering, tables
from opensips_py.modules.usrloc.contact import Contact, q_of
from opensips_py.script.context import Branch, Context, ListenSocket, Source, Value
from opensips_py.script.declarations import ConfigError, MIError
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage, parse
from tests.support.driven_clock import DrivenClock

T = "location"
FIRST = ListenSocket(0, "udp", "127.0.0.1", 20700)
SECOND = ListenSocket(1, "udp", "127.0.0.1", 20710)

Sent = list[SipMessage]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sent]:
    """A process with an empty store; what it sends is collected."""
    store = LmdbStore.create(str(tmp_path), 32 << 20)
    messages: Sent = []

    def send(via: ListenSocket, data: bytes, host: str, port: int) -> bool:
        messages.append(parse(data))
        return True

    monkeypatch.setattr(this, "store", store, raising=False)
    monkeypatch.setattr(this, "sockets", [FIRST, SECOND], raising=False)
    monkeypatch.setattr(this, "send", send)
    tables.forget()
    tables.add(T)
    yield messages
    tables.forget()
    store.close()


_calls = iter(range(1, 1_000_000))


def request(
    *headers: str, method: str = "REGISTER", ruri: str = "sip:127.0.0.1", to: str = "<sip:alice@example.org>", cseq: int = 1,
    call_id: str | None = None, socket: ListenSocket = FIRST,
) -> Context:  # fmt: skip
    lines = "".join(f"{line}\r\n" for line in headers)
    raw = (
        f"{method} {ruri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:20701;branch=z9hG4bKx\r\nFrom: <sip:alice@example.org>;tag=1\r\n"
        f"To: {to}\r\nCall-ID: {call_id or f'call-{next(_calls)}'}\r\nCSeq: {cseq} {method}\r\n{lines}\r\n"
    )
    return Context(parse(raw.encode("latin-1")), Source("127.0.0.1", 20701), socket)


def contact(host: str, params: str = "") -> str:
    return f"Contact: <sip:alice@{host}>{params}"


def found(aor: str = "alice") -> list[str]:
    return [one.uri for one in location.find(T, aor)]


def ruris(ctx: Context) -> list[str]:
    return [ctx.ruri, *(branch.uri for branch in ctx.branches)]


def call(uri: str = "sip:alice@127.0.0.1", *headers: str, method: str = "INVITE") -> Context:
    return request(*headers, method=method, ruri=uri)


Register = Callable[..., SipMessage]


@pytest.fixture
def register(sent: Sent, clock: DrivenClock) -> Register:
    """Register, and give the reply."""

    def run(*headers: str, flags: str | None = None, rc: int = 1, **named: object) -> SipMessage:
        assert save(request(*headers, **named), T, flags) == rc  # type: ignore[arg-type]
        return sent.pop()

    return run


# --- how long ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "parameter", "granted"),
    [
        (None, "", 3600),
        ("120", "", 120),
        ("700", ";expires=200", 200),
        (None, ";expires=5", 60),
        (None, ";expires=99999", 7200),
        ("junk", "", 3600),
        (None, ";expires=-3", 3600),
        ("120", ';expires="90"', 90),
    ],
)
def test_a_contact_lasts_as_long_as_is_agreed(
    register: Register, monkeypatch: pytest.MonkeyPatch, header: str | None, parameter: str, granted: int
) -> None:
    monkeypatch.setattr(registrar.max_expires, "value", 7200)
    lines = [contact("10.0.0.1", parameter)] + ([] if header is None else [f"Expires: {header}"])
    assert register(*lines).value("contact") == f"<sip:alice@10.0.0.1>;expires={granted}"


@pytest.mark.parametrize("cseq", [2**31, 2**63, 2**64, 10**31])
def test_a_number_in_cseq_that_is_too_large_to_be_stored_still_registers(register: Register, cseq: int) -> None:
    register(contact("10.0.0.1"), cseq=cseq)
    assert found() == ["sip:alice@10.0.0.1"]


def test_the_limits_can_be_set_per_call(register: Register) -> None:
    assert register(contact("10.0.0.1", ";expires=10"), flags="e5E(20)").value("contact") == "<sip:alice@10.0.0.1>;expires=10"
    assert register(contact("10.0.0.1", ";expires=99"), flags="e5E(20)").value("contact") == "<sip:alice@10.0.0.1>;expires=20"


def test_an_expired_contact_is_not_found_and_then_removed(register: Register, clock: DrivenClock) -> None:
    register(contact("10.0.0.1", ";expires=100"), contact("10.0.0.2", ";expires=200"))
    clock.now += 99
    assert found() == ["sip:alice@10.0.0.1", "sip:alice@10.0.0.2"]
    clock.now += 2
    assert found() == ["sip:alice@10.0.0.2"]
    assert location.remove_expired() == {T: 1}
    clock.now += 100
    assert lookup(call(), T) == -1
    assert location.users() == 1
    assert location.remove_expired() == {T: 1}
    assert location.users() == 0


def test_the_reply_tells_what_is_left(register: Register, clock: DrivenClock) -> None:
    register(contact("10.0.0.1", ";expires=100"))
    clock.now += 40
    assert register().value("contact") == "<sip:alice@10.0.0.1>;expires=60"


# --- adding, refreshing, removing --------------------------------------------------------------------------------------


def test_refreshing_replaces(register: Register) -> None:
    register(contact("10.0.0.1", ";expires=100"))
    assert register(contact("10.0.0.1", ";expires=300")).values("contact") == ["<sip:alice@10.0.0.1>;expires=300"]


def test_uris_are_compared_as_the_rfc_says(register: Register) -> None:
    register("Contact: <sip:alice@Example.COM;transport=udp>")
    assert len(register("Contact: <sip:alice@example.com;transport=UDP>").values("contact")) == 1
    assert len(register("Contact: <sip:Alice@example.com;transport=udp>").values("contact")) == 2


def test_contacts_with_call_id_matching_are_kept_apart(register: Register) -> None:
    register(contact("10.0.0.1"), call_id="a")
    register(contact("10.0.0.1"), call_id="b", flags="M1")
    assert len(found()) == 2


def test_zero_removes_one_contact(register: Register) -> None:
    register(contact("10.0.0.1"), contact("10.0.0.2"))
    assert register(contact("10.0.0.1", ";expires=0")).value("contact") == "<sip:alice@10.0.0.2>;expires=3600"
    assert register(contact("10.0.0.2"), "Expires: 0").value("contact") is None
    assert location.users() == 0


def test_a_star_removes_all(register: Register) -> None:
    register(contact("10.0.0.1"), contact("10.0.0.2"))
    assert register("Contact: *", "Expires: 0").value("contact") is None
    assert found() == []


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (["Contact: *", "Expires: 60"], "* used in contact and expires is not zero"),
        (["Contact: *"], "* used in contact and expires is not zero"),
        (["Contact: *", "Contact: <sip:a@h>", "Expires: 0"], "* used in contact and more than 1 contact"),
        (["Contact: <sip:a@h>, *", "Expires: 0"], "Contact parse error"),
        (["Contact: <sip:a@h>;q=2"], "Invalid q parameter"),
        (["Contact: <sip:a@h"], "Contact parse error"),
    ],
)
def test_a_wrong_request_is_answered_400_and_changes_nothing(register: Register, headers: list[str], why: str) -> None:
    register(contact("10.0.0.1"))
    reply = register(*headers, rc=-2)
    assert (reply.status, reply.value("p-registrar-error")) == (400, why)
    assert found() == ["sip:alice@10.0.0.1"]


@pytest.mark.parametrize("uri", ["sip:", "nothing", "sip:alice@10.0.0.1:99999", "sip:alice@[::1"])
def test_a_contact_that_nobody_could_call_is_refused(register: Register, uri: str) -> None:
    reply = register(f"Contact: <{uri}>", rc=-2)
    assert (reply.status, reply.value("p-registrar-error")) == (400, "Contact is not a URI")
    assert not found()


def test_a_bare_contact_may_have_angle_brackets_in_a_quoted_parameter(register: Register) -> None:
    instance = '"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'
    assert register(f"Contact: sip:alice@10.0.0.1;+sip.instance={instance}").status == 200
    assert found() == ["sip:alice@10.0.0.1"]


def test_the_contacts_of_a_request_are_taken_all_or_none(register: Register) -> None:
    register(contact("10.0.0.1"), call_id="x", cseq=5)
    assert register(contact("10.0.0.2"), contact("10.0.0.1"), call_id="x", cseq=4, rc=-2).status == 400
    assert found() == ["sip:alice@10.0.0.1"]


def test_an_old_cseq_is_refused(register: Register) -> None:
    register(contact("10.0.0.1", ";expires=100"), call_id="x", cseq=5)
    reply = register(contact("10.0.0.1"), call_id="x", cseq=4, rc=-2)
    assert (reply.status, reply.value("p-registrar-error")) == (400, "Invalid CSeq number")
    assert reply.value("contact") == "<sip:alice@10.0.0.1>;expires=100"
    assert register("Contact: *", "Expires: 0", call_id="x", cseq=4, rc=-2).status == 400
    assert register(contact("10.0.0.1"), call_id="another", cseq=1).status == 200


def test_a_retransmission_is_answered_again_for_a_while(register: Register, clock: DrivenClock) -> None:
    register(contact("10.0.0.1", ";expires=100"), call_id="x", cseq=5)
    clock.now += 15
    assert (
        register(contact("10.0.0.1", ";expires=100"), call_id="x", cseq=5).value("contact") == "<sip:alice@10.0.0.1>;expires=85"
    )
    clock.now += 10
    assert register(contact("10.0.0.1", ";expires=100"), call_id="x", cseq=5, rc=-2).status == 400


def many(count: int, form: str = "<sip:u{n}@h{n}>") -> str:
    return "Contact: " + ",".join(form.format(n=n) for n in range(count))


def test_a_request_with_thousands_of_contacts_is_refused_before_they_are_compared(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering, "Contacts", None)
    reply = register(many(5000), rc=-2)
    assert (reply.status, reply.value("p-registrar-error")) == (503, "Too many registered contacts")
    assert not found()


def test_without_a_limit_to_contacts_there_is_one_to_their_bytes(register: Register) -> None:
    assert register(many(400, "<sip:u@h{n}>"), flags="c0").status == 200
    assert len(found()) == 400
    reply = register(many(3000), flags="c0", rc=-2)
    assert (reply.status, reply.value("p-registrar-error")) == (503, "Contacts too large")
    assert len(found()) == 400
    assert register(many(400, "<sip:u@h{n}>;expires=0"), flags="c0").status == 200
    assert not found()


def test_few_contacts_may_differ_in_parameters_alone(register: Register) -> None:
    same = "<sip:u@h;x={n}>"
    assert register(many(ordering.MAX_ALIKE, same), flags="c0").status == 200
    assert register(many(ordering.MAX_ALIKE, same), flags="c0").status == 200
    reply = register("Contact: <sip:u@h;x=new>", flags="c0", rc=-2)
    assert (reply.status, reply.value("p-registrar-error")) == (503, "Too many registered contacts")
    assert register("Contact: <sip:u@h;x=1>;expires=0", flags="c0").status == 200
    assert register("Contact: <sip:u@h;x=new>", flags="c0").status == 200


def test_a_long_user_agent_is_stored_in_part(register: Register) -> None:
    register("User-Agent: " + "a" * 10_000, contact("10.0.0.1"))
    assert [one.user_agent for one in location.find(T, "alice")] == ["a" * 255]


def test_contacts_are_refused_when_the_store_fills_up_but_may_be_refreshed(
    register: Register, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(contact("10.0.0.1"), call_id="1", cseq=1)
    monkeypatch.setattr(this.store, "is_filling", True)
    reply = register(contact("10.0.0.2"), rc=-2)
    assert reply.status == 503 and reply.has("retry-after")
    assert register(contact("10.0.0.1"), call_id="1", cseq=2).status == 200
    assert register(contact("10.0.0.1", ";expires=0"), call_id="1", cseq=3).status == 200
    assert not found()


def test_two_changes_of_one_user_at_once_both_count(sent: Sent, clock: DrivenClock) -> None:
    runs = []

    def update(old: list[Contact]) -> list[Contact]:
        runs.append(len(old))
        if len(runs) == 1:  # another process is faster
            save(request(contact("10.0.0.2")), T)
        return [*old, Contact("sip:alice@10.0.0.1", clock.now + 100, "c", 1)]

    location.change(T, "alice", update)
    assert runs == [0, 1]
    assert found() == ["sip:alice@10.0.0.2", "sip:alice@10.0.0.1"]


def test_too_many_contacts_are_refused(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar.retry_after, "value", 30)
    register(contact("10.0.0.1"), flags="c1")
    reply = register(contact("10.0.0.2"), flags="c1", rc=-2)
    assert (reply.status, reply.value("p-registrar-error"), reply.value("retry-after")) == (
        503,
        "Too many registered contacts",
        "30",
    )
    assert register(contact("10.0.0.1"), flags="c1").status == 200
    assert register(contact("10.0.0.1", ";expires=0"), contact("10.0.0.2"), flags="c1").status == 200
    assert found() == ["sip:alice@10.0.0.2"]


def test_what_fits_under_the_limit_stays_and_the_rest_is_refused(register: Register) -> None:
    register(contact("10.0.0.1", ";expires=100"), call_id="x", cseq=1)
    reply = register(contact("10.0.0.2"), contact("10.0.0.1"), contact("10.0.0.3"), call_id="x", cseq=2, flags="c2", rc=-2)
    assert (reply.status, reply.value("p-registrar-error")) == (503, "Too many registered contacts")
    both = "<sip:alice@10.0.0.1>;expires=3600, <sip:alice@10.0.0.2>;expires=3600"
    assert reply.value("contact") == both
    assert found() == ["sip:alice@10.0.0.1", "sip:alice@10.0.0.2"]


def test_what_is_registered_may_be_refreshed_above_a_limit_that_was_lowered(register: Register) -> None:
    register(contact("10.0.0.1"), contact("10.0.0.2"))
    assert register(contact("10.0.0.2"), flags="c1").status == 200
    assert register(contact("10.0.0.3"), flags="c1", rc=-2).status == 503
    assert found() == ["sip:alice@10.0.0.1", "sip:alice@10.0.0.2"]


def test_an_expires_that_is_no_number_means_the_default(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar.default_expires, "value", 300)
    assert register(contact("10.0.0.1", ";expires=junk"), "Expires: 600").value("contact") == "<sip:alice@10.0.0.1>;expires=300"


def test_the_oldest_contact_makes_room_by_force(register: Register, clock: DrivenClock) -> None:
    for host in ("10.0.0.1", "10.0.0.2"):
        register(contact(host), flags="c2f")
        clock.now += 1
    register(contact("10.0.0.1"), flags="c2f")
    register(contact("10.0.0.3"), flags="c2f")
    assert found() == ["sip:alice@10.0.0.1", "sip:alice@10.0.0.3"]
    assert register(contact("10.0.0.4"), contact("10.0.0.5"), contact("10.0.0.6"), flags="c2f", rc=-2).status == 503


def test_no_reply_on_demand(sent: Sent) -> None:
    ctx = request(contact("10.0.0.1"))
    assert save(ctx, T, "r") == 1
    assert (sent, ctx.slots, found()) == ([], {}, ["sip:alice@10.0.0.1"])
    assert save(request("Contact: *"), T, "r") == -2
    assert sent == []


def test_the_reply_may_list_only_what_was_asked(register: Register) -> None:
    register(contact("10.0.0.1"))
    assert register(contact("10.0.0.2"), flags="o").values("contact") == ["<sip:alice@10.0.0.2>;expires=3600"]


def test_another_address_of_record_may_be_given(sent: Sent) -> None:
    assert save(request(contact("10.0.0.1")), T, None, "sip:bob@x") == 1
    assert (found("alice"), found("bob")) == ([], ["sip:alice@10.0.0.1"])


def test_a_user_is_needed(register: Register) -> None:
    assert register(contact("10.0.0.1"), to="<sip:example.org>", rc=-2).status == 400


def test_an_endless_address_of_record_is_refused(register: Register) -> None:
    assert register(contact("10.0.0.1"), to=f"<sip:{'a' * 600}@example.org>", rc=-2).status == 400
    assert lookup(call(f"sip:{'a' * 600}@x"), T) == -1


@pytest.mark.parametrize(
    ("with_domain", "case_sensitive", "aor"),
    [(0, 1, "Alice B"), (0, 0, "alice b"), (1, 1, "Alice B@example.org"), (1, 0, "alice b@example.org")],
)
def test_what_an_address_of_record_is(
    register: Register, monkeypatch: pytest.MonkeyPatch, with_domain: int, case_sensitive: int, aor: str
) -> None:
    monkeypatch.setattr(usrloc.use_domain, "value", with_domain)
    monkeypatch.setattr(registrar.case_sensitive, "value", case_sensitive)
    monkeypatch.setattr(registrar.realm_prefix, "value", "sip.")
    register(contact("10.0.0.1"), to="<sip:Alice%20B@SIP.Example.org>")
    assert [one for _, one, _ in location.entries(T)] == [aor]


def test_path_is_kept_and_given_back_when_supported(register: Register) -> None:
    path = "Path: <sip:edge.example;lr;received=sip:192.0.2.9:5060>"
    assert register(contact("10.0.0.1"), path, "Supported: outbound, path", flags="p2").value("path") == path[6:]
    assert register(contact("10.0.0.2"), path, flags="p1").value("path") is None
    refused = register(contact("10.0.0.3"), path, flags="p2")
    assert (refused.status, refused.value("unsupported"), refused.value("path")) == (420, "path", path[6:])
    assert "sip:alice@10.0.0.3" in found()
    ctx = call()
    assert lookup(ctx, T) == 1
    assert (ctx.path, ctx.dst_uri) == (path[6:], "sip:edge.example;lr;received=sip:192.0.2.9:5060")
    register(contact("10.0.0.1"), path, flags="p1v")
    assert "received=" in str(register().value("contact"))


def test_statistics_count_registrations(register: Register) -> None:
    before = registrar.accepted.cells[registrar.accepted.index], registrar.rejected.cells[registrar.rejected.index]
    register(contact("10.0.0.1"))
    register("Contact: *", rc=-2)
    after = registrar.accepted.cells[registrar.accepted.index], registrar.rejected.cells[registrar.rejected.index]
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    assert usrloc.module.statistics["registered_users"].gauge() == 1  # type: ignore[misc]


# --- lookup ------------------------------------------------------------------------------------------------------------


def test_the_contact_with_the_highest_q_comes_first(register: Register) -> None:
    register(contact("10.0.0.1", ";q=0.3"), contact("10.0.0.2", ";q=0.9"), contact("10.0.0.3", ";q=0.3"))
    ctx = call()
    assert lookup(ctx, T) == 1
    assert ruris(ctx) == ["sip:alice@10.0.0.2", "sip:alice@10.0.0.1", "sip:alice@10.0.0.3"]
    assert (ctx.q, ctx.branches[0].q) == (900, 300)


def test_the_newest_comes_first_on_demand(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering.Order, "newest_first", True)
    register(contact("10.0.0.1", ";q=0.9"))
    register(contact("10.0.0.2", ";q=0.1"))
    assert found() == ["sip:alice@10.0.0.2", "sip:alice@10.0.0.1"]
    register(contact("10.0.0.1", ";q=0.9"))
    assert found() == ["sip:alice@10.0.0.1", "sip:alice@10.0.0.2"]


def test_nobody_is_found_where_nobody_has_registered(sent: Sent) -> None:
    ctx = call()
    assert lookup(ctx, T) == -1
    assert (ctx.new_uri, ctx.branches) == (None, [])
    assert lookup(call("sip:127.0.0.1"), T) == -3


def test_tables_are_kept_apart(register: Register) -> None:
    register(contact("10.0.0.1"))
    assert lookup(call(), "other") == -1


def test_branches_can_be_left_out_or_be_all(register: Register) -> None:
    register(contact("10.0.0.1"), contact("10.0.0.2"))
    only_one, only_branches = call(), call()
    assert lookup(only_one, T, "b") == lookup(only_branches, T, "B") == 1
    assert ruris(only_one) == ["sip:alice@10.0.0.1"]
    assert ruris(only_branches) == ["sip:alice@127.0.0.1", "sip:alice@10.0.0.1", "sip:alice@10.0.0.2"]


def test_branches_can_be_looked_up_too(register: Register) -> None:
    register(contact("10.0.0.1"))
    register("Contact: <sip:bob@10.0.0.9>", to="<sip:bob@example.org>")
    ctx = call()
    ctx.branches.append(Branch("sip:bob@127.0.0.1"))
    ctx.branches.append(Branch("sip:nobody@127.0.0.1"))
    assert lookup(ctx, T, "r") == 1
    assert ruris(ctx) == ["sip:alice@10.0.0.1", "sip:bob@10.0.0.9"]


def test_only_contacts_that_take_the_method(register: Register) -> None:
    register(contact("10.0.0.1"), "Allow: INVITE, ACK, BYE")
    register(contact("10.0.0.2", ';methods="MESSAGE, INVITE"'))
    for method, expected in (("INVITE", 2), ("MESSAGE", 1), ("BYE", 1)):
        ctx = call(method=method)
        assert lookup(ctx, T, "m") == 1
        assert len(ruris(ctx)) == expected
    assert lookup(call(method="PUBLISH"), T, "m") == -2
    assert lookup(call(method="PUBLISH"), T) == 1


def test_only_user_agents_that_match(register: Register) -> None:
    register(contact("10.0.0.1"), "User-Agent: SuperPhone 1")
    register(contact("10.0.0.2"), "User-Agent: Other")
    ctx = call()
    assert lookup(ctx, T, "u/super/i") == 1
    assert ruris(ctx) == ["sip:alice@10.0.0.1"]
    assert lookup(call(), T, "u/super/") == -1
    assert lookup(call(), T, "u/(/") == -3


def test_requests_go_out_the_way_the_registration_came(register: Register) -> None:
    register(contact("10.0.0.1"), socket=SECOND)
    ctx = call()
    lookup(ctx, T)
    assert ctx.send_socket == SECOND


def test_a_contact_behind_nat_is_reached_where_it_came_from(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar.received_avp, "value", "$avp(rcv)")
    monkeypatch.setattr(registrar.attr_avp, "value", "$avp(attr)")
    (check,) = registrar.module.config_hooks
    check()
    try:
        register = request(contact("10.0.0.1"))
        register.avps = {"rcv": ["sip:192.0.2.7:1024"], "attr": ["about it"]}
        register.branch_flags = 4
        save(register, T)
        assert sent[0].value("contact") == '<sip:alice@10.0.0.1>;expires=3600;received="sip:192.0.2.7:1024"'
        ctx = call()
        assert lookup(ctx, T) == 1
        assert (ctx.dst_uri, ctx.branch_flags, ctx.avps) == ("sip:192.0.2.7:1024", 4, {"attr": ["about it"]})
        assert is_ip_registered(ctx, T, "sip:alice@x", FixedVariable("192.0.2.7")) == 1
        assert is_ip_registered(ctx, T, "sip:alice@x", FixedVariable("10.0.0.1")) == -1
    finally:
        monkeypatch.undo()
        check()


def test_there_are_at_most_twelve_destinations(register: Register) -> None:
    register(*(contact(f"10.0.0.{i}") for i in range(20)))
    ctx = call()
    assert lookup(ctx, T) == 1
    assert len(ruris(ctx)) == 12


# --- questions and removal ---------------------------------------------------------------------------------------------


class FixedVariable:
    """A script variable with one value."""

    text, writable = "$var(ip)", False

    def __init__(self, value: str) -> None:
        self.value = value

    def get(self, ctx: Context) -> Value:
        return self.value

    def set(self, ctx: Context, value: Value) -> None:
        raise AssertionError("read-only")


def test_whether_a_user_has_registered(register: Register) -> None:
    register(contact("10.0.0.1"), call_id="x")
    assert is_registered(call(), T) == 1  # From
    assert is_registered(request(to="<sip:bob@x>"), T) == -1  # To of a REGISTER
    assert is_registered(call(), T, "sip:bob@x") == -1
    assert is_contact_registered(call("sip:x@y", contact("10.0.0.1")), T) == 1
    assert is_contact_registered(call("sip:x@y", contact("10.0.0.2")), T) == -1
    assert is_contact_registered(call(), T) == -1
    assert is_contact_registered(call(), T, "sip:alice@x", None, "x") == 1
    assert is_contact_registered(call(), T, "sip:alice@x", "sip:alice@10.0.0.1", "y") == -1
    assert is_ip_registered(call(), T, None, FixedVariable("10.0.0.1")) == 1


@pytest.mark.parametrize(
    ("which", "left"),
    [
        ({}, 0),
        ({"contact": "sip:alice@10.0.0.1"}, 2),
        ({"next_hop": "10.0.0.2"}, 2),
        ({"sip_instance": "<urn:uuid:3>"}, 2),
        ({"contact": "sip:alice@10.0.0.1", "next_hop": "10.0.0.2"}, 3),
    ],
)
def test_a_script_removes_contacts(register: Register, which: dict[str, str], left: int) -> None:
    register(contact("10.0.0.1"), contact("10.0.0.2"), contact("10.0.0.3", ';+sip.instance="<urn:uuid:3>"'))
    assert remove(call(), T, "sip:alice@x", **which) == 1
    assert len(found()) == left
    assert remove(call(), T, "sip:nobody@x", **which) == 1
    assert remove(call(), T, "sip:nohost", **which) == -475


# --- management --------------------------------------------------------------------------------------------------------


def test_management_shows_contacts(register: Register) -> None:
    register(contact("10.0.0.1", ";q=0.5;expires=100"), "User-Agent: phone", call_id="x", cseq=7)
    shown = management.ul_show_contact(T, "alice")["Contacts"][0]
    assert {key: shown[key] for key in ("Contact", "Expires", "Q", "Callid", "Cseq", "User-agent", "Socket")} == {
        "Contact": "sip:alice@10.0.0.1",
        "Expires": 100,
        "Q": "0.5",
        "Callid": "x",
        "Cseq": 7,
        "User-agent": "phone",
        "Socket": "udp:127.0.0.1:20700",
    }
    assert management.ul_dump()["Domains"][0]["AORs"] == [{"AOR": "alice", "Contacts": [shown]}]
    assert management.ul_dump("brief")["Domains"] == [{"name": T, "hash_size": 512, "AORs": [{"AOR": "alice"}]}]


def test_management_adds_and_removes(sent: Sent, clock: DrivenClock) -> None:
    assert management.ul_add(T, "bob", "sip:bob@10.0.0.5", "0", "0.7", "0", "0", "1") == "OK"
    clock.now += 10_000_000
    ctx = call("sip:bob@x")
    assert lookup(ctx, T, "m") == 1
    assert (ctx.ruri, ctx.q) == ("sip:bob@10.0.0.5", 700)
    assert lookup(call("sip:bob@x", method="MESSAGE"), T, "m") == -2
    assert management.ul_show_contact(T, "bob")["Contacts"][0]["Expires"] == "permanent"
    for contact_uri, aor, message in (("sip:x@y", "bob", "Contact not found"), ("sip:x@y", "nobody", "AOR not found")):
        with pytest.raises(MIError, match=message):
            management.ul_rm_contact(T, aor, contact_uri)
    assert management.ul_rm_contact(T, "bob", "sip:bob@10.0.0.5") == "OK"
    with pytest.raises(MIError, match="AOR not found"):
        management.ul_show_contact(T, "bob")
    assert management.ul_rm(T, "bob") == "OK"
    with pytest.raises(MIError, match="Invalid expires"):
        management.ul_add(T, "bob", "sip:bob@10.0.0.5", "soon", "", "0", "0", "0")
    with pytest.raises(MIError, match="Invalid contact"):
        management.ul_add(T, "bob", "bob", "0", "", "0", "0", "0")


def test_management_knows_the_tables_that_the_script_names(register: Register) -> None:
    assert management.ul_dump() == {"Domains": [{"name": T, "hash_size": 512, "AORs": []}]}
    register(contact("10.0.0.1"))
    for command in (management.ul_show_contact, management.ul_rm, management.ul_sync):
        with pytest.raises(MIError, match="Table not found"):
            command("elsewhere", "alice")
    with pytest.raises(MIError, match="Contacts already synced"):
        management.ul_sync(T, "alice")
    with pytest.raises(MIError, match="AOR not found"):
        management.ul_sync(T, "nobody")
    with pytest.raises(MIError, match="Clustering not enabled"):
        management.ul_cluster_sync()


@pytest.mark.parametrize("count", [1, 15, 16, 300])
def test_each_table_has_its_statistics(register: Register, clock: DrivenClock, count: int) -> None:
    def read() -> list[int]:
        figures = (usrloc.module.statistics[f"{T}-{what}"] for what in ("users", "contacts", "expires"))
        return [one.cells[one.index] if one.gauge is None else one.gauge() for one in figures]

    tables.declare_statistics()
    before = read()[2]
    register(many(count), flags="c0")
    register(contact("10.0.0.1"), to="<sip:bob@x>")
    assert read() == [2, count + 1, before]
    clock.now += 4000
    tables.remove_expired()
    assert read() == [0, 0, before + count + 1]


# --- configuration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("param", "value"),
    [
        (usrloc.preset, "full-sharing-cluster"),
        (usrloc.db_mode, 3),
        (usrloc.matching_mode, 7),
        (usrloc.timer_interval, 0),
        (registrar.disable_gruu, 0),
        (registrar.default_q, 1001),
        (registrar.max_expires, 10),
        (registrar.received_avp, "rcv"),
        (registrar.max_contacts, -1),
    ],
)
def test_a_configuration_that_cannot_be_obeyed_is_refused(monkeypatch: pytest.MonkeyPatch, param: object, value: object) -> None:
    monkeypatch.setattr(param, "value", value)
    with pytest.raises(ConfigError):
        for module in (usrloc.module, registrar.module):
            for check in module.config_hooks:
                check()


@pytest.mark.parametrize(
    ("text", "q"),
    [
        ("0", 0),
        ("1", 1000),
        ("0.5", 500),
        (".25", 250),
        ("1.000", 1000),
        ("1.1", None),
        ("0.1234", None),
        ("-1", None),
        ("", None),
    ],
)
def test_quality_values(text: str, q: int | None) -> None:
    assert q_of(text) == q


@pytest.mark.parametrize("parameter", ["max_username_len", "max_aor_len", "max_contact_len"])
def test_what_is_longer_than_the_limits_is_refused(register: Register, monkeypatch: pytest.MonkeyPatch, parameter: str) -> None:
    monkeypatch.setattr(getattr(registrar, parameter), "value", 4)
    reply = register(contact("a.example"), rc=-2)
    assert reply.status == 400
    assert "too long" in str(reply.value("p-registrar-error"))
