"""Statistics of scripts: module statistics and ``$stat``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

HEAD = 'loadmodule "sl.so"\nloadmodule "statistics.so"\n'


def ask(server: Server, client: MakeClient, number: int = 1) -> None:
    phone = client(server.address)
    for _ in range(number):
        phone.request("OPTIONS")
        assert phone.receive().status == 200


def test_a_statistic_is_made_by_its_first_update_and_counts_in_all_processes(server: StartServer, client: MakeClient) -> None:
    one = server(
        HEAD
        + """
route {
    update_stat("hits", 1);
    update_stat("plus", "+2");
    update_stat("minus", -3);
    $var(name) = "by-" + $rm;
    update_stat($var(name), 1);
    sl_send_reply(200, "OK");
}
""",
        workers=3,
    )
    for _ in range(10):
        ask(one, client, 3)
    assert one.statistics("dynamic:") == {
        "dynamic:hits": 30,
        "dynamic:plus": 60,
        "dynamic:minus": -90,
        "dynamic:by-OPTIONS": 30,
    }
    assert one.statistics("hits") == {"dynamic:hits": 30}


def test_what_a_killed_receiver_has_counted_stays(server: StartServer, client: MakeClient) -> None:
    one = server(HEAD + 'route { update_stat("hits", 1); sl_send_reply(200, "OK"); }', workers=1)
    ask(one, client, 5)
    os.kill(one.pids("SIP receiver")[0], signal.SIGKILL)
    one.wait_log("is back")
    ask(one, client, 2)
    assert one.statistics("hits", "rcv_requests") == {"dynamic:hits": 7, "core:rcv_requests": 7}


def test_stat_reads_and_resets_and_unknown_ones_are_null(server: StartServer, client: MakeClient) -> None:
    one = server(
        HEAD
        + """
modparam("statistics", "variable", "calls")
modparam("statistics", "variable", "registered/no_reset")
modparam("statistics", "stat_groups", "method, packet")
modparam("statistics", "variable", "packet:lost")
route {
    update_stat("calls", 5);
    update_stat("registered", 5);
    update_stat("packet:lost", 1);
    xlog("@1|$stat(calls)|$stat(registered)|$stat(packet:lost)|$stat(script:calls)|$stat(nosuch)|$stat(rcv_requests)\\n");
    $stat(calls) = 0;
    $stat(registered) = 0;
    $stat(packet:lost) = 7;
    reset_stat("packet:lost");
    if (reset_stat("nosuch")) xlog("@2|made\\n");
    xlog("@3|$stat(calls)|$stat(registered)|$stat(packet:lost)\\n");
    sl_send_reply(200, "OK");
}
""",
        workers=1,
    )
    assert one.statistics("script:", "packet:") == {"script:calls": 0, "script:registered": 0, "packet:lost": 0}
    ask(one, client)
    one.wait_log("@1|5|5|1|5|<null>|1")
    one.wait_log("@2|made")
    one.wait_log("@3|0|5|0")
    assert "can only be set to 0" in one.log
    assert one.mi("list_statistics", [["script:"]]) == {
        "script:calls": "incremental",
        "script:registered": "non-incremental",
    }
    one.mi("reset_statistics", [["registered"]])
    assert one.statistics("registered") == {"script:registered": 5}


def test_iterating_over_a_group_sees_what_other_processes_have_made(server: StartServer, client: MakeClient) -> None:
    one = server(
        HEAD
        + """
modparam("statistics", "stat_groups", "packet")
route {
    if ($rm == "OPTIONS") update_stat("packet:$ci", 1);
    else {
        $var(total) = 0;
        stat_iter_init("packet", "i");
        while (stat_iter_next($var(name), $var(value), "i")) $var(total) = $var(total) + $var(value);
        xlog("@|$var(total)\\n");
        if (!stat_iter_next($var(name), $var(value), "never")) xlog("@|not initialised\\n");
    }
    sl_send_reply(200, "OK");
}
""",
        workers=2,
    )
    for _ in range(8):
        ask(one, client)
    made = one.statistics("packet:")
    assert sum(made.values()) == 8
    phone = client(one.address)
    phone.request("INFO")
    assert phone.receive().status == 200
    one.wait_log("@|8")
    one.wait_log("@|not initialised")


def test_names_and_numbers_that_cannot_be_are_refused_without_harm(server: StartServer, client: MakeClient) -> None:
    one = server(
        HEAD
        + """
route {
    $var(long) = "xxxxxxxxxx";
    $var(i) = 0;
    while ($var(i) < 5) { $var(long) = $var(long) + $var(long); $var(i) = $var(i) + 1; }
    if (!update_stat("$var(long)$var(long)", 1)) xlog("@1|too long\\n");
    $var(text) = "many";
    if (!update_stat("hits", $var(text))) xlog("@2|no number\\n");
    if (!update_stat("foreign:x", 1)) xlog("@3|no group\\n");
    if (!update_stat("load", 1)) xlog("@4|computed\\n");
    sl_send_reply(200, "OK");
}
""",
        workers=1,
    )
    ask(one, client)
    for line in ("@1|too long", "@2|no number", "@3|no group", "@4|computed"):
        one.wait_log(line)
    assert one.statistics("dynamic:") == {}
    assert 'group "foreign" is not in the parameter stat_groups' in one.log


def test_more_statistics_than_there_is_room_for_are_refused(server: StartServer, client: MakeClient) -> None:
    one = server(
        HEAD
        + """
max_while_loops=5000
route {
    $var(i) = 0;
    while ($var(i) < 4200) { update_stat("n$var(i)", 1); $var(i) = $var(i) + 1; }
    sl_send_reply(200, "OK");
}
""",
        workers=1,
    )
    phone = client(one.address)
    phone.request("OPTIONS")
    assert phone.receive(10).status == 200
    one.wait_log("more than 4096 statistics")
    assert 2000 < len(one.statistics("dynamic:")) < 4096


def test_wrong_parameters_stop_the_start_with_the_reason(tmp_path: Path) -> None:
    for line, reason in (
        ('modparam("statistics", "variable", "x/noreset")', "the only one is no_reset"),
        ('modparam("statistics", "variable", "packet:x")', 'add "packet" to stat_groups'),
    ):
        one = Server(HEAD + line + "\nroute { exit; }\n", workers=1, wait=False)
        assert one.process.wait(20) != 0
        assert reason in one.log
        one.remove()


def test_load_rises_while_a_receiver_works(server: StartServer, client: MakeClient) -> None:
    one = server(
        HEAD + 'loadmodule "cfgutils.so"\nroute { if ($rm == "INFO") usleep(6000000); sl_send_reply(200, "OK"); }',
        workers=1,
    )
    time.sleep(1.1)
    phone = client(one.address)
    phone.request("INFO")
    time.sleep(2.2)
    loads = one.statistics("load:")
    assert loads["load:load"] > 80, "stuck in one callback"
    assert loads["load:load-proc-3"] == loads["load:load"]
    assert loads["load:load-proc-2"] < 50
    assert phone.receive().status == 200
