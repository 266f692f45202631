"""amqtt plugins: who a client is, and what it may do. Thin; the rules are in acl and registry."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from amqtt.contexts import Action, BaseContext
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session
from argon2.exceptions import InvalidHashError, VerificationError

from device_sdk.core.wire.topics import unescape

from ..core.limits import Allowance
from .acl import contains, may_publish, may_subscribe, readable, refused_call, stands
from .naming import allow, command, near_names
from .registry import HASHER, Device, load

logger = logging.getLogger(__name__)

CREDENTIAL = "bellwire.credential"
#: In a certificate, this before the escaped peer id names the device.
CERTIFICATE_NAME = "urn:bellwire:peer:"


class AnyonePlugin(BaseAuthPlugin, BaseTopicPlugin):
    """Anybody may do anything: for a broker that only its own machine reaches."""

    filters_contain_topics = True

    async def authenticate(self, *, session: Session) -> bool:
        """Let everybody in, as nobody in particular."""
        session.is_anonymous = True
        return True

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,  # noqa: ARG002 - amqtt's signature
        topic: str | None = None,  # noqa: ARG002 - amqtt's signature
        action: Action | None = None,  # noqa: ARG002 - amqtt's signature
    ) -> bool:
        """Allow everything."""
        return True

    def decide(self, session: Session, topic: str, action: str) -> bool:  # noqa: ARG002
        """The same, at once."""
        return True


#: Failures a second, and at once, before a name at an address has to wait; and all names there. A
#: secret is 20 random bytes, so it is the processor that is spared, and the log.
_FAILURES, _FAILURES_OF_ALL = (0.5, 10), (2.0, 50)
#: Stands for all names at an address; none is called so.
_ANY = ""


class Verifier:
    """Checks secrets against argon2 hashes in threads, and remembers which were right.

    Remembered is an HMAC of hash and secret under a key of this process, not the secret: what is
    in memory opens nothing, and a changed hash makes it worthless.
    """

    def __init__(self, workers: int = 2, remembered_failures: int = 10_000) -> None:
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="argon2")
        #: Of a name at an address, and of all names there: many may be behind one address.
        self._failures: dict[tuple[str, str], Allowance] = {}
        self._remembered = remembered_failures
        #: For names that don't exist: saying no takes as long as for a wrong secret.
        self._nobody = HASHER.hash(secrets.token_hex(20))

    def _mac(self, hashed: str, secret: bytes) -> bytes:
        return hmac.new(self._key, hashed.encode() + b"\0" + secret, hashlib.sha256).digest()

    async def right(self, name: str, hashed: str | None, secret: str, address: str) -> bool:
        """Whether ``secret`` is the one of ``hashed``; who fails a lot is slowed.

        That is a name at an address; all other names there are only when many of them fail.
        """
        data = secret.encode("utf-8", "surrogateescape")
        mac = self._mac(hashed, data) if hashed else b""
        if hashed and hmac.compare_digest(self._right.get(name, b""), mac):
            return True
        loop = asyncio.get_running_loop()
        pause = max(self._pause((address, who), loop.time()) for who in (name, _ANY))
        if pause:
            await asyncio.sleep(pause)
        fits = await loop.run_in_executor(self._pool, self._check, hashed or self._nobody, data)
        if fits and hashed:
            self._right[name] = mac
            self._failures.pop((address, name), None)
            return True
        for who, rate, burst in ((name, *_FAILURES), (_ANY, *_FAILURES_OF_ALL)):
            self._count_failure((address, who), rate, burst, loop.time())
        return False

    @staticmethod
    def _check(hashed: str, data: bytes) -> bool:
        try:
            return HASHER.verify(hashed, data)
        except (VerificationError, InvalidHashError):
            return False

    def _pause(self, who: tuple[str, str], now: float) -> float:
        allowance = self._failures.get(who)
        return 0.0 if allowance is None else min(allowance.owed(now), 30.0)

    def _count_failure(self, who: tuple[str, str], rate: float, burst: int, now: float) -> None:
        if who not in self._failures and len(self._failures) >= self._remembered:
            del self._failures[next(iter(self._failures))]
        self._failures.setdefault(who, Allowance(rate, burst, now)).take(now)

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class RegistryPlugin(BaseAuthPlugin, BaseTopicPlugin):
    """Devices of the registry, by secret or by certificate, within the rules of ``acl``."""

    #: What is subscribed was proven to hold only readable topics: no check at each delivery.
    filters_contain_topics = True

    @dataclass
    class Config:
        """Where the registry is, and the realm of its devices."""

        registry: str = "devices.json"
        realm: str = "sig"

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._path = Path(self.config.registry)
        self._realm: str = self.config.realm
        self.registry = load(self._path)
        self.verifier = Verifier()

    def reload(self) -> frozenset[str]:
        """Read the registry again; raises RegistryError and keeps the old one.

        Gives the devices whose cells are to be cleared: those for which somebody asked, and those
        that were removed and registered anew under the same name.
        """
        old, self.registry = self.registry, load(self._path)
        return frozenset(
            name
            for name, device in self.registry.devices.items()
            if (before := old.devices.get(name)) is not None
            and (before.cleared, before.created) != (device.cleared, device.created)
        )

    def stands(self, topic: str) -> bool:
        """Whether a retained message of ``topic`` may be there, by the registry as it is now."""
        return stands(self._realm, topic, self.registry.devices, self.registry.may_call)

    def refusal(self, session: Session, topic: str, action: Action) -> str:
        """Why ``topic`` is refused to ``session``, for the log, with the command that cures it."""
        device = self._device(session)
        if device is None:
            return f"{session.username!r} is not registered"
        if action is not Action.PUBLISH:
            cure = command("device", "set", device.name, "--watches", directory=self._path.parent)
            return f"{device.name!r} may not subscribe to {topic!r}; to read the realm: {cure}"
        call = refused_call(self._realm, device.name, topic)
        if call is None:
            return (
                f"{device.name!r} may not publish to {topic!r}: that is no cell of its own in the "
                f"realm {self._realm!r}"
            )
        caller, callee = (self.registry.devices.get(name) for name in call)
        for name, found in zip(call, (caller, callee), strict=True):
            if found is None:
                near = near_names(self.registry.devices, name)
                return f"{call[0]!r} may not call {call[1]!r}: there is no device {name!r}; {near}"
        assert caller is not None  # noqa: S101 - said above
        cure = allow(caller, call[1], self._path.parent)
        return f"{call[0]} may not call {call[1]}: {cure}"

    async def close(self) -> None:
        """Amqtt's end of a plugin."""
        self.verifier.close()

    def _device(self, session: Session) -> Device | None:
        name = unescape(session.username) if session.username else None
        return self.registry.devices.get(name) if name else None

    async def authenticate(self, *, session: Session) -> bool:
        """Whether the client shows a device's secret or its certificate."""
        session.is_anonymous = False
        shown = _certificate(session)
        if shown is not None:
            name, fingerprint = shown
            if session.username is None:
                session.username = name
            device = self._device(session)
            if session.username != name or device is None or device.certificate is None:
                return False
            if not hmac.compare_digest(device.certificate, fingerprint):
                return False
            session.attributes[CREDENTIAL] = fingerprint
            return True
        if session.username is None or session.password is None:
            return False
        device = self._device(session)
        hashed = device.secret if device is not None else None
        address = str(session.remote_address)
        if not await self.verifier.right(session.username, hashed, session.password, address):
            return False
        # The registry may have changed while the secret was checked.
        session.attributes[CREDENTIAL] = hashed
        return self.valid(session)

    def valid(self, session: Session) -> bool:
        """Whether the device is still registered, and with what it showed when it connected."""
        device = self._device(session)
        if device is None:
            return False
        shown = session.attributes.get(CREDENTIAL)
        return shown is None or shown in (device.secret, device.certificate)

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,
        topic: str | None = None,
        action: Action | None = None,
    ) -> bool:
        """Whether the rules allow it."""
        return session is not None and topic is not None and self.decide(session, topic, action)

    def decide(self, session: Session, topic: str, action: str | None) -> bool:
        """The same, at once."""
        device = self._device(session)
        if device is None:
            return False
        if action == Action.PUBLISH:
            return may_publish(self._realm, device.name, topic, self.registry.may_call)
        if action == Action.SUBSCRIBE:
            return may_subscribe(self._realm, device.name, topic, watches=device.watches)
        return device.watches or any(
            contains(pattern, topic) for pattern in readable(self._realm, device.name)
        )


def _certificate(session: Session) -> tuple[str, str] | None:
    """The escaped peer id and fingerprint of the client certificate, if one was shown."""
    if session.ssl_object is None:
        return None
    binary = session.ssl_object.getpeercert(binary_form=True)
    content = session.ssl_object.getpeercert()
    if not binary or not content:
        return None
    name = ""
    for entry in content.get("subjectAltName", ()):
        kind, value = entry[0], str(entry[1])
        if kind == "URI" and value.startswith(CERTIFICATE_NAME):
            name = value.removeprefix(CERTIFICATE_NAME)
    return name, hashlib.sha256(binary).hexdigest()
