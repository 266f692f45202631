"""Links: how a client comes by one, what it does with one, and what becomes of one that raises."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from ...core.connection import SessionEffect
from ...core.effects import LinkFailed, LinkInput, Publish, Subscribe, Unsubscribe
from ...core.rotation import spread
from ...core.wire import topics
from ...errors import BrokerUnreachable, InvalidArgument, LoginError
from .base import Link, LinkFactory, Will
from .srv import LookUp, check_installed
from .text_file import TextFileError, read_secret
from .url import AnyUrl, BrokerUrl, SrvUrl, Tls, parse_brokers


class Brokers:
    """The brokers of one peer in the order in which it tries them, and links there by their names.

    Those in ``sources`` are domains, whose brokers have to be looked up.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        link_to: Callable[[str], LinkFactory],
        sources: tuple[str, ...] = (),
    ) -> None:
        self.names = names
        self.sources = sources
        #: What makes links to the broker of that name.
        self.link_to = link_to

    @classmethod
    def only(cls, make: LinkFactory) -> Self:
        """One without a name, to which ``make`` makes links."""
        return cls(("",), lambda _name: make)


def paho_links(
    peer_id: str,
    brokers: object,
    username: str | None,
    password: str | None,
    tls: Tls | None,
    keepalive: int,
    subscribe_qos: int = 1,
) -> Brokers:
    """What makes links to each of ``brokers`` by paho-mqtt; raises :class:`InvalidArgument`."""
    urls = parse_brokers(brokers)
    for url in urls:
        if isinstance(url, SrvUrl):
            check_installed(url)
    for name, value in (("username", username), ("password", password)):
        if value is not None and not isinstance(value, str):
            raise InvalidArgument(name, f"a string, not {type(value).__name__}")
        if value is not None and not _fits(value):
            raise InvalidArgument(name, "at most 65535 bytes of UTF-8, no NUL (MQTT 3.1.1, 1.5.3)")
    if tls is not None and not urls[0].tls:
        file = next((n for n in Tls._fields if n != "context" and getattr(tls, n)), "tls")
        raise InvalidArgument(file, f"{urls[0]} is not encrypted: say mqtts:// or wss://")
    if username is None and password is not None:
        username = topics.escape(peer_id)
    context = (tls or Tls()).make_context() if urls[0].tls else None
    by_name: dict[str, AnyUrl] = {str(url): url for url in urls}

    def know(found: Iterable[BrokerUrl]) -> None:
        for url in found:  # on the thread that looks up, before anybody is told the names
            by_name.setdefault(str(url), url)

    def link_to(name: str) -> LinkFactory:
        url = by_name[name]

        def make(will: Will) -> Link:
            from .paho import PahoLink

            if isinstance(url, SrvUrl):
                return LookUp(url, peer_id, know)
            return PahoLink(
                url,
                will.client_id,
                will,
                keepalive=keepalive,
                subscribe_qos=subscribe_qos,
                username=username,
                password=password,
                context=context,
            )

        return make

    sources = tuple(str(url) for url in urls if isinstance(url, SrvUrl))
    return Brokers(spread(by_name, peer_id), link_to, sources)


def _fits(value: str) -> bool:
    try:
        return len(value.encode()) <= 65535 and "\0" not in value
    except UnicodeEncodeError:
        return False


FileName = str | os.PathLike[str]


def chosen_secret(password: str | None, secret_file: FileName | None) -> str | None:
    """The secret itself, or that in the file, read now; raises :class:`InvalidArgument`."""
    if secret_file is None:
        return password
    if password is not None:
        raise InvalidArgument("secret_file", "password is given, too: one of the two")
    try:
        return read_secret(Path(secret_file))
    except (TextFileError, TypeError) as error:
        raise InvalidArgument("secret_file", str(error)) from None


