"""What a page shows of a content: text, and media that a browser can show, whatever is sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.services.web.content import (
    MAX_MEDIA,
    MAX_SDP,
    origin_of,
    pack_sdp,
    signal_of,
    unpack_sdp,
    view_of,
)

BODY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@given(BODY)
def test_any_content_and_any_message_becomes_json(content: object) -> None:
    """From the wire nothing raises into the service."""
    view = view_of({"media": [content], "text": content} if content else content)
    json.dumps([view.text, view.media])
    json.dumps(signal_of(content))
    json.dumps(signal_of({"sdp": content, "candidates": content}))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ({"text": "hello"}, "hello"),
        ({"media": [{"kind": "page", "url": "http://x/"}]}, ""),
        ([1, "two"], '[1, "two"]'),
        (7, "7"),
        ({"text": 5}, '{"text": 5}'),
    ],
)
def test_text(content: object, text: str) -> None:
    assert view_of(content).text == text


def test_media_by_address_are_shown_of_known_origins_only() -> None:
    media = [
        {"kind": "snapshot", "url": "http://camera:1984/frame.jpeg"},
        {"kind": "page", "url": "http://other/"},
        {"kind": "page", "url": "javascript:alert(1)"},
        {"kind": "whep", "url": "http://user:pass@camera:1984/"},
        {"kind": "rtsp", "url": "rtsp://camera/"},
        "nonsense",
        {"kind": ["page"]},
    ]
    assert view_of({"media": media}, ["http://camera:1984"]).media == (
        {
            "kind": "snapshot",
            "url": "http://camera:1984/frame.jpeg",
            "origin": "http://camera:1984",
            "allowed": True,
        },
        {"kind": "page", "url": "http://other/", "origin": "http://other", "allowed": False},
    )


def test_no_more_media_than_fit_a_screen() -> None:
    many = [{"kind": "webrtc"}] * (MAX_MEDIA + 3)
    assert len(view_of({"media": many}).media) == MAX_MEDIA


def test_a_picture_within_is_one_by_its_first_bytes() -> None:
    jpeg, html = b"\xff\xd8\xff\xe0 and so on", b"<html>"
    media = [{"kind": "snapshot", "data": html}, {"kind": "snapshot", "data": jpeg}]
    view = view_of({"media": media})
    assert view.media == ({"kind": "snapshot", "picture": 0},)
    assert (view.pictures[0].data, view.pictures[0].kind) == (jpeg, "image/jpeg")


def test_sdp_comes_as_text_or_deflated() -> None:
    offer = "v=0\r\n" * 1500
    packed = pack_sdp(offer)
    assert isinstance(packed, bytes)
    assert len(packed) < 200
    assert view_of({"media": [{"kind": "webrtc", "sdp": packed}]}).media[0]["sdp"] == offer
    assert unpack_sdp(pack_sdp("v=0")) == "v=0"


@pytest.mark.parametrize("sdp", [b"", b"\xff\x00", 7, None, pack_sdp("x" * (MAX_SDP + 1)), "ü"])
def test_no_sdp_no_bomb(sdp: object) -> None:
    """What inflates beyond bounds is none, and costs no memory."""
    assert unpack_sdp(sdp) is None
    assert view_of({"media": [{"kind": "webrtc", "sdp": sdp}]}).media == ({"kind": "webrtc"},)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://cam/x", "http://cam"),
        ("HTTPS://Cam:443", "https://cam"),
        ("http://[fe80::1]:8080/", "http://[fe80::1]:8080"),
        ("http://cam:x/", None),
        ("http://a b/", None),
        ("http://cam/\n; script-src *", None),
        ("ftp://cam/", None),
        ("//cam", None),
        (None, None),
    ],
)
def test_origins(url: object, origin: str | None) -> None:
    """One goes into a header: nothing may end it."""
    assert origin_of(url) == origin
