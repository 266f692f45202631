"""Announces the broker on the local network: ``_secure-mqtt._tcp``, multicast DNS (RFC 6762, 6763).

Devices then find it without being told an address (``bellwire doctor``). Comfort only: whatever
stands in the way is said in one warning, and the broker serves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence

import psutil  # type: ignore[import-untyped] # ships no types

logger = logging.getLogger(__name__)

SERVICE = "_secure-mqtt._tcp.local."
#: Seconds that saying it, and taking it back, may each take.
_PATIENCE = 5.0
#: Seconds between looks at this host's addresses, and between attempts.
_LOOK = 10.0


class NotAnnounced(Exception):
    """It cannot be announced at present; the text says why."""


def local_name() -> str:
    """The name by which multicast DNS knows this host."""
    return f"{socket.gethostname().partition('.')[0]}.local"


def addresses(host: str) -> list[str]:
    """This host's IPv4 addresses at which others reach a listener on ``host``; "" is every one."""
    everywhere = host in ("", "0.0.0.0")  # noqa: S104 - what was set
    return sorted(
        each.address
        for interface in psutil.net_if_addrs().values()
        for each in interface
        if each.family == socket.AF_INET
        and not each.address.startswith("127.")
        and (everywhere or each.address == host)
    )


async def keep_announced(port: int, host: str) -> None:
    """Announce the listener on ``host`` and TCP ``port`` until cancelled; never raises otherwise.

    After a power cut the broker is up before the router: addresses come, go and change while it
    runs, and what is announced follows them.
    """
    told = ""
    while True:
        try:
            here = addresses(host)
            if not here:
                raise NotAnnounced("this host has no address in a network yet")
            async with announced(port, here) as name:
                told = ""
                logger.info("announced as %s: %s:%d, %s", name, local_name(), port, ", ".join(here))
                while addresses(host) == here:
                    await asyncio.sleep(_LOOK)
        except Exception as error:  # noqa: BLE001 - whatever it is, the broker goes on without it
            why = str(error) or type(error).__name__
            if why != told:  # once, not at every attempt
                logger.warning("not announced on the network: %s", why)
            told = why
            await asyncio.sleep(_LOOK)


@contextlib.asynccontextmanager
async def announced(port: int, at: Sequence[str], *, name: str | None = None) -> AsyncIterator[str]:
    """Announce TCP ``port`` at the addresses ``at`` inside ``async with``; gives the name it has.

    ``name`` is what people see (default: the host's name); if another broker has it, a number is
    added. Raises :class:`NotAnnounced`, and nothing else on account of the network.
    """
    try:
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
    except ImportError as error:
        raise NotAnnounced(f"{error.name or 'zeroconf'} is not installed") from error
    host = local_name()
    try:
        info = AsyncServiceInfo(
            SERVICE,
            f"{name or host.removesuffix('.local')}.{SERVICE}",
            addresses=[socket.inet_aton(address) for address in at],
            port=port,
            server=f"{host}.",
            properties={"product": "bellwire"},
        )
        zeroconf = AsyncZeroconf(interfaces=list(at), ip_version=IPVersion.V4Only)
    except Exception as error:  # zeroconf has errors of several families
        raise NotAnnounced(str(error) or type(error).__name__) from error
    try:
        try:
            async with asyncio.timeout(_PATIENCE):
                # The first await probes whether the name is free, the second says it.
                await (await zeroconf.async_register_service(info, allow_name_change=True))
        except Exception as error:
            raise NotAnnounced(str(error) or type(error).__name__) from error
        yield info.name.removesuffix(f".{SERVICE}")
    finally:
        # What cannot be taken back is forgotten by all when its time is over.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_PATIENCE):
                await zeroconf.async_close()
