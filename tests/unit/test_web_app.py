"""What the page's server takes for a request's body."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from device_sdk.services.web.app import _json


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
