"""What the page's server takes for a request, and for its body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from device_sdk.services.web.access import Access
from device_sdk.services.web.app import PageApp, _json
from device_sdk.services.web.asked import PageVerdict
from device_sdk.services.web.hub import Hub
from device_sdk.services.web.page import Page


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'{"tab": "\\u00fc \\ud83d\\ude00"}', {"tab": "ü 😀"}),
        (b'{"tab": "\\ud800"}', None),
        (b'{"a": [{"\\udfff": 1}]}', None),
        (b"[]", None),
        (b"", {}),
    ],
)
def test_a_body_is_an_object_whose_text_can_be_said_again(body: bytes, read: Any) -> None:
    """A tab's name is shown to every page: one that is no text ended the panel."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}
    assert asyncio.run(_json(Request(scope, receive))) == read


class _Nobody:
    """A panel in which nothing happens."""

    def post(self, call: Callable[[], None]) -> None:
        call()

    def ask(self, *_: Any) -> PageVerdict:
        return PageVerdict()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/picture/x/0", {}, 404),
        # More digits than Python makes a number of ended in 500 and a traceback in the log.
        ("/picture/x/" + "9" * 5000, {}, 404),
        ("/picture/x/²", {}, 404),
        ("/state", {"x": "y" * 16_000}, 200),
        ("/state", {"x": "y" * 17_000}, 431),
    ],
)
def test_what_a_stranger_asks_is_answered(path: str, headers: dict[str, str], status: int) -> None:
    app = PageApp(_Nobody(), Page("kitchen"), Access(bytes(32)), Hub()).asgi
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http", "method": "GET", "path": path, "scheme": "http", "query_string": b"",
        "headers": [(b"host", b"localhost"), *raw], "server": ("localhost", 80), "root_path": "",
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    asyncio.run(app(scope, receive, send))
    assert said[0]["status"] == status
