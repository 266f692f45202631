"""One registered device that does to the broker, round after round, what one device can do.

``python -m tests.soak.hostile PORT NAME SECRET VICTIM...`` until its standard input ends; then it
prints how often it did each. Every attack is bounded in count and time. It comes from an address
of its own, 127.0.0.66, as a device on its own does.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import cbor2

from tests.bench.broker_wire import publish, remaining, text
from tests.broker_support.raw import SUBACK, Raw, Will

SOURCE = "127.0.0.66"
#: Seconds that one attack may take, and the pause after it.
MOST, PAUSE = 8.0, 0.5


class Hostile:
    """Knows its secret, and what each attack of docs/broker-inside.md's table is."""

    def __init__(self, port: int, name: str, secret: str, victims: list[str]) -> None:
        self.port, self.name, self.secret, self.victims = port, name, secret, victims
        self.did: Counter[str] = Counter()
        self._number = 0

    def connection(self) -> Raw:
        """One without a CONNECT."""
        return Raw(self.port, source=SOURCE)

    @contextlib.contextmanager
    def client(self, suffix: str = "", **options: object) -> Iterator[Raw]:
        """One that is logged in; a refusal is counted, and raises."""
        with self.connection() as raw:
            code = raw.connect(
                f"{self.name}{suffix}", user=self.name, password=self.secret, **options
            )  # type: ignore[arg-type] # as Raw.connect has them
            if code != 0:
                self.did["logins refused"] += 1
                raise ConnectionError(f"refused with {code}")
            yield raw

    def one_subscribe(self) -> None:
        """64 kB of one filter, over and over, when there is something to match (H3)."""
        with self.client(".sub") as raw:
            self._invites(raw, 300, 40)
            wanted = text(f"sig/v1/+/invite/{self.name}/+") + b"\1"
            body = b"\0\7" + wanted * (64_000 // len(wanted))
            raw.send(b"\x82" + remaining(len(body)) + body)
            raw.expect(SUBACK, MOST)

    def fill(self) -> None:
        """Retained messages from one connection after the other, each with a new burst (H4)."""
        for number in range(5):
            with self.client(f".fill-{number}") as raw:
                self._invites(raw, 1000, 400)
                raw.send(b"\xe0\0")
                raw.closed(2)

    def sessions(self) -> None:
        """Sessions that outlive their connections, and wills that are retained (H4)."""
        for _ in range(100):
            self._number += 1
            topic = f"sig/v1/{self.victims[0]}/invite/{self.name}/{call_id()}"
            will = Will(topic, os.urandom(2000), retain=True)
            with self.client(f".s-{self._number}", clean=False, will=will) as raw:
                raw.subscribe(f"sig/v1/{self.name}/answer/+/+")

    def half_open(self) -> None:
        """Places taken by who says nothing, or half a CONNECT (H5)."""
        with contextlib.ExitStack() as held:
            for number in range(200):
                raw = held.enter_context(self.connection())
                if number % 2:
                    raw.send(b"\x10\x7f\0\4MQTT")
            time.sleep(3)

    def refused(self) -> None:
        """Logins with a wrong password, none, or a name of 60 kB, by who does not wait (H6)."""
        for number in range(150):
            with self.connection() as raw:
                name = self.name if number % 3 else "x" * 60_000
                password = None if number % 3 == 1 else "wrong"
                with contextlib.suppress(OSError):
                    raw.send(hello(f"{self.name}.r", name, password))

    def ended(self) -> None:
        """Calls that ended before they began, by the thousand (H7)."""
        for victim in self.victims:
            with self.client(".ended") as raw:
                cells = b"".join(
                    publish(f"sig/v1/{victim}/invite/{self.name}/{call_id()}", END, 1, qos=0)
                    for _ in range(1000)
                )
                raw.send(cells + b"\xe0\0")
                raw.closed(2)

    def _invites(self, raw: Raw, count: int, size: int) -> None:
        cells = b"".join(
            publish(f"sig/v1/{self.victims[0]}/invite/{self.name}/{call_id()}", bytes(size),
                    number + 1, retain=True)
            for number in range(count)
        )  # fmt: skip
        raw.send(cells)

    def run(self, over: threading.Event) -> None:
        """Attack until it is ``over``."""
        attacks: list[Callable[[], None]] = [
            self.one_subscribe, self.fill, self.sessions, self.half_open, self.refused, self.ended,
        ]  # fmt: skip
        while True:
            for attack in attacks:
                began = time.monotonic()
                try:
                    attack()
                    self.did[attack.__name__] += 1
                except OSError:  # the broker defends itself
                    self.did[f"{attack.__name__}, cut short"] += 1
                self.did["seconds"] += round(time.monotonic() - began)
                if over.wait(PAUSE):
                    return


END = cbor2.dumps({0: 1, 1: 2, 2: b"E" * 8, 3: 1, 7: 3})


def call_id() -> str:
    """A new one, as topics have it."""
    return base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")


def hello(client_id: str, user: str, password: str | None) -> bytes:
    """A CONNECT."""
    flags = 2 | 0x80 | (0x40 if password is not None else 0)
    tail = text(user) + (text(password) if password is not None else b"")
    body = b"\0\4MQTT\4" + bytes((flags,)) + b"\0\x3c" + text(client_id) + tail
    return b"\x10" + remaining(len(body)) + body


def main() -> None:
    port, name, secret, *victims = sys.argv[1:]
    socket.setdefaulttimeout(MOST)
    hostile, over = Hostile(int(port), name, secret, victims), threading.Event()
    attacking = threading.Thread(target=hostile.run, args=(over,), daemon=True)
    attacking.start()
    sys.stdin.read()
    over.set()
    attacking.join(30)
    print(json.dumps(hostile.did))


if __name__ == "__main__":
    main()
