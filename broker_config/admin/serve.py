"""Start a broker, say where it listens, stop it on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fcntl
import logging
import os
import shlex
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import BrokerError, PluginError

from device_sdk.services.service.sd_notify import Notifier

from ..access.auth import RegistryPlugin
from ..access.pki import own_name
from ..core.limits import Limits
from ..net.listeners import CertificateError
from ..net.server import SignalingBroker
from ..store.journal import Store
from ..store.sqlite import StoreError
from .doctor import certificates
from .mdns import keep_announced
from .metrics import MetricsServer, start_logging
from .running import LOCK
from .settings import BrokerSettings, is_loopback, split_address
from .watching import Reserve, Watched, calm, room_for

logger = logging.getLogger(__name__)

#: Seconds between looks at the registry, for changes that nobody signalled.
_LOOK = 1.0
_DAY = 86400.0


class Refused(Exception):
    """The broker was not started; the text says why and how to go on.

    ``passing``: no setting is wrong, another try may do (an address that is not there yet, a port
    that is still taken, a full disk).
    """

    def __init__(self, text: str, *, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


def _passes(error: BaseException | None) -> bool:
    return isinstance(error, OSError | StoreError) and not isinstance(error, PermissionError)


def _why(error: BrokerError) -> str:
    """What stands in the way: the cause, without amqtt's words around it."""
    cause = error.__cause__
    if isinstance(error, CertificateError):
        return str(error)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause or error)


def anonymous_config(host: str, port: int) -> BrokerConfig:
    """The shipped configuration without set-up: plain MQTT, anybody on this machine."""
    literal = f"[{host}]" if ":" in host else host
    return BrokerConfig(
        listeners={"default": ListenerConfig(bind=f"{literal}:{port}")},
        plugins={"broker_config.access.auth.AnyonePlugin": {}},
    )


def directory_config(settings: BrokerSettings) -> BrokerConfig:
    """Amqtt's configuration for a broker that serves a directory; raises Refused."""
    for name in (settings.tls.ca_file, settings.tls.cert_file, settings.tls.key_file):
        if (settings.listen.mqtts or settings.listen.wss) and not settings.path(name).exists():
            renew = shlex.join(["bellwire-broker", "renew", str(settings.directory)])
            raise Refused(
                f"there is no {settings.path(name)}: [tls] in broker.toml says where it is, and "
                f"`{renew}` makes a new certificate with its key"
            )
    tls: dict[str, Any] = {
        "ssl": True,
        "cafile": settings.path(settings.tls.ca_file),
        "certfile": settings.path(settings.tls.cert_file),
        "keyfile": settings.path(settings.tls.key_file),
    }
    # amqtt insists on a listener of this name, from which the others would inherit.
    listeners = {"default": ListenerConfig(bind=None)}
    listen = settings.listen
    for name, address, kind, options in (
        ("mqtts", listen.mqtts, ListenerType.TCP, tls),
        ("wss", listen.wss, ListenerType.WS, tls),
        ("mqtt", listen.mqtt, ListenerType.TCP, dict[str, Any]()),
    ):
        if address:
            host, port = split_address(address)
            # In brackets it is never equal to amqtt's default, which would be inherited as None.
            bind = f"[{host}]:{port}" if host else f":{port}"
            listeners[name] = ListenerConfig(type=kind, bind=bind, **options)
    plugin: dict[str, Any] = {"broker_config.access.auth.AnyonePlugin": {}}
    if not settings.anonymous:
        plugin = {
            "broker_config.access.auth.RegistryPlugin": {
                "registry": str(settings.registry),
                "realm": settings.realm,
            }
        }
    return BrokerConfig(listeners=listeners, plugins={**plugin, **settings.plugins})


def to_announce(
    settings: BrokerSettings, bound: Mapping[str, tuple[str, int]]
) -> tuple[int, str] | None:
    """Port and host ("": every address) of MQTT over TLS, if others reach it and shall know of it.

    Nothing else is announced: plain MQTT is for this machine, and DNS-SD has no name for wss.
    """
    if not settings.listen.announce or "mqtts" not in bound:
        return None
    host, port = bound["mqtts"]
    if not split_address(settings.listen.mqtts)[0]:
        return port, ""  # it has several sockets, of which ``bound`` has the first
    if is_loopback(host):
        return None
    if ":" in host:
        logger.info("not announced on the network: mqtts listens on IPv6 only")
        return None
    return port, host


