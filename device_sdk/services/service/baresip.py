"""baresip by its ``ctrl_tcp`` module: commands out, events in, connected again and again.

The module speaks netstrings of JSON (https://cr.yp.to/proto/netstrings.txt). A thread of its own
reads; everything is told by way of ``post``, on the loop.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ...client.logs import Log

log = Log("bellwire.pi")

#: The longest message; baresip's are a few hundred bytes.
MAX_MESSAGE = 64 * 1024
CONNECT_TIMEOUT = 3.0
#: Between two attempts to connect; seconds.
RETRY = 1.0


class Netstrings:
    """From bytes to JSON objects. Raises ``ValueError`` for what is no netstring of one."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that are whole now."""
        self._rest += data
        found = []
        while (message := self._next()) is not None:
            found.append(message)
        return found

    def _next(self) -> dict[str, Any] | None:
        length, colon, rest = self._rest.partition(b":")
        if (not colon and len(length) > 6) or (length and not length.isdigit()):
            raise ValueError(f"no netstring: {self._rest[:20]!r}")
        if not colon:
            return None
        size = int(length)
        if size > MAX_MESSAGE:
            raise ValueError(f"a message of {size} bytes")
        if len(rest) <= size:
            return None
        if rest[size : size + 1] != b",":
            raise ValueError(f"no netstring: {self._rest[:20]!r}")
        self._rest = rest[size + 1 :]
        message = json.loads(rest[:size])
        if not isinstance(message, dict):
            raise ValueError("no JSON object")
        return message


def netstring(message: dict[str, Any]) -> bytes:
    """One message as it is sent.

    >>> netstring({"command": "hangup"})
    b'21:{"command": "hangup"},'
    """
    data = json.dumps(message).encode()
    return b"%d:%s," % (len(data), data)


class SipEvents(Protocol):
    """What baresip tells, on the loop's thread."""

    def on_baresip(self, there: bool) -> None:
        """It is there, or not any more."""
        ...

    def on_sip_event(self, kind: str, parameter: str) -> None:
        """Something happened to an outgoing call."""
        ...

    def on_dialed(self, why: str) -> None:
        """It has heard that it is to dial; why it cannot, else ""."""
        ...

    def on_hung_up(self) -> None:
        """It has heard that it is to hang up."""
        ...


class Baresip:
    """Keeps one control connection. Commands are for the loop's thread, and never wait."""

    def __init__(
        self, host: str, port: int, events: SipEvents, post: Callable[[Callable[[], None]], None]
    ) -> None:
        self._address = host, port
        self._events, self._post = events, post
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="bellwire-baresip", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Hang up, and let go of the connection."""
        self._stopping.set()
        self.hang_up()
        self._drop()
        if self._thread.is_alive():
            self._thread.join(2 * CONNECT_TIMEOUT)

    def dial(self, uri: str) -> None:
        """Call ``uri``."""
        self._command("dial", uri)

    def hang_up(self) -> None:
        """End the call that there is."""
        self._command("hangup")

    def _command(self, name: str, parameter: str = "") -> None:
        message = {"command": name, "token": name}
        if parameter:
            message["params"] = parameter
        with self._lock:
            try:
                if self._socket is not None:
                    self._socket.sendall(netstring(message))
            except OSError as error:
                log.warning("baresip takes no commands: %s", error)
                self._close()  # the reader notices, and connects again

    def _run(self) -> None:
        said = ""
        while not self._stopping.is_set():
            try:
                self._serve(socket.create_connection(self._address, CONNECT_TIMEOUT))
                said = ""
            except (OSError, ValueError) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("no baresip at %s:%d: %s; trying again", *self._address, said)
            except Exception as error:  # noqa: BLE001 - this thread's supervisor: it connects again
                log.error("the connection to baresip failed", error=error)
            self._stopping.wait(RETRY)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        with self._lock:
            self._socket = connection
        self._post(lambda: self._events.on_baresip(True))
        messages = Netstrings()
        try:
            while data := connection.recv(65536):
                for message in messages.feed(data):
                    self._heard(message)
        finally:
            self._drop()
            self._post(lambda: self._events.on_baresip(False))

    def _heard(self, message: dict[str, Any]) -> None:
        if message.get("event") and message.get("direction") == "outgoing":
            kind, parameter = str(message.get("type")), str(message.get("param", ""))
            self._post(lambda: self._events.on_sip_event(kind, parameter))
        elif message.get("response") and message.get("token") == "dial":
            why = "" if message.get("ok") else str(message.get("data") or "no reason").strip()
            self._post(lambda: self._events.on_dialed(why))
        elif message.get("response") and message.get("token") == "hangup":
            self._post(self._events.on_hung_up)

    def _drop(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            connection, self._socket = self._socket, None
            with contextlib.suppress(OSError):  # it may be gone already
                connection.shutdown(socket.SHUT_RDWR)  # wakes the reader
            connection.close()
