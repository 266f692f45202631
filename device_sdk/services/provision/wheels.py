"""The wheels that a Pi needs, for its Python and its processor, gathered on another machine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .card import ProvisionError

#: glibc of Debian 12 and 13; a wheel for an older one does too.
_GLIBC = {"3.11": 36, "3.13": 41}
_WHEEL = re.compile(
    r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl"
)


class Arch(StrEnum):
    """What ``uname -m`` says on the Pi; armv6l is the Zero and the first Pi."""

    AARCH64 = "aarch64"
    ARMV7L = "armv7l"
    ARMV6L = "armv6l"


@dataclass(frozen=True, slots=True)
class WheelTarget:
    """A Pi's Python (``"3.11"`` on bookworm, ``"3.13"`` on trixie) and processor."""

    python: str = "3.13"
    arch: Arch = Arch.AARCH64

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags that its pip takes, best first."""
        newest = _GLIBC.get(self.python, 36)
        tags = [f"manylinux_2_{minor}_{self.arch}" for minor in range(newest, 16, -1)]
        return (*tags, f"manylinux2014_{self.arch}", f"linux_{self.arch}")

    def fits(self, wheel: str) -> bool:
        """Whether the wheel of that file name can be installed there."""
        found = _WHEEL.fullmatch(wheel)
        if found is None:
            return False
        digits = self.python.replace(".", "")
        pythons = found["python"].split(".")
        python = any(
            tag == "py3"
            or tag == f"cp{digits}"
            or (
                found["abi"] == "abi3" and tag.startswith("cp3") and int(tag[3:]) <= int(digits[1:])
            )
            for tag in pythons
        )
        platforms = found["platform"].split(".")
        return python and any(tag == "any" or tag in self.platforms for tag in platforms)


#: What settings may ask for beyond a role's own extra, and the wheels that say it is there.
EXTRAS = {
    "metrics": ("prometheus_client",),
    "notify": ("apprise",),
    "srv": ("dnspython",),
    "web": ("starlette", "uvicorn"),
}


def extras(role: str, more: Iterable[str] = ()) -> str:
    """The extras that a role installs, with ``more`` of :data:`EXTRAS`."""
    return ",".join(("broker" if role == "broker" else "pi", *more))


#: Without these a card without internet gets nowhere; gpiozero may also come from the system.
_NEEDED = {
    "doorbell": ("bellwire", "paho_mqtt", "cbor2", "gpiozero", "colorzero"),
    "panel": ("bellwire", "paho_mqtt", "cbor2", "gpiozero", "colorzero"),
    "homeassistant": ("bellwire", "paho_mqtt", "cbor2"),
    "sip": ("bellwire", "paho_mqtt", "cbor2"),
    "broker": ("bellwire", "paho_mqtt", "cbor2", "amqtt"),
}


def download(
    folder: Path, own: Path, role: str, target: WheelTarget, more: Iterable[str] = ()
) -> None:
    """Fetch into ``folder`` what ``role`` needs on ``target``, wheels only, with pip.

    ``own`` is Bellwire's own wheel. pip's words are shown; :class:`ProvisionError` when it fails.
    """
    if not own.is_file():
        raise ProvisionError(
            f"{own}: there is no such wheel; make it: `pip wheel --no-deps -w dist .`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [word for tag in target.platforms for word in ("--platform", tag)]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--only-binary=:all:", *platforms, "--implementation", "cp",
        "--python-version", target.python, "--dest", str(folder), f"{own}[{extras(role, more)}]",
    ]  # fmt: skip
    if target.arch is Arch.AARCH64 and role != "broker":
        # pip reads markers for this machine, not for that one: named, it is fetched.
        command.append("gpiod>=2.2,<3")
    # The interpreter itself, and arguments of our own making.
    code = subprocess.run(command, check=False).returncode  # noqa: S603
    if code:
        raise ProvisionError(
            f"pip found no wheels for Python {target.python} on {target.arch}; its words are above"
        )


def read(
    folder: Path, role: str, target: WheelTarget, *, online: bool, more: Sequence[str] = ()
) -> dict[str, bytes]:
    """The wheels in ``folder`` that fit ``target``, by file name.

    :class:`ProvisionError` when one that is needed is missing (online: Bellwire's own only).
    """
    if not folder.is_dir():
        raise ProvisionError(
            f"{folder}: there is no such directory; make it: {_how(folder, role, target)}"
        )
    fitting = sorted(path for path in folder.glob("*.whl") if target.fits(path.name))
    names = {path.name.split("-")[0].lower() for path in fitting}
    asked = [wheel for extra in more for wheel in EXTRAS[extra]]
    for needed in ("bellwire",) if online else (*_NEEDED[role], *asked):
        if needed not in names:
            raise ProvisionError(
                f"{folder} has no wheel of {needed} for Python {target.python} on {target.arch}: "
                f"{_how(folder, role, target, more)}"
            )
    return {path.name: path.read_bytes() for path in fitting}


def _how(folder: Path, role: str, target: WheelTarget, more: Sequence[str] = ()) -> str:
    of_role = " --role broker" if role == "broker" else ""
    extras = "".join(f" --extra {extra}" for extra in more)
    return (
        f"`bellwire wheels {folder} --bellwire dist/bellwire-….whl{of_role} "
        f"--python {target.python} --arch {target.arch}{extras}`"
    )
