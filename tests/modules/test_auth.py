"""Module auth: challenges, nonces, credentials, Remote-Party-ID. Scripts run in the test's process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ipc.store import StoreFull
from opensips_py.modules.auth import credentials, nonce
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.server.process import this
from opensips_py.sip.digest import digest_response, ha1, parse_credentials, response_for
from opensips_py.testing import Run, Script
from tests.support.digest_client import answer, parameters
from tests.support.driven_clock import DrivenClock

MODULES = """
loadmodule "signaling.so"
loadmodule "auth.so"
modparam("auth", "username_spec", "$avp(user)")
modparam("auth", "password_spec", "$avp(password)")
"""
ROUTE = """
route {
    $avp(user) = "alice"; $avp(password) = "secret";
    $var(rc) = pv_www_authorize("example.com");
    if ($var(rc) < 0) www_challenge("example.com", "auth,auth-int");
    sl_send_reply(200, "OK");
}
"""
PASSWORDS = 'modparam("auth", "calculate_ha1", 1)\n'
REALM = ROUTE.replace('"example.com"', '""')


@pytest.fixture
def run() -> Iterator[Callable[..., Script]]:
    running: list[Script] = []

    def start(text: str = ROUTE, settings: str = PASSWORDS) -> Script:
        running.append(Script(MODULES + settings + text))
        return running[-1]

    yield start
    for script in running:
        script.close()


def register(script: Script, credentials: str | None = None, method: str = "REGISTER", **given: Any) -> Run:
    header = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
    return script.request(method, headers={header: credentials} if credentials else {}, **given)


def challenge(run: Run) -> str:
    [reply] = run.sent
    return reply.value("www-authenticate") or reply.value("proxy-authenticate") or ""


def rc(run: Run) -> Any:
    return run["$var(rc)"]


def test_a_challenge_names_realm_nonce_and_qop(run: Callable[..., Script]) -> None:
    asked = register(run())
    assert (asked.replies, rc(asked)) == (["401 Unauthorized"], -4)
    given = parameters(challenge(asked))
    assert list(given) == ["realm", "nonce", "qop"]
    assert (given["realm"], given["qop"]) == ("example.com", "auth,auth-int")


def test_proxies_ask_with_407_and_consume_credentials(run: Callable[..., Script]) -> None:
    script = run(
        """
        route {
            $avp(user) = "alice"; $avp(password) = "secret";
            $var(rc) = pv_proxy_authorize("");
            if ($var(rc) < 0) proxy_challenge("");
            $var(consumed) = consume_credentials();
            $var(again) = consume_credentials();
            $du = "sip:192.0.2.9";
            t_relay();
        }"""
    )
    asked = register(script, method="INVITE")
    assert (asked.replies, rc(asked)) == (["407 Proxy Authentication Required"], -4)
    right = answer(challenge(asked), "alice", "secret", "INVITE")
    relayed = register(script, right, "INVITE")
    assert (rc(relayed), relayed["$var(consumed)"], relayed["$var(again)"]) == (1, 1, -1)
    [invite] = [msg for msg in relayed.sent if msg.is_request]
    assert not invite.has("proxy-authorization")


@pytest.mark.parametrize("qop", [None, "auth", "auth-int"])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256", "MD5-sess", "SHA-256-sess"])
@pytest.mark.parametrize("stored", ["password", "ha1"])
def test_credentials_of_every_kind(run: Callable[..., Script], algorithm: str, qop: str | None, stored: str) -> None:
    route, settings = ROUTE, f'modparam("auth", "algorithms", "{algorithm}")\n'
    if stored == "ha1":
        route = route.replace("secret", ha1("alice", "example.com", "secret", algorithm.removesuffix("-sess")))
    else:
        settings += PASSWORDS
    script = run(route, settings)
    for password, code in (("secret", 1), ("wrong", -2)):
        asked = challenge(register(script))
        assert parameters(asked).get("algorithm") == (None if algorithm == "MD5" else algorithm)
        given = answer(asked, "alice", password, "REGISTER", qop=qop, algorithm=algorithm, body="v=0\r\n")
        assert rc(register(script, given, body="v=0\n")) == code


def test_auth_int_protects_the_body(run: Callable[..., Script]) -> None:
    script = run()
    given = answer(challenge(register(script)), "alice", "secret", "REGISTER", qop="auth-int", body="v=0\r\n")
    assert rc(register(script, given, body="v=1\n")) == -2


def test_several_algorithms_make_a_header_each_and_others_are_refused(run: Callable[..., Script]) -> None:
    script = run(settings=PASSWORDS + 'modparam("auth", "algorithms", "SHA-256, MD5")\n')
    [reply] = register(script).sent
    offered = [header.value for header in reply.all("www-authenticate")]
    assert [parameters(text)["algorithm"] for text in offered] == ["SHA-256", "MD5"]
    for algorithm, code in (("SHA-256", 1), ("md5", 1), (None, 1), ("SHA-512-256", -2), ("SHA-256-sess", -2)):
        fresh = challenge_of_first(register(script))
        assert rc(register(script, answer(fresh, "alice", "secret", "REGISTER", qop="auth", algorithm=algorithm))) == code


def challenge_of_first(run: Run) -> str:
    return run.sent[0].all("www-authenticate")[0].value


# --- nonces ---------------------------------------------------------------------------------------------------------


def test_without_qop_a_nonce_is_used_once(run: Callable[..., Script]) -> None:
    script = run()
    given = answer(challenge(register(script)), "alice", "secret", "REGISTER")
    assert rc(register(script, given)) == 1
    again = register(script, given)
    assert rc(again) == -3
    assert parameters(challenge(again))["stale"] == "true"
    assert rc(register(script, answer(challenge(again), "alice", "secret", "REGISTER"))) == 1


def test_with_qop_the_count_must_grow(run: Callable[..., Script]) -> None:
    script = run()
    asked = challenge(register(script))

    def counted(count: int) -> Any:
        return rc(register(script, answer(asked, "alice", "secret", "REGISTER", qop="auth", nc=f"{count:08x}")))

    assert [counted(count) for count in (1, 2, 10, 10, 3, 11, 0xFFFFFFFF, 1)] == [1, 1, 1, -3, -3, 1, 1, -3]


@pytest.mark.parametrize("qop", [None, "auth"])
def test_what_a_client_has_sent_it_may_repeat_but_nobody_else(run: Callable[..., Script], qop: str | None) -> None:
    script = run()
    given = answer(challenge(register(script)), "alice", "secret", "REGISTER", qop=qop)
    first = register(script, given)
    assert first.context is not None
    assert rc(first) == 1
    assert rc(script.receive(first.context.msg.raw)) == 1
    assert rc(script.receive(first.context.msg.raw, ("192.0.2.66", 5060))) == -3
    another = first.context.msg.raw.replace(b"REGISTER\r\n", b"REGISTER\r\nContact: <sip:thief@192.0.2.66>\r\n")
    assert rc(script.receive(another)) == (-3 if qop is None else 1)


def test_a_wrong_password_uses_up_no_nonce(run: Callable[..., Script]) -> None:
    script = run()
    asked = challenge(register(script))
    assert rc(register(script, answer(asked, "alice", "guess", "REGISTER"))) == -2
    assert rc(register(script, answer(asked, "alice", "secret", "REGISTER"))) == 1


def test_two_calls_for_one_request_use_its_nonce_once(run: Callable[..., Script]) -> None:
    script = run(ROUTE.replace("sl_send_reply", '$var(rc) = pv_www_authorize("example.com"); sl_send_reply'))
    given = answer(challenge(register(script)), "alice", "secret", "REGISTER")
    assert [rc(register(script, given)) for _ in range(2)] == [1, -3]


def test_challenges_leave_nothing_behind(run: Callable[..., Script]) -> None:
    script = run()
    before = this.store.info().entries
    nonces = {parameters(challenge(register(script)))["nonce"] for _ in range(50)}
    for text in nonces:
        register(script, f'Digest username="alice", realm="example.com", nonce="{text}", uri="sip:x", response="{"0" * 32}"')
    assert len(nonces) == 50
    assert this.store.info().entries == before


def test_used_nonces_are_forgotten_when_they_have_ended(
    run: Callable[..., Script], clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = run()

    def once() -> None:
        assert rc(register(script, answer(challenge(register(script)), "alice", "secret", "REGISTER"))) == 1

    for _ in range(5):
        once()
    assert this.store.count(nonce.PREFIX) == 5
    clock.now += 32
    monkeypatch.setattr(nonce, "_next_sweep", 0.0)
    once()
    assert this.store.count(nonce.PREFIX) == 1


def test_a_nonce_ends_with_nonce_expire(run: Callable[..., Script], clock: DrivenClock) -> None:
    script = run(settings=PASSWORDS + 'modparam("auth", "nonce_expire", 7)\n')
    given = answer(challenge(register(script)), "alice", "secret", "REGISTER")
    clock.now += 9
    late = register(script, given)
    assert rc(late) == -3
    assert parameters(challenge(late))["stale"] == "true"
    clock.now -= 69
    assert rc(register(script, given)) == -3, "one of the future is none of ours"


@pytest.mark.parametrize("change", ["ff", " ", "upper", "other", "text", "empty"])
def test_a_nonce_that_is_not_ours_is_stale_whatever_the_password(run: Callable[..., Script], change: str) -> None:
    script = run()
    asked = challenge(register(script))
    good = parameters(asked)["nonce"]
    forged = {
        **{"ff": good + "ff", " ": good[:2] + " " + good[2:], "upper": good.upper() if good != good.upper() else good + "A"},
        **{"other": ("0" if good[0] != "0" else "1") + good[1:], "text": "no hex", "empty": "0"},
    }[change]
    for password in ("secret", "wrong"):
        refused = register(script, answer(asked.replace(good, forged), "alice", password, "REGISTER"))
        assert rc(refused) == -3
        assert parameters(challenge(refused))["stale"] == "true"


def test_servers_with_the_same_secret_know_each_others_nonces(run: Callable[..., Script]) -> None:
    secret = PASSWORDS + 'modparam("auth", "secret", "{}")\n'
    asked = []
    for text in ("one", "one", "two"):
        script = run(settings=secret.format(text))
        asked.append(challenge(register(script)))
        codes = [rc(register(script, answer(one, "alice", "secret", "REGISTER"))) for one in asked]
        script.close()
    assert codes == [-3, -3, 1]
    script = run(settings=secret.format("one"))
    assert [rc(register(script, answer(one, "alice", "secret", "REGISTER"))) for one in asked] == [1, 1, -3]


def test_with_disable_nonce_check_a_nonce_may_be_used_again(run: Callable[..., Script]) -> None:
    script = run(settings=PASSWORDS + 'modparam("auth", "disable_nonce_check", 1)\n')
    given = answer(challenge(register(script)), "alice", "secret", "REGISTER")
    assert [rc(register(script, given, source=("192.0.2.7", port))) for port in (5060, 5061)] == [1, 1]
    assert this.store.count(nonce.PREFIX) == 0


def test_a_full_store_authorizes_nobody(run: Callable[..., Script], monkeypatch: pytest.MonkeyPatch) -> None:
    script = run()
    given = answer(challenge(register(script)), "alice", "secret", "REGISTER")

    def full(key: bytes, value: bytes) -> bool:
        raise StoreFull("no room")

    monkeypatch.setattr(this.store, "put_new", full)
    refused = register(script, given)
    assert rc(refused) == -5
    assert any("cannot be marked as used" in line for line in refused.log)


WHOLE = 'Digest username="alice", realm="example.com", nonce="NONCE", uri="sip:x", response="'


# --- who and what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ('Digest username="alice"', -4),
        ("Basic YWxpY2U6c2VjcmV0", -4),
        ("", -4),
        ('Digest username="alice", realm="other", nonce="NONCE", uri="sip:x", response="1"', -4),
        ('Digest username="alice", realm="example.com", uri="sip:x", response="1"', -5),
        ('Digest username="alice", realm="example.com", nonce="NONCE", response="1"', -5),
        ('Digest username="alice", realm="example.com", nonce="NONCE", uri="sip:x"', -5),
        ('Digest username="", realm="example.com", nonce="NONCE", uri="sip:x", response="1"', -5),
        (f'{WHOLE}\xe4"', -2),
        (f'{WHOLE}1", qop=auth', -5),
        (f'{WHOLE}1", qop=auth, nc=00000001', -5),
        (f'{WHOLE}1", qop=auth, cnonce="1"', -5),
        (
            'Digest username="alice", realm="example.com", nonce="NONCE", uri="sip:x", response="1", qop=auth, nc=x, cnonce="1"',
            -5,
        ),
        (f'{WHOLE}1", qop=no, nc=00000001, cnonce="1"', -5),
        (f'{WHOLE}1", algorithm=SHA-1', -2),
        ('Digest username="bob", realm="example.com", nonce="NONCE", uri="sip:x", response="1"', -1),
    ],
)
def test_codes_of_bad_credentials(run: Callable[..., Script], given: str, code: int) -> None:
    script = run()
    fresh = parameters(challenge(register(script)))["nonce"]
    raw = b"Authorization: " + given.replace("NONCE", fresh).encode("latin-1") + b"\r\n"
    first = register(script)
    assert first.context is not None
    refused = script.receive(first.context.msg.raw.replace(b"Content-Length", raw + b"Content-Length", 1))
    assert (rc(refused), refused.replies) == (code, ["401 Unauthorized"])


@pytest.mark.parametrize("settings", ["", PASSWORDS])
def test_an_empty_password_is_none(run: Callable[..., Script], settings: str) -> None:
    script = run(ROUTE.replace("secret", ""), settings)
    asked = challenge(register(script))
    zeros = digest_response(parse_credentials(answer(asked, "alice", "", "REGISTER")), "0" * 32, "REGISTER")
    assert rc(register(script, answer(asked, "alice", "", "REGISTER", response=zeros))) == -2
    assert rc(register(script, answer(asked, "alice", "", "REGISTER"))) == -2


def test_the_first_header_counts(run: Callable[..., Script]) -> None:
    script = run()
    asked = register(script)
    right = answer(challenge(asked), "alice", "secret", "REGISTER")
    other = 'Authorization: Digest username="x", realm="other", nonce="1", uri="sip:x", response="2"\r\n'
    assert asked.context is not None
    for lines, code in ((f"{other}Authorization: {right}\r\n", -4), (f"Authorization: {right}\r\n{other}", 1)):
        raw = asked.context.msg.raw.replace(b"Content-Length", lines.encode() + b"Content-Length", 1)
        assert rc(script.receive(raw)) == code


def test_unknown_users_and_wrong_passwords_cost_and_get_the_same(
    run: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = run()
    hashes: list[str] = []

    def counting(*given: Any) -> str:
        hashes.append(response_for(*given))
        return hashes[-1]

    monkeypatch.setattr(credentials, "response_for", counting)
    answers = []
    for user in ("alice", "bob"):
        asked = challenge(register(script))
        refused = register(script, answer(asked, user, "wrong", "REGISTER"))
        answers.append([name for name in parameters(challenge(refused)) if name != "nonce"])
    assert answers[0] == answers[1]
    assert len(hashes) == 2


@pytest.mark.parametrize(("method", "realm"), [("REGISTER", "to.example"), ("OPTIONS", "from.example")])
@pytest.mark.parametrize("prefix", ["", "sip."])
def test_an_empty_realm_is_that_of_the_message(run: Callable[..., Script], method: str, realm: str, prefix: str) -> None:
    script = run(REALM, PASSWORDS + (f'modparam("auth", "realm_prefix", "{prefix}")\n' if prefix else ""))
    asked = script.request(method, caller=f"sip:alice@{prefix}from.example", callee=f"sip:alice@{prefix}to.example")
    assert parameters(challenge(asked))["realm"] == realm


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_what_cannot_be_challenged_passes(run: Callable[..., Script], method: str) -> None:
    script = run('route { $var(rc) = pv_www_authorize("e"); $var(proxy) = pv_proxy_authorize("e"); }')
    passed = register(script, method=method)
    assert (rc(passed), passed["$var(proxy)"]) == (1, 1)


# --- Remote-Party-ID ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "is_number"),
    [
        *(("<sip:+15551@gw.example>", True), ("sip:+15551@x", True), ('"A" <tel:+15551>', True), ("<sip:alice@x>", False)),
        *(("<sip:15551@x>", False), ("<sip:+1@x>", False), ("<sip:+1234567890123456@x>", False), ("nonsense <", False)),
    ],
)
def test_remote_party_id(run: Callable[..., Script], address: str, is_number: bool) -> None:
    quoted = address.replace('"', '\\"')
    script = run(
        f"""
        route {{
            $avp(rpid) = "{quoted}";
            $var(e164) = is_rpid_user_e164();
            append_rpid_hf();
            append_rpid_hf("A ", ";b");
            $avp(rpid) = NULL;
            $var(none) = append_rpid_hf();
            $du = "sip:192.0.2.9";
            t_relay();
        }}"""
    )
    relayed = register(script, method="OPTIONS")
    assert (relayed["$var(e164)"], relayed["$var(none)"]) == (1 if is_number else -1, -1)
    [request] = [msg for msg in relayed.sent if msg.is_request]
    suffix = ";party=calling;id-type=subscriber;screen=yes"
    assert [header.value for header in request.all("remote-party-id")] == [address + suffix, f"A {address};b"]


def test_an_address_with_a_line_end_makes_no_header(run: Callable[..., Script]) -> None:
    script = run('route { $avp(rpid) = "a\\r\\nX: y"; $var(rc) = append_rpid_hf(); sl_send_reply(200, "OK"); }')
    assert rc(register(script)) == -1


# --- what is wrong is said when the script is checked -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "route", "text"),
    [
        ("", 'www_challenge("x", "authint");', 'Bad qop type "authint"'),
        ("", 'www_challenge("x", "auth,auth");', "Bad qop type"),
        ("", 'www_challenge("x", "auth", "MD5");', "too many parameters for command <www_challenge>"),
        ('modparam("auth", "nonce_expire", 0)', "exit;", "nonce_expire is 0"),
        ('modparam("auth", "algorithms", "MD5,SHA-1")', "exit;", '"SHA-1" is not one of MD5, SHA-256, SHA-512-256'),
        ('modparam("auth", "password_spec", "")', "exit;", "username_spec and password_spec belong together"),
        ('modparam("auth", "username_spec", "$foo(x)")', "exit;", "username_spec"),
        ('modparam("auth", "rpid_avp", "$var(x)")', "exit;", "it must be an AVP"),
        (
            'modparam("auth", "password_spec", "")\nmodparam("auth", "username_spec", "")',
            'pv_www_authorize("x");',
            "there are no variables to compare with",
        ),
    ],
)
def test_mistakes(run: Callable[..., Script], settings: str, route: str, text: str) -> None:
    with pytest.raises(ScriptErrors) as caught:
        run(f"route {{ {route} }}", settings + "\n")
    assert text in str(caught.value.diagnostics)
