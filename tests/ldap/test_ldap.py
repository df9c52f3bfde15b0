"""Searches in a real LDAP directory, plainly and in async(), and what scripts do with what was found."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opensips_py.clients.service.description import ServiceError
from opensips_py.engine.holding import Holding
from opensips_py.modules.ldap.protocol import SearchAnswer, search
from opensips_py.modules.ldap.sessions import SessionError, read_sessions
from opensips_py.modules.ldap.url import UrlError, escaped, parse_ldap_url
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.script.program import load
from opensips_py.server.process import this
from scripts.testbed.server import Server
from scripts.testbed.slapd import ADMIN, PASSWORD, SUFFIX, Slapd
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

LDIF = f"""\
dn: {SUFFIX}
objectClass: domain
dc: example

dn: ou=sip,{SUFFIX}
objectClass: organizationalUnit
ou: sip

dn: cn=bob,ou=sip,{SUFFIX}
objectClass: inetOrgPerson
cn: bob
sn: Builder
telephoneNumber: 1001
telephoneNumber: 1002
employeeNumber: 42
description: sip:bob@home.example

dn: cn=b*b (2),ou=sip,{SUFFIX}
objectClass: inetOrgPerson
cn: b*b (2)
sn: Star
telephoneNumber: 2001

dn: cn=zoë,ou=sip,{SUFFIX}
objectClass: inetOrgPerson
cn: zoë
sn: Builder
telephoneNumber: 3001
description: none
"""

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cfgutils.so"
loadmodule "ldap.so"
modparam("ldap", "config_file", "CONFIG")
route {
    t_newtran();
    xlog("@@by $pp\\n");
    $avp(base) = "ou=sip,dc=example,dc=com";
    ROUTES
}
"""

FORMS = {
    "one": 'ldap_search("ldap://accounts/$avp(base)??one?(cn=bob)")',
    "all": 'ldap_search("ldap://accounts/$avp(base)?cn,telephoneNumber?sub?(objectClass=inetOrgPerson)")',
    "base": 'ldap_search("ldap://Accounts/cn=bob,$avp(base)")',
    "none": 'ldap_search("ldap://accounts/$avp(base)??one?(cn=nobody)")',
    "nowhere": 'ldap_search("ldap://accounts/ou=none,dc=example,dc=com??one?(cn=bob)")',
    "filter": 'ldap_search("ldap://accounts/$avp(base)??one?(cn=bob")',
    "session": 'ldap_search("ldap://others/$avp(base)")',
    "refused": 'ldap_search("ldap://wrong/$avp(base)??one?(cn=bob)")',
    "down": 'ldap_search("ldap://second/$avp(base)??one?(cn=bob)")',
}


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    running = Slapd(LDIF)
    yield running
    running.remove()


@pytest.fixture
def start(server: StartServer, slapd: Slapd, tmp_path: Path) -> Callable[..., Server]:
    """A server that searches plainly (``p-NAME``) or in async() (``a-NAME``), and then runs the statements ``then``."""

    def run(then: str, workers: int = 1) -> Server:
        config = tmp_path / "ldap.cfg"
        config.write_text(
            f'[Accounts]\nldap_server_url = "{slapd.url}"\nldap_bind_dn = "{ADMIN}" ; who\n'
            f'ldap_bind_password = "{PASSWORD}"\nldap_client_search_timeout = 2000\n\n'
            f'[wrong]\nldap_server_url = "{slapd.url}"\nldap_bind_dn = "{ADMIN}"\nldap_bind_password = "no"\n'
            f'[second]\nldap_server_url = "ldap://127.0.0.1:1,\n  {slapd.url}"\nldap_bind_dn = "{ADMIN}"\n'
            f'ldap_bind_password = "{PASSWORD}"\n'
        )
        routes = ""
        for name, call in FORMS.items():
            routes += f'    if ($rU == "p-{name}") {{ {call}; route(done); exit; }}\n'
            routes += f'    if ($rU == "a-{name}") async({call}, done);\n'
        script = SCRIPT.replace("CONFIG", str(config)).replace("ROUTES", routes)
        return server(script + f"route[done] {{ {then} }}\n", workers)

    return run


def _ask(running: Server, client: MakeClient, user: str, seconds: float = 20) -> str:
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:{user}@{{server}}")
    return caller.final(seconds).reason


def both(running: Server, client: MakeClient, name: str) -> str:
    forms = [_ask(running, client, f"{form}-{name}") for form in ("p", "a")]
    assert forms[0] == forms[1]
    return forms[0]


def test_return_codes(start: Callable[..., Server], client: MakeClient) -> None:
    running = start('t_reply(200, "$rc");')
    codes = {name: both(running, client, name) for name in FORMS}
    assert codes == {
        "one": "1",
        "all": "3",
        "base": "1",
        "none": "-1",
        "nowhere": "-2",
        "filter": "-2",
        "session": "-2",
        "refused": "-2",
        "down": "1",
    }
    running.wait_log("LDAP session accounts: noSuchObject (32)")
    running.wait_log("(cn=bob is not a filter")
    running.wait_log("has no session [others]")
    running.wait_log("LDAP session wrong")
    assert len(running.lines("invalidCredentials (49)")) == 1
    assert len(running.lines("127.0.0.1:1 cannot be reached")) == 1


