"""Who is examined by ``bellwire doctor``: a service, by its settings; and whether it runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...client.link.url import BrokerUrl, parse_brokers
from ..config.account import Account, Action
from ..config.doorbell import DoorLine
from ..config.history import HistorySettings
from ..config.metrics import MetricsSettings
from ..config.sip import SipSettings
from ..config.web import WebSettings
from ..roles import SERVICES
from . import dns_sd

_TIMEOUT = 5.0


def running_service() -> tuple[str, str] | None:
    """The unit of ours that runs on this machine and its status line; None without one."""
    for unit in (f"bellwire-{name}" for name in SERVICES):
        command = ["systemctl", "show", unit, "-P", "ActiveState", "-P", "StatusText"]
        try:
            shown = subprocess.run(  # noqa: S603 # a fixed command
                command, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return None
        state, _, status = shown.partition("\n")
        if state in ("active", "activating", "reloading"):
            return unit, status.strip()
    return None


_NONE = BrokerUrl("mqtt", "", 0)


@dataclass(slots=True)
class Patient:
    """What the steps share."""

    account: Account
    #: Whom its buttons ring.
    rings: tuple[str, ...] = ()
    #: Where its figures are served.
    metrics: MetricsSettings | None = None
    #: Where its calls are kept.
    history: HistorySettings | None = None
    #: The one broker of the account that is looked at.
    url: BrokerUrl = _NONE
    #: Where its notifications go, each address once, and whether one is sent to try them.
    notify: tuple[str, ...] = ()
    send_notice: bool = False
    door: DoorLine | None = None
    now: Callable[[], float] = time.time
    browse: Callable[[], list[dns_sd.Announced]] = dns_sd.browse
    service: Callable[[], tuple[str, str] | None] = running_service
    #: The page of a panel; without a port there is none.
    web: WebSettings = field(default_factory=WebSettings)
    #: The account at Home Assistant's broker, of its bridge.
    mqtt: Account | None = None
    #: The phone, and the baresip that calls it.
    sip: SipSettings | None = None

    @property
    def host(self) -> str:
        """The broker's host."""
        return self.url.host

    @property
    def port(self) -> int:
        """The broker's port."""
        return self.url.port

    @property
    def tls(self) -> bool:
        """Whether the way there is encrypted."""
        return parse_brokers(self.account.broker)[0].tls


def patient_of(path: Path) -> Patient:
    """Who is to be examined, by the settings of any of the services, or by a person's own."""
    from ..config.account import read_account
    from ..config.doorbell import read_doorbell
    from ..config.homeassistant import read_homeassistant
    from ..config.panel import read_panel
    from ..config.sip import read_sip
    from ..config.toml_reader import load

    root = load(path)
    if not {"account", "button"} & set(root.keys()) and ("peer" in root or "broker" in root):
        account = read_account(root, path, bare=True)
        root.finish()
        return Patient(account)
    if "mqtt" in root:
        bridge = read_homeassistant(path)
        peers = dict.fromkeys(peer for button in bridge.buttons for peer in button.peers)
        return Patient(
            bridge.account,
            tuple(peers),
            metrics=bridge.metrics,
            history=bridge.history,
            notify=_addresses(bridge.on),
            mqtt=bridge.mqtt,
        )
    if "sip" in root:
        sip = read_sip(path)
        return Patient(sip.account, metrics=sip.metrics, notify=_addresses(sip.on), sip=sip)
    if "button" not in root:
        panel = read_panel(path)
        return Patient(
            panel.account,
            metrics=panel.metrics,
            history=panel.history if panel.keeps_history else None,
            notify=_addresses(panel.on),
            web=panel.web,
        )
    bell = read_doorbell(path)
    rings = dict.fromkeys(peer for button in bell.buttons for peer in button.peers)
    return Patient(
        bell.account,
        tuple(rings),
        metrics=bell.metrics,
        notify=_addresses(bell.on),
        door=bell.door,
    )


def _addresses(on: Mapping[str, Action]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for action in on.values() for each in action.notify))
