"""What module uac gives to peers to keep: AES-SIV (RFC 5297)."""

from __future__ import annotations

import pytest

from opensips_py.modules.uac import sealed

KEY = sealed.key_of("a long password")
ABOUT = "vsf call1@test"
TEXT = "sip:alice@example.org\0sip:anonymous@h\xff"


def test_a_sealed_text_comes_back_and_is_the_same_each_time() -> None:
    token = sealed.seal(KEY, ABOUT, TEXT)
    assert sealed.unseal(KEY, ABOUT, token) == TEXT
    assert sealed.seal(sealed.key_of("a long password"), ABOUT, TEXT) == token
    assert "alice" not in token and not set(token) & set("=;?, ")


def test_nothing_else_is_opened() -> None:
    token = sealed.seal(KEY, ABOUT, TEXT)
    for n, letter in enumerate(token):
        assert sealed.unseal(KEY, ABOUT, token[:n] + ("A" if letter != "A" else "B") + token[n + 1 :]) in (None, TEXT)
        assert sealed.unseal(KEY, ABOUT, token[:n]) is None
    assert sealed.unseal(KEY, "vst call1@test", token) is None
    assert sealed.unseal(sealed.key_of("another"), ABOUT, token) is None
    assert sealed.unseal(sealed.key_of(""), ABOUT, token) is None


@pytest.mark.parametrize("token", ["", "-", "AAAA", "A" * 20, "A" * 24, "\xff\xfe", "====", "A" * 4000])
def test_what_was_never_sealed_is_none(token: str) -> None:
    assert sealed.unseal(KEY, ABOUT, token) is None
