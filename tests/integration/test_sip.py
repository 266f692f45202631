"""`bellwire sip` with two real baresips on loopback: the bridge's own, and a phone.

Debian's `baresip-core`; without it these are skipped, and fail where CI says that it must be there.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import queue
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_sdk import Call, CallEventListener, EndReason, SignalingClient
from device_sdk.services.config.sip import SipSettings, read_sip
from device_sdk.services.doctor.fault import Fault
from device_sdk.services.doctor.sip import examine_sip
from device_sdk.services.provision import sip as sip_card
from device_sdk.services.provision.card_files import _script
from device_sdk.services.service.baresip import Netstrings, netstring
from tests.servers import BrokerProcess, free_port

pytestmark = pytest.mark.sip
REQUIRE = "BELLWIRE_REQUIRE_BARESIP"
SECONDS = 15
_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _baresip() -> None:
    if shutil.which("baresip") is None:
        if os.environ.get(REQUIRE):
            pytest.fail(f"baresip is missing (apt install baresip-core), and {REQUIRE} is set")
        pytest.skip("baresip is missing (apt install baresip-core)")


def free_pair() -> int:
    """A port for SIP whose next one is free, too: baresip has TLS there."""
    port, following = free_port(), free_port()
    while following != port + 1:
        port, following = following, free_port()
    return port


class Baresip:
    """A real one; what it tells is kept."""

    CONFIG = """\
sip_listen 127.0.0.1:{sip}
call_local_timeout 120
call_max_calls 1
audio_player aubridge,nil
audio_source aubridge,nil
audio_alert aufile,/dev/null
module_path {modules}
module g711.so
module aubridge.so
module aufile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
"""

    def __init__(self, folder: Path, name: str, *, controlled: bool) -> None:
        self.folder, self.sip, self.control = folder / name, free_pair(), free_port()
        self.folder.mkdir()
        (modules,) = Path("/usr/lib").glob("**/baresip/modules")
        config = self.CONFIG.format(sip=self.sip, control=self.control, modules=modules)
        (self.folder / "config").write_text(config)
        self.uri = f"sip:{name}@127.0.0.1:{self.sip}"
        (self.folder / "accounts").write_text(f"<{self.uri}>;regint=0\n")
        (self.folder / "contacts").write_text("")
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()
        self._controlled = controlled
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["baresip", "-f", self.folder], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if not self._controlled:
            return
        end = time.monotonic() + SECONDS
        while True:
            try:
                self._socket = socket.create_connection(("127.0.0.1", self.control), 5)
                break
            except OSError:
                if time.monotonic() > end:
                    pytest.fail((self.folder / "log").read_text())
                time.sleep(0.05)
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        reader = Netstrings()
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                for message in reader.feed(data):
                    self.told.put(message)

    def do(self, command: str, parameter: str = "") -> None:
        more = {"params": parameter} if parameter else {}
        self._socket.sendall(netstring({"command": command, **more}))

    def expect(self, kind: str) -> dict[str, Any]:
        seen = []
        while True:
            try:
                message = self.told.get(timeout=SECONDS)
            except queue.Empty:
                pytest.fail(f"no {kind} in {seen}; {(self.folder / 'log').read_text()}")
            seen.append(message)
            if message.get("type") == kind:
                return message

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)

    def stop(self) -> None:
        self.kill()
        if self._controlled:
            self._socket.close()
            self._reader.join(5)


class Door(CallEventListener):
    """What the caller is told in its calls."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()
        self.ends: queue.Queue[EndReason] = queue.Queue()

    def on_call_message(self, call: Call, message: Any) -> None:
        self.messages.put(message)

    def on_call_ended(self, call: Call, reason: EndReason) -> None:
        self.ends.put(reason)


