"""A private LDAP server (OpenLDAP's slapd) in a temporary directory, on a port of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess

from scripts.testbed.daemon import Daemon
from scripts.testbed.ports import free_port, wait_tcp

SUFFIX = "dc=example,dc=com"
ADMIN, PASSWORD = f"cn=admin,{SUFFIX}", "secret"

_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {home}/pid
allow bind_v2
database mdb
suffix "{suffix}"
rootdn "{admin}"
rootpw {password}
directory {home}/data
maxsize 16777216
access to * by dn.exact="{admin}" write by anonymous auth
"""


class Slapd(Daemon):
    """Started on construction, with the entries of an LDIF text. Only :data:`ADMIN` may search."""

    def __init__(self, ldif: str) -> None:
        super().__init__("slapd")
        self.port = free_port(socket.SOCK_STREAM)
        (self.home / "data").mkdir()
        config = _CONFIG.format(home=self.home, suffix=SUFFIX, admin=ADMIN, password=PASSWORD)
        (self.home / "slapd.conf").write_text(config)
        (self.home / "entries.ldif").write_text(ldif)
        subprocess.run(
            [self._find("slapadd"), "-f", str(self.home / "slapd.conf"), "-l", str(self.home / "entries.ldif")],
            check=True,
            capture_output=True,
        )
        self.start()

    @staticmethod
    def _find(program: str) -> str:
        found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/local/libexec")
        if found is None:
            raise RuntimeError(f"{program} is missing: apt-get install slapd")
        return found

    @property
    def url(self) -> str:
        """``ldap://host:port``."""
        return f"ldap://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it (again) and wait until it accepts connections."""
        self.process = subprocess.Popen(
            [self._find("slapd"), "-f", str(self.home / "slapd.conf"), "-h", self.url, "-d", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if not wait_tcp(self.port, 15):
            self.remove()
            raise RuntimeError("slapd does not start")
