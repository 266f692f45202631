"""Notifications to phones, by way of apprise: an address in, one message out, bounded in time."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ...client.logs import Log
from ...errors import BellwireError
from ..logic.notice import Notice

log = Log("bellwire.pi")

MISSING = "it needs the extra notify: pip install 'bellwire[notify]'"
#: The largest picture that is sent along, and how long the camera is waited for; bytes, seconds.
MAX_PICTURE = 4 << 20
PICTURE_TIMEOUT = 3.0
#: What a picture may call itself: the address decides nothing about the file's name.
_KINDS = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


class NotifyError(BellwireError):
    """It was not sent; the message names the service, never the whole address: that is a secret."""


def check_address(address: str) -> str:
    """``address`` if apprise knows it; ``ValueError`` without it, for it holds a secret."""
    if not _has_apprise():
        raise ValueError(MISSING)
    with _quiet():
        if not _sender().add(address):
            raise ValueError(
                'expected an address that apprise knows, such as "ntfys://ntfy.sh/TOPIC"'
            )
    return address


def service_of(address: str) -> str:
    """What may be said of an address: its kind and host."""
    scheme, _, rest = address.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    # Of many services the first part is the secret itself.
    return f"{scheme}://{host}" if scheme in ("ntfy", "json", "jsons") else f"{scheme}://…"


def send_notice(address: str, notice: Notice, link: str = "", picture: str = "") -> None:
    """Send one notification; a picture that cannot be had is left out. Blocks.

    Raises :class:`NotifyError`.
    """
    sender = _sender()
    with _quiet(), _fetched(picture) as file:
        if not sender.add(_with_click(address, link)):
            raise NotifyError(f"{service_of(address)}: apprise does not know this address")
        if not sender.notify(title=notice.title, body=notice.body, attach=file):
            raise NotifyError(f"{service_of(address)} did not take it")


def _sender() -> Any:
    import apprise  # 35 MB, and half a second on a laptop: for who notifies

    # No icon from another host, nothing written to the card, no attachments but ours.
    asset = apprise.AppriseAsset(
        app_id="Bellwire", image_url_mask="", image_url_logo="", async_mode=False, plugin_paths=[]
    )
    return apprise.Apprise(asset=asset)


def _has_apprise() -> bool:
    from importlib.util import find_spec

    return find_spec("apprise") is not None


def _with_click(address: str, link: str) -> str:
    """Have the notification itself be tapped, where the service can: ntfy. All have it as text."""
    if not link or not address.startswith(("ntfy://", "ntfys://")) or "click=" in address:
        return address
    return f"{address}{'&' if '?' in address else '?'}{urlencode({'click': link})}"


@contextlib.contextmanager
def _fetched(picture: str) -> Iterator[str | None]:
    """The picture as a file for as long as it is sent; None where it cannot be had."""
    if not picture:
        yield None
        return
    import http.client
    import urllib.request

    with tempfile.TemporaryDirectory(prefix="bellwire-") as folder:
        file = None
        try:
            with urllib.request.urlopen(picture, timeout=PICTURE_TIMEOUT) as answer:  # noqa: S310 # the settings allow http and https only
                kind, data = answer.headers.get_content_type(), answer.read(MAX_PICTURE + 1)
            if kind in _KINDS and len(data) <= MAX_PICTURE:
                file = Path(folder) / f"door{_KINDS[kind]}"
                file.write_bytes(data)
            else:
                log.warning("the picture is no JPEG, PNG or WebP of at most 4 MB: left out")
        except (OSError, ValueError, http.client.HTTPException) as error:
            log.warning("no picture: %s", error)
        yield None if file is None else str(file)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What apprise logs names whole addresses; what matters of it is said by us."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    yield
