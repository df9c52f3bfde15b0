"""The core parameters of OpenSIPS 3.1, each declared once: name, type, default, meaning, and why it has no effect here
if it has none. The reference page is drawn from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opensips_py.script import ast
from opensips_py.script.deadlines import Deadlines, parse_deadlines
from opensips_py.script.diagnostics import Findings
from opensips_py.script.lexer import BOOLEANS
from opensips_py.script.name_servers import server_of
from opensips_py.script.suggest import did_you_mean

FACILITIES = (
    *("LOG_AUTH", "LOG_AUTHPRIV", "LOG_CRON", "LOG_DAEMON", "LOG_FTP", "LOG_KERN", "LOG_LPR", "LOG_MAIL", "LOG_NEWS"),
    *("LOG_SYSLOG", "LOG_USER", "LOG_UUCP"),
    *(f"LOG_LOCAL{n}" for n in range(8)),
)


@dataclass(slots=True, frozen=True)
class CoreParameter:
    """One core parameter."""

    name: str
    kind: str
    """``bool int str word socket deadlines tos list`` (a list collects repeated lines)."""
    default: Any
    doc: str
    no_effect: str | None = None
    """Why setting it changes nothing here; said once when a script sets it."""
    signed: bool = False
    """A negative number may be written."""
    low: int | None = None
    high: int | None = None
    least: int | None = None
    """A smaller number, which OpenSIPS lets pass, is taken as this one."""


TYPES_OF_SERVICE = {
    "IPTOS_LOWDELAY": 0x10,
    "IPTOS_THROUGHPUT": 0x08,
    "IPTOS_RELIABILITY": 0x04,
    "IPTOS_MINCOST": 0x02,
    "IPTOS_LOWCOST": 0x02,
}
"""RFC 1349 3."""

SHORTEST_SECRET = 16
"""Characters that a server_secret has at least."""

_PYTHON_MEMORY = "Python manages memory by itself"


def _p(name: str, kind: str, default: Any, doc: str, no_effect: str | None = None, **more: Any) -> CoreParameter:
    return CoreParameter(name, kind, default, doc, no_effect, **more)


PARAMETERS: dict[str, CoreParameter] = {
    p.name: p
    for p in (
        _p("abort_on_assert", "bool", 0, "a failed assert() aborts the process"),
        _p("advertised_address", "str", None, "address put into Via and Record-Route instead of the socket's"),
        _p("advertised_port", "int", None, "port put into Via and Record-Route instead of the socket's", low=1, high=65535),
        _p("alias", "socket", None, "[proto:]host[:port] that means this server; may be repeated"),
        _p("auto_aliases", "bool", 0, "names of the listening addresses become aliases", "names are not looked up: say alias"),
        _p(
            "async_drain_timeout",
            "int",
            5,
            "seconds that operations of async() and launch() get to end when the server stops (ours)",
            high=3600,
        ),
        _p(
            "async_memory",
            "int",
            128,
            "megabytes that unfinished answers of other servers, and questions that wait, may take in one process; what needs "
            "more fails; 0: any (ours)",
        ),
        _p(
            "async_slow_threshold",
            "int",
            0,
            "milliseconds from which an operation of async() or launch() is logged as slow; 0: never (ours)",
        ),
        _p(
            "async_timeout",
            "deadlines",
            Deadlines(),
            "time limit of async() and launch() where the statement gives none, $rc is -3 then: seconds, or a text with times "
            'for single functions, `"5, exec=30, avp_db_query=0.5"`; 0: none (ours)',
        ),
        _p("auto_scaling_cycle", "int", 1, "seconds between two measurements of load", "the number of workers is fixed"),
        _p("auto_scaling_profile", "word", None, "profile of growing and shrinking", "the number of workers is fixed"),
        _p(
            "check_via",
            "bool",
            0,
            "compare the sender's address with Via",
            "a Via that differs gets a received parameter in any case",
        ),
        _p("chroot", "str", None, "directory to be the root"),
        _p("debug_mode", "bool", 0, "foreground, log level 4 on standard error, two workers per socket"),
        _p("db_version_table", "str", "version", "table of table versions", "versions of tables are not checked"),
        _p("db_default_url", "str", None, "database of modules that name none"),
        _p(
            "db_max_async_connections",
            "int",
            128,
            "connections per worker and database for asynchronous queries (OpenSIPS: 10)",
            least=1,
        ),
        _p("disable_503_translation", "bool", 0, "pass a received 503 on instead of making it 500"),
        _p("disable_core_dump", "bool", 0, "no core files"),
        _p("disable_dns_blacklist", "bool", 1, "do not blacklist targets that failed", "targets are not blacklisted"),
        _p("disable_dns_failover", "bool", 0, "do not try the next server of a name when one fails"),
        _p("disable_stateless_fwd", "bool", 0, "do not route replies that belong to no transaction"),
        _p("dns", "bool", 0, "look names up for the received parameter", "a sender's address is never looked up"),
        _p("rev_dns", "bool", 0, "look addresses up", "a sender's address is never looked up"),
        _p("dns_retr_time", "int", None, "seconds before the next name server is asked; resolv.conf decides"),
        _p("dns_retr_no", "int", None, "how often every name server is asked; resolv.conf decides"),
        _p("dns_servers_no", "int", None, "name servers used; resolv.conf decides"),
        _p(
            "dns_servers",
            "str",
            None,
            "name servers in place of those of resolv.conf: address[:port], separated by blanks (not in OpenSIPS)",
        ),
        _p("dns_try_ipv6", "bool", 0, "look for IPv6 addresses when there is no IPv4 one"),
        _p("dns_try_naptr", "bool", 1, "look for NAPTR records"),
        _p("dns_use_search_list", "bool", 1, "use the search list of resolv.conf"),
        _p("dst_blacklist", "word", None, "a list of forbidden targets", "targets are not blacklisted"),
        _p("enable_asserts", "bool", 0, "run assert() statements"),
        _p("event_pkg_threshold", "int", 0, "percentage of private memory that raises an event", _PYTHON_MEMORY, low=0, high=100),
        _p(
            "event_shm_threshold",
            "int",
            0,
            "percentage of the shared store from which its filling raises events; 0: never",
            low=0,
            high=100,
        ),
        _p("exec_dns_threshold", "int", 0, "microseconds of a look-up that are logged and counted"),
        _p("exec_msg_threshold", "int", 0, "microseconds of processing a message that are logged", "processing is not measured"),
        _p(
            "tcp_threshold",
            "int",
            0,
            "a TCP message that takes more microseconds to be handed to the kernel is logged; 0: none is",
        ),
        _p("listen", "socket", None, "as socket; the name of older versions"),
        _p("socket", "socket", None, "proto:address[:port] [as address[:port]] [use_workers N] [tag ID]; may be repeated"),
        _p("log_facility", "word", "LOG_DAEMON", "syslog facility"),
        _p("log_level", "int", 2, "lines up to this level are logged: -3 alert … 4 debug", signed=True),
        _p(
            "log_max_bytes",
            "int",
            65536,
            "bytes of lines that one place in the code may log in a second, in each process; further ones are counted (ours)",
            low=1024,
        ),
        _p(
            "log_max_lines",
            "int",
            100,
            "lines that one place in the code may log in a second, in each process; further ones are counted (ours)",
            low=1,
        ),
        _p("log_name", "str", None, "name in syslog"),
        _p("log_stderror", "bool", 0, "log to standard error instead of syslog"),
        _p(
            "max_body_size",
            "int",
            65535,
            "bytes that the body of a received message may have; a larger one is answered 413 (ours)",
            low=1,
            high=65535,
        ),
        _p("max_header_length", "int", 16384, "bytes that a received header may have, folded or not; else 400 (ours)", low=256),
        _p("max_headers", "int", 512, "header lines that a received message may have; else 400 (ours)", low=32),
        _p("max_message_size", "int", 65535, "bytes that a received message may have; else 513 (ours)", low=1024, high=65535),
        _p("max_uri_length", "int", 2048, "bytes that a received R-URI may have; else 414 (ours)", low=64),
        _p(
            "max_reply_factor",
            "int",
            10,
            "how many times as large as its request a reply may be that is sent without state over UDP, or once more from a "
            "transaction: the address may be forged, and its owner a victim; 0: any size (ours)",
            low=0,
        ),
        _p("max_while_loops", "int", 100, "passes after which a while loop is left"),
        _p("maxbuffer", "int", 262144, "upper limit of a socket's receive buffer in bytes", least=1),
        _p("mem-group", "word", None, "group of memory statistics", _PYTHON_MEMORY),
        _p("mem_warming", "bool", 0, "fragment memory as it was", _PYTHON_MEMORY),
        _p("mem_warming_percentage", "int", 75, "share of memory to fragment", _PYTHON_MEMORY),
        _p("mem_warming_pattern_file", "str", None, "file of fragments", _PYTHON_MEMORY),
        _p("memdump", "int", 2, "log level of memory dumps", _PYTHON_MEMORY, signed=True),
        _p("memlog", "int", 2, "log level of memory dumps", _PYTHON_MEMORY, signed=True),
        _p("mcast_loopback", "bool", 0, "receive one's own multicast", "multicast is not used"),
        _p("mcast_ttl", "int", -1, "time to live of multicast", "multicast is not used"),
        _p("mhomed", "bool", 0, "send from the socket on the interface that the kernel would take; it is asked each time"),
        _p("mpath", "str", None, "directory of modules; a module file there wins over one of the same name here"),
        _p(
            "node_id",
            "int",
            0,
            "number of this server among those that share what they do: no two have the same (ours)",
            low=0,
            high=65535,
        ),
        _p("open_files_limit", "int", None, "limit of open files per process", low=1),
        _p("poll_method", "word", None, "how events are waited for", "epoll is always used"),
        _p("pv_print_buf_size", "int", 20000, "longest expanded string", "strings have no limit"),
        _p("query_buffer_size", "int", 0, "inserts collected before they are sent", "queries are sent at once"),
        _p("query_flush_time", "int", 0, "seconds after which collected inserts are sent", "queries are sent at once"),
        _p(
            "restart_persistency_cache_file", "str", None, "file that keeps data over a restart", "nothing is kept over a restart"
        ),
        _p("restart_persistency_size", "int", None, "size of that file", "nothing is kept over a restart"),
        _p("server_header", "str", None, "the whole Server header of replies"),
        _p(
            "server_secret",
            "str",
            None,
            "what branches, tags, nonces and sealed URIs are made with, 16 characters or more; servers with the same one make "
            "and know the same, also after a restart; without it each start draws a new one (ours)",
        ),
        _p("server_secret_file", "str", None, "file with the server_secret, which only the server's user should read (ours)"),
        _p("server_signature", "bool", 1, "put a Server header into replies"),
        _p("user_agent_header", "str", None, "the whole User-Agent header of own requests"),
        _p("shm_hash_split_percentage", "int", 1, "tuning of an allocator", _PYTHON_MEMORY),
        _p("shm_secondary_hash_size", "int", 8, "tuning of an allocator", _PYTHON_MEMORY),
        _p("sip_warning", "bool", 0, "put a Warning header into own replies", "replies have no Warning"),
        _p("tcp_workers", "int", 8, "TCP receivers, which serve all TCP sockets together", least=1),
        _p("stderror_enabled", "bool", 0, "log to standard error; with `syslog_enabled` the form of OpenSIPS 3.4 and later"),
        _p("syslog_enabled", "bool", 1, "log to syslog, if this or `stderror_enabled` is given; else `log_stderror` decides"),
        _p("syslog_facility", "word", None, "syslog facility; the name that `log_facility` has in OpenSIPS 3.4 and later"),
        _p("tcp_accept_aliases", "bool", 0, "a Via with alias makes its connection the way to its port (RFC 5923)"),
        _p(
            "tcp_connect_timeout",
            "int",
            100,
            "milliseconds that opening a connection may take; with proto_tcp's tcp_async and not set: 10 s",
            least=1,
        ),
        _p("tcp_connection_lifetime", "int", 120, "seconds after which a connection is closed on which nothing moves", least=1),
        _p("tcp_socket_backlog", "int", 10, "connections that wait to be accepted", least=1),
        _p("tcp_listen_backlog", "int", 10, "as tcp_socket_backlog; the name of older versions", least=1),
        _p(
            "tcp_max_connections", "int", 2048, "connections at once; further ones are closed as soon as they are accepted", low=0
        ),
        _p(
            "tcp_max_connections_per_source",
            "int",
            None,
            "connections at once of one address; further ones are closed as soon as they are accepted; not set: half of "
            "tcp_max_connections; 0: any number (ours)",
            low=0,
        ),
        _p(
            "tcp_max_waiting_memory",
            "int",
            64,
            "MB that may wait in one process for all peers that do not read; a connection that needs more ends (ours)",
            low=1,
        ),
        _p("tcp_max_msg_time", "int", 4, "seconds that a message may take to arrive; then its connection is closed", least=1),
        _p("tcp_no_new_conn_bflag", "word", None, "branch flag: the request goes over an open connection or not at all"),
        _p(
            "tcp_no_new_conn_rplflag",
            "word",
            None,
            "message flag: replies go over an open connection or not at all",
        ),
        _p("tcp_keepalive", "bool", 1, "have the kernel probe idle connections"),
        _p("tcp_keepcount", "int", 0, "unanswered probes that end a connection; 0: the system's number", low=0),
        _p("tcp_keepidle", "int", 0, "seconds of silence before the first probe; 0: the system's number", low=0),
        _p("tcp_keepinterval", "int", 0, "seconds between probes; 0: the system's number", low=0),
        _p("timer_workers", "int", 1, "timer processes", "one process runs the timers"),
        _p("tos", "tos", 0x10, "type of service of sent packets: a number from 1 to 255 or a name such as IPTOS_LOWDELAY"),
        _p("udp_workers", "int", 8, "SIP receivers per UDP socket", least=1),
        _p("wdir", "str", None, "working directory"),
        _p("workdir", "str", None, "working directory"),
        _p("xlog_buf_size", "int", 4096, "longest line of xlog()", "lines have no limit"),
        _p("xlog_force_color", "bool", 0, "colours of $C() also in syslog", "$C() is always written as it is"),
        _p("xlog_level", "int", 2, "lines of xlog() up to this level are written", signed=True),
        _p("xlog_print_level", "int", -1, "level of xlog() without one"),
    )
}

_TLS_MGM = 'set it with modparam("tls_mgm", ...), whose module is not supported yet'

REMOVED = {
    "debug": "use log_level",
    "children": "use udp_workers",
    "tcp_children": "use tcp_workers",
    "tcp_async": 'set it with modparam("proto_tcp", "tcp_async", ...)',
    "fork": "start with -F to stay in the foreground, with -D to debug",
    "sip_stack": "leave it out",
    "disable_tcp": "load proto_tcp or leave it out",
    "disable_tls": "leave it out: without a module for TLS there is none",
    "port": "use socket=proto:address:port",
    "db_url": "use db_default_url",
    "max_loops": "leave it out",
    "avp_aliases": "leave it out: AVPs have names",
    "user": "start with -u",
    "group": "start with -g",
    "reply_to_via": "leave it out: replies go by received and rport",
    "syn_branch": 'set it with modparam("tm", "syn_branch", ...)',
    "tls_port_no": 'set it with modparam("proto_tls", "tls_port", ...), whose module is not supported yet',
    **dict.fromkeys(("enable_tls", "tls_log", "tls_send_timeout", "tls_handshake_timeout"), "leave it out"),
    **dict.fromkeys(
        (
            *("tls_certificate", "tls_private_key", "tls_ca_list", "tls_ca_dir", "tls_method", "tls_verify_client"),
            *("tls_verify_server", "tls_require_client_certificate", "tls_ciphers_list", "tls_dh_params", "tls_ec_curve"),
            *("tls_crl_dir", "tls_client_domain_avp", "tls_server_domain", "tls_client_domain"),
        ),
        _TLS_MGM,
    ),
}
"""Parameters of older versions, and what to do."""

LATER = {
    "log_stdout": ("3.2", "use log_stderror"),
    "log_event_enabled": ("3.4", "leave it out"),
    "log_event_level_filter": ("3.4", "leave it out"),
    "log_json_buf_size": ("3.4", "leave it out"),
    "log_msg_buf_size": ("3.4", "leave it out"),
    "log_prefix": ("3.2", "use log_name"),
    "stderror_level_filter": ("3.4", "use log_level"),
    "stderror_log_format": ("3.4", "leave it out: lines are plain text"),
    "syslog_level_filter": ("3.4", "use log_level"),
    "syslog_log_format": ("3.4", "leave it out: lines are plain text"),
    "syslog_name": ("3.4", "use log_name"),
    "tcp_parallel_handling": ("3.3", "leave it out"),
    "tcp_parallel_read_on_workers": ("3.5", "leave it out"),
}
"""Parameters that came after 3.1, with which version, and what does the same here."""


class Settings:
    """Values of the core parameters, as attributes: ``settings.udp_workers``. Repeated parameters are lists."""

    def __init__(self) -> None:
        for p in PARAMETERS.values():
            setattr(self, p.name.replace("-", "_"), [] if p.kind == "socket" else p.default)
        self.given: set[str] = set()
        """Names that the script sets."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...


