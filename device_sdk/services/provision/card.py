"""A mounted boot partition and what is put on it: all of it, or none.

A file is replaced only if it is ours (it carries :data:`MARK`, or lies in our own directory) or the
untouched template that Raspberry Pi OS comes with; anything else is somebody's work.
"""

from __future__ import annotations

import os
import re
import shutil
from enum import StrEnum
from pathlib import Path, PurePosixPath

from ...errors import BellwireError

MARK = "written by bellwire provision"
OWN = "bellwire"
_STAGE = ".bellwire-new"
_KEPT = ".bellwire-old"
#: What must be left on the partition afterwards, for kernels and their updates; bytes.
_MARGIN = 32 << 20
#: The lines of Raspberry Pi OS's own templates that are not comments.
_TEMPLATE_LINES = re.compile(
    r"(#.*|\s*|---|dsmode:\s*local|instance[_-]id:\s*rpios-image|ssh_pwauth:\s*false|manage_resolv_conf:\s*false"
    r"|network:|\s+version:\s*2)\Z"
)


class ProvisionError(BellwireError, ValueError):
    """The card cannot be provisioned like this, and is as it was; the message says what to do."""


class Format(StrEnum):
    """How the system on the card is told what to do at its first boot."""

    CLOUD_INIT = "cloud-init"
    FIRSTRUN = "firstrun"
    PRESEED = "preseed"


def check_boot(boot: Path) -> None:
    """Refuse what is no boot partition of Raspberry Pi OS, before anything is written."""
    if not boot.is_dir():
        raise ProvisionError(
            f"{boot}: there is no such directory; put the freshly flashed card in and name the "
            f"directory where its partition `bootfs` is mounted"
        )
    missing = [name for name in ("cmdline.txt", "config.txt") if not (boot / name).is_file()]
    if missing:
        raise ProvisionError(
            f"{boot} is no boot partition of Raspberry Pi OS: it has no {missing[0]}; name the "
            f"directory where the card's partition `bootfs` is mounted"
        )
    if not os.access(boot, os.W_OK):
        raise ProvisionError(f"{boot} cannot be written to; mount it writable, or use sudo")


def detect_format(boot: Path) -> Format:
    """What the card's system reads, by the files it was flashed with."""
    if (boot / "rpi-preseed.toml").exists():
        return Format.PRESEED
    if (boot / "user-data").exists() or (boot / "meta-data").exists():
        return Format.CLOUD_INIT
    return Format.FIRSTRUN


def write(boot: Path, files: dict[str, bytes]) -> list[str]:
    """Put ``files`` (by their names below ``boot``) there; the names of those that changed.

    Our directory holds just these afterwards. On any error the card is as it was.
    """
    changes = {name: data for name, data in files.items() if _read(boot / name) != data}
    foreign = [name for name in changes if not _is_ours(boot, name)]
    if foreign:
        raise ProvisionError(
            f"{boot / foreign[0]} was written by somebody else (settings given to Raspberry Pi "
            f"Imager?): move it away, or flash the card again without settings and give host name "
            f"and WiFi here"
        )
    gone = [
        str(PurePosixPath(OWN) / path.relative_to(boot / OWN).as_posix())
        for path in (boot / OWN).rglob("*")
        if path.is_file()
    ]
    gone = [name for name in gone if name not in files]
    needed = sum(map(len, changes.values()))
    free = shutil.disk_usage(boot).free
    if needed + _MARGIN > free:
        raise ProvisionError(
            f"{boot}: {needed >> 20} MB are needed and {free >> 20} MB are free (32 MB stay so); "
            f"use --online instead of --wheels, or a bigger boot partition"
        )
    if changes or gone:
        _commit(boot, changes, gone)
    return sorted([*changes, *gone])


def _commit(boot: Path, changes: dict[str, bytes], gone: list[str]) -> None:
    stage, kept = boot / _STAGE, boot / _KEPT
    for scratch in (stage, kept):
        shutil.rmtree(scratch, ignore_errors=True)
    moved: list[str] = []
    placed: list[str] = []
    try:
        for name, data in changes.items():
            target = stage / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for name in [*changes, *gone]:
            if (boot / name).exists():
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                (boot / name).replace(kept / name)
                moved.append(name)
        for name in changes:
            (boot / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).replace(boot / name)
            placed.append(name)
    except OSError as error:
        for name in placed:
            (boot / name).unlink(missing_ok=True)
        for name in moved:
            (kept / name).replace(boot / name)
        raise ProvisionError(f"{boot}: {error}; the card is as it was") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    shutil.rmtree(kept, ignore_errors=True)
    for folder in sorted((boot / OWN).rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _is_ours(boot: Path, name: str) -> bool:
    path = boot / name
    if name.split("/", maxsplit=1)[0] == OWN or not path.exists() or name == "cmdline.txt":
        return True
    if path.stat().st_size > 1 << 20:
        return False
    text = path.read_bytes().decode("utf-8", "replace")
    return MARK in text.lower() or all(_TEMPLATE_LINES.match(line) for line in text.splitlines())


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProvisionError(f"{path}: cannot be read: {error.strerror}") from None
