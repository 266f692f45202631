"""Announces the broker on the local network: ``_secure-mqtt._tcp``, multicast DNS (RFC 6762, 6763).

Devices then find it without being told an address (``bellwire doctor``). Comfort only: a network
without multicast, or no zeroconf installed, is logged and changes nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence

logger = logging.getLogger(__name__)

SERVICE = "_secure-mqtt._tcp.local."
#: Seconds that saying it, and taking it back, may take.
_PATIENCE = 5.0


@contextlib.asynccontextmanager
async def announced(
    port: int, *, name: str | None = None, interfaces: Sequence[str] | None = None
) -> AsyncIterator[bool]:
    """Announce the listener on TCP ``port`` inside ``async with``; whether it could be.

    ``name`` is what people see (default: the host's name), ``interfaces`` the addresses to announce
    on (default: all). Never raises on account of the network.
    """
    try:
        from zeroconf import InterfaceChoice, IPVersion
        from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
    except ImportError:
        logger.warning("not announced on the network: zeroconf is not installed")
        yield False
        return
    host = socket.gethostname().split(".")[0]
    addresses = list(interfaces) if interfaces else _addresses()
    info = AsyncServiceInfo(
        SERVICE,
        f"{name or host}.{SERVICE}",
        addresses=[socket.inet_aton(address) for address in addresses],
        port=port,
        server=f"{host}.local.",
        properties={"product": "bellwire"},
    )
    try:
        zeroconf = AsyncZeroconf(
            interfaces=list(interfaces) if interfaces else InterfaceChoice.All,
            ip_version=IPVersion.V4Only,
        )
    except OSError as error:
        logger.warning("not announced on the network: %s", error)
        yield False
        return
    try:
        said = await _within(zeroconf.async_register_service(info, allow_name_change=True))
        yield said
    finally:
        await _within(zeroconf.async_unregister_all_services())
        await zeroconf.async_close()


async def _within(saying: object) -> bool:
    """Whether it went through in time; zeroconf hands out a task that does the sending."""
    try:
        async with asyncio.timeout(_PATIENCE):
            task = await saying  # type: ignore[misc] # a coroutine; zeroconf's types say object
            if task is not None:
                await task
    except Exception as error:  # noqa: BLE001 # whatever it is, the broker goes on without it
        logger.warning("not announced on the network: %s", error or type(error).__name__)
        return False
    return True


def _addresses() -> list[str]:
    """This host's IPv4 addresses, loopback left out."""
    import ifaddr

    found = [
        ip.ip
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if isinstance(ip.ip, str) and not ip.ip.startswith("127.")
    ]
    return found or ["127.0.0.1"]