def test_values_go_to_avps(start: Callable[..., Server], client: MakeClient) -> None:
    running = start(
        """
        ldap_result("telephoneNumber/$avp(tel)");
        $avp(rc1) = $rc;
        ldap_result("telephonenumber/$avp(number)/int");
        ldap_result("description/$avp(domain)", "/^sip:[^@]+@(.+)$/\\1/");
        ldap_result("description/$avp(none)", "/^tel:(.+)$/\\1/");
        $avp(rc2) = $rc;
        ldap_result("mail/$avp(none)");
        $avp(rc3) = $rc;
        ldap_result("sn/$avp(none)/int");
        $avp(rc4) = $rc;
        ldap_result_check("sn/Builder");
        $avp(rc5) = $rc;
        ldap_result_check("sn/builder");
        $avp(rc6) = $rc;
        ldap_result_check("description/home.example", "/^.*@//");
        $avp(rc7) = $rc;
        $avp(rcs) = "" + $avp(rc4) + ":" + $avp(rc5) + ":" + $avp(rc6) + ":" + $avp(rc7);
        t_reply(200, "$(avp(tel)[*]) $avp(number) $avp(domain) $avp(none) $avp(rc1) $avp(rc2) $avp(rc3) $avp(rcs)");
        """
    )
    assert both(running, client, "one") == "1002, 1001 1002 home.example <null> 2 -1 -1 -1:1:-1:1"


def test_entries_one_after_the_other_also_over_a_suspension(start: Callable[..., Server], client: MakeClient) -> None:
    running = start(
        """
        ldap_result("telephoneNumber/$avp(tel)");
        if (ldap_result_next()) {
            $avp(again) = 1;
            async(usleep(1000), done);
        }
        ldap_result_next();
        t_reply(200, "$rc $(avp(tel)[*])");
        """,
        workers=3,
    )
    code, *numbers = both(running, client, "all").replace(",", "").split()
    # entries come in the order that pleases the server
    assert (code, sorted(numbers)) == ("-1", ["1001", "1002", "2001", "3001"])


def test_without_a_search_there_is_nothing_to_look_at(start: Callable[..., Server], client: MakeClient) -> None:
    running = start('ldap_result_next(); $avp(a) = $rc; ldap_result("cn/$avp(x)"); t_reply(200, "$avp(a) $rc");')
    assert both(running, client, "refused") == "-2 -2"


def test_what_comes_from_outside_is_escaped(start: Callable[..., Server], client: MakeClient) -> None:
    running = start(
        """
        ldap_filter_url_encode("b*b (2)", $avp(name));
        ldap_search("ldap://accounts/$avp(base)?sn?one?(cn=$avp(name))");
        $avp(rc) = $rc;
        ldap_result("sn/$avp(sn)");
        t_reply(200, "$avp(rc) $avp(sn) $avp(name)");
        """
    )
    assert both(running, client, "none") == "1 Star b\\2ab \\282\\29"


