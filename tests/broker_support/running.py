"""Brokers for tests: ours in a thread of the test's process, stock amqtt in one of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from amqtt.contexts import BrokerConfig, ListenerConfig

from broker_config.access import pki
from broker_config.access.registry import HASHER, Device, Registry, save
from broker_config.core.limits import Limits
from broker_config.net.server import SignalingBroker
from broker_config.store.journal import Store

from .raw import Raw

T = TypeVar("T")
ANYONE = {"broker_config.access.auth.AnyonePlugin": {}}
SECRET = "correct horse"
HASHED = HASHER.hash(SECRET)


def tls_files(folder: Path) -> dict[str, Any]:
    """What makes a listener one of TLS, with what ``bellwire-broker`` has put into ``folder``."""
    return {
        "ssl": True,
        "cafile": folder / "ca.crt",
        "certfile": folder / "server.crt",
        "keyfile": folder / "server.key",
    }


def with_tls(folder: Path) -> dict[str, Any]:
    """The same, of an authority and a certificate that are made for it."""
    folder.mkdir()
    pki.make_ca(folder)
    pki.make_server(folder, [])
    return tls_files(folder)


class Running:
    """A broker that serves while the ``with`` block runs; ``broker`` lives in ``loop``'s thread."""

    patient = False

    def __init__(
        self,
        *,
        plugins: dict[str, Any] | None = None,
        limits: Limits | None = None,
        store: Path | None = None,
        listeners: dict[str, ListenerConfig] | None = None,
        **attributes: Any,
    ) -> None:
        self._config = BrokerConfig(
            listeners=listeners or {"default": ListenerConfig(bind="127.0.0.1:0")},
            plugins=plugins or ANYONE,
        )
        self._limits = limits
        self._path = store
        self._attributes = attributes
        self.broker: SignalingBroker
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="broker")

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _start(self) -> None:
        store = Store(self._path) if self._path is not None else None
        self.broker = SignalingBroker(
            self._config, limits=self._limits, store=store, **self._attributes
        )
        await self.broker.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` in the broker's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.call(self._start())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        try:
            self.call(self.broker.shutdown())
        finally:
            self._close()

    def _close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @property
    def port(self) -> int:
        return self.broker.bound()["default"][1]

    def raw(self) -> Raw:
        """A connection without a CONNECT."""
        return Raw(self.port, patient=self.patient)

    def client(self, client_id: str, **options: Any) -> Raw:
        """A connected client; fails when it is refused."""
        client = self.raw()
        try:
            code = client.connect(client_id, **options)
            assert code == 0, f"{client_id!r} was refused with {code}"
        except BaseException:
            client.close()
            raise
        return client


class Stock:
    """A stock amqtt that runs elsewhere: nothing but its port."""

    patient = True

    def __init__(self, port: int) -> None:
        self.port = port

    raw = Running.raw
    client = Running.client


def registry_plugins(folder: Path) -> dict[str, Any]:
    """A registry of a few devices, and the plugins that serve it. All have the same secret."""
    path = folder / "devices.json"
    devices = (
        Device("front-door", HASHED, may_call=("kitchen", "@panels")),
        Device("kitchen", HASHED),
        Device("bedroom", HASHED, group="panels"),
        Device("kitchen.1", HASHED),
        Device("neighbour", HASHED, may_call=("neighbours-*",)),
        Device("watcher", HASHED, watches=True),
    )
    save(path, Registry({device.name: device for device in devices}))
    return {"broker_config.access.auth.RegistryPlugin": {"registry": str(path), "realm": "sig"}}


def for_threads(context: ssl.SSLContext) -> ssl.SSLContext:
    """For websockets' synchronous client, which reads on a thread while another one writes.

    With TLS 1.3, whose tickets come while the first bytes are written, that was once an "internal
    error" of OpenSSL's.
    """
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
