"""A link that raises is lost, whatever it was asked for: nothing of it reaches the client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_sdk import InvalidArgument, Tls
from device_sdk.client.link.factory import GuardedLink, carry_out, chosen_tls
from device_sdk.core.effects import Connected, LinkFailed, Publish, Subscribe, Unsubscribe
from device_sdk.core.effects import LinkInput as Happened
from device_sdk.errors import BrokerUnreachable, LoginError

ASKED: dict[str, tuple[Callable[[GuardedLink], object], object]] = {
    "fileno": (GuardedLink.fileno, -1),
    "wants_write": (GuardedLink.wants_write, False),
    "read": (GuardedLink.read, None),
    "write": (GuardedLink.write, None),
    "tick": (GuardedLink.tick, None),
    "publish": (lambda link: link.publish("t", b"", 1), None),
    "subscribe": (lambda link: link.subscribe(("t",)), None),
    "unsubscribe": (lambda link: link.unsubscribe(("t",)), None),
    "acknowledge": (GuardedLink.acknowledge, None),
    "drain": (GuardedLink.drain, None),
}


class Broken:
    """A link one method of which raises; it has had something to say before."""

    def __init__(self, name: str) -> None:
        self.closed: list[bool] = []
        self.forgotten = False
        self._broken = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def method(*_args: object, **_options: object) -> Any:
            if name == self._broken:
                raise RuntimeError("injected")
            return [Connected()] if name == "drain" else None

        return method

    def close(self, *, clean: bool) -> None:
        self.closed.append(clean)
        if self._broken == "close":
            raise RuntimeError("injected")

    def forget(self) -> None:
        self.forgotten = True
        if self._broken == "forget":
            raise RuntimeError("injected")


def refuse_to_be() -> Any:
    raise AssertionError("not to be made")


def opened(broken: Broken) -> GuardedLink:
    link = GuardedLink(lambda: broken)  # type: ignore[arg-type,return-value]  # it has the methods
    link.open()
    return link


@pytest.mark.parametrize("name", ASKED)
def test_what_raises_is_lost_with_what_it_had_to_say(name: str) -> None:
    """The last it says is that it failed; it is closed, and inert from then on."""
    broken = Broken(name)
    link = opened(broken)
    ask, inert = ASKED[name]
    said: list[Happened] = []
    if name == "drain":
        said = link.drain()
    else:
        assert ask(link) == inert
        said = link.drain()
    assert isinstance(said[-1], LinkFailed)
    assert "injected" in str(said[-1].error)
    assert said[:-1] == ([] if name == "drain" else [Connected()])
    assert broken.closed == [False]
    for again, (other, nothing) in ASKED.items():
        assert other(link) == ([] if again == "drain" else nothing)
    link.lose(BrokerUnreachable("no route", "twice"))
    assert link.drain() == []


def test_a_link_that_cannot_be_made_or_opened_is_a_login_error_and_closed() -> None:
    def make() -> Any:
        raise RuntimeError("injected")

    with pytest.raises(LoginError, match="injected"):
        GuardedLink(make).open()
    refused = BrokerUnreachable("no route", "said by the link")

    def refuse() -> Any:
        raise refused

    with pytest.raises(BrokerUnreachable) as caught:
        GuardedLink(refuse).open()
    assert caught.value is refused
    broken = Broken("open")
    with pytest.raises(LoginError, match="injected"):
        opened(broken)
    assert broken.closed == [False]


def test_closing_and_forgetting_raise_nothing() -> None:
    """In a child process the descriptor alone is closed; a link without a word for it is let be."""
    broken = Broken("close")
    opened(broken).close(clean=True)
    assert broken.closed == [True]
    broken = Broken("forget")
    link = opened(broken)
    link.forget()
    assert (broken.forgotten, broken.closed) == (True, [])
    link.forget()
    assert link.fileno() == -1
    GuardedLink(refuse_to_be).close(clean=True)  # never opened


def test_what_concerns_the_link_alone_is_dropped_without_one() -> None:
    for effect in (Publish("t", b""), Subscribe(("t",)), Unsubscribe(("t",))):
        assert carry_out(effect, None)
    link = opened(Broken(""))
    for effect in (Publish("t", b""), Subscribe(("t",)), Unsubscribe(("t",))):
        assert carry_out(effect, link)


@pytest.mark.parametrize(
    ("files", "tls", "name"),
    [
        ({"ca_file": "a.pem"}, Tls(ca_file="b.pem"), "ca_file"),
        ({"key_file": 7}, None, "key_file"),
        ({}, "a.pem", "tls"),
    ],
)
def test_tls_is_said_once_and_by_file_names(files: dict[str, Any], tls: Any, name: str) -> None:
    given: dict[str, Any] = {"ca_file": None, "cert_file": None, "key_file": None, **files}
    with pytest.raises(InvalidArgument, match=rf"^{name}: "):
        chosen_tls(**given, tls=tls)
    assert chosen_tls(None, None, None, None) is None
    assert chosen_tls(Path("a"), None, None, None) == Tls("a", None, None)
