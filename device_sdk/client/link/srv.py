"""Where a domain's brokers are: DNS SRV (RFC 2782), by dnspython, which is an extra's.

DNS vouches for nobody: whoever forges an answer may name a host of their own, with a certificate
of its own. So a host of the domain itself shows a certificate for its own name, and any other one
for the domain (RFC 6125, 6.2.1).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.effects import BrokersFound, LinkInput
from ...core.rotation import Target, in_order
from ...errors import BrokerUnreachable, InvalidArgument
from .url import BrokerUrl, SrvUrl

if TYPE_CHECKING:
    from dns.resolver import Resolver

#: How long one look-up may take, in seconds, all name servers together.
LOOK_UP_TIMEOUT = 5.0
#: An answer is used for so long at least, in seconds, whatever it says; and at most.
_LEAST, _MOST = 5.0, 86400.0
#: More are not taken from one answer: somebody's mistake, or attempt.
_MOST_TARGETS = 64


class SrvRecord(NamedTuple):
    """One broker of a domain."""

    url: BrokerUrl
    priority: int
    weight: int


class SrvAnswer(NamedTuple):
    """What a domain's DNS says; ``ttl`` in seconds."""

    found: tuple[SrvRecord, ...]
    ttl: float


def check_installed(url: SrvUrl) -> None:
    """Raise :class:`InvalidArgument` with the command that installs what a look-up needs."""
    if importlib.util.find_spec("dns") is None:
        raise InvalidArgument(
            "broker", f"{url} needs dnspython, which is not installed: pip install 'bellwire[srv]'"
        )


def system_resolver() -> Resolver:
    """As ``/etc/resolv.conf`` says now: read anew, for a device moves from network to network."""
    import dns.resolver

    return dns.resolver.Resolver()


def look_up(url: SrvUrl) -> SrvAnswer:
    """Ask for the brokers of a domain. Blocks, up to :data:`LOOK_UP_TIMEOUT`.

    Raises :class:`BrokerUnreachable`, saying what to do.
    """
    import dns.exception
    import dns.resolver

    def failed(problem: str, cause: str = "unknown host") -> BrokerUnreachable:
        return BrokerUnreachable(cause, f"{url}: {problem}")

    try:
        answer = system_resolver().resolve(
            f"{url.service}.", "SRV", lifetime=LOOK_UP_TIMEOUT, search=False
        )
    except dns.resolver.NXDOMAIN:
        problem = f"{url.service} has no SRV record: is it the right domain (`dig SRV"
        raise failed(f"{problem} {url.service}`)?") from None
    except dns.resolver.NoAnswer:
        raise failed(f"{url.service} is there, but has no SRV record") from None
    except dns.exception.Timeout:
        problem = f"the name server has not answered within {LOOK_UP_TIMEOUT:.0f} s"
        raise failed(f"{problem}: does the network have one?", "timeout") from None
    except dns.resolver.NoResolverConfiguration:
        raise failed("no name server is set (/etc/resolv.conf): is the network up?") from None
    except dns.resolver.NoNameservers as error:
        raise failed(f"no name server could say it: {error}") from None
    except (dns.exception.DNSException, OSError, ValueError) as error:
        raise failed(f"the look-up failed: {error!r}") from None
    read = sorted(_read(url, answer), key=lambda each: (each.priority, -each.weight, each.url))
    found = tuple(read[:_MOST_TARGETS])
    if not found:
        raise failed(f"{url.service} says that this domain has no such broker (RFC 2782)")
    ttl = float(answer.chaining_result.minimum_ttl)
    return SrvAnswer(found, min(max(ttl, _LEAST), _MOST))


def _read(url: SrvUrl, records: Iterable[Any]) -> Iterable[SrvRecord]:
    scheme = url.scheme.removesuffix("+srv")
    for record in records:
        host = record.target.to_text(omit_final_dot=True).lower()
        if host in (".", "", "@") or record.port == 0:  # decidedly none
            continue
        inside = host == url.host.lower() or host.endswith(f".{url.host.lower()}")
        domain = url.host if url.tls and not inside else None
        broker = BrokerUrl(scheme, host, record.port, domain=domain)
        yield SrvRecord(broker, record.priority, record.weight)


class LookUp:
    """A look-up in the place of a link: opening it asks, and all it says is what was found.

    ``known`` is told first, on the thread that opens.
    """

    def __init__(
        self, url: SrvUrl, peer_id: str, known: Callable[[Iterable[BrokerUrl]], None]
    ) -> None:
        self._url = url
        self._peer_id = peer_id
        self._known = known
        self._happened: list[LinkInput] = []

    def open(self) -> None:
        """Ask; raises :class:`BrokerUnreachable`."""
        answer = look_up(self._url)
        self._known(each.url for each in answer.found)
        self._happened = [BrokersFound(targets(answer, self._peer_id), answer.ttl)]

    def drain(self) -> list[LinkInput]:
        """What was found, once."""
        happened, self._happened = self._happened, []
        return happened

    def fileno(self) -> int:
        """There is nothing to wait for."""
        return -1

    def wants_write(self) -> bool:
        """There is nothing to write."""
        return False

    def _nothing(self, *_args: object, **_more: object) -> None:
        """It is no connection."""

    read = write = tick = acknowledge = _nothing
    publish = subscribe = unsubscribe = close = _nothing


def targets(answer: SrvAnswer, peer_id: str) -> tuple[Target, ...]:
    """What was found, in the order in which this peer tries it."""
    each = (Target(str(url), priority, weight) for url, priority, weight in answer.found)
    return in_order(each, peer_id)
