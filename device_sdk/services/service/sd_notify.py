"""systemd's notification protocol (sd_notify(3)), and nothing where there is no systemd."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping

from ...client.display import plain

#: What a manager whose queue is full is waited for; seconds.
SEND_TIMEOUT = 0.2


class Notifier:
    """Tells the service manager; the address and the watchdog's time come from the environment.

    Never raises: a service manager that does not listen is no reason to stop ringing.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environ is None else environ
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # A path, or an abstract name; the vsock addresses of sd_notify(3) are for virtual machines.
        known = address.startswith(("/", "@"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if known else None
        if self._socket is not None:
            self._socket.settimeout(SEND_TIMEOUT)
        self._ready = False
        watchdog = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        #: Seconds between two beats: half of what the manager allows; None without a watchdog.
        self.interval = int(watchdog) / 2e6 if _is_time(watchdog) and ours else None

    def ready(self, status: str = "") -> None:
        """The service does its work (again, after :meth:`reloading`)."""
        self._ready = True
        self._send("READY=1" + (f"\nSTATUS={plain(status)}" if status else ""))

    def reloading(self) -> None:
        """The service reads its settings again; :meth:`ready` ends that."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={plain(status)}")

    def beat(self) -> None:
        """Called by the real loop: it turns. Before readiness it asks for more time to start."""
        if self.interval is None:
            return
        more = "" if self._ready else f"\nEXTEND_TIMEOUT_USEC={int(self.interval * 4e6)}"
        self._send(f"WATCHDOG=1{more}")

    async def keep_beating(self) -> None:
        """:meth:`beat` from an event loop, as long as it turns."""
        while self.interval is not None:
            self.beat()
            await asyncio.sleep(self.interval)

    def stopping(self) -> None:
        """The service ends of its own will."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is not None:
            try:
                self._socket.sendto(text.encode(), self._address)
            except (OSError, ValueError):
                return


def _is_time(text: str) -> bool:
    """Whether that is a watchdog's time; 0 is none (sd_watchdog_enabled(3))."""
    return text.isascii() and text.isdigit() and int(text) > 0
