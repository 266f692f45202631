"""Who may see and use a page, and from which page it may be asked: pure, time is an argument.

On loopback everybody of this machine may; anywhere else there is a PIN, or users with passwords,
and whoever signed in has a cookie. It holds no secret: a name, and a mark that only this panel can
make. Another PIN, or another password of that user, and it is worth nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

COOKIE = "bellwire"
#: Tries to sign in at once, and the seconds after which there is one more: of one address, of all.
_EACH = (5, 30.0)
_ALL = (30, 5.0)
#: Addresses whose tries are remembered.
_MAX_ADDRESSES = 1000
#: Who signs in with the PIN has no name.
NOBODY = ""


@dataclass(slots=True)
class Bucket:
    """So many at once, one more each ``every`` seconds."""

    size: int
    every: float
    left: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.left = float(self.size)

    def wait(self, now: float) -> float:
        """Seconds until one may be taken; 0: now."""
        self.left = min(float(self.size), self.left + max(0.0, now - self.at) / self.every)
        self.at = now
        return 0.0 if self.left >= 1 else (1 - self.left) * self.every

    def take(self) -> None:
        """Take one."""
        self.left -= 1


class TryLimit:
    """How often it may be tried to sign in."""

    def __init__(self) -> None:
        self._all = Bucket(*_ALL)
        self._each: dict[str, Bucket] = {}

    def wait(self, address: str, now: float) -> float:
        """Seconds until that address may try again; 0: now, and it is counted."""
        one = self._each.pop(address, None) or Bucket(*_EACH, at=now)
        self._each[address] = one  # the newest last
        while len(self._each) > _MAX_ADDRESSES:
            del self._each[next(iter(self._each))]
        seconds = max(one.wait(now), self._all.wait(now))
        if not seconds:
            one.take()
            self._all.take()
        return seconds

    def forget(self, address: str) -> None:
        """That address has signed in."""
        self._each.pop(address, None)


class Access:
    """The rules of one page. ``key``: 32 random bytes that only this panel has.

    ``pin`` None and no ``users``: everybody may, so it is for loopback alone. ``names``: what this
    machine is called, beside its addresses and ``localhost``.
    """

    def __init__(
        self,
        key: bytes,
        *,
        pin: str | None = None,
        users: Mapping[str, str] | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self._key = key
        self._secrets = dict(users or {}) | ({} if pin is None else {NOBODY: pin})
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self.tries = TryLimit()

    @property
    def asks(self) -> list[str]:
        """What one signs in with: "pin", "user", both, or nothing."""
        users = [name for name in self._secrets if name != NOBODY]
        return (["pin"] if NOBODY in self._secrets else []) + (["user"] if users else [])

    # --- who -----------------------------------------------------------------------------------

    def sign_in(self, user: str, secret: str) -> str | None:
        """The cookie's value for ``user`` (:data:`NOBODY`: by PIN); None if ``secret`` is wrong."""
        # What is compared takes the same time, whether there is such a user or not.
        known = self._secrets.get(user)
        right = hmac.compare_digest(_digest(known or ""), _digest(secret))
        return self._mark(user) if right and known is not None else None

    def user_of(self, cookie: str | None) -> str | None:
        """Who has that cookie; None: nobody. Where nothing is asked, it is :data:`NOBODY`."""
        if not self._secrets:
            return NOBODY
        if not cookie or len(cookie) > 300 or not cookie.isascii():
            return None
        name, _, _ = cookie.partition(".")
        try:
            user = bytes.fromhex(name).decode()
        except ValueError:
            return None
        known = user in self._secrets
        return user if known and hmac.compare_digest(self._mark(user), cookie) else None

    def _mark(self, user: str) -> str:
        text = _digest(user) + _digest(self._secrets[user])
        return f"{user.encode().hex()}.{hmac.new(self._key, text, 'sha256').hexdigest()}"

    # --- from where ------------------------------------------------------------------------------

    def host_is_ours(self, host: str) -> bool:
        """Whether a request's ``Host`` names this machine, not a stranger's name for it.

        A name that somebody lets point here (DNS rebinding) is none of ours; an address is no name.
        """
        name = _host_of(host)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    @staticmethod
    def origin_is_ours(origin: str | None, site: str | None, scheme: str, host: str) -> bool:
        """Whether something that changes anything is asked by a page that came from here.

        ``origin`` and ``site`` are the headers ``Origin`` and ``Sec-Fetch-Site``; a browser sends
        the former with every POST, and no page can make it lie.
        """
        if site is not None and site != "same-origin":
            return False
        return origin is not None and origin.lower() == f"{scheme}://{host}".lower()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _host_of(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return (parts.hostname or "").rstrip(".") or None