@pytest.mark.parametrize("text", ["50%2a", "%28", "a*b", "(", "a\\b", "a?b", "100 %", "a\0b", "%"])
def test_an_escaped_text_reaches_the_filter_as_itself(text: str) -> None:
    filter_ = parse_ldap_url(f"ldap://accounts/o=x?cn?sub?(cn={escaped(text)})").filter
    value = re.sub(r"\\([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), filter_[4:-1])
    assert value == text
    assert not set(filter_[4:-1]) & set("*()\0")


def test_a_frozen_server_holds_up_nobody_and_its_search_ends_in_time(
    start: Callable[..., Server], client: MakeClient, slapd: Slapd
) -> None:
    running = start('t_reply(200, "$rc");')
    assert _ask(running, client, "a-one") == "1"
    slapd.freeze()
    try:
        waiting = client(running.address)
        began = this.clock.now()
        waiting.request("OPTIONS", "sip:a-one@{server}")
        assert _ask(running, client, "p-session") == "-2"
        assert this.clock.now() - began < 1.8
        assert waiting.final().reason == "-2"
        assert this.clock.now() - began > 1.9
    finally:
        slapd.thaw()
    running.wait_log("LDAP session accounts: no answer in time")
    assert _ask(running, client, "a-one") == "1"


def test_the_directory_may_be_down_at_the_start_and_come_back(
    start: Callable[..., Server], client: MakeClient, slapd: Slapd
) -> None:
    slapd.kill()
    try:
        running = start('t_reply(200, "$rc");')
        for form in ("p", "a", "p"):
            assert _ask(running, client, f"{form}-one") == "-2"
        assert len(running.lines("cannot be reached")) == 1
    finally:
        slapd.start()
    end = this.clock.now() + 20
    while _ask(running, client, "a-one") != "1":
        assert this.clock.now() < end, running.log
        time.sleep(0.05)
    assert len(running.lines("LDAP session accounts is back")) == 1


def test_a_worker_that_dies_loses_no_search(start: Callable[..., Server], client: MakeClient, slapd: Slapd) -> None:
    running = start('ldap_result("sn/$avp(sn)"); t_reply(200, "$rc $avp(sn)");', workers=3)
    warm = client(running.address)
    for _ in range(20):  # every worker gets a connection
        warm.request("OPTIONS", "sip:a-one@{server}")
        assert warm.final().reason == "1 Builder"
    slapd.freeze()
    try:
        caller = client(running.address)
        before = len(running.lines("@@by"))
        caller.request("OPTIONS", "sip:a-one@{server}")
        line = running.wait_log("@@by", count=before + 1)[-1]
        end = this.clock.now() + 20
        while running.mi("async_list")["Count"] != 1:
            assert this.clock.now() < end
            time.sleep(0.01)
        os.kill(int(line.rsplit(" ", 1)[1]), signal.SIGKILL)
        running.wait_log("go on in another process")
    finally:
        slapd.thaw()
    assert caller.final().reason == "1 Builder"


# --- what is wrong ------------------------------------------------------------------------------------------------------


def test_the_checker_finds_a_missing_or_wrong_file(tmp_path: Path) -> None:
    script = tmp_path / "s.cfg"
    head = 'socket=udp:127.0.0.1:5060\nloadmodule "proto_udp.so"\nloadmodule "ldap.so"\n'
    head += f'modparam("ldap", "config_file", "{tmp_path}/l")\n'
    script.write_text(head + 'route { ldap_result("cn"); }\n')
    with pytest.raises(ScriptErrors) as failure:
        load(str(script))
    missing, form = failure.value.errors
    assert (missing.line, missing.message) == (4, f"ldap: config_file: {tmp_path}/l: No such file or directory")
    assert (form.line, form.message) == (5, '[cn] is not of the form "attribute/$avp(name)[/str|int]"')


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no section"),
        ("[a]\n", r"\[a\]: ldap_server_url is missing"),
        ("[a]\nldap_server_url = http://x\n", "not of the form ldap://"),
        ("[a]\nldap_server_url = ldap://x:y\n", "not of the form ldap://"),
        ("[a]\nldap_server_url = ldap://x\nldap_url = y\n", "unknown: ldap_url"),
        ("[a]\nldap_server_url = ldap://x\nldap_network_timeout = soon\n", "a number above 0, not soon"),
        ("[a]\nldap_server_url = ldap://x\nldap_version = 4\n", "ldap_version is 2 or 3"),
        ("[a]\nldap_server_url = ldap://x\nldap_ca_cert_file = /x\n", "StartTLS is not supported"),
        ("ldap_server_url = ldap://x\n", "no section headers"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "l").write_text(text)
    with pytest.raises(SessionError, match=complaint):
        read_sessions(str(tmp_path / "l"))


def test_sessions(tmp_path: Path) -> None:
    (tmp_path / "l").write_text(
        '# comment\n[One]\nldap_server_url = "ldap://a, ldap://[::1]:7 ,\n   ldap://b:80/"\nldap_network_timeout = 500 ; short\n'
        'ldap_bind_dn = "cn=x;y,dc=z";\nldap_require_certificate = "NEVER"\n'
    )
    (session,) = read_sessions(str(tmp_path / "l"))
    assert (session.name, session.servers) == ("one", (("a", 389, None), ("::1", 7, None), ("b", 80, None)))
    assert (session.bind_dn, session.connect_seconds, session.search_seconds) == ("cn=x;y,dc=z", 1.5, 5.0)


@pytest.mark.parametrize("text", ["http://x/", "ldap:x", "ldap://s?cn", "ldap://s/b??near", "ldap://s/b??one?(a=b)?x?y"])
def test_a_wrong_url_is_told(text: str) -> None:
    with pytest.raises(UrlError):
        parse_ldap_url(text)


def test_urls() -> None:
    url = parse_ldap_url("ldap://S/ou=a%3Fb?cn, sn?SUB?cn=x%3f")
    assert (url.session, url.base, url.attributes, url.scope, url.filter) == ("s", "ou=a?b", ("cn", "sn"), "SUBTREE", "(cn=x?)")
    assert parse_ldap_url("ldap://s/b").filter == "(objectClass=*)"
    assert escaped("a*(b)\\?") == "a\\2a\\28b\\29\\5c%3F"
    with pytest.raises(UrlError, match="is not a filter"):
        search(parse_ldap_url("ldap://s/b??one?(&(a=b)"))


def test_an_answer_comes_in_pieces_or_is_none() -> None:
    done = bytes.fromhex("300c02010265070a0100 0400 0400".replace(" ", ""))
    answer = SearchAnswer(Holding(0, ""))
    for byte in done[:-1]:
        assert not answer.feed(bytes((byte,)))
    assert answer.feed(done[-1:])
    answer.check()
    with pytest.raises(ServiceError):
        SearchAnswer(Holding(0, "")).feed(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
