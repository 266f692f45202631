"""The devices that may connect: a JSON file, its reading and its safe writing."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from device_sdk.core.wire.topics import check_peer_id

from .writing import Staged, own_lock, uninterrupted, write_private

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
    """What the broker knows of one device; its secret only as hashes."""

    name: str
    #: Argon2, by which the bundled broker goes.
    secret: str | None = None
    #: The same secret in the forms of brokers to which one may move (`export`).
    pbkdf2: str | None = None
    bcrypt: str | None = None
    #: SHA-256 of its client certificate.
    certificate: str | None = None
    #: Peer ids it may call: ``*`` stands for anything, ``@group`` for a group's members.
    may_call: tuple[str, ...] = ()
    group: str | None = None
    #: Whether it may read the whole realm (``bellwire trace``).
    watches: bool = False
    created: str = ""
    #: Another value than the running broker has read: its cells are to be cleared, once.
    cleared: str = ""


__all__ = [
    "HASHER", "Device", "Registry", "RegistryError", "changing", "load", "matches", "new_secret",
    "save", "write_private",
]  # fmt: skip

_FIELDS = {each.name for each in fields(Device)}


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is one that ``pattern`` stands for; ``*`` is anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


@dataclass(frozen=True, slots=True)
class Registry:
    """All devices by peer id."""

    devices: dict[str, Device] = field(default_factory=dict)
    #: SHA-256 of the file it was read from: tells which one a running broker goes by.
    digest: str = field(default="", compare=False)

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
            elif matches(pattern, callee):
                return True
        return False


def _device(entry: Any) -> Device:
    if not isinstance(entry, dict) or set(entry) - _FIELDS:
        raise ValueError("an entry that is no device")
    name = check_peer_id(entry.get("name"), "name")
    patterns = entry.get("may_call", [])
    if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
        raise ValueError(f"may_call of {name!r} is no list of strings")
    for key in ("secret", "pbkdf2", "bcrypt", "certificate", "group"):
        if not isinstance(entry.get(key), str | None):
            raise ValueError(f"{key} of {name!r} is no string")
    return Device(
        name,
        secret=entry.get("secret"),
        pbkdf2=entry.get("pbkdf2"),
        bcrypt=entry.get("bcrypt"),
        certificate=entry.get("certificate"),
        may_call=tuple(patterns),
        group=entry.get("group"),
        watches=entry.get("watches") is True,
        created=str(entry.get("created", "")),
        cleared=str(entry.get("cleared", "")),
    )


def _not_there(path: Path) -> RegistryError:
    where = shlex.quote(str(path.parent))
    return RegistryError(
        f"there is no {path}; `bellwire-broker init {where}` makes one, and --dir DIR (or "
        "$BELLWIRE_BROKER_DIR) says where one is"
    )


def load(path: Path) -> Registry:
    """Read the registry; raises :class:`RegistryError`."""
    try:
        data = path.read_bytes()
        content = json.loads(data.decode("utf-8-sig"))  # an editor's byte order mark is no damage
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise ValueError(f"it is no registry of version {VERSION}")
        entries = content.get("devices", [])
        if not isinstance(entries, list):
            raise ValueError("its devices are no list")
        devices: dict[str, Device] = {}
        for entry in entries:
            device = _device(entry)
            if device.name in devices:
                raise ValueError(f"{device.name!r} is in it twice")
            devices[device.name] = device
    except FileNotFoundError as error:
        raise _not_there(path) from error
    except OSError as error:
        raise RegistryError(f"cannot read the registry {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"the registry {path} is damaged: {error}") from error
    return Registry(devices, hashlib.sha256(data).hexdigest())


def save(path: Path, registry: Registry) -> None:
    """Write the registry whole or not at all, readable by its owner only."""
    entries = [
        {key: value for key, value in asdict(device).items() if value not in (None, (), False, "")}
        for _, device in sorted(registry.devices.items())
    ]
    write_private(path, json.dumps({"version": VERSION, "devices": entries}, indent=2) + "\n")


@contextmanager
def changing(path: Path, staged: Staged | None = None) -> Iterator[dict[str, Device]]:
    """Change the devices in a dictionary; written at the end, one change at a time.

    What is ``staged`` takes its place right after the registry. An exception inside changes
    nothing, and neither does Ctrl-C: it waits until all is written or nothing is.
    """
    import fcntl

    if not path.exists():
        raise _not_there(path)
    with own_lock(path.parent / f".{path.name}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with uninterrupted():
            devices = dict(load(path).devices)
            yield devices
            save(path, Registry(devices))
            if staged is not None:
                staged.place()
