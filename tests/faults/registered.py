"""The bundled broker, set up: only registered devices get in, and one can be removed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from broker_config.access import registry
from broker_config.admin import outside, running, settings, setup
from broker_config.admin.settings import REGISTRY
from tests.broker_support.served import Served, setup_on_free_ports
from tests.servers import BrokerProcess

OBSERVER = "observer"


class RegisteredBroker(BrokerProcess):
    """``bellwire-broker run DIR`` in ``folder``, for these devices; their ``secrets``."""

    name = "bundled"

    def __init__(self, folder: Path, devices: list[str]) -> None:
        super().__init__()
        self._directory = setup_on_free_ports(folder / "broker")
        wanted = [setup.Wanted(OBSERVER, watches=True)]
        wanted += [setup.Wanted(name, may_call=("*",)) for name in devices]
        given = setup.add_all(self._directory, wanted)
        self.secrets = {each.name: each.secret or "" for each in given}
        self._served: Served | None = None
        self._one_at_a_time = threading.Lock()

    def start(self) -> None:
        self._served = Served(self._directory)
        self.port = self._served.ports["mqtt"]

    def stop(self) -> None:
        if self._served is not None:
            self._served.stop()

    def remove(self, name: str) -> float:
        """Remove a device; returns once the running broker goes by it, with when its turn came."""
        with self._one_at_a_time:
            began = time.monotonic()
            setup.remove(self._directory, name)
            self._tell()
        return began

    def add(self, name: str) -> None:
        """Register a device once more, with a new secret; returns once it may log in."""
        with self._one_at_a_time:
            self.secrets[name] = setup.add(self._directory, name, may_call=("*",))[0] or ""
            self._tell()

    def _tell(self) -> None:
        running.tell_broker(self._directory)
        digest = registry.load(self._directory / REGISTRY).digest
        assert outside.applied(settings.load(self._directory), digest)
