"""What ``init`` and ``device`` do to a broker's directory; no broker needs to run."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from device_sdk.topics import check_peer_id, check_realm, escape

from . import pki
from .registry import HASHER, Device, Registry, changing, load, new_secret, save, write_private
from .settings import FILE, REGISTRY

LOCK = "broker.lock"
_SETTINGS = """\
# Settings of bellwire-broker; docs/broker.md explains them all.
realm = "{realm}"

[listen]
# HOST:PORT; without a host every address of this machine; "" for not at all.
mqtts = ":8883"
wss = ""                   # MQTT over WebSocket, usually ":8884"
mqtt = "127.0.0.1:1883"    # unencrypted, for this machine only
announce = true            # mqtts, to the local network: devices find it

[storage]
file = "data/broker.sqlite3"
synchronous = "normal"     # "full" survives a power cut to the last message, and is slower

[metrics]
listen = "127.0.0.1:9883"  # /metrics, /healthz, /status

[log]
format = "plain"           # or "json"
level = "info"
"""


class HouseError(Exception):
    """It was not done, nothing has changed; the text says why and what would do."""


def init(directory: Path, *, realm: str = "sig", names: list[str] | None = None) -> list[str]:
    """Make settings, CA, server certificate and an empty registry; gives the certificate's names.

    Raises :class:`HouseError` when the directory already is a broker's.
    """
    check_realm(realm)
    for name in (FILE, REGISTRY, "tls/ca.key"):
        if (directory / name).exists():
            raise HouseError(f"{directory / name} is there already; choose an empty directory")
    tls = directory / "tls"
    for folder in (directory, tls, directory / "data"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pki.make_ca(tls)
    certified = pki.make_server(tls, names or [])
    save(directory / REGISTRY, Registry())
    write_private(directory / FILE, _SETTINGS.format(realm=realm))
    return certified


def renew(directory: Path, names: list[str]) -> list[str]:
    """Make a new server certificate for its old names, this host's present ones and ``names``."""
    tls = directory / "tls"
    if not (tls / "ca.key").exists():
        raise HouseError(f"there is no {tls / 'ca.key'}: this CA did not make the certificate")
    return pki.make_server(tls, [*pki.extra_names(tls / "server.crt"), *names])


def _credentials(
    directory: Path, name: str, certificate: bool
) -> tuple[Device, str | None, tuple[Path, Path] | None]:
    """A device with new credentials; its secret in the clear, or its certificate's files."""
    if not certificate:
        secret = new_secret()
        return Device(name, secret=HASHER.hash(secret)), secret, None
    made = pki.make_device(directory / "tls", name)
    folder = directory / "tls" / "devices"
    folder.mkdir(mode=0o700, exist_ok=True)
    files = folder / f"{escape(name)}.crt", folder / f"{escape(name)}.key"
    write_private(files[0], made.certificate)
    write_private(files[1], made.key)
    return Device(name, certificate=made.fingerprint), None, files


def add(
    directory: Path,
    name: str,
    *,
    may_call: tuple[str, ...] = (),
    group: str | None = None,
    watches: bool = False,
    certificate: bool = False,
) -> tuple[str | None, tuple[Path, Path] | None]:
    """Register a device; gives its secret, shown this once, or the files of its certificate."""
    check_peer_id(name, "NAME")
    with changing(directory / REGISTRY) as devices:
        if name in devices:
            raise HouseError(f"{name!r} is registered; `device rotate` gives it a new secret")
        device, secret, files = _credentials(directory, name, certificate)
        devices[name] = replace(
            device,
            may_call=may_call,
            group=group,
            watches=watches,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
    return secret, files


def rotate(directory: Path, name: str) -> tuple[str | None, tuple[Path, Path] | None]:
    """Give a device a new secret, or a new certificate; what it had opens nothing any more."""
    with changing(directory / REGISTRY) as devices:
        old = _known(devices, name)
        new, secret, files = _credentials(directory, name, old.certificate is not None)
        devices[name] = replace(old, secret=new.secret, certificate=new.certificate)
    return secret, files


def remove(directory: Path, name: str) -> None:
    """Forget a device."""
    with changing(directory / REGISTRY) as devices:
        _known(devices, name)
        del devices[name]
    for suffix in (".crt", ".key"):
        (directory / "tls" / "devices" / f"{escape(name)}{suffix}").unlink(missing_ok=True)


def _known(devices: dict[str, Device], name: str) -> Device:
    if name not in devices:
        raise HouseError(f"there is no device {name!r}; `device list` shows all")
    return devices[name]


def devices(directory: Path) -> list[Device]:
    """All devices, by name."""
    registry = load(directory / REGISTRY)
    return [device for _, device in sorted(registry.devices.items())]


def broker_process(directory: Path) -> int | None:
    """The process id of the broker that serves ``directory`` at this moment, if one does."""
    try:
        with (directory / LOCK).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except (OSError, ValueError):
        return None
    return None


def tell_broker(directory: Path) -> bool:
    """Make the running broker read registry and certificates again; False if none could be told."""
    process = broker_process(directory)
    if process is None:
        return False
    try:
        os.kill(process, signal.SIGHUP)
    except OSError:
        return False
    return True
