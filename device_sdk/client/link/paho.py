"""MQTT by paho-mqtt, of which a client is used in ``paho_client``, and nowhere else.

A :class:`PahoLink` wraps one paho client for one connection. paho would send again, after a
reconnect, what an older connection left unacknowledged, even with a clean session: an old cell over
a newer one. So nothing is ever reconnected; the next connection is a new client. paho's own thread
is not used either: the owner calls ``loop_read`` and its kin, so a publish is on the wire when
:meth:`PahoLink.publish` returns. Callbacks only note what happened, and so cannot raise.
A message is acknowledged once it is dealt with: the answer that the peer waits for goes out first.
What paho raises all the same, which its older versions do at malformed packets, ends the link.
"""

from __future__ import annotations

import math
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import WebsocketConnectionError
from paho.mqtt.enums import (
    CallbackAPIVersion,
    MQTTErrorCode,
    MQTTProtocolVersion,
)

from ...core.effects import (
    Connected,
    Disconnected,
    LinkFailed,
    LinkInput,
    MessageReceived,
    PublishAcked,
    Subscribed,
)
from ...errors import BrokerRefused, BrokerUnreachable
from .base import Will
from .failures import close_left_open, login_error
from .paho_client import LinkClient
from .url import BrokerUrl

#: How long TLS and WebSocket wait for each word of the other end, once there is a connection.
HANDSHAKE_TIMEOUT = 10.0
#: For how many keep-alives the greeting is waited for, within the session's bound.
GREETED_WITHIN = 3
#: MQTT 5 reason codes, into which paho turns the return codes of CONNACK (MQTT 3.1.1, 3.2.2.3).
_RETURN_CODES = {132: 1, 133: 2, 136: 3, 134: 4, 135: 5}
_REFUSALS = {
    1: "it does not speak MQTT 3.1.1",
    2: "client id rejected",
    3: "server unavailable",
    4: "authentication failed (bad user name or password)",
    5: "not authorized (user name, secret or certificate)",
}