def apply(nodes: list[ast.Setting], findings: Findings) -> Settings:
    """The settings of a script. Wrong ones go to ``findings``."""
    settings = Settings()
    for node in nodes:
        parameter = PARAMETERS.get(node.name)
        if parameter is None:
            hint = did_you_mean(node.name, PARAMETERS)
            if node.name in REMOVED:
                hint = f"it is of OpenSIPS 2 or older: {REMOVED[node.name]}"
            elif node.name in LATER:
                version, instead = LATER[node.name]
                hint = f"it came with OpenSIPS {version}: {instead}"
            findings.error(node, f"syntax error: unknown config variable '{node.name}'", hint)
            continue
        value = _value(parameter, node, findings)
        if value is None:
            continue
        if parameter.no_effect is not None and value != parameter.default:
            findings.notice(node, f"{node.name} has no effect", parameter.no_effect)
        settings.given.add(node.name)
        attribute = node.name.replace("-", "_")
        if parameter.kind == "socket":
            getattr(settings, attribute).append(value)
        else:
            setattr(settings, attribute, value)
    if "tcp_socket_backlog" not in settings.given and "tcp_listen_backlog" in settings.given:
        settings.tcp_socket_backlog = settings.tcp_listen_backlog
    if settings.workdir is None:
        settings.workdir = settings.wdir
    return settings


