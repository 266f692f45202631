"""Call signalling over MQTT for things with buttons: the part that goes on the device.

The threaded client is here, its asyncio twin in :mod:`device_sdk.aio`; the protocol's core below
them needs neither (:mod:`device_sdk.core.engine`); :mod:`device_sdk.testing` joins engines in
memory.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself need not be loaded for it
if TYPE_CHECKING:
    from typing import Any

    from .client.invitations import Event, MissedCall, Outcome
    from .client.link.url import Tls
    from .client.listener import CallEventListener
    from .client.policy import Policy
    from .client.ring_plan import GroupOutcome
    from .client.threaded import (
        Call,
        CallManager,
        LocalInvitation,
        RemoteInvitation,
        RingGroup,
        SignalingClient,
    )
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

    __version__: str

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

#: Where each name lives. It is loaded with its first use: the asyncio client needs nothing of the
#: threaded one, and a command is to answer Ctrl-C before all of that has been loaded.
_PLACES = {
    "client.invitations": ("Event", "MissedCall", "Outcome"),
    "client.link.url": ("Tls",),
    "client.listener": ("CallEventListener",),
    "client.policy": ("Policy",),
    "client.ring_plan": ("GroupOutcome",),
    "client.threaded": (
        "Call", "CallManager", "LocalInvitation", "RemoteInvitation", "RingGroup",
        "SignalingClient",
    ),
    "core.settings": ("Settings",),
    "core.wire.cells": ("AnswerReason",),
    "errors": (
        "BellwireError", "BrokerRefused", "BrokerUnreachable", "ClientClosed", "DecodeError",
        "InvalidArgument", "InvitationApiCallError", "LoginError", "LoginTimeout",
        "SubscriptionRefused", "TooManyMessages",
    ),
    "states": (
        "CallState", "ConnectionChange", "ConnectionState", "EndReason",
        "InvitationApiCallErrorCode", "LocalInvitationError", "LocalInvitationState",
        "RemoteInvitationError", "RemoteInvitationState",
    ),
}  # fmt: skip
_PLACE = {name: place for place, names in _PLACES.items() for name in names}
#: What else is there once any of those is: ``device_sdk.errors.LoginError`` needs no other import.
_MODULES = ("client", "core", "errors", "states")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _PLACE and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name in _MODULES:
        return import_module(f".{name}", __name__)
    value = globals()[name] = getattr(import_module(f".{_PLACE[name]}", __name__), name)
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("bellwire")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "(not installed)"


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACE, "__version__"})
