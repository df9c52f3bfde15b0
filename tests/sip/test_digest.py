"""Digest responses: the examples of RFC 7616 3.9 and RFC 2617 3.5."""

from __future__ import annotations

import pytest

from opensips_py.sip.digest import HASHES, Credentials, digest_response, ha1, parse_credentials
from opensips_py.sip.errors import ParseError

MUFASA = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, '
    'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="x", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


def credentials(**changed: str | None) -> Credentials:
    given: dict[str, str | None] = {
        **{"username": "Mufasa", "realm": "testrealm@host.com", "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093"},
        **{"uri": "/dir/index.html", "response": None, "algorithm": None, "cnonce": "0a4f113b", "opaque": None},
        **{"qop": "auth", "nc": "00000001"},
        **changed,
    }
    return Credentials(**given, params={})


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: str, response: str) -> None:
    given = parse_credentials(MUFASA.format(algorithm))
    assert digest_response(given, ha1("Mufasa", "http-auth@example.org", "Circle of Life", algorithm), "GET") == response


def test_sha_512_256_is_that_of_fips_180() -> None:
    """The hashed user name of RFC 7616 3.9.2, as its errata have it: not the first half of SHA-512."""
    user = "J\xc3\xa4s\xc3\xb8n Doe:api@example.org".encode("latin-1")
    assert HASHES["SHA-512-256"](user).hexdigest() == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"


def test_the_example_of_rfc_2617() -> None:
    first = ha1("Mufasa", "testrealm@host.com", "Circle Of Life")
    assert digest_response(credentials(), first, "GET") == "6629fae49393a05397450978507c4ef1"


def test_without_qop_count_and_client_nonce_do_not_matter() -> None:
    first = ha1("Mufasa", "testrealm@host.com", "Circle Of Life")
    assert digest_response(credentials(qop=None), first, "GET") == "670fd8c2df070c60b045671b8b24ff02"
    assert digest_response(credentials(qop=None, nc="2", cnonce=None), first, "GET") == "670fd8c2df070c60b045671b8b24ff02"


@pytest.mark.parametrize("wrong", [{"algorithm": "SHA-1"}, {"algorithm": "-sess"}, {"qop": "auth-conf"}])
def test_what_is_unknown_is_an_error(wrong: dict[str, str]) -> None:
    with pytest.raises(ParseError):
        digest_response(credentials(**wrong), "0" * 32, "GET")
