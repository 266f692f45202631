"""Brokers as processes of their own, on free ports of loopback: bundled and mosquitto."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

MOSQUITTO_CONF = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
# Without it Nagle's algorithm adds 44 ms to every QoS 1 hop.
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
log_type error
{more}
"""


#: Below what systems hand out for outgoing connections and for port 0 (Linux: from 32768): there
#: another test may get a port between asking and listening, or while its broker is being killed.
_PORTS = range(20_000, 32_768)
# Sessions beside each other (pytest-xdist) have a share each: a port that one of them has for a
# broker that it has killed, or that is to be dead, is given to none of the others meanwhile.
_SHARES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_SHARE = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
_OWN = _PORTS[_SHARE * len(_PORTS) // _SHARES : (_SHARE + 1) * len(_PORTS) // _SHARES]
# Processes that began one after the other are far apart, so parallel runs do not meet.
_next_port = itertools.count(os.getpid() * 997)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on, and nobody else will be given soon."""
    while True:
        port = _OWN[next(_next_port) % len(_OWN)]
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port


def mosquitto_binary() -> str | None:
    """Where mosquitto is, if it is; Debian keeps it in /usr/sbin, which users' PATH leaves out."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class BrokerProcess:
    """A broker on 127.0.0.1, running inside ``with``; stopped or killed, it starts on its port."""

    name = ""

    def __init__(self) -> None:
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    #: What a client is to ask for when it subscribes.
    subscribe_qos = 1
    #: The shortest keep-alive that does there, in seconds.
    least_keepalive = 1

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def urls(self) -> list[str]:
        """One for each node."""
        return [self.url]

    def start(self) -> None:
        """Start it, on the port it had before if it had one; returns once it accepts."""
        again = bool(self.port)
        for attempt in range(3):
            self.port = self.port or free_port()
            try:
                self._start()
            except AssertionError:
                self._end(signal.SIGKILL)
                if again or attempt == 2:
                    raise
                self.port = 0  # another run was given the same one between asking and listening
            else:
                return

    def _start(self) -> None:
        raise NotImplementedError

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end, and wait for it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: no goodbye, and nothing kept."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a stopped process would not hear the other one
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()


class BundledBroker(BrokerProcess):
    """``bellwire-broker run`` with further ``options``."""

    name = "bundled"

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options

    def _start(self) -> None:
        code = "import sys; from broker_config.cli import main; sys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "run", "--port", str(self.port), *self._options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.match(r"listening on .*:(\d+)$", line.strip()):
                self.port = int(found[1])
                return
        raise AssertionError(f"the bundled broker ended with {self.process.wait(10)}")


class Mosquitto(BrokerProcess):
    """mosquitto with a configuration in ``folder``; ``more`` are further lines of it."""

    name = "mosquitto"

    def __init__(self, folder: Path, more: str = "") -> None:
        super().__init__()
        self._conf = folder / "mosquitto.conf"
        self._more = more

    def _start(self) -> None:
        binary = mosquitto_binary()
        assert binary is not None, "mosquitto is not installed"
        self._conf.write_text(MOSQUITTO_CONF.format(port=self.port, more=self._more))
        self.process = subprocess.Popen([binary, "-c", str(self._conf)], text=True)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            status = self.process.poll()
            assert status is None, f"mosquitto ended with {status}"
            assert time.monotonic() < deadline, "mosquitto does not accept connections"
            time.sleep(0.01)