class PahoLink:
    """One MQTT 3.1.1 connection; see :class:`~device_sdk.client.link.base.Link`.

    ``will`` None is for those who only read. No step of :meth:`open` takes more than ``at_most`` s.
    """

    def __init__(
        self,
        url: BrokerUrl,
        client_id: str,
        will: Will | None,
        *,
        keepalive: int,
        subscribe_qos: int = 1,
        username: str | None = None,
        password: str | None = None,
        context: ssl.SSLContext | None = None,
        at_most: float = math.inf,
    ) -> None:
        self._url = url
        self._keepalive = keepalive
        self._subscribe_qos = subscribe_qos
        self._happened: deque[LinkInput] = deque()
        self._tokens: dict[int, int] = {}
        self._filters: dict[int, tuple[str, ...]] = {}
        self._read: list[int] = []  # packet ids of messages to acknowledge
        self._greeted = False
        self._opened = 0.0
        self._ended = False
        self._pending: Callable[[], int] | None = None  # bytes taken from the socket, not yet read
        client = LinkClient(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            transport="websockets" if url.websocket else "tcp",
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.at_most = at_most
        client.dialed = url.host
        client.connect_timeout = min(HANDSHAKE_TIMEOUT, at_most)
        client.max_inflight_messages_set(0)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        if username is not None:
            client.username_pw_set(username, password)
        if url.tls:
            client.tls_set_context(context or ssl.create_default_context())
        if url.websocket:
            client.ws_set_options(path=url.path)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.noted = self._on_message
        client.on_subscribe = self._on_subscribe
        client.acked = self._on_acked
        self._client = client

    def open(self) -> None:
        """Resolve, connect and send CONNECT; raises :class:`BrokerUnreachable` with its cause."""
        try:
            self._client.connect(self._url.certified, self._url.port, self._keepalive)
        except WebsocketConnectionError as error:
            close_left_open(error)
            problem = f"{self._url}: no WebSocket there ({error})"
            raise BrokerUnreachable("connection lost", problem) from error
        except (OSError, ssl.SSLError, ValueError) as error:
            close_left_open(error)
            raise login_error(error, self._url) from error
        except Exception as error:
            close_left_open(error)
            raise BrokerUnreachable("connection lost", f"{self._url}: {error!r}") from error
        self._pending = getattr(self._client.socket(), "pending", None)
        self._opened = time.monotonic()

    def fileno(self) -> int:
        """The socket's descriptor, or -1 once it is closed."""
        sock = self._client.socket()
        return -1 if sock is None else sock.fileno()

    def wants_write(self) -> bool:
        """Whether the socket did not take all."""
        return self._client.want_write()

    def read(self) -> None:
        """Take in all that has come; TLS and WebSockets may hold more than the socket shows."""
        client = self._client
        try:
            client.read()
            while self._pending is not None and not self._ended and self._pending() > 0:
                client.read()
        except Exception as error:  # noqa: BLE001 - of malformed packets, and of what closes meanwhile
            self._break(error)

    def write(self) -> None:
        """Write on."""
        try:
            self._client.loop_write()
        except Exception as error:  # noqa: BLE001 - whatever it is, this link is done
            self._break(error)

    def tick(self) -> None:
        """Ping when idle; a peer that answers no ping for a keep-alive is gone.

        Before the greeting paho would give up after a keep-alive; a broker that is coming up may
        take longer, but who chose a short one wants to know soon.
        """
        if not self._greeted:
            within = GREETED_WITHIN * self._keepalive
            if time.monotonic() - self._opened > within:
                problem = "took the connection but did not answer the greeting (CONNECT)"
                self._give_up("timeout", f"{problem} within {within} s")
            return
        try:
            self._client.loop_misc()
        except Exception as error:  # noqa: BLE001 - whatever it is, this link is done
            self._break(error)

    def publish(
        self, topic: str, payload: bytes, token: int | None, *, retain: bool = True
    ) -> None:
        """Publish, QoS 1; all that the protocol says is retained."""
        mid = self._client._mid_generate()
        rc = self._client.send_publish(mid, topic.encode(), payload, retain=retain)
        if token is not None and rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._tokens[mid] = token

    def subscribe(self, filters: tuple[str, ...]) -> None:
        """Subscribe in one packet, QoS 1 unless told otherwise."""
        _, mid = self._client.subscribe([(f, self._subscribe_qos) for f in filters])
        if mid is not None:
            self._filters[mid] = filters

    def unsubscribe(self, filters: tuple[str, ...]) -> None:
        """Unsubscribe."""
        self._client.unsubscribe(list(filters))

    def close(self, *, clean: bool) -> None:
        """End the connection; what happens on it from here is nobody's."""
        self._ended = True
        sock = self._client.socket()
        if clean and sock is not None:  # also before the CONNACK (MQTT 3.1.1, 3.1.4)
            self._client.disconnect()
            sock = self._client.socket()
        if sock is not None:
            # paho has no call that closes without ceremony; without its socket it is inert.
            self._client._sock_close()
        self._happened.clear()

    def forget(self) -> None:
        """Close the descriptor without a word or a lock: in a child process it is its parent's."""
        self._ended = True
        sock, self._client._sock = self._client._sock, None
        if sock is not None:
            sock.close()

    def drain(self) -> list[LinkInput]:
        """What has happened since the last time, in order."""
        happened = list(self._happened)
        self._happened.clear()
        return happened

    def acknowledge(self) -> None:
        """Acknowledge what was read."""
        read, self._read = self._read, []
        for mid in read:
            if not self._ended:
                self._client.ack(mid, 1)

    def _break(self, error: Exception) -> None:
        self._give_up("connection lost", f"the connection is given up: {error!r}")

    def _give_up(self, cause: str, problem: str) -> None:
        """End the link: paho is inert without its socket, and the next link is a new client.

        Nothing is logged here: a guard is held, and a handler is the application's code.
        """
        self._client._sock_close()
        if not self._ended:
            self._ended = True
            failure = BrokerUnreachable(cause, f"{self._url}: {problem}")
            self._happened.append(LinkFailed(failure))

    # --- paho's callbacks: they note, and do nothing else ------------------------------------

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        if not reason.is_failure:
            self._greeted = True
            self._happened.append(Connected())
            return
        self._refused(_RETURN_CODES.get(reason.value, reason.value), str(reason))

    def _refused(self, code: int, why: str) -> None:
        self._ended = True
        problem = f"{self._url} refused: {_REFUSALS.get(code, why)}"
        self._happened.append(LinkFailed(BrokerRefused(code, problem)))

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, _reason: Any, _p: Any) -> None:
        if self._ended:
            return
        if self._client.version_refused:
            self._refused(1, "")
            return
        self._ended = True
        if self._greeted:
            self._happened.append(Disconnected())
            return
        problem = (
            f"{self._url} closed the connection without a word: is that its MQTT port, and does it"
            " want TLS, or a client certificate?"
        )
        self._happened.append(LinkFailed(BrokerUnreachable("connection lost", problem)))

    def _on_message(self, topic: bytes, payload: bytes, retained: bool, mid: int | None) -> None:
        try:
            name = topic.decode()
        except UnicodeDecodeError:  # a topic that is no UTF-8 is none of ours
            name = ""
        self._happened.append(MessageReceived(name, payload, retained))
        if mid is not None:
            self._read.append(mid)

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, reasons: Any, _p: Any) -> None:
        filters = self._filters.pop(mid, ())
        pairs = list(zip(filters, reasons, strict=False))
        refused = tuple(f for f, reason in pairs if reason.is_failure)
        granted = tuple(f for f, reason in pairs if not reason.is_failure)
        self._happened.append(Subscribed(granted, refused))

    def _on_acked(self, mid: int) -> None:
        token = self._tokens.pop(mid, None)
        if token is not None:
            self._happened.append(PublishAcked(token))
