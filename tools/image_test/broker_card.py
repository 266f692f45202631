"""The broker's own Pi: a directory made on this machine boots there, and serves the devices."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from broker_config.admin import setup
from device_sdk import CallEventListener, SignalingClient
from device_sdk.client.invitations import RemoteInvitationBase
from device_sdk.client.link.url import Tls
from device_sdk.errors import LoginError
from tests.servers import free_port
from tools.image_test import card, debian
from tools.image_test.machine import FIRST_BOOT, SECOND_BOOT, Machine, powered, wait_for


def run(system: debian.System, work: Path, log: Path) -> list[tuple[str, str]]:
    """The story itself; the table's rows. ``AssertionError`` or ``TimeoutError`` when it fails."""
    laptop, port = work / "laptop", free_port()
    setup.init(laptop, names=["broker.local"])
    secrets = {
        name: setup.add(laptop, name, may_call=(other,))[0]
        for name, other in (("front-door", "kitchen"), ("kitchen", "front-door"))
    }
    boot = card.make(
        work, "broker", "--broker-role", "--hostname", "broker", "--broker-dir", str(laptop),
        "--timezone", "Europe/Berlin",
    )  # fmt: skip
    root = work / "root.ext4"
    subprocess.run(["cp", "--sparse=always", str(system.root), str(root)], check=True)
    rows = []
    for number, patience in enumerate((FIRST_BOOT, SECOND_BOOT), 1):
        with powered(
            system, root, boot, work, log / f"broker-boot-{number}.log", {port: 8883}
        ) as machine:
            clients = {
                name: _client(name, port, secret, laptop) for name, secret in secrets.items()
            }
            rows.append((f"broker, boot {number}: power on → a device is let in",
                         f"{_logged_in(clients['kitchen'], patience, machine):.0f} s"))  # fmt: skip
            with contextlib.ExitStack() as stack:
                stack.enter_context(_logging_out(clients["kitchen"]))
                _logged_in(clients["front-door"], 60, machine)
                stack.enter_context(_logging_out(clients["front-door"]))
                rows.append((f"broker, boot {number}: a call, ring to accepted", _call(clients)))
                # Written to the card before the power goes, as it is after a while.
                time.sleep(10)
                machine.cut_power()
        assert not card.holds(boot, "bellwire/broker"), "the broker's keys are still on the card"
        assert card.holds(boot, "bellwire/ca.crt"), "the authority's certificate is not on the card"
    return rows


def _client(name: str, port: int, secret: str | None, laptop: Path) -> SignalingClient:
    tls = Tls(ca_file=str(laptop / "tls" / "ca.crt"))
    return SignalingClient(name, f"mqtts://127.0.0.1:{port}", password=secret, tls=tls)


def _logged_in(client: SignalingClient, patience: float, machine: Machine) -> float:
    """Log in as soon as the broker serves; the seconds since power on."""

    def tried() -> bool:
        try:
            client.login(15, keep_trying=True)
        except LoginError:
            return False
        return True

    wait_for(tried, patience, "the broker lets a device in", machine)
    return machine.age


@contextlib.contextmanager
def _logging_out(client: SignalingClient) -> Iterator[None]:
    try:
        yield
    finally:
        client.logout()


class _Accepts(CallEventListener):
    def __init__(self, client: SignalingClient) -> None:
        self._client = client

    def on_remote_invitation_received(self, invitation: RemoteInvitationBase) -> None:
        """It rings: come in."""
        self._client.call_manager.accept_remote_invitation(invitation)  # type: ignore[arg-type]  # of this face


def _call(clients: dict[str, SignalingClient]) -> str:
    listener = _Accepts(clients["kitchen"])
    clients["kitchen"].call_manager.add_event_listener(listener)
    begun = time.monotonic()
    outcome = clients["front-door"].call("kitchen", timeout=30)
    assert outcome.accepted, f"the call was not accepted: {outcome}"
    clients["kitchen"].call_manager.remove_event_listener(listener)
    return f"{(time.monotonic() - begun) * 1000:.0f} ms"