class Set:
    """A phone, the bridge with its baresip, and who calls."""

    def __init__(self, folder: Path, broker: BrokerProcess, uri: str = "") -> None:
        self.stack = contextlib.ExitStack()
        realm = f"sip{next(_numbers)}"
        self.phone = self._kept(Baresip(folder, "phone", controlled=True))
        self.own = self._kept(Baresip(folder, "bell", controlled=False))
        settings = folder / "sip.toml"
        settings.write_text(
            f'[account]\npeer = "phone"\nbroker = "{broker.url}"\nrealm = "{realm}"\n'
            f'[sip]\nuri = "{uri or self.phone.uri}"\ncontrol = "127.0.0.1:{self.own.control}"\n'
            f'open_key = "9"\nresponse = "coming"\n'
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.service = subprocess.Popen(
            [sys.executable, "-m", "device_sdk.services", "sip", "--settings", settings],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.stack.callback(self._end)
        self.heard = Door()
        self.door, self.kitchen = (
            self.stack.enter_context(SignalingClient(peer, broker.url, realm=realm, talk=True))
            for peer in ("door", "kitchen")
        )
        self.door.call_manager.add_event_listener(self.heard)
        self.expect("online as phone", "baresip is there")

    def _kept(self, baresip: Baresip) -> Baresip:
        self.stack.callback(baresip.stop)
        return baresip

    def _read(self) -> None:
        for line in self.service.stdout:
            self.lines.put(line)

    def _end(self) -> None:
        self.service.terminate()
        assert self.service.wait(SECONDS) == 0
        self._reader.join(5)
        self.service.stdout.close()

    def expect(self, *words: str) -> None:
        """Wait until the service has said all of that, in any order."""
        missing, seen = set(words), []
        while missing:
            try:
                seen.append(self.lines.get(timeout=SECONDS))
            except queue.Empty:
                pytest.fail(f"{missing} missing in {seen}")
            missing = {word for word in missing if word not in seen[-1]}

    def ring(self) -> Any:
        manager = self.door.call_manager
        invitation = manager.create_local_invitation("phone")
        manager.send_local_invitation(invitation, 30)
        self.phone.expect("CALL_INCOMING")
        return invitation

    def answered(self) -> Call:
        invitation = self.ring()
        self.phone.do("accept")
        self.phone.expect("CALL_ESTABLISHED")
        assert invitation.wait(SECONDS)
        assert invitation.outcome.accepted
        assert invitation.response == "coming"
        return invitation.call


@pytest.fixture(scope="module")
def sip(bundled_broker: BrokerProcess, tmp_path_factory) -> Iterator[Set]:
    made = Set(tmp_path_factory.mktemp("sip"), bundled_broker)
    with made.stack:
        yield made


def test_the_phone_answers_and_either_side_hangs_up(sip: Set) -> None:
    call = sip.answered()
    sip.phone.do("hangup")
    assert call.wait(SECONDS)
    assert call.reason is EndReason.HUNG_UP
    call = sip.answered()
    call.hang_up()
    sip.phone.expect("CALL_CLOSED")


def test_a_key_of_the_phone_asks_for_the_door(sip: Set) -> None:
    call = sip.answered()
    sip.phone.do("sndcode", "9")
    assert sip.heard.messages.get(timeout=SECONDS) == {"do": "open"}
    call.send({"done": "open", "ok": True})
    sip.expect("door of door: open")
    call.hang_up()
    sip.phone.expect("CALL_CLOSED")


def test_the_phone_refuses_with_486(sip: Set) -> None:
    invitation = sip.ring()
    sip.phone.do("hangup")
    assert invitation.wait(SECONDS)
    assert str(invitation.reason) == "busy"


def test_the_caller_cancels(sip: Set) -> None:
    invitation = sip.ring()
    sip.expect("the phone rings for door")
    sip.door.call_manager.cancel_local_invitation(invitation)
    assert sip.phone.expect("CALL_CLOSED")["param"] == "Connection reset by peer"


def test_a_panel_of_the_group_is_faster(sip: Set) -> None:
    class Kitchen(CallEventListener):
        def on_remote_invitation_received(self, invitation: Any) -> None:
            sip.phone.expect("CALL_INCOMING")  # both ring
            invitation.accept("here")

    listener = Kitchen()
    sip.kitchen.call_manager.add_event_listener(listener)
    outcome = sip.door.ring(["kitchen", "phone"])
    assert outcome.decisive.peer == "kitchen"
    sip.phone.expect("CALL_CLOSED")
    sip.kitchen.call_manager.remove_event_listener(listener)


def test_baresip_is_killed_while_it_rings(sip: Set) -> None:
    invitation = sip.ring()
    sip.own.kill()
    assert invitation.wait(SECONDS), "told at once, not after a minute"
    assert str(invitation.reason) == "busy"
    sip.phone.do("hangup")
    sip.phone.expect("CALL_CLOSED")
    sip.own.start()
    sip.expect("baresip is gone")
    sip.expect("baresip is there")
    sip.answered().hang_up()
    sip.phone.expect("CALL_CLOSED")


def unavailable(server: socket.socket) -> None:
    """A phone that answers each call with 480, until it is told to end."""
    data = b""
    while data != b"end":
        data, sender = server.recvfrom(65536)
        lines = data.decode().split("\r\n")
        if lines[0].startswith("INVITE"):
            names = ("Via", "From", "Call-ID", "CSeq")
            kept = [line for line in lines[1:] if line.startswith(names)]
            (to,) = (line for line in lines if line.startswith("To:"))
            answer = ["SIP/2.0 480 Temporarily Unavailable", *kept, f"{to};tag=a"]
            text = "\r\n".join([*answer, "Content-Length: 0", "", ""])
            server.sendto(text.encode(), sender)


def test_a_phone_that_is_not_available(bundled_broker: BrokerProcess, tmp_path: Path) -> None:
    """480: the caller is told at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=unavailable, args=(server,), daemon=True)
        thread.start()
        away = Set(tmp_path, bundled_broker, f"sip:away@127.0.0.1:{server.getsockname()[1]}")
        with away.stack:
            outcome = away.door.call("phone", timeout=SECONDS)
            assert str(outcome.reason) == "busy"
            away.expect("the phone did not answer door: 480 Temporarily Unavailable")
        server.sendto(b"end", server.getsockname())
        thread.join(5)


def test_the_reader_knows_what_baresip_says() -> None:
    """As it was seen of baresip 1.0.0."""
    said = b'{"event":true,"type":"CALL_CLOSED","class":"call","param":"486 Rejected"}'
    (message,) = Netstrings().feed(b"%d:%s," % (len(said), said))
    assert message == json.loads(said)


def sip_settings(folder: Path, port: int) -> SipSettings:
    path = folder / "sip.toml"
    path.write_text(
        '[account]\npeer = "phone"\nbroker = "mqtt://127.0.0.1:1"\n'
        f'[sip]\nuri = "sip:kitchen@127.0.0.1"\ncontrol = "127.0.0.1:{port}"\n'
    )
    return read_sip(path)


def test_what_a_card_installs_runs_as_its_unit_says(tmp_path: Path) -> None:
    """Debian's baresip with the shipped settings, and what the doctor says of it."""
    settings = sip_settings(tmp_path, free_port())
    card, root, given, own = (tmp_path / name for name in ("card", "root", "given", "own"))
    for folder in (card / "baresip", root / "etc/systemd/system", given, own):
        folder.mkdir(parents=True)
    args = argparse.Namespace(sip_accounts_file=None)
    for name, data in sip_card.baresip(args, settings, "front-door", Path.read_text).items():
        (card / name).write_bytes(data)
    (card / "baresip.sh").write_bytes(_script("baresip.sh"))
    for _ in range(2):  # the power may go at any moment: it is run again
        subprocess.run(["sh", card / "baresip.sh", card, root], check=True)
    for name in (
        "config",
        "accounts",
    ):  # as LoadCredential says; another's port is not ours to take
        text = (root / "etc/bellwire/baresip" / name).read_text()
        assert (root / "etc/bellwire/baresip" / name).stat().st_mode & 0o077 == 0
        (given / name).write_text(text.replace("0.0.0.0:5060", f"127.0.0.1:{free_pair()}"))
    unit = (root / "etc/systemd/system/bellwire-baresip.service").read_text()
    lines = dict(re.findall(r"(?m)^(ExecStartPre|ExecStart)=(.*)$", unit))
    lines = {
        key: shlex.split(line.replace("%d", str(given)).replace("%t/bellwire-baresip", str(own)))
        for key, line in lines.items()
    }
    subprocess.run(lines["ExecStartPre"], check=True)
    with pytest.raises(Fault, match="no baresip at"):
        examine_sip(settings, runs=False)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            lines["ExecStart"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + SECONDS
        while True:
            try:
                assert "and rings sip:kitchen@127.0.0.1" in examine_sip(settings, runs=False)
                break
            except Fault:
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.05)
        # The service has the one control connection: the doctor does not end it.
        with socket.create_connection((settings.host, settings.port), 5) as control:
            control.settimeout(0.3)
            assert examine_sip(settings, runs=True)
            with pytest.raises(TimeoutError):
                control.recv(1)
    finally:
        process.kill()
        process.wait(SECONDS)


def test_the_doctor_knows_a_stranger_on_baresips_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = sip_settings(tmp_path, other.getsockname()[1])

        def greet() -> None:
            with other.accept()[0] as caller:
                caller.sendall(b"220 hello\r\n")

        threading.Thread(target=greet).start()
        with pytest.raises(Fault, match="no ctrl_tcp of a baresip"):
            examine_sip(settings, runs=False)
