"""Reads what is on the wire, and writes nothing: no login, no presence, no will."""

from __future__ import annotations

import math
import random
import secrets
import select
import time
from dataclasses import dataclass

from ..client.link.factory import GuardedLink
from ..client.link.paho import PahoLink
from ..client.link.srv import check_installed, look_up, targets
from ..client.link.url import AnyUrl, BrokerUrl, SrvUrl, Tls
from ..core.connection import combined
from ..core.effects import Connected, Disconnected, LinkFailed, MessageReceived, Subscribed
from ..core.rotation import Rotation, spread
from ..core.wire.topics import escape
from ..errors import LoginError, LoginTimeout, SubscriptionRefused


@dataclass(frozen=True, slots=True)
class Seen:
    """A message, and when it came (``time.monotonic``)."""

    at: float
    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Linked:
    """The connection came (again), or was lost; ``text`` says so, and where or how."""

    at: float
    up: bool
    text: str


class Observer:
    """Subscriptions to ``filters`` over as many connections as it takes; used by one thread.

    Of several ``urls`` it reads at one, and goes on to the next when that fails. ``client_id`` None
    is a random one: a peer's own id would end that peer's connection.
    """

    def __init__(
        self,
        urls: tuple[AnyUrl, ...],
        filters: tuple[str, ...],
        *,
        client_id: str | None = None,
        username: str | None = None,
        password: str | None = None,
        tls: Tls | None = None,
        keepalive: int = 15,
        subscribe_qos: int = 1,
    ) -> None:
        self._filters = filters
        self._client_id = client_id or f"bellwire-observer-{secrets.token_hex(4)}"
        by_name: dict[str, AnyUrl] = {str(url): url for url in urls}
        sources = {name: url for name, url in by_name.items() if isinstance(url, SrvUrl)}
        for source in sources.values():
            check_installed(source)
        self._rotation = Rotation(spread(by_name, self._client_id), sources)
        self._urls = by_name
        self._username = username
        self._password = password
        self._context = (tls or Tls()).make_context() if urls[0].tls else None
        self._keepalive = keepalive
        self._subscribe_qos = subscribe_qos
        self._link: GuardedLink | None = None
        self._up_at: float | None = None
        self._ticked = 0.0
        self._retry_at = 0.0

    @property
    def broker(self) -> str:
        """The URL of the broker that it reads at."""
        return self._rotation.name

    def start(self, timeout: float = 10.0) -> list[Seen]:
        """Connect and subscribe; what came already. Raises :class:`LoginError` when none did."""
        deadline = time.monotonic() + timeout
        errors: dict[str, LoginError] = {}
        while True:
            self._rotation.begin(time.monotonic())
            broker, patience = self.broker, self._rotation.patience
            left = deadline - time.monotonic()
            try:
                if self._rotation.asks:
                    self._look_up()
                    continue
                return self._first(left if patience is None else min(left, patience))
            except LoginError as error:
                errors[broker] = error
                if self.broker == broker:  # it was late, or could not even be opened
                    self._later()
                tried = errors.keys() >= set(self._rotation.names)
                if tried or time.monotonic() >= deadline:
                    raise combined(errors.values()) from None

    def _first(self, timeout: float) -> list[Seen]:
        deadline = time.monotonic() + timeout
        seen: list[Seen] = []
        self._open()
        while self._up_at is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self.close()
                raise LoginTimeout(f"{self.broker} took the connection but did not subscribe us")
            seen += [each for each in self._look(left, strict=True) if isinstance(each, Seen)]
        return seen

    def wait(self, timeout: float) -> list[Seen | Linked]:
        """What happens within ``timeout`` seconds; returns at the first of it."""
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            if self._link is None and now >= self._retry_at:
                try:
                    self._rotation.begin(now)
                    if self._rotation.asks:
                        self._look_up()
                    self._open()
                except LoginError:
                    self._later()
            happened = self._look(min(deadline, now + 1) - now, strict=False)
            if happened or time.monotonic() >= deadline:
                return happened

    def close(self) -> None:
        """Leave."""
        link, self._link, self._up_at = self._link, None, None
        if link is not None:
            link.close(clean=True)

    # --- inside ----------------------------------------------------------------------------

    def _look_up(self) -> None:
        url = self._urls[self.broker]
        assert isinstance(url, SrvUrl)  # noqa: S101 - what is asked is a domain
        answer = look_up(url)
        for each in answer.found:
            self._urls.setdefault(str(each.url), each.url)
        until = time.monotonic() + answer.ttl
        self._rotation.found(targets(answer, self._client_id), until)

    def _open(self) -> None:
        url, patience = self._urls[self.broker], self._rotation.patience
        assert isinstance(url, BrokerUrl)  # noqa: S101 - what is found is no domain
        link = GuardedLink(
            lambda: PahoLink(
                url,
                self._client_id,
                None,
                keepalive=self._keepalive,
                subscribe_qos=self._subscribe_qos,
                username=self._username,
                password=self._password,
                context=self._context,
                at_most=patience or math.inf,
            )
        )
        link.open()
        self._link = link

    def _later(self) -> None:
        now = time.monotonic()
        lasted = None if self._up_at is None else now - self._up_at
        self._link = self._up_at = None
        self._retry_at = now + self._rotation.failed(lasted, random.random())  # noqa: S311

    def _look(self, timeout: float, *, strict: bool) -> list[Seen | Linked]:
        link = self._link
        if link is None:
            left = min(timeout, self._retry_at - time.monotonic())
            time.sleep(max(0.0, left))
            return []
        fd = link.fileno()
        if fd >= 0:
            writers = [fd] if link.wants_write() else []
            readable, writable, _ = select.select([fd], writers, [], max(0.0, min(timeout, 1.0)))
            if readable:
                link.read()
            if writable:
                link.write()
        now = time.monotonic()
        if fd < 0 or now - self._ticked >= 1:
            self._ticked = now
            link.tick()
        return self._take(link, now, strict=strict)

    def _take(self, link: GuardedLink, now: float, *, strict: bool) -> list[Seen | Linked]:
        out: list[Seen | Linked] = []
        for what in link.drain():
            error: LoginError | None = None
            if isinstance(what, Connected):
                link.subscribe(self._filters)
            elif isinstance(what, Subscribed):
                if what.refused:
                    named = what.refused[0]
                    whole = named.endswith("/#")  # the realm, which few may read
                    cure = "; there: `bellwire-broker device set NAME --watches`" if whole else ""
                    error = SubscriptionRefused(
                        named, f"the broker does not let this client read {named!r}{cure}"
                    )
                else:
                    self._up_at = now
                    out.append(Linked(now, up=True, text=f"connected again: {self.broker}"))
            elif isinstance(what, MessageReceived):
                out.append(Seen(now, what.topic, what.payload, what.retained))
            elif isinstance(what, LinkFailed):
                error = what.error
            elif isinstance(what, Disconnected):
                error = LoginError(f"{self.broker}: the connection broke")
            if error is not None:
                link.close(clean=False)
                was_up = self._up_at is not None
                self._later()
                if strict:
                    raise error
                if was_up:
                    out.append(Linked(now, up=False, text=f"reconnecting: {error}"))
                break
        return out


def observer_id(peer: str | None, username: str | None) -> str | None:
    """A client id to read under, of the user whose it must be where a broker knows its clients.

    Drawn anew by each command: two of one user read side by side, and nobody else can know it (see
    :attr:`~device_sdk.client.link.base.Will.client_id`).
    """
    user = username or (None if peer is None else escape(peer))
    return None if user is None else f"{user}:{secrets.token_hex(8)}"