def _value(parameter: CoreParameter, node: ast.Setting, findings: Findings) -> Any:
    """The value of the right type, or None."""
    value = node.value
    kind = parameter.kind
    if kind == "socket":
        if parameter.name == "listen":
            findings.warning(node, "listen is the name of older versions", "use socket")
        return value
    if isinstance(value, ast.Endpoint):
        return None
    if kind == "bool":
        return _boolean(value, findings)
    if kind == "deadlines":
        return _deadlines(value, findings)
    if kind == "tos":
        return _type_of_service(value, findings)
    if kind == "int":
        return _integer(parameter, value, findings)
    if kind == "str":
        if isinstance(value, ast.String):
            if parameter.name == "dns_servers":
                _check_servers(value, findings)
            if parameter.name == "server_secret" and len(value.value) < SHORTEST_SECRET:
                findings.error(value, "server_secret is too short", f"{SHORTEST_SECRET} characters or more, drawn at random")
                return None
            return value.value
        if parameter.name == "advertised_address" and isinstance(value, ast.Network | ast.Word):
            return value.text
        findings.error(value, "syntax error: string expected", "put the value in quotes")
        return None
    if isinstance(value, ast.Network):
        findings.error(value, "syntax error: a name is expected")
        return None
    text = value.text if isinstance(value, ast.Word) else value.value
    if parameter.name in ("log_facility", "syslog_facility") and text not in FACILITIES:
        findings.error(value, f"unknown log facility {text}", did_you_mean(str(text), FACILITIES))
        return None
    return text


