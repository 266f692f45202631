"""Which web pages may open a WebSocket to the broker. Pure, no I/O."""

from __future__ import annotations

from urllib.parse import urlsplit

#: Where MQTT is spoken; everything else is not found.
WEBSOCKET_PATHS = frozenset(("/", "/mqtt"))
#: What a browser sends for a page without a server: a file, an app in a shell.
_LOCAL = frozenset(("null", "file://"))


def may_come_from(origin: str | None, host: str, allowed: str) -> bool:
    """Whether a page of ``origin`` (the header) may connect to ``host`` (the header).

    ``allowed``: origins with blanks between them, ``*`` for any. Empty: pages of the broker's own
    host on any port, of this machine, and without a server. What sends no Origin is no browser.

    Credentials never ride along with a WebSocket here (no cookie, no client certificate), so this
    keeps a page of a stranger from trying secrets through its visitor's browser, no more.
    """
    if origin is None:
        return True
    if allowed:
        return any(each in ("*", origin) for each in allowed.split())
    if origin in _LOCAL:
        return True
    try:
        name = urlsplit(origin).hostname
        own = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and name in (own, "localhost", "127.0.0.1", "::1")
