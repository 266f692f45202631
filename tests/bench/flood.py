"""What a peer notices while another one floods it: memory, and the ring of a third.

``python -m tests.bench.flood [--count N]``. On the bundled broker as ``bellwire-broker init`` sets
it up (it lets one client publish 200 times a second, after a first thousand); invitations, then
malformed cells. The callee is a process of its own, so that its memory is its alone.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from device_sdk import CallEventListener, SignalingClient
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Invite, InviteState
from tests.servers import free_port

from .latency import p50_p99

_CALLEE = """
import resource, sys
from device_sdk import SignalingClient
client = SignalingClient("kitchen", sys.argv[1], password=sys.argv[2])
client.login()
print("ready", flush=True)
for line in sys.stdin:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{peak:.1f} {client.stats['turned_away']} {sum(client.stats['drops'].values())}",
          flush=True)
client.logout()
"""


class RegisteredBroker:
    """A broker set up by the command line, with three devices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "broker"
        self.port = free_port()
        self._run("init", str(self.folder))
        settings = f'[listen]\nmqtts = ""\nmqtt = "127.0.0.1:{self.port}"\n[metrics]\nlisten = ""\n'
        (self.folder / "broker.toml").write_text(settings)
        self.secrets = {}
        for name, more in (("kitchen", []), ("friend", ["kitchen"]), ("flooder", ["kitchen"])):
            calls = ["--may-call", *more] if more else []
            said = self._run("device", "add", name, *calls, "--dir", str(self.folder))
            self.secrets[name] = re.search(r"secret: +(\S+)", said)[1]  # type: ignore[index]  # it is printed
        self.process = subprocess.Popen(
            [*_BROKER, "run", str(self.folder)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        while "listening on" not in (line := self.process.stdout.readline()):
            assert line, "the broker ended"
        self.url = f"mqtt://127.0.0.1:{self.port}"

    def _run(self, *args: str) -> str:
        return subprocess.run([*_BROKER, *args], check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


_BROKER = [sys.executable, "-c", "import sys; from broker_config.cli import main; sys.exit(main())"]


def invitations() -> bytes:
    return codec.encode(Invite(InviteState.RINGING, b"flooder!", 1, 60_000))


class Flood:
    """Publishes as fast as it is let, on a thread of its own, until told to stop."""

    def __init__(self, registered: RegisteredBroker, count: int, payload: bytes) -> None:
        self.done = 0
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="flooder")
        self._client.username_pw_set("flooder", registered.secrets["flooder"])
        self._client.connect("127.0.0.1", registered.port)
        self._client.loop_start()
        self._payload, self._count = payload, count
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for _ in range(self._count):
            call = topics.call_id_from_bytes(secrets.token_bytes(16))
            topic = topics.cell("sig", "invite", "kitchen", "flooder", call)
            self._client.publish(topic, self._payload, qos=1).wait_for_publish(30)
            self.done += 1
        self._client.disconnect()
        self._client.loop_stop()


def rings(client: SignalingClient, until: Any) -> list[float]:
    """Milliseconds from invite to receivedByPeer, one after the other, until told to stop."""
    heard = threading.Event()
    stamp = [0.0]

    class Listener(CallEventListener):
        def on_local_invitation_received_by_peer(self, invitation: Any) -> None:
            stamp[0] = time.perf_counter()
            heard.set()

    listener = Listener()
    client.call_manager.add_event_listener(listener)
    times = []
    while not until(len(times)):
        time.sleep(0.05)
        heard.clear()
        invitation = client.call_manager.create_local_invitation("kitchen")
        start = time.perf_counter()
        client.call_manager.send_local_invitation(invitation)
        assert heard.wait(30), "a ring was lost"
        times.append((stamp[0] - start) * 1000)
        client.call_manager.cancel_local_invitation(invitation)
        invitation.wait(30)
    client.call_manager.remove_event_listener(listener)
    return times


def run(count: int) -> list[list[str]]:
    """Rows of the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        registered = RegisteredBroker(Path(folder))
        callee = subprocess.Popen(
            [sys.executable, "-c", _CALLEE, registered.url, registered.secrets["kitchen"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert callee.stdin is not None
        assert callee.stdout is not None
        try:
            callee.stdout.readline()
            friend = SignalingClient(
                "friend", registered.url, password=registered.secrets["friend"]
            )
            friend.login()
            quiet = rings(friend, lambda n: n >= 100)
            normal = p50_p99(quiet)

            def report(what: str, times: list[float]) -> None:
                assert callee.stdin is not None
                assert callee.stdout is not None
                callee.stdin.write("\n")
                callee.stdin.flush()
                peak, away, drops = callee.stdout.readline().split()
                p50, p99 = p50_p99(times)
                rows.append([what, f"{p50:.2f}", f"{p99:.2f}", f"{p50 / normal[0]:.1f}",
                             peak, away, drops])  # fmt: skip

            report("nobody floods", quiet)
            for what, payload in (
                ("invitations", invitations()),
                ("malformed cells", os.urandom(200)),
            ):
                flood = Flood(registered, count, payload)
                flood.thread.start()
                times = rings(friend, lambda _, f=flood: not f.thread.is_alive())
                flood.thread.join()
                report(f"{count:,} {what}", times)
            friend.logout()
        finally:
            callee.stdin.close()
            callee.wait(30)
            registered.close()
    return rows


HEAD = ["another floods with", "p50 ms", "p99 ms", "p50 ÷ quiet", "callee peak MB",
        "turned away", "dropped"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    for row in [HEAD, *run(parser.parse_args().count)]:
        print(f"{row[0]:28}" + "".join(f"{cell:>16}" for cell in row[1:]))


if __name__ == "__main__":
    main()
