"""Of several logins of one peer one goes on, the newest: the small bounds, and wrong engines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest

from device_sdk.core.presence import OwnPresence, PresenceVerdict
from tests.model.logins import SMALL, Logins, LoginSearch


@pytest.mark.parametrize("bound", SMALL, ids=lambda bound: bound.name)
def test_the_newest_login_goes_on_and_the_others_end(bound: Logins) -> None:
    """Whatever the delays of each link, in every world within the bound."""
    search = LoginSearch(bound)
    assert search.run() == []
    assert search.states > 100


Wrong = Callable[[], AbstractContextManager[Any]]


def _reads(change: Callable[..., PresenceVerdict]) -> Wrong:
    original = OwnPresence.read

    def read(self: OwnPresence, presence: Any, **more: Any) -> PresenceVerdict:
        return change(self, lambda: original(self, presence, **more), presence, more)

    return lambda: patch.object(OwnPresence, "read", read)


def _unknown_online_ends(own: OwnPresence, right: Any, presence: Any, more: Any) -> PresenceVerdict:
    """The rule of old: whoever is online and not known is newer."""
    foreign = presence is not None and presence.epoch != own._epoch and presence.online
    verdict: PresenceVerdict = right()
    return PresenceVerdict.ABORT if foreign and more["settled"] else verdict


def _no_one_ends(_own: OwnPresence, right: Any, _presence: Any, _more: Any) -> PresenceVerdict:
    verdict: PresenceVerdict = right()
    return PresenceVerdict.REPUBLISH if verdict is PresenceVerdict.ABORT else verdict


def _age_is_nothing(own: OwnPresence, _right: Any, presence: Any, more: Any) -> PresenceVerdict:
    if presence is not None:
        presence = presence._replace(age=0)
    return _READ(own, presence, **more)


def _no_word_against(_own: OwnPresence, right: Any, _presence: Any, _more: Any) -> PresenceVerdict:
    verdict: PresenceVerdict = right()
    return PresenceVerdict.NOTHING if verdict is PresenceVerdict.REPUBLISH else verdict


_READ = OwnPresence.read


def _never_raised() -> AbstractContextManager[Any]:
    return patch.object(OwnPresence, "_rise_over", lambda *_: None)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(_reads(_unknown_online_ends), id="whoever is online and unknown is newer"),
        pytest.param(_reads(_no_one_ends), id="nobody ends"),
        pytest.param(_reads(_age_is_nothing), id="age is nothing"),
        pytest.param(_reads(_no_word_against), id="a will stands"),
        pytest.param(_never_raised, id="what is found does not raise the rank"),
    ],
)
def test_a_wrong_login_is_caught(wrong: Wrong) -> None:
    """The checker can fail: each in some bound."""
    with wrong():
        assert any(LoginSearch(bound).run(most=5_000) for bound in SMALL)
