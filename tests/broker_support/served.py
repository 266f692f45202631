"""``bellwire-broker run DIR`` in a process of its own, and a directory for it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker_config import cli
from tests.servers import free_port


class Served:
    """``bellwire-broker run DIR`` in a process of its own, which may open so many ``files``."""

    def __init__(self, directory: Path, *, files: int | None = None) -> None:
        self.directory = directory
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        (directory / "notify").unlink(missing_ok=True)
        self.notified.bind(str(directory / "notify"))
        self.notified.settimeout(10)
        limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"] if files else []
        self.process = subprocess.Popen(
            [*limited, sys.executable, "-m", "broker_config.cli", "run", str(directory)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify")},
        )
        assert self.process.stdout
        self.log = ""
        self.ports: dict[str, int] = {}
        for _ in range(3):
            line = self.process.stdout.readline()
            assert line.startswith("listening on 127.0.0.1:"), self.process.stderr
            port, _, name = line.removeprefix("listening on 127.0.0.1:").partition(" ")
            self.ports[name.strip("()\n")] = int(port)
        self.wait_for("READY=1")

    def wait_for(self, state: str) -> None:
        while self.notified.recv(200).decode() != state:
            pass

    def logged(self, text: str) -> str:
        """Wait for a line of its log."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.log += line
            if text in line:
                return line
        raise AssertionError(f"it ended with {self.process.wait()} without {text!r}: {self.log}")

    def stop(self) -> str:
        """End it; gives what it logged."""
        self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=10)
        self.notified.close()
        self.log += rest
        assert self.process.returncode == 0, self.log
        return self.log


@contextmanager
def serving(directory: Path, *, files: int | None = None) -> Iterator[Served]:
    """Serve while the block runs."""
    served = Served(directory, files=files)
    try:
        yield served
    finally:
        served.stop()


def setup_on_free_ports(place: Path, *options: str) -> Path:
    """A directory set up by ``init``, on free ports of loopback."""
    assert cli.main(["init", str(place), *options]) == 0
    settings = place / "broker.toml"
    text = settings.read_text()
    for old, new in (
        ('mqtts = ":8883"', 'mqtts = "127.0.0.1:0"'),
        ('wss = "" ', 'wss = "127.0.0.1:0" '),
        ("127.0.0.1:1883", "127.0.0.1:0"),
        ("127.0.0.1:9883", f"127.0.0.1:{free_port()}"),
    ):
        assert old in text
        text = text.replace(old, new)
    settings.write_text(text)
    return place


def trust(directory: Path, name: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(directory / "tls" / "ca.crt"))
    if name:
        files = directory / "tls" / "devices"
        context.load_cert_chain(files / f"{name}.crt", files / f"{name}.key")
    return context
