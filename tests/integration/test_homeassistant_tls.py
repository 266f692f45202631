"""The bridge and a mosquitto with TLS and passwords, as Home Assistant's may be."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_sdk.services.config.homeassistant import read_homeassistant
from device_sdk.services.doctor.fault import Fault
from device_sdk.services.doctor.homeassistant import examine_mqtt
from device_sdk.services.homeassistant.service import HomeAssistantService
from device_sdk.services.service.loop import Loop
from device_sdk.services.service.sd_notify import Notifier
from tests.conftest import need_mosquitto
from tests.integration.certificates import Authority
from tests.servers import Mosquitto

pytestmark = pytest.mark.mosquitto


class GuardedMosquitto(Mosquitto):
    """It lets in who knows a password, and shows a certificate of an authority."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.passwords = folder / "passwords"
        self.password("right")
        self.certificate, self.key = authority.sign("ha")
        super().__init__(
            folder,
            # Where root runs it: else it gives that up, and may not read what lies here.
            f"user root\ncertfile {self.certificate}\nkeyfile {self.key}\n"
            f"password_file {self.passwords}\nallow_anonymous false",
        )

    def password(self, word: str) -> None:
        subprocess.run(
            ["mosquitto_passwd", "-b", *([] if self.passwords.exists() else ["-c"]),
             self.passwords, "bellwire", word], check=True, capture_output=True,
        )  # fmt: skip


class Statuses(Notifier):
    """What the service says to its manager."""

    def __init__(self) -> None:
        super().__init__({})
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.status = self.ready = self._said.put  # type: ignore[method-assign,assignment] # all

    def until(self, words: str) -> str:
        """The next status with these words in it."""
        while words not in (status := self._said.get(timeout=20)):
            pass
        return status


class Link:
    """In place of a client: Bellwire's broker lets it in at once."""

    def __init__(self, _account: Any, _listener: Any, events: Any, post: Any) -> None:
        self.client = SimpleNamespace(watch=lambda _peer: None)
        self.start = lambda: post(lambda: events.on_link(True, "there"))

    def stop(self) -> None:
        """Nothing is open."""


def _another_password(broker: GuardedMosquitto, _other: Authority) -> None:
    broker.password("wrong")
    broker.signal(signal.SIGHUP)


def _another_certificate(broker: GuardedMosquitto, other: Authority) -> None:
    broker.stop()
    certificate, key = other.sign("new")
    broker.certificate.write_bytes(certificate.read_bytes())
    broker.key.write_bytes(key.read_bytes())
    broker.start()


@pytest.mark.parametrize(
    ("secret", "authority", "problem", "mend"),
    [
        ("wrong", "home", "refused: not authorized", _another_password),
        ("right", "other", "is ca_file the authority that signed it?", _another_certificate),
    ],
)
def test_what_its_broker_refuses_is_said_tried_again_and_found_by_the_doctor(
    secret: str,
    authority: str,
    problem: str,
    mend: Callable[[GuardedMosquitto, Authority], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A wrong password, another authority: in log, status and doctor; mended there, it goes on."""
    need_mosquitto()
    authorities = {name: Authority(tmp_path, name) for name in ("home", "other")}
    (tmp_path / "mqtt-secret").write_text(secret)
    path = tmp_path / "homeassistant.toml"
    with GuardedMosquitto(tmp_path, authorities["home"]) as broker:
        path.write_text(
            '[account]\npeer = "home"\nbroker = "mqtt://nowhere"\n[history]\nkeep = 0\n'
            f'[mqtt]\nbroker = "mqtts://127.0.0.1:{broker.port}"\nusername = "bellwire"\n'
            f'secret_file = "mqtt-secret"\nca_file = "{authority}.pem"\n'
            '[[door]]\npeer = "front-door"\n'
        )
        settings, statuses = read_homeassistant(path), Statuses()
        loop = Loop(statuses)
        service = HomeAssistantService(settings, loop, statuses, Link)  # type: ignore[arg-type] # as it is asked
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            assert problem in statuses.until("Home Assistant's broker: ")
            with pytest.raises(Fault, match=re.escape(problem)):
                examine_mqtt(settings.mqtt)
            mend(broker, authorities["other"])
            assert statuses.until("online as home") == "online as home at there"
            assert examine_mqtt(settings.mqtt).endswith("lets the bridge in")
        finally:
            loop.stop()
            thread.join(20)
    told = [each.getMessage() for each in caplog.records if problem in each.getMessage()]
    assert len(told) == 1
    assert told[0].endswith("; trying again")