def _deadlines(value: ast.Node, findings: Findings) -> Deadlines | None:
    if isinstance(value, ast.Number) and value.value >= 0:
        return Deadlines(value.value)
    if isinstance(value, ast.String):
        try:
            return parse_deadlines(value.value)
        except ValueError as error:
            findings.error(value, f"async_timeout: {error}", 'write 5 or "5, exec=30, avp_db_query=0.5"')
            return None
    findings.error(value, "syntax error: a number of seconds is expected", 'write 5 or "0.5"')
    return None


def _type_of_service(value: ast.Node, findings: Findings) -> int | None:
    if isinstance(value, ast.Number) and 0 < value.value < 256:
        return value.value
    if isinstance(value, ast.Word) and value.text in TYPES_OF_SERVICE:
        return TYPES_OF_SERVICE[value.text]
    written = value.text if isinstance(value, ast.Word) else ""
    hint = did_you_mean(written, TYPES_OF_SERVICE) or "write " + ", ".join(TYPES_OF_SERVICE) + " or a number from 1 to 255"
    findings.error(value, "invalid tos value", hint)
    return None


def _check_servers(value: ast.String, findings: Findings) -> None:
    words = value.value.split()
    wrong = [word for word in words if server_of(word) is None]
    if wrong or not words:
        what = f"{wrong[0]} is not a name server" if wrong else "no name server is given"
        findings.error(value, what, 'write addresses, with or without ports: "192.0.2.1 127.0.0.1:5353"')


