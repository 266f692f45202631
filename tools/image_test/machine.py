"""One QEMU machine that stands in for the Pi: power, serial line, GPIO lines.

The virt machine has a PL061: a GPIO chip with eight lines and interrupts. QEMU's test protocol
(qtest) drives its inputs from outside and reads its registers; the guest notices nothing.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.image_test.debian import System

PL061_BASE = 0x09030000
#: Data register: address bits 9:2 are the mask of the lines to read. Direction register at 0x400.
PL061_DIRECTION = PL061_BASE + 0x400
HOST_ADDRESS = "10.0.2.2"
#: Emulated, without KVM, on two busy cores: a real Pi is several times as fast.
FIRST_BOOT, SECOND_BOOT = 900.0, 400.0


class Machine:
    """A running virtual Pi; ends with :meth:`cut_power`."""

    def __init__(
        self, system: System, root: Path, boot: Path, work: Path, log: Path,
        forward: dict[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.log = log
        # Ports of this host that lead into the guest.
        ports = "".join(
            f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in (forward or {}).items()
        )
        self._socket_path = work / "qtest.sock"
        self._qmp_path = work / "qmp.sock"
        self._socket_path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._socket_path))
        listener.listen()
        listener.settimeout(30)
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [
                "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "512",
                "-nodefaults", "-no-reboot", "-display", "none",
                "-accel", "tcg,thread=multi",
                "-kernel", str(system.kernel), "-initrd", str(system.initrd),
                "-append", "console=ttyAMA0 quiet rw net.ifnames=0",
                "-drive", f"file={root},format=raw,if=none,id=root,cache=unsafe",
                "-device", "virtio-blk-pci,drive=root",
                "-drive", f"file={boot},format=raw,if=none,id=boot,cache=unsafe",
                "-device", "virtio-blk-pci,drive=boot",
                "-netdev", f"user,id=net{ports}", "-device", "virtio-net-pci,netdev=net,romfile=",
                "-device", "virtio-rng-pci",
                "-serial", f"file:{log}",
                "-qmp", f"unix:{self._qmp_path},server=on,wait=off",
                "-qtest", f"unix:{self._socket_path}", "-qtest-log", "none",
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self._qtest, _ = listener.accept()
        except TimeoutError:
            self._process.kill()
            raise
        finally:
            listener.close()
        self._qtest.settimeout(30)
        self._reader = self._qtest.makefile("r")
        self._gpio = self._find_gpio()

    @property
    def age(self) -> float:
        """Seconds since power on."""
        return time.monotonic() - self.started

    def serial(self) -> str:
        """What the serial line has said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_serial(self, pattern: str, timeout: float) -> float:
        """Wait until the serial line matches; seconds since power on."""
        wait_for(
            lambda: re.search(pattern, self.serial()), timeout, f"serial line: {pattern}", self
        )
        return self.age

    def alive(self) -> bool:
        """Whether the machine has power."""
        return self._process.poll() is None

    def set_line(self, line: int, level: bool) -> None:
        """Drive an input line of the GPIO chip from outside."""
        self._command(f"set_irq_in {self._gpio} unnamed-gpio-in {line} {int(level)}")

    def output(self, line: int) -> bool | None:
        """The level that the guest drives on ``line``; None while it is an input."""
        if not self._read(PL061_DIRECTION) & 1 << line:
            return None
        return bool(self._read(PL061_BASE + (4 << line)) & 1 << line)

    def cut_power(self) -> None:
        """Off, at once, with nothing written back."""
        self._process.kill()
        self._process.wait(30)
        self._reader.close()
        self._qtest.close()
        self._socket_path.unlink(missing_ok=True)

    def _find_gpio(self) -> str:
        # QEMU numbers the board's devices as it makes them, so the PL061 is looked up by its type.
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.settimeout(30)
            qmp.connect(str(self._qmp_path))
            answers = qmp.makefile("r")
            answers.readline()  # the greeting
            for command in (
                {"execute": "qmp_capabilities"},
                {"execute": "qom-list", "arguments": {"path": "/machine/unattached"}},
            ):
                qmp.sendall(json.dumps(command).encode())
                answer = json.loads(answers.readline())
        for child in answer["return"]:
            if child["type"] == "child<pl061>":
                return f"/machine/unattached/{child['name']}"
        raise QtestError("no PL061 found on this machine")

    def _read(self, address: int) -> int:
        return int(self._command(f"readl {address:#x}").split()[0], 16)

    def _command(self, line: str) -> str:
        self._qtest.sendall(line.encode() + b"\n")
        while True:
            answer = self._reader.readline()
            if not answer:
                raise QtestError("the machine is gone")
            word, _, rest = answer.strip().partition(" ")
            if word == "OK":
                return rest or "0"
            if word in ("FAIL", "ERR"):
                raise QtestError(f"{line}: {rest}")


class QtestError(Exception):
    """QEMU refused a test command."""


def wait_for(
    condition: Callable[[], object], timeout: float, what: str, machine: Machine | None = None
) -> None:
    """Poll until ``condition`` holds; ``TimeoutError`` names ``what`` it waited for."""
    end = time.monotonic() + timeout
    while not condition():
        if machine is not None and not machine.alive():
            raise TimeoutError(f"the machine went off while waiting for: {what}")
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(0.02)


@contextmanager
def powered(
    system: System, root: Path, boot: Path, work: Path, log: Path,
    forward: dict[int, int] | None = None,
) -> Iterator[Machine]:  # fmt: skip
    """A machine that is off again afterwards, whatever happens; ``forward``: ports, here: there."""
    machine = Machine(system, root, boot, work, log, forward)
    try:
        yield machine
    finally:
        if machine.alive():
            machine.cut_power()
