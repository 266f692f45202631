"""The devices that may connect: a JSON file, its reading and its safe writing."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from device_sdk.topics import check_peer_id

VERSION = 1
#: Secrets are 160 random bits, never chosen: no hash can be slow enough to matter to their safety.
#: So it is light, and a thousand devices that connect at once are served by a small machine.
HASHER = PasswordHasher(time_cost=2, memory_cost=1024, parallelism=1)


class RegistryError(Exception):
    """The registry cannot be read, or not changed like this; the text says what to do."""


def new_secret() -> str:
    """A secret for a device: 160 random bits, easy to type."""
    return secrets.token_hex(20)


@dataclass(frozen=True, slots=True)
class Device:
    """What the broker knows of one device; its secret only as an argon2 hash."""

    name: str
    secret: str | None = None
    #: SHA-256 of its client certificate.
    certificate: str | None = None
    #: Peer ids it may call: ``*`` stands for anything, ``@group`` for a group's members.
    may_call: tuple[str, ...] = ()
    group: str | None = None
    #: Whether it may read the whole realm (``bellwire trace``).
    watches: bool = False
    created: str = ""


_FIELDS = {each.name for each in fields(Device)}


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


@dataclass(frozen=True, slots=True)
class Registry:
    """All devices by peer id."""

    devices: dict[str, Device] = field(default_factory=dict)

    def may_call(self, caller: str, callee: str) -> bool:
        """Whether ``caller`` may ring ``callee``; never, without a pattern that says so."""
        device = self.devices.get(caller)
        if device is None or caller == callee:
            return False
        for pattern in device.may_call:
            if pattern.startswith("@"):
                other = self.devices.get(callee)
                if other is not None and other.group == pattern[1:]:
                    return True
            elif _matches(pattern, callee):
                return True
        return False


def _device(entry: Any) -> Device:
    if not isinstance(entry, dict) or set(entry) - _FIELDS:
        raise ValueError("an entry that is no device")
    name = check_peer_id(entry.get("name"), "name")
    patterns = entry.get("may_call", [])
    if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
        raise ValueError(f"may_call of {name!r} is no list of strings")
    for key in ("secret", "certificate", "group"):
        if not isinstance(entry.get(key), str | None):
            raise ValueError(f"{key} of {name!r} is no string")
    return Device(
        name,
        entry.get("secret"),
        entry.get("certificate"),
        tuple(patterns),
        entry.get("group"),
        entry.get("watches") is True,
        str(entry.get("created", "")),
    )


def load(path: Path) -> Registry:
    """Read the registry; raises :class:`RegistryError`."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise ValueError(f"it is no registry of version {VERSION}")
        devices = [_device(entry) for entry in content.get("devices", [])]
    except OSError as error:
        raise RegistryError(f"cannot read the registry {path}: {error.strerror}") from error
    except ValueError as error:
        raise RegistryError(f"the registry {path} is damaged: {error}") from error
    return Registry({device.name: device for device in devices})


def save(path: Path, registry: Registry) -> None:
    """Write the registry whole or not at all, readable by its owner only."""
    entries = [
        {key: value for key, value in asdict(device).items() if value not in (None, (), False, "")}
        for _, device in sorted(registry.devices.items())
    ]
    write_private(path, json.dumps({"version": VERSION, "devices": entries}, indent=2) + "\n")


def write_private(path: Path, text: str | bytes) -> None:
    """Write a file of mode 600 in one step: a crash leaves the old one or the new one."""
    data = text.encode() if isinstance(text, str) else text
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and os.geteuid() == 0:
            # Changed by root, it stays the service user's to read.
            owner = path.stat()
            os.chown(name, owner.st_uid, owner.st_gid)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def changing(path: Path) -> Iterator[dict[str, Device]]:
    """Change the devices in a dictionary; written at the end, one change at a time."""
    import fcntl

    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        devices = dict(load(path).devices)
        yield devices
        save(path, Registry(devices))