def _say(broker: SignalingBroker, *, named: bool) -> None:
    for name, (host, port) in broker.bound().items():
        shown = f"[{host}]" if ":" in host else host
        line = f"listening on {shown}:{port}" + (f" ({name})" if named else "")
        print(line, flush=True)  # noqa: T201 - the promised line


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    calm(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def serve_anonymous(host: str, port: int) -> None:
    """Serve plain MQTT to anybody on this machine until SIGTERM or SIGINT.

    Prints ``listening on HOST:PORT`` on standard output once connections are accepted. Raises
    :class:`Refused` when ``host`` is not a loopback address or cannot be listened on.
    """
    if not is_loopback(host):
        raise Refused(
            f"without set-up anybody may connect, so it serves this machine only, not {host}. "
            "Either --host 127.0.0.1, or set up a broker with passwords and TLS: "
            "bellwire-broker init DIR, device add, run DIR"
        )
    start_logging("plain", "warning")
    limits = Limits()
    limits = replace(limits, connections=room_for(limits.connections, told=False))
    broker = SignalingBroker(anonymous_config(host, port), limits=limits)
    stop = _stop_signal()
    try:
        await broker.start()
    except BrokerError as error:
        raise Refused(_why(error), passing=_passes(error.__cause__)) from error
    _say(broker, named=False)
    notifier = Notifier()
    notifier.ready()
    watchdog = asyncio.create_task(notifier.keep_beating())
    await stop.wait()
    notifier.stopping()
    watchdog.cancel()
    await broker.shutdown()
    notifier.close()


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, with our process id in it, while the broker serves."""
    path = directory / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another broker (process {lock.read()}) serves {directory}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


class DirectoryBroker:
    """A broker that serves a directory, with what belongs around it."""

    def __init__(self, settings: BrokerSettings, notifier: Notifier) -> None:
        self.settings = settings
        self._notifier = notifier
        store = None
        if settings.storage.file:
            path = settings.path(settings.storage.file)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            full = settings.storage.synchronous == "full"
            store = Store(path, synchronous="full" if full else "normal")
        limits = replace(settings.limits, connections=room_for(settings.limits.connections))
        self.broker = SignalingBroker(
            directory_config(settings),
            limits=limits,
            store=store,
            realm=settings.realm,
            origins=settings.listen.origins,
            cell_keep=settings.storage.cell_hours * 3600,
        )
        self._window: MetricsServer | None = None
        self._reloading = asyncio.Lock()
        self._reserve = Reserve()
        self._watched: list[Watched] = []
        if not settings.anonymous:
            registry = Watched("the registry", [settings.registry], self._apply_registry)
            self._watched.append(registry)
        if settings.listen.mqtts or settings.listen.wss:
            pair = [settings.path(settings.tls.cert_file), settings.path(settings.tls.key_file)]
            self._watched.append(Watched("the certificate", pair, self._apply_certificates))

    async def start(self) -> None:
        """Serve; raises Refused."""
        try:
            await self.broker.start()
        except BrokerError as error:
            raise Refused(_why(error), passing=_passes(error.__cause__)) from error
        for watched in self._watched:
            await self._read(watched)  # it may have changed since the broker was made
        if self.settings.metrics.listen:
            host, port = split_address(self.settings.metrics.listen)
            try:
                self._window = MetricsServer(self.broker, host or "0.0.0.0", port)  # noqa: S104 - as set
            except OSError as error:
                await self.broker.shutdown()
                raise Refused(
                    f"cannot listen on {self.settings.metrics.listen} for metrics: "
                    f"{error.strerror}; see metrics.listen in broker.toml",
                    passing=_passes(error),
                ) from error

    async def reload(self) -> None:
        """Read registry and certificates again; what cannot be read is tried until it can."""
        async with self._reloading:
            self._notifier.reloading()
            for watched in self._watched:
                await self._read(watched)
            self._notifier.ready()

    async def watch(self) -> None:
        """Read again what has changed and nobody could signal, or could not be read before."""
        while True:
            await asyncio.sleep(_LOOK)
            async with self._reloading:
                for watched in self._watched:
                    if watched.stamp() != watched.applied:
                        await self._read(watched)

    async def _read(self, watched: Watched) -> None:
        stamp = watched.stamp()  # of before the reading: a change in the midst of it is another
        self._reserve.release()
        try:
            await watched.apply()
        except Exception as error:  # noqa: BLE001 - whatever it is, what was read before still holds
            watched.applied = None
            watched.failed(f"{watched.what} cannot be read again: {error}")
        else:
            watched.applied = stamp
            watched.read()
        finally:
            self._reserve.take()
        self.broker.troubles = [each.trouble for each in self._watched if each.trouble]

    async def _apply_registry(self) -> None:
        digest, cleared = "", frozenset[str]()
        for plugin in self.broker.plugins_manager.plugins:
            if isinstance(plugin, RegistryPlugin):
                cleared |= plugin.reload()
                digest = plugin.registry.digest
        await self.broker.recheck(cleared)
        self.broker.applied(digest)

    async def _apply_certificates(self) -> None:
        self.broker.reload_certificates()

    async def mind_certificates(self) -> None:
        """Say once a day what is the matter with the certificates, before devices find out."""
        while True:
            for finding in certificates(self.settings, dt.datetime.now(dt.UTC)):
                if not finding.well or finding.news:
                    logger.warning("%s", finding.what)
            await asyncio.sleep(_DAY)

    async def stop(self) -> None:
        """Stop serving."""
        if self._window is not None:
            await asyncio.to_thread(self._window.close)
        await self.broker.shutdown()
        self._reserve.release()


async def serve_directory(settings: BrokerSettings) -> None:
    """Serve a directory that ``init`` made until SIGTERM or SIGINT; SIGHUP reloads.

    Prints a line ``listening on HOST:PORT (NAME)`` for each listener. Raises :class:`Refused`.
    """
    start_logging(settings.log.format, settings.log.level)
    # Who sees the lock signals its change, maybe before that is listened for: it is read anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with _only_one(settings.directory), contextlib.closing(Notifier()) as notifier:
        try:
            served = DirectoryBroker(settings, notifier)
        except PluginError as error:
            named = f" ([plugins] of broker.toml: {', '.join(settings.plugins)})"
            text = f"{error.__cause__ or error}{named if settings.plugins else ''}"
            raise Refused(text) from error
        except (ValueError, OSError) as error:
            raise Refused(str(error.__cause__ or error)) from error
        stop = _stop_signal()
        tasks: set[asyncio.Task[None]] = set()

        failures: list[BaseException] = []

        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not task.cancelled() and (failure := task.exception()) is not None:
                failures.append(failure)
                stop.set()  # half a broker is none: who watches it starts it again

        def background(task: asyncio.Task[None]) -> None:
            tasks.add(task)
            task.add_done_callback(ended)

        loop = asyncio.get_running_loop()
        try:
            await served.start()
        except StoreError as error:
            raise Refused(str(error), passing=True) from error
        loop.add_signal_handler(
            signal.SIGHUP, lambda: background(loop.create_task(served.reload()))
        )
        background(loop.create_task(served.watch()))
        if settings.listen.mqtts or settings.listen.wss:
            background(loop.create_task(served.mind_certificates()))
        background(loop.create_task(notifier.keep_beating()))
        _say(served.broker, named=True)
        notifier.ready()
        announcement = to_announce(settings, served.broker.bound())
        if announcement is not None:
            name = own_name(settings.path(settings.tls.ca_file))
            background(loop.create_task(keep_announced(*announcement, name)))
        await stop.wait()
        notifier.stopping()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await served.stop()
        if failures:
            logger.error("a part of the broker failed", exc_info=failures[0])
            raise Refused(f"a part of the broker failed: {failures[0]!r}", passing=True)
