"""Call signalling over MQTT for things with buttons: the part that goes on the device.

The threaded client is here, its asyncio twin in :mod:`device_sdk.aio`; the protocol's core below
them needs neither (:mod:`device_sdk.core.engine`); :mod:`device_sdk.testing` joins engines in
memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client.invitations import Event, MissedCall, Outcome
from .client.link.url import Tls
from .client.listener import CallEventListener
from .client.policy import Policy
from .client.ring_plan import GroupOutcome
from .core.settings import Settings
from .core.wire.cells import AnswerReason
from .errors import (
    BellwireError,
    BrokerRefused,
    BrokerUnreachable,
    ClientClosed,
    DecodeError,
    InvalidArgument,
    InvitationApiCallError,
    LoginError,
    LoginTimeout,
    SubscriptionRefused,
    TooManyMessages,
)
from .states import (
    CallState,
    ConnectionChange,
    ConnectionState,
    EndReason,
    InvitationApiCallErrorCode,
    LocalInvitationError,
    LocalInvitationState,
    RemoteInvitationError,
    RemoteInvitationState,
)

if TYPE_CHECKING:
    __version__: str
    from .client.threaded import (
        Call,
        CallManager,
        LocalInvitation,
        RemoteInvitation,
        RingGroup,
        SignalingClient,
    )

__all__ = [
    "AnswerReason",
    "BellwireError",
    "BrokerRefused",
    "BrokerUnreachable",
    "Call",
    "CallEventListener",
    "CallManager",
    "CallState",
    "ClientClosed",
    "ConnectionChange",
    "ConnectionState",
    "DecodeError",
    "EndReason",
    "Event",
    "GroupOutcome",
    "InvalidArgument",
    "InvitationApiCallError",
    "InvitationApiCallErrorCode",
    "LocalInvitation",
    "LocalInvitationError",
    "LocalInvitationState",
    "LoginError",
    "LoginTimeout",
    "MissedCall",
    "Outcome",
    "Policy",
    "RemoteInvitation",
    "RemoteInvitationError",
    "RemoteInvitationState",
    "RingGroup",
    "Settings",
    "SignalingClient",
    "SubscriptionRefused",
    "Tls",
    "TooManyMessages",
]

#: The threaded client, imported with its first use: its asyncio twin needs nothing of it.
_THREADED = frozenset(
    ("Call", "CallManager", "LocalInvitation", "RemoteInvitation", "RingGroup", "SignalingClient")
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _THREADED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .client import threaded

    value = globals()[name] = getattr(threaded, name)
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("bellwire")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "(not installed)"


def __dir__() -> list[str]:
    return sorted({*globals(), *_THREADED, "__version__"})
