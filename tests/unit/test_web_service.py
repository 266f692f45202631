"""The panel with a page, without a broker: what its link's news are for the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_sdk.client.invitations import MissedCall
from device_sdk.errors import ClientClosed
from device_sdk.services.config.panel import read_panel
from device_sdk.services.gpio.no_pins import NoPins
from device_sdk.services.service.loop import Loop
from device_sdk.services.service.sd_notify import Notifier
from device_sdk.services.web.service import WebPanelService
from device_sdk.states import EndReason

NOW = 1_800_000_000

SETTINGS = """\
[account]
peer = "kitchen"
broker = "mqtt://b"
[history]
keep = 0
[web]
listen = "127.0.0.1:0"
peers = ["front-door"]
"""


class Link:
    """In place of a client: whoever is watched is there, and that is told anew if asked anew."""

    def __init__(self, _account: Any, listener: Any, *_: Any) -> None:
        self.listener, self.closed = listener, False
        self.client = SimpleNamespace(call_manager=self, watch=self.watch, stats={})

    def watch(self, peer: str) -> None:
        if self.closed:
            raise ClientClosed("it is over")
        self.listener.on_presence_changed(peer, True)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebPanelService]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "panel.toml"
    path.write_text(SETTINGS)
    made = WebPanelService(
        read_panel(path),
        NoPins(),
        Loop(Notifier({})),
        Notifier({}),
        Link,  # type: ignore[arg-type]  # in its place
        unix=lambda: NOW,
    )
    yield made
    made._web.stop()


def turn(service: WebPanelService) -> dict[str, Any]:
    """What was handed to the loop is done; what the page shows then."""
    queue = service._loop._queue
    while not queue.empty():
        call = queue.get()
        assert call is not None
        call()
    return service._page.shown()


def test_a_free_port_is_said(service: WebPanelService) -> None:
    """Of ``listen = "127.0.0.1:0"``: the line that names the page named port 0."""
    assert service._web_settings.port not in (0, None)
    assert str(service._web_settings.port) in service._web_settings.url


def test_the_page_shows_who_is_there_on_each_connection(service: WebPanelService) -> None:
    """A link that was lost makes it unknown, and the client tells changes only."""
    link: Any = service._link

    def shown(*, online: bool) -> Any:
        service.on_link(online)
        return turn(service)["peers"]

    there, unknown = ([{"name": "front-door", "online": on}] for on in (True, None))
    assert shown(online=True) == there
    assert shown(online=False) == unknown
    assert shown(online=True) == there
    link.closed = True  # its last news are still on their way
    assert shown(online=False) == unknown
    assert shown(online=True) == unknown


@pytest.mark.parametrize(
    ("told", "shown"),
    [(None, NOW), (0, NOW), (2**53 - 1, NOW), (9 * 10**12, NOW), (NOW - 3600, NOW - 3600)],
)
def test_a_missed_call_is_shown_at_a_time_that_there_is(
    service: WebPanelService, told: int | None, shown: int
) -> None:
    """A caller may send any: of one beyond the calendar a browser makes an error, not a date."""
    service.on_missed_call(MissedCall("front-door", "c1", EndReason.EXPIRED, told))
    assert [each["at"] for each in turn(service)["missed"]] == [shown]
