"""Announces the broker on the local network: ``_secure-mqtt._tcp``, multicast DNS (RFC 6762, 6763).

Devices then find it without being told an address (``bellwire doctor``). Comfort only: whatever
stands in the way is said in one warning, and the broker serves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped] # ships no types

from ..access.pki import local_name

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

logger = logging.getLogger(__name__)

SERVICE = "_secure-mqtt._tcp.local."
#: Seconds that saying it, and taking it back, may each take.
_PATIENCE = 15.0
#: Who has a name is asked three times, 250 ms apart (RFC 6762, 8.1).
_PROBES, _BETWEEN = 3, 0.25
#: Class IN of what one machine alone has (RFC 6762, 10.2), and its seconds to live.
_UNIQUE, _TTL = 0x8001, 120
#: Names tried with a number.
_NAMES = 10
#: Of Linux, which Python has no name for (ip(7)).
_IP_MULTICAST_ALL = 49
#: Seconds between looks at this host's addresses, and between attempts.
_LOOK = 10.0


#: Addresses by interface.
Networks = Mapping[str, tuple[str, ...]]


class NotAnnounced(Exception):
    """It cannot be announced at present; the text says why."""


def networks(host: str) -> Networks:
    """This host's IPv4 addresses at which others reach a listener on ``host``, by interface.

    An empty ``host`` is every address. Networks of loopback are nobody else's.
    """
    everywhere = host in ("", "0.0.0.0")  # noqa: S104 - what was set
    found = {
        name: tuple(
            sorted(
                each.address
                for each in interface
                if each.family == socket.AF_INET
                and not each.address.startswith("127.")
                and (everywhere or each.address == host)
            )
        )
        for name, interface in sorted(psutil.net_if_addrs().items())
    }
    return {name: addresses for name, addresses in found.items() if addresses}


async def keep_announced(port: int, host: str, name: str) -> None:
    """Announce the listener on ``host`` and TCP ``port`` until cancelled; never raises otherwise.

    ``name`` is the broker's own host name. After a power cut the broker is up before the router:
    addresses come, go and change while it runs, and what is announced follows them.
    """
    told = ""
    while True:
        try:
            here = networks(host)
            if not here:
                raise NotAnnounced("this host has no address in a network yet")
            async with announced(port, here, name) as shown:
                told = ""
                logger.info("announced as %s", shown)
                while networks(host) == here:
                    await asyncio.sleep(_LOOK)
        except Exception as error:  # noqa: BLE001 - whatever it is, the broker goes on without it
            why = str(error) or type(error).__name__
            if why != told:  # once, not at every attempt
                logger.warning("not announced on the network: %s", why)
            told = why
            await asyncio.sleep(_LOOK)


@contextlib.asynccontextmanager
async def announced(
    port: int, at: Networks, host: str, *, label: str | None = None
) -> AsyncIterator[str]:
    """Announce TCP ``port`` inside ``async with``: on each interface its own addresses.

    ``host`` is the host name, ``label`` what people see (default: this host's name); a number is
    added to what somebody else in the network has. Gives what was announced, in words. Raises
    :class:`NotAnnounced`, and nothing else on account of the network.
    """
    try:
        from zeroconf.asyncio import AsyncServiceInfo
    except ImportError as error:
        raise NotAnnounced(
            f"{(error.name or 'zeroconf').partition('.')[0]} is not installed"
        ) from error
    wanted = label or local_name().removesuffix(".local")
    responders: dict[str, AsyncZeroconf] = {}
    try:
        try:
            async with asyncio.timeout(_PATIENCE):
                why = await _open(at, responders)
                if not responders:
                    raise NotAnnounced(why)
                own = {address for addresses in at.values() for address in addresses}
                free = await _free_host(responders.values(), host, own)
                shown = await _free_label(responders.values(), wanted, free)
                for interface, responder in responders.items():
                    info = AsyncServiceInfo(
                        SERVICE,
                        f"{shown}.{SERVICE}",
                        addresses=[socket.inet_aton(address) for address in at[interface]],
                        port=port,
                        server=f"{free}.",
                        properties={"product": "bellwire"},
                    )
                    # Whether the names are free was asked above, on all interfaces together: two
                    # of them in one network would take each other for somebody else.
                    await (
                        await responder.async_register_service(info, cooperating_responders=True)
                    )
        except NotAnnounced:
            raise
        except Exception as error:  # zeroconf has errors of several families
            raise NotAnnounced(str(error) or type(error).__name__) from error
        where = "; ".join(f"{', '.join(at[name])} on {name}" for name in responders)
        yield f"{shown}: {free}:{port}, {where}"
    finally:
        await asyncio.gather(*map(_closed, responders.values()))


async def _closed(responder: AsyncZeroconf) -> None:
    # What cannot be taken back is forgotten by all when its time is over.
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_PATIENCE):
            await responder.async_close()


async def _open(at: Networks, responders: dict[str, AsyncZeroconf]) -> str:
    """Open a responder for each interface; gives why one could not be."""
    from zeroconf import IPVersion
    from zeroconf.asyncio import AsyncZeroconf

    why = ""
    for interface, addresses in at.items():
        try:
            responder = AsyncZeroconf(interfaces=list(addresses), ip_version=IPVersion.V4Only)
        except Exception as error:  # noqa: BLE001 - zeroconf has errors of several families
            why = str(error) or type(error).__name__
            continue
        responders[interface] = responder
        await responder.zeroconf.async_wait_for_start()
        for reader in responder.zeroconf.engine.readers:
            # Linux gives what came on any interface to any socket of the port, or to one of them:
            # answered is what came on this interface, here.
            found = reader.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                found.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
                found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    return why


async def _free_host(responders: Collection[AsyncZeroconf], name: str, own: set[str]) -> str:
    """``name``, or with a number, that no other machine has."""
    from zeroconf import DNSAddress, const  # type: ignore[attr-defined] # not in its __all__

    packed = {socket.inet_aton(address) for address in own}
    stem = name.removesuffix(".local")
    for candidate in (f"{stem}.local", *(f"{stem}-{number}.local" for number in range(2, _NAMES))):
        record = DNSAddress(f"{candidate}.", const._TYPE_A, _UNIQUE, _TTL, min(packed))
        answers = await _probe(responders, record)
        if all(each.address in packed for each in answers if isinstance(each, DNSAddress)):
            if candidate != name:
                logger.warning(
                    "%s is another machine's in this network (a copy of this broker's directory?); "
                    "announced as %s, for which the certificate is not", name, candidate,
                )  # fmt: skip
            return candidate
    raise NotAnnounced(f"{name} is taken in this network, and so are its numbers")


async def _free_label(responders: Collection[AsyncZeroconf], label: str, host: str) -> str:
    """``label``, or with a number, under which no other broker is announced."""
    from zeroconf import DNSService, const  # type: ignore[attr-defined] # not in its __all__

    server = f"{host}."
    for candidate in (label, *(f"{label}-{number}" for number in range(2, _NAMES))):
        name = f"{candidate}.{SERVICE}"
        record = DNSService(name, const._TYPE_SRV, _UNIQUE, _TTL, 0, 0, 0, server)
        answers = await _probe(responders, record)
        if all(each.server == server for each in answers if isinstance(each, DNSService)):
            return candidate
    raise NotAnnounced(f"the name {label} is taken in this network, and so are its numbers")


async def _probe(responders: Collection[AsyncZeroconf], wanted: Any) -> list[Any]:
    """What others have under the name of the record ``wanted`` (RFC 6762, 8.1)."""
    # It has them, if not in its __all__.
    from zeroconf import DNSOutgoing, DNSQuestion, const  # type: ignore[attr-defined]

    probe = DNSOutgoing(const._FLAGS_QR_QUERY)
    probe.add_question(DNSQuestion(wanted.name, wanted.type, const._CLASS_IN))
    # By this it is told from a question whose answer may wait.
    probe.authorities.append(wanted)
    for _ in range(_PROBES):
        for responder in responders:
            responder.zeroconf.async_send(probe)
        await asyncio.sleep(_BETWEEN)
    return [
        record
        for responder in responders
        for record in responder.zeroconf.cache.entries_with_name(wanted.name)
    ]
