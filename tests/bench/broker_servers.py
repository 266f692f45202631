"""The brokers that are measured, each in a process of its own on a free port.

``python -m tests.bench.broker_servers NAME [ARGUMENT …]`` runs one; it prints its port when it
listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def _amqtt(anonymous: bool = True) -> Any:
    from amqtt.broker import Broker
    from amqtt.contexts import BrokerConfig, ListenerConfig

    return Broker(
        BrokerConfig(
            listeners={"default": ListenerConfig(bind="127.0.0.1:0")},
            plugins={
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": anonymous}
            },
        )
    )


def _amqtt_closed() -> Any:
    """Stock amqtt as told to let in only known users, within an ACL for subscriptions."""
    from amqtt.broker import Broker
    from amqtt.contexts import BrokerConfig, ListenerConfig

    from broker_config.access.registry import HASHER

    hashed = HASHER.hash("correct horse")
    passwords = Path(tempfile.mkdtemp()) / "passwords"
    passwords.write_text(f"kitchen:{hashed}\nfront-door:{hashed}\n")
    rules = {"kitchen": ["sig/v1/+/+", "sig/v1/kitchen/invite/+/+"], "front-door": ["sig/#"]}
    return Broker(
        BrokerConfig(
            listeners={"default": ListenerConfig(bind="127.0.0.1:0")},
            plugins={
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False},
                "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)},
                "amqtt.plugins.topic_checking.TopicAccessControlListPlugin": {"acl": rules},
            },
        )
    )


def _amqtt_stored(path: str) -> Any:
    """Stock amqtt that keeps sessions in a file; only those that come with a user name."""
    from amqtt.broker import Broker
    from amqtt.contexts import BrokerConfig, ListenerConfig

    return Broker(
        BrokerConfig(
            listeners={"default": ListenerConfig(bind="127.0.0.1:0")},
            plugins={
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False},
                "amqtt.contrib.persistence.SessionDBPlugin": {
                    "connection": f"sqlite+aiosqlite:///{path}",
                    "clear_on_shutdown": False,
                },
            },
        )
    )


def _bellwire(store: bool = False) -> Any:
    from broker_config.admin.serve import anonymous_config
    from broker_config.net.server import SignalingBroker
    from broker_config.store.journal import Store

    kept = Store(Path(tempfile.mkdtemp()) / "kept.sqlite3") if store else None
    return SignalingBroker(anonymous_config("127.0.0.1", 0), store=kept)


def _bellwire_limited() -> Any:
    """For anybody, with the rates that devices have."""
    from broker_config.admin.serve import anonymous_config
    from broker_config.admin.settings import DEVICE_LIMITS
    from broker_config.net.server import SignalingBroker
    from broker_config.store.journal import Store

    store = Store(Path(tempfile.mkdtemp()) / "kept.sqlite3")
    return SignalingBroker(anonymous_config("127.0.0.1", 0), limits=DEVICE_LIMITS, store=store)


def _bellwire_registered() -> Any:
    """A broker with a thousand registered devices, all of the same secret."""
    from broker_config.access.registry import HASHER, Device, Registry, save
    from broker_config.net.server import SignalingBroker
    from broker_config.store.journal import Store

    folder, hashed = Path(tempfile.mkdtemp()), HASHER.hash("correct horse")
    known = {f"idle-{n}": Device(f"idle-{n}", hashed, may_call=("*",)) for n in range(1000)}
    save(folder / "devices.json", Registry(known))
    from amqtt.contexts import BrokerConfig, ListenerConfig

    config = BrokerConfig(
        listeners={"default": ListenerConfig(bind="127.0.0.1:0")},
        plugins={
            "broker_config.access.auth.RegistryPlugin": {
                "registry": str(folder / "devices.json"),
                "realm": "sig",
            }
        },
    )
    return SignalingBroker(config, store=Store(folder / "kept.sqlite3"))


PYTHON: dict[str, tuple[Callable[..., Any], bool]] = {
    "amqtt": (_amqtt, False),
    "amqtt closed": (_amqtt_closed, False),
    "amqtt named": (lambda: _amqtt(False), False),
    "amqtt stored": (_amqtt_stored, False),
    "bellwire": (_bellwire, False),
    "bellwire devices": (_bellwire_registered, False),
    "bellwire limited": (_bellwire_limited, False),
    "bellwire persistent": (lambda: _bellwire(True), False),
    "amqtt uvloop": (_amqtt, True),
    "bellwire uvloop": (_bellwire, True),
    "bellwire uvloop persistent": (lambda: _bellwire(True), True),
}


def _has(module: str) -> bool:
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
        return True
    return False


def mosquitto_path() -> str | None:
    """Where Debian put mosquitto, which is not on everybody's PATH."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


SERVERS = [
    *(
        name
        for name in PYTHON
        if name
        not in (
            "amqtt closed",
            "amqtt named",
            "amqtt stored",
            "bellwire devices",
            "bellwire limited",
        )
        and ("uvloop" not in name or _has("uvloop"))
    ),
    *(["mosquitto"] if mosquitto_path() else []),
]


@contextlib.contextmanager
def mosquitto(extra: str = "") -> Iterator[int]:
    """Mosquitto on a free port, with its delays off."""
    with mosquitto_process(extra) as (port, _):
        yield port


@contextlib.contextmanager
def mosquitto_process(extra: str = "") -> Iterator[tuple[int, int]]:
    """The same, with its process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text(
            f"listener {port} 127.0.0.1\nset_tcp_nodelay true\nmax_queued_messages 0\n"
            + (extra or "allow_anonymous true\n")
        )
        path = mosquitto_path()
        assert path
        process = subprocess.Popen(
            [path, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 10
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError("mosquitto does not listen")
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:  # busy with what an attacker left it
                process.kill()
                process.wait()


@contextlib.contextmanager
def process_of(name: str, *arguments: str, at: Path | None = None) -> Iterator[tuple[int, int]]:
    """One of the Python brokers, made with ``arguments``; gives its port and process id.

    ``at``: of which checkout, this one by default.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.broker_servers", name, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=at,
    )
    try:
        assert process.stdout
        yield int(process.stdout.readline()), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextlib.contextmanager
def running(name: str) -> Iterator[int]:
    """The broker called ``name``; gives its port."""
    if name == "mosquitto":
        with mosquitto() as port:
            yield port
    else:
        with process_of(name) as (port, _):
            yield port


async def _serve(make: Callable[..., Any], arguments: list[str]) -> None:
    broker = make(*arguments)
    await broker.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    instance = broker._servers["default"].instance
    print(next(iter(instance.sockets)).getsockname()[1], flush=True)
    await stop.wait()
    await broker.shutdown()


def main() -> None:
    """Run one broker until SIGTERM."""
    import logging
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    make, fast = PYTHON[sys.argv[1]]
    if fast:
        import uvloop

        uvloop.run(_serve(make, sys.argv[2:]))
    else:
        asyncio.run(_serve(make, sys.argv[2:]))


if __name__ == "__main__":
    main()
