"""What to do about modules that a script loads and that are not here: of 3.1, of later versions, of older ones.

``docs/migration.md`` is drawn from these tables and from the modules that exist; the checker says the same.
"""

from __future__ import annotations

PAGE = "docs/migration.md"

OWN_MODULE = "a module of your own in Python (docs/modules.md)"
_FIFO = "mi_fifo (opensips-py-mi sends its commands from a shell)"
_DATABASES = "db_mysql, db_postgres or db_sqlite"

NOT_PLANNED: dict[str, str] = {
    "db_berkeley": _DATABASES,
    "db_perlvdb": _DATABASES,
    "event_xmlrpc": "event_datagram, or event_route with rest_post()",
    "freeswitch_scripting": OWN_MODULE,
    "identity": "stir_shaken, when it comes",
    "jabber": "",
    "lua": OWN_MODULE,
    "mangler": "fix_nated_contact() and fix_nated_sdp() of nathelper",
    "mediaproxy": "rtpengine or rtpproxy, when they come",
    "mi_html": _FIFO,
    "mi_xmlrpc_ng": _FIFO,
    "osp": "",
    "perl": OWN_MODULE,
    "pi_http": _FIFO,
    "presence_dfks": "",
    "python": OWN_MODULE,
    "script_helper": "loose_route() and the like written out",
    "sngtc": "",
}
"""Modules of 3.1 that nobody works on, and what to use instead."""

INSTEAD: dict[str, str] = {
    "cachedb_cassandra": "cachedb_redis",
    "cachedb_couchbase": "cachedb_redis",
    "cachedb_memcached": "cachedb_redis, or cachedb_local",
    "cachedb_mongodb": "cachedb_redis",
    "cachedb_sql": "cachedb_local, or avp_db_query()",
    "db_cachedb": _DATABASES,
    "db_http": "rest_get() and rest_post()",
    "db_oracle": _DATABASES,
    "db_unixodbc": _DATABASES,
    "diversion": 'append_hf("Diversion: ...\\r\\n")',
    "dns_cache": "nothing: each process keeps what it has looked up",
    "domainpolicy": "avp_db_query()",
    "event_flatstore": "event_datagram",
    "event_stream": "event_datagram, or event_route with rest_post()",
    "httpd": _FIFO,
    "jsonrpc": "rest_post()",
    "mi_datagram": _FIFO,
    "mi_http": _FIFO,
    "pike": "cache_add() with the source address as key",
    "rabbitmq": OWN_MODULE,
    "rabbitmq_consumer": OWN_MODULE,
    "ratelimit": "cache_add() with the pipe's name as key",
    "regex": "=~ (POSIX expressions)",
    "sql_cacher": "cache_fetch() in front of avp_db_query()",
    "uuid": OWN_MODULE,
}
"""Modules of 3.1 that are not here yet, and what serves until then."""

LATER: dict[str, str] = {
    **dict.fromkeys(("aaa_diameter", "event_kafka", "mi_script", "prometheus", "rtp_relay", "tls_openssl", "tls_wolfssl"), "3.2"),
    **dict.fromkeys(("b2b_sdp_demux", "msrp_gateway", "msrp_relay", "msrp_ua", "proto_msrp", "status_report", "tcp_mgm"), "3.3"),
    **dict.fromkeys(("aka_av_diameter", "auth_aka", "http2d", "launch_darkly", "mqueue", "presence_reginfo"), "3.5"),
    **dict.fromkeys(("proto_ipsec", "pua_reginfo", "sqlops"), "3.5"),
    **dict.fromkeys(("cachedb_dynamodb", "config", "event_sqs", "janus", "rtp.io", "sockets_mgm", "trie"), "3.6"),
    **dict.fromkeys(("auth_web3", "mi_xmlrpc", "opentelemetry"), "4.0"),
}
"""Modules that came after 3.1, and with which version."""

EMPTY = {
    "tls_openssl": "TLS is that of Python here, and its library is OpenSSL",
    "tls_wolfssl": "TLS is that of Python here, and its library is OpenSSL",
    "uri": "it is gone since OpenSIPS 3.0: its functions are in sipmsgops and auth_db",
}
"""Modules that are accepted, and empty: nothing that they had is needed, or it is somewhere else."""

GONE: dict[str, str] = {
    "auth_diameter": "",
    "auth_radius": "auth_aaa",
    "closeddial": "",
    "cpl-c": "cpl_c",
    "event_rabbitmq_consumer": "rabbitmq_consumer",
    "group_radius": "group",
    "localcache": "cachedb_local",
    "memcached": "cachedb_memcached",
    "mi_json": "mi_http",
    "perlvdb": "db_perlvdb",
    "seas": "",
    "siptrace": "tracer",
    "sl_reply": "sl",
    "smpp": "proto_smpp",
    "sms": "",
    "uri_db": "auth_db",
    "uri_radius": "auth_aaa",
    "xlog": "",
}
"""Modules of older versions (or old names), and where their functions are in 3.1."""


def advice(name: str) -> str:
    """What to do about a module of 3.1 that is not here."""
    instead = NOT_PLANNED.get(name) or INSTEAD.get(name)
    return f"use {instead}; see {PAGE}" if instead else f"see {PAGE}"


def status(name: str) -> str:
    """Whether a module of 3.1 that is not here will come."""
    return "not planned" if name in NOT_PLANNED else "not yet"
