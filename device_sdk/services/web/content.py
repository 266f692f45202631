"""What a page shows of a call's content and messages: text, media that a browser can show. Pure.

Whatever a peer sends becomes JSON that a page shows as text and never as markup; of addresses only
``http`` and ``https`` ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ...client.display import as_json, jsonable
from ..logic.messages import MAX_TEXT, text_of

#: The longest session description, inflated; bytes. An offer of a browser has 8 KB.
MAX_SDP = 64 * 1024
MAX_MEDIA = 8
#: What shows itself by an address.
_BY_URL = ("snapshot", "page", "whep")
_PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}
#: What does not fit a cell as it is travels deflated: it is 1.6 KB then, not 8.
_PACK_ABOVE = 1000


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that came within the content."""

    data: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class View:
    """``media``: for JSON; a ``snapshot`` with ``picture`` N is the N-th of ``pictures``."""

    text: str = ""
    media: tuple[dict[str, Any], ...] = ()
    pictures: tuple[Picture, ...] = field(default=(), repr=False)


def view_of(content: object, origins: Iterable[str] = ()) -> View:
    """What of ``content`` is shown; addresses of other origins than ``origins`` are only named.

    >>> view_of({"text": "hello", "media": [{"kind": "page", "url": "http://cam/x"}]}).media
    ({'kind': 'page', 'url': 'http://cam/x', 'origin': 'http://cam', 'allowed': False},)
    """
    listed = content.get("media") if isinstance(content, dict) else None
    allowed = frozenset(origins)
    media: list[dict[str, Any]] = []
    pictures: list[Picture] = []
    for each in listed[:MAX_MEDIA] if isinstance(listed, list) else ():
        if isinstance(each, dict):
            made = _medium(each, allowed, pictures)
            media += [] if made is None else [made]
    return View(_text(content, bool(media)), tuple(media), tuple(pictures))


def _text(content: object, has_media: bool) -> str:
    text = text_of(content)
    if text is None:
        # What is no text is shown all the same: somebody sent it.
        return "" if content is None or has_media else as_json(content)[:MAX_TEXT]
    return str(jsonable(text))


def _medium(
    each: dict[Any, Any], allowed: frozenset[str], pictures: list[Picture]
) -> dict[str, Any] | None:
    kind, data = each.get("kind"), each.get("data")
    if kind == "webrtc":
        sdp = unpack_sdp(each.get("sdp"))
        return {"kind": "webrtc"} | ({} if sdp is None else {"sdp": sdp})
    if kind == "snapshot" and isinstance(data, bytes):
        for start, mime in _PICTURES.items():
            if data.startswith(start):
                pictures.append(Picture(data, mime))
                return {"kind": "snapshot", "picture": len(pictures) - 1}
        return None
    if kind in _BY_URL:
        origin = origin_of(each.get("url"))
        if origin is not None:
            # With its origin: what a browser takes for no address at all is none that it parses.
            return {
                "kind": kind,
                "url": each["url"],
                "origin": origin,
                "allowed": origin in allowed,
            }
    return None


def origin_of(url: object) -> str | None:
    """Scheme, host and port of a web address that a page may load; None for anything else.

    >>> origin_of("https://Cam.local:443/x?y"), origin_of("javascript:alert(1)")
    ('https://cam.local', None)
    """
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if port in (None, usual) else f":{port}")


def unpack_sdp(sdp: object) -> str | None:
    """A session description as text: it comes as such, or as bytes, deflated; None for neither.

    >>> unpack_sdp(pack_sdp("v=0 " * 1000)) == "v=0 " * 1000
    True
    """
    if isinstance(sdp, str):
        return sdp if len(sdp) <= MAX_SDP and sdp.isascii() else None
    if not isinstance(sdp, bytes):
        return None
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        text = inflate.decompress(sdp, MAX_SDP).decode("ascii")
    except (zlib.error, UnicodeDecodeError):
        return None
    return text if inflate.eof else None


def pack_sdp(sdp: str) -> str | bytes:
    """As it travels: a long one deflated (raw), as a byte string."""
    if len(sdp) < _PACK_ABOVE:
        return sdp
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(sdp.encode("ascii")) + deflate.flush()


def signal_of(message: object) -> dict[str, Any] | None:
    """What a message in a call has for a browser's peer connection, as JSON; None if nothing."""
    if not isinstance(message, dict):
        return None
    found: dict[str, Any] = {}
    if (sdp := unpack_sdp(message.get("sdp"))) is not None:
        found["sdp"] = sdp
        if message.get("type") in ("offer", "answer"):
            found["type"] = message["type"]
    candidates = message.get("candidates")
    if isinstance(candidates, list):
        found["candidates"] = [jsonable(each) for each in candidates[:32]]
    return found or None
