"""Who may see a page: PIN and users, cookies, tries, the host asked for, the page that asks."""

from __future__ import annotations

import pytest

from device_sdk.services.web.access import NOBODY, Access, TryLimit
from device_sdk.services.web.words import _WORDS, sentence

KEY = bytes(32)


def test_where_nothing_is_asked_everybody_may() -> None:
    access = Access(KEY)
    assert access.asks == []
    assert access.user_of(None) == access.user_of("whatever") == NOBODY
    assert access.sign_in("", "") is None


def test_a_pin_gives_a_cookie_that_only_this_panel_makes() -> None:
    access = Access(KEY, pin="314159")
    assert access.asks == ["pin"]
    assert access.sign_in("", "271828") is None
    cookie = access.sign_in("", "314159")
    assert cookie is not None
    assert access.user_of(cookie) == NOBODY
    assert Access(bytes(31) + b"1", pin="314159").user_of(cookie) is None
    assert Access(KEY, pin="other one").user_of(cookie) is None  # another PIN, and all are out


def test_users_have_names_and_the_nameless_no_password() -> None:
    access = Access(KEY, users={"anna": "correct horse", "ben": "battery staple"})
    assert access.asks == ["user"]
    cookie = access.sign_in("anna", "correct horse")
    assert access.user_of(cookie) == "anna"
    assert access.sign_in("anna", "battery staple") is None
    assert access.sign_in("", "") is access.sign_in("carl", "") is None
    both = Access(KEY, pin="314159", users={"anna": "correct horse"})
    assert both.asks == ["pin", "user"]
    assert both.user_of(cookie) == "anna"


@pytest.mark.parametrize(
    "cookie", [None, "", ".", "zz.00", "616e6e61", "616e6e61.00", "ü", "9" * 999]
)
def test_what_is_no_cookie_of_ours(cookie: str | None) -> None:
    assert Access(KEY, users={"anna": "correct horse"}).user_of(cookie) is None


def test_tries_are_few_and_come_back_slowly() -> None:
    tries = TryLimit()
    assert [tries.wait("a", 0) for _ in range(5)] == [0] * 5
    assert tries.wait("a", 0) == 30
    assert tries.wait("b", 0) == 0  # another address is not held back
    assert tries.wait("a", 29) == pytest.approx(1)
    assert tries.wait("a", 30) == 0
    tries.forget("b")


def test_tries_of_all_addresses_are_bounded_too() -> None:
    """Six digits, a thousand addresses: 58 days for all of them."""
    tries = TryLimit()
    let = sum(
        not tries.wait(f"10.0.{second // 250}.{second % 250}", second) for second in range(3600)
    )
    assert let <= 30 + 3600 / 5


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("192.168.1.7", True),
        ("[::1]:8080", True),
        ("Panel.LAN.:8080", True),
        ("panel.local", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("panel.lan:x", False),
        ("evil.example@panel.lan", False),
        ("panel.lan/..", False),
    ],
)
def test_a_strangers_name_for_this_machine_is_not_answered(host: str, ours: bool) -> None:
    """DNS rebinding: the name is the stranger's, the address is ours."""
    assert Access(KEY, names=["panel.lan"]).host_is_ours(host) is ours


@pytest.mark.parametrize(
    ("origin", "site", "ours"),
    [
        ("http://panel.lan:8080", None, True),
        ("http://panel.lan:8080", "same-origin", True),
        ("http://panel.lan:8080", "same-site", False),
        ("http://panel.lan:8080", "cross-site", False),
        ("https://panel.lan:8080", None, False),
        ("http://panel.lan", None, False),
        ("http://evil.example", None, False),
        ("null", None, False),
        (None, None, False),
    ],
)
def test_only_our_own_page_may_change_anything(
    origin: str | None, site: str | None, ours: bool
) -> None:
    assert Access.origin_is_ours(origin, site, "http", "panel.lan:8080") is ours


def test_every_sentence_is_there_in_both_languages() -> None:
    values = {"by": "Anna", "host": "h", "seconds": 3}
    for code in _WORDS:
        english, german = (sentence(code, language, **values) for language in ("en", "de"))
        assert english != german
        assert "{" not in english + german