def chosen_tls(
    ca_file: FileName | None, cert_file: FileName | None, key_file: FileName | None, tls: Tls | None
) -> Tls | None:
    """What the files say, or ``tls``; raises :class:`InvalidArgument` for both."""
    if tls is not None and not isinstance(tls, Tls):
        raise InvalidArgument("tls", f"a Tls, not {type(tls).__name__}")
    files = {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
    given = [name for name, value in files.items() if value is not None]
    if not given:
        return tls
    if tls is not None:
        raise InvalidArgument(given[0], "tls is given, too: name the files there, or all here")
    for name in given:
        if not isinstance(files[name], str | os.PathLike):
            raise InvalidArgument(name, f"a file name, not {type(files[name]).__name__}")
    ca, cert, key = (None if value is None else os.fspath(value) for value in files.values())
    return Tls(ca, cert, key)


class GuardedLink:
    """A link that does not raise: one that does is lost, as if the connection had broken.

    paho-mqtt raises what a malformed packet makes it stumble over; a link of somebody else's may
    raise anything. The next link is a new one, so nothing of this one's state matters any more.
    """

    def __init__(self, make: Callable[[], Link]) -> None:
        self._make = make
        self._link: Link | None = None
        self._left: list[LinkInput] = []  # what a link that raised had to say before

    def open(self) -> None:
        """Make the link and open it; whatever goes wrong is a :class:`LoginError`."""
        link = None
        try:
            link = self._make()
            link.open()
        except BaseException as error:  # whoever opens has no use for anything else
            if link is not None:
                with contextlib.suppress(Exception):
                    link.close(clean=False)
            if isinstance(error, LoginError):
                raise
            raise _failed("opened", error) from error
        self._link = link

    # Written out, each: a ring passes here twenty times.

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once it is gone."""
        link = self._link
        try:
            return -1 if link is None else link.fileno()
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed("asked for its descriptor", error)
            return -1

    def wants_write(self) -> bool:
        """Whether there is more to write than the socket took."""
        link = self._link
        try:
            return link is not None and link.wants_write()
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed("asked what it waits for", error)
            return False

    def read(self) -> None:
        """Take in what has come."""
        if self._link is not None:
            try:
                self._link.read()
            except Exception as error:  # noqa: BLE001 - see the class
                self._failed("read", error)

    def write(self) -> None:
        """Write on."""
        if self._link is not None:
            try:
                self._link.write()
            except Exception as error:  # noqa: BLE001 - see the class
                self._failed("written", error)

    def tick(self) -> None:
        """Look after the keep-alive."""
        if self._link is not None:
            try:
                self._link.tick()
            except Exception as error:  # noqa: BLE001 - see the class
                self._failed("kept alive", error)

    def publish(self, topic: str, payload: bytes, token: int | None) -> None:
        """Publish, retained, QoS 1."""
        if self._link is not None:
            try:
                self._link.publish(topic, payload, token)
            except Exception as error:  # noqa: BLE001 - see the class
                self._failed("written", error)

    def subscribe(self, filters: tuple[str, ...]) -> None:
        """Subscribe, QoS 1, in one packet."""
        if self._link is not None:
            try:
                self._link.subscribe(filters)
            except Exception as error:  # noqa: BLE001 - see the class
                self._failed("written", error)

    def unsubscribe(self, filters: tuple[str, ...]) -> None:
        """Unsubscribe."""
        if self._link is not None:
            try:
                self._link.unsubscribe(filters)
            except Exception as error:  # noqa: BLE001 - see the class
                self._failed("written", error)

    def acknowledge(self) -> None:
        """Acknowledge what was drained."""
        if self._link is not None:
            try:
                self._link.acknowledge()
            except Exception as error:  # noqa: BLE001 - see the class
                self._failed("written", error)

    def drain(self) -> list[LinkInput]:
        """What has happened since the last time, in order."""
        happened: list[LinkInput] = []
        if self._link is not None:
            try:
                happened = self._link.drain()
            except Exception as error:  # noqa: BLE001 - see the class
                self._failed("read", error)
        if self._left:
            happened, self._left = [*happened, *self._left], []
        return happened

    def close(self, *, clean: bool) -> None:
        """End the connection; what happens on it from here is nobody's."""
        link, self._link = self._link, None
        self._left = []
        if link is not None:
            with contextlib.suppress(Exception):  # it is given up either way
                link.close(clean=clean)

    def lose(self, error: LoginError) -> None:
        """Give the link up: the last it says is that it failed with ``error``."""
        link, self._link = self._link, None
        if link is None:
            return
        with contextlib.suppress(Exception):
            self._left = link.drain()
        self._left.append(LinkFailed(error))
        with contextlib.suppress(Exception):
            link.close(clean=False)

    def forget(self) -> None:
        """Close the descriptor in a child process, where the connection is its parent's."""
        link, self._link = self._link, None
        forget = getattr(link, "forget", None)
        if forget is not None:
            with contextlib.suppress(Exception):
                forget()

    def _failed(self, what: str, error: Exception) -> None:
        self.lose(_failed(what, error))


def _failed(what: str, error: BaseException) -> BrokerUnreachable:
    problem = f"the link failed while it was {what}: {type(error).__name__}: {error}"
    return BrokerUnreachable("connection lost", problem)


def carry_out(effect: SessionEffect, link: GuardedLink | None) -> bool:
    """Do what concerns the link alone; whether it was that. Without a link it is dropped."""
    if isinstance(effect, Publish):
        if link is not None:
            link.publish(effect.topic, effect.payload, effect.token)
    elif isinstance(effect, Subscribe):
        if link is not None:
            link.subscribe(effect.filters)
    elif isinstance(effect, Unsubscribe):
        if link is not None:
            link.unsubscribe(effect.filters)
    else:
        return False
    return True
