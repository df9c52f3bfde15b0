"""What OpenSIPS 3.1 accepts is accepted, or named as not supported at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensips_py.modules import cfgutils
from opensips_py.modules.rest_client import module as rest_client
from opensips_py.script.diagnostics import Diagnostic
from tests.script.script_runner import Scripts
from tests.support.script_context import put, registry, request, variable


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def _loading(scripts: Scripts, modules: str, *lines: str, body: str = "exit;") -> list[Diagnostic]:
    loads = "".join(f'loadmodule "{name}.so"\n' for name in modules.split())
    return scripts.findings(loads + "".join(f"{line}\n" for line in lines) + f"route {{\n{body}\n}}\n")


@pytest.mark.parametrize("value", ["0", '"root"', '""'])
@pytest.mark.parametrize("name", ["fifo_user", "fifo_group"])
def test_an_owner_is_a_number_or_a_name(scripts: Scripts, name: str, value: str) -> None:
    assert _loading(scripts, "mi_fifo", f'modparam("mi_fifo", "{name}", {value})') == []


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        ("usrloc", "cluster_mode", '"federation"'),
        ("usrloc", "cachedb_url", '"mongodb://x"'),
        ("usrloc", "contact_refresh_timer", "1"),
        ("registrar", "pn_enable", "1"),
        ("registrar", "pn_enable_purr", "1"),
    ],
)
def test_a_parameter_that_would_do_something_is_not_supported_yet(scripts: Scripts, module: str, name: str, value: str) -> None:
    found = _loading(scripts, "usrloc registrar", f'modparam("{module}", "{name}", {value})')
    assert [d.message for d in found] == [f"not supported yet: parameter {name} of module {module}"]


@pytest.mark.parametrize(
    "line",
    [
        'modparam("usrloc", "restart_persistency", "none")',
        'modparam("usrloc", "cluster_mode", "none")',
        'modparam("usrloc", "contact_refresh_timer", 0)',
        'modparam("registrar", "pn_enable", 0)',
        'modparam("registrar", "max_contact_len", 512)',
        'modparam("nathelper", "oldip_skip", "oc")',
        *("auto_aliases=no", "dns=no", "rev_dns=off", "check_via=no", "timer_workers=1", "disable_dns_blacklist=yes"),
    ],
)
def test_what_asks_for_what_is_done_anyway_says_nothing(scripts: Scripts, line: str) -> None:
    assert _loading(scripts, "usrloc registrar nathelper", line) == []


@pytest.mark.parametrize(
    "line",
    ['modparam("usrloc", "mi_dump_kv_store", 1)', 'modparam("registrar", "pn_providers", "apns")', "auto_aliases=yes", "dns=yes"],
)
def test_what_has_no_effect_is_a_notice(scripts: Scripts, line: str) -> None:
    assert [d.severity for d in _loading(scripts, "usrloc registrar", line)] == ["notice"]


@pytest.mark.parametrize(
    "body",
    [
        'is_ip_registered("location", $tu, $si);',
        "$var(i) = set_select_weight($(avp(weights)));",
        "set_count($(hdr(Via)), $var(n));",
        'use_blacklist("gw"); unuse_blacklist("$var(x)");',
        '$var(x) = $(fU{rest.escape}); xlog("$(var(x){rest.unescape})");',
    ],
)
def test_calls_that_3_1_accepts(scripts: Scripts, body: str) -> None:
    assert _loading(scripts, "usrloc registrar cfgutils rest_client", body=body) == []


def test_a_list_of_forbidden_targets_that_is_used_is_not_supported_yet(scripts: Scripts) -> None:
    found = _loading(scripts, "", 'dst_blacklist = gw : {(tcp, 192.0.2.1, 5060, "")}', body='use_blacklist("gw");')
    assert [(d.severity, d.message) for d in found if d.severity == "error"] == [
        ("error", "not supported yet: use_blacklist() with a list of dst_blacklist")
    ]


def test_a_transformation_of_a_module_needs_it(scripts: Scripts) -> None:
    found = _loading(scripts, "", body='xlog("$(fU{rest.escape})");')
    assert found[0].message == "unknown transformation {rest.escape}"
    assert found[0].hint == 'add loadmodule "rest_client.so"'


@pytest.mark.parametrize(
    ("plain", "escaped"), [("a b&c=d/e?", "a%20b%26c%3Dd%2Fe%3F"), ("-._~aZ9", "-._~aZ9"), ("\xe9\x00%", "%E9%00%25"), ("", "")]
)
def test_rest_escape_makes_a_part_of_a_url_and_unescape_reads_it(plain: str, escaped: str) -> None:
    known, ctx = registry(rest_client), request()
    known.variable("$var(x)").set(ctx, plain)
    assert known.variable("$(var(x){rest.escape})").get(ctx) == escaped
    assert known.variable("$(var(x){rest.escape}{rest.unescape})").get(ctx) == plain


def test_set_select_weight_draws_in_proportion() -> None:
    ctx = request()
    for weight in (0, 5, 0):  # the value set last comes first
        put(ctx, "$avp(w)", weight)
    assert {cfgutils.set_select_weight(ctx, variable("$avp(w)")) for _ in range(50)} == {1}


@pytest.mark.parametrize("weights", [[], [0, 0], ["five"], [-1, 2]])
def test_set_select_weight_without_weights_is_false(weights: list[int | str]) -> None:
    ctx = request()
    for weight in weights:
        put(ctx, "$avp(w)", weight)
    assert cfgutils.set_select_weight(ctx, variable("$avp(w)")) == -1


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("log_stdout=yes", "it came with OpenSIPS 3.2: use log_stderror"),
        ("log_event_enabled=yes", "it came with OpenSIPS 3.4"),
        ("disable_tls=yes", "without a module for TLS there is none"),
        ('tls_certificate="/etc/x.pem"', 'modparam("tls_mgm", ...)'),
        ("tls_verify_client=1", 'modparam("tls_mgm", ...)'),
    ],
)
def test_core_parameters_of_other_versions_are_named_as_such(scripts: Scripts, line: str, hint: str) -> None:
    found = _loading(scripts, "", line)
    assert len(found) == 1
    assert hint in str(found[0].hint)
