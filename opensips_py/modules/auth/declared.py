"""Module object and parameters of auth."""

from __future__ import annotations

from hashlib import blake2b

from opensips_py.script.declarations import ConfigError, Module, ModuleParameter, Var
from opensips_py.script.variables import VariableError, by_text
from opensips_py.sip.digest import HASHES, hash_name
from opensips_py.tm import identity

module = Module("auth", doc="Digest authentication of requests (OpenSIPS module auth)", depends=("signaling",))

secret = module.param(
    "secret",
    str,
    "",
    doc="what nonces are made with; default: a random one for each run of the server. Servers that share one, and a server that "
    "is restarted, accept each other's nonces",
)
nonce_expire = module.param("nonce_expire", int, 30, doc="seconds for which a nonce holds")
disable_nonce_check = module.param("disable_nonce_check", int, 0, doc="1: a nonce may be used any number of times while it holds")
realm_prefix = module.param("realm_prefix", str, "", doc="what is taken off the front of a realm that comes from From or To")
username_spec = module.param("username_spec", str, "", doc="variable with the user name, for pv_*_authorize()")
password_spec = module.param("password_spec", str, "", doc="variable with the password, or with HA1 (see calculate_ha1)")
calculate_ha1 = module.param("calculate_ha1", int, 0, doc="1: password_spec holds the password; 0: HA1 in hexadecimal digits")
rpid_avp = module.param("rpid_avp", str, "$avp(rpid)", doc="AVP with the address for Remote-Party-ID")
rpid_prefix = module.param("rpid_prefix", str, "", doc="what stands before it")
rpid_suffix = module.param("rpid_suffix", str, ";party=calling;id-type=subscriber;screen=yes", doc="what follows it")
algorithms = module.param(
    "algorithms",
    str,
    "MD5",
    doc="hash algorithms of RFC 7616 that are asked for, the preferred one first, and accepted (ours): MD5, SHA-256, "
    'SHA-512-256, each also with -sess, as in "SHA-256,MD5". Each makes a header of its own in a challenge (RFC 8760 2.4)',
)


class Settings:
    """What the parameters say, read once."""

    key = b""
    """Of nonces."""
    algorithms: tuple[str, ...] = ("MD5",)
    username: Var | None = None
    password: Var | None = None
    rpid: Var


@module.on_check
@module.on_config
def configure() -> None:
    """Read the parameters."""
    if not 1 <= nonce_expire.value <= 86400:
        raise ConfigError(f"auth: nonce_expire is {nonce_expire.value}; it is 1 to 86400 seconds", "nonce_expire")
    if secret.value:
        Settings.key = blake2b(secret.value.encode("latin-1"), digest_size=32, person=b"nonce").digest()
    else:
        Settings.key = identity.derived_key(b"nonce")
    Settings.algorithms = tuple(_algorithm(name.strip()) for name in algorithms.value.split(","))
    if bool(username_spec.value) != bool(password_spec.value):
        raise ConfigError("auth: username_spec and password_spec belong together")
    Settings.username = _variable(username_spec) if username_spec.value else None
    Settings.password = _variable(password_spec) if password_spec.value else None
    if not rpid_avp.value.startswith("$avp("):
        raise ConfigError(f'auth: rpid_avp is "{rpid_avp.value}"; it must be an AVP, as in "$avp(rpid)"', "rpid_avp")
    Settings.rpid = _variable(rpid_avp)


def _algorithm(name: str) -> str:
    if hash_name(name) not in HASHES:
        known = ", ".join(HASHES)
        raise ConfigError(f'auth: algorithms: "{name}" is not one of {known}, each also with -sess', "algorithms")
    return hash_name(name) + ("-sess" if name.lower().endswith("-sess") else "")


def _variable(parameter: ModuleParameter[str]) -> Var:
    try:
        return by_text(parameter.value)
    except VariableError as error:
        raise ConfigError(f"auth: {parameter.name}: {error}", parameter.name) from None
