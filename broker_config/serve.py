"""Start a broker, say where it listens, stop it on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal

from amqtt.contexts import BrokerConfig, ListenerConfig
from amqtt.errors import BrokerError

from .broker import SignalingBroker


class Refused(Exception):
    """The broker was not started; the text says why and how to go on."""


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def anonymous_config(host: str, port: int) -> BrokerConfig:
    """The shipped configuration without set-up: plain MQTT, anybody on this machine."""
    literal = f"[{host}]" if ":" in host else host
    return BrokerConfig(
        listeners={"default": ListenerConfig(bind=f"{literal}:{port}")},
        plugins={"broker_config.auth.AnyonePlugin": {}},
    )


async def serve_anonymous(host: str, port: int) -> None:
    """Serve plain MQTT to anybody on this machine until SIGTERM or SIGINT.

    Prints ``listening on HOST:PORT`` on standard output once connections are accepted. Raises
    :class:`Refused` when ``host`` is not a loopback address or cannot be listened on.
    """
    if not is_loopback(host):
        raise Refused(
            f"without set-up anybody may connect, so it serves this machine only, not {host}; "
            "use --host 127.0.0.1"
        )
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    broker = SignalingBroker(anonymous_config(host, port))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await broker.start()
    except BrokerError as error:
        raise Refused(f"cannot listen on {host}:{port}: {error}") from error
    print(f"listening on {host}:{broker.bound()['default'][1]}", flush=True)  # noqa: T201 - the promised line
    await stop.wait()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(broker.shutdown(), 5)