def _boolean(value: ast.Node, findings: Findings) -> int | None:
    if isinstance(value, ast.Number) and value.value >= 0:
        return 1 if value.value else 0
    if isinstance(value, ast.Word) and value.text.lower() in BOOLEANS:
        return BOOLEANS[value.text.lower()]
    findings.error(value, "syntax error: boolean value expected", "write yes or no")
    return None


def _integer(parameter: CoreParameter, value: ast.Node, findings: Findings) -> int | None:
    if isinstance(value, ast.Word) and value.text.lower() in BOOLEANS:
        return BOOLEANS[value.text.lower()]
    if not isinstance(value, ast.Number) or (value.value < 0 and not parameter.signed):
        findings.error(value, "syntax error: number expected", "without quotes" if isinstance(value, ast.String) else None)
        return None
    number = value.value
    low, high = parameter.low, parameter.high
    if (low is not None and number < low) or (high is not None and number > high):
        span = f"from {low} to {high}" if high is not None else f"at least {low}"
        findings.error(value, f"{parameter.name} = {number} is out of range", f"a number {span}")
        return None
    if parameter.least is not None and number < parameter.least:
        findings.warning(value, f"{parameter.name} = {number}: {parameter.least} is taken", f"write {parameter.least} or more")
        return parameter.least
    return number
