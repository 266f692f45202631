"""The panel with a page, without a broker: what its link's news are for the page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_sdk.errors import ClientClosed
from device_sdk.services.config.panel import read_panel
from device_sdk.services.gpio.no_pins import NoPins
from device_sdk.services.service.loop import Loop
from device_sdk.services.service.sd_notify import Notifier
from device_sdk.services.web.service import WebPanelService
from tests.servers import free_port

SETTINGS = """\
[account]
peer = "kitchen"
broker = "mqtt://b"
[history]
keep = 0
[web]
listen = "127.0.0.1:{port}"
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


def test_the_page_shows_who_is_there_on_each_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that was lost makes it unknown, and the client tells changes only."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "panel.toml"
    path.write_text(SETTINGS.format(port=free_port()))
    loop = Loop(Notifier({}))
    service = WebPanelService(read_panel(path), NoPins(), loop, Notifier({}), Link)  # type: ignore[arg-type]  # in its place
    link: Any = service._link

    def shown(*, online: bool) -> Any:
        service.on_link(online)
        while not loop._queue.empty():
            call = loop._queue.get()
            assert call is not None
            call()
        return service._page.shown()["peers"]

    try:
        there, unknown = ({"name": "front-door", "online": on} for on in (True, None))
        assert shown(online=True) == [there]
        assert shown(online=False) == [unknown]
        assert shown(online=True) == [there]
        link.closed = True  # its last news are still on their way
        assert shown(online=False) == [unknown]
        assert shown(online=True) == [unknown]
    finally:
        service._web.stop()
