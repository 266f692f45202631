"""What ``init`` and ``device`` do to a broker's directory; no broker needs to run."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from argon2.exceptions import InvalidHashError, VerificationError

from device_sdk.core.wire.topics import check_realm, escape

from ..access import hashes, pki
from ..access.naming import (
    check_group,
    check_name,
    check_patterns,
    clash,
    near_names,
    stands_for_nobody,
)
from ..access.registry import (
    HASHER,
    Device,
    Registry,
    changing,
    load,
    new_secret,
    save,
    write_private,
)
from ..access.writing import Staged, uninterrupted
from .settings import FILE, REGISTRY

#: What may hold a secret and some white space.
_SECRET_FILE_BYTES = 4096
_SETTINGS = """\
# Settings of bellwire-broker; docs/broker-settings.md explains them all.
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


class SetupError(Exception):
    """It was not done, nothing has changed; the text says why and what would do."""


def init(directory: Path, *, realm: str = "sig", names: list[str] | None = None) -> list[str]:
    """Make settings, CA, server certificate and an empty registry; gives the certificate's names.

    The settings come last: without them the directory is none of a broker, and `init` goes on with
    what an earlier one, cut short, has made. Raises :class:`SetupError` when it is a broker's.
    """
    check_realm(realm)
    if (directory / FILE).exists():
        raise SetupError(f"{directory / FILE} is there already; choose an empty directory")
    registry = directory / REGISTRY
    if registry.exists() and load(registry).devices:
        raise SetupError(
            f"{registry} is there already, with devices in it, but no {FILE}; put that back, or "
            "choose an empty directory"
        )
    pki.check_names(names or [])
    made = [folder for folder in (directory, directory / "tls", directory / "data")
            if not folder.exists()]  # fmt: skip
    tls = directory / "tls"
    try:
        with uninterrupted():
            for folder in made:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (tls / "ca.key").exists() or not (tls / "ca.crt").exists():
                pki.make_ca(tls)
            certified = pki.make_server(tls, names or [])
            save(registry, Registry())
            write_private(directory / FILE, _SETTINGS.format(realm=realm))
    except BaseException:
        if directory in made:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    return certified


def renew(directory: Path, names: list[str]) -> list[str]:
    """Make a new server certificate for its old names, this host's present ones and ``names``."""
    tls = directory / "tls"
    if not (tls / "ca.key").exists():
        raise SetupError(
            f"there is no {tls / 'ca.key'}: say where the broker's directory is, "
            "`bellwire-broker renew DIR`; a certificate of another CA is renewed there"
        )
    pki.check_names(names)
    try:
        old = pki.extra_names(tls / "server.crt")
    except (OSError, ValueError):
        old = []  # what is to be replaced may be missing or damaged
    with uninterrupted():
        return pki.make_server(tls, [*old, *names])


def web_certificate(directory: Path, names: list[str], target: Path) -> tuple[Path, Path]:
    """A certificate of this CA for a page under ``names``, and its key, into ``target``.

    Named after the first name; what is there of an earlier one is replaced.
    """
    tls = directory / "tls"
    if not (tls / "ca.key").exists():
        raise SetupError(
            f"there is no {tls / 'ca.key'}: say where the broker's directory is, --dir DIR"
        )
    pki.check_names(names)
    made = pki.make_web(tls, names)
    stem = names[0].replace("*", "_").replace(":", "-")
    files = target / f"{stem}.crt", target / f"{stem}.key"
    with Staged() as staged:
        staged.add(files[1], made.key, over=True)
        staged.add(files[0], made.certificate, over=True)
        staged.place()
    return files


@dataclass(frozen=True, slots=True)
class Given:
    """What a device gets, this once: its secret, or the files of its certificate."""

    name: str
    secret: str | None
    files: tuple[Path, Path] | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A device to be registered."""

    name: str
    may_call: tuple[str, ...] = ()
    group: str | None = None
    watches: bool = False
    certificate: bool = False


#: Shows what a device gets. It is called before the registry changes: when it raises, nothing has.
Show = Callable[[Given], None]


def _credentials(
    directory: Path, name: str, certificate: bool, staged: Staged
) -> tuple[Device, Given]:
    """A device with new credentials, and what it gets of them."""
    if not certificate:
        secret = new_secret()
        device = Device(
            name,
            secret=HASHER.hash(secret),
            pbkdf2=hashes.pbkdf2_sha512(secret),
            bcrypt=hashes.bcrypt_hash(secret),
        )
        return device, Given(name, secret, None)
    made = pki.make_device(directory / "tls", name)
    folder = directory / "tls" / "devices"
    folder.mkdir(mode=0o700, exist_ok=True)
    files = folder / f"{escape(name)}.crt", folder / f"{escape(name)}.key"
    staged.add(files[0], made.certificate, over=True)
    staged.add(files[1], made.key, over=True)
    return Device(name, certificate=made.fingerprint), Given(name, None, files)


def _stage_secret(staged: Staged, file: Path, given: Given, old: Device | None) -> None:
    """Put the secret into ``file`` unless something else is there; raises SetupError."""
    if given.secret is None:
        raise SetupError(
            f"--secret-file: {given.name!r} has a certificate and no secret; its files are made in "
            "tls/devices"
        )
    try:
        there = file.exists() or file.is_symlink()
        if there and not (file.is_file() and _is_secret_of(old, file.read_bytes())):
            raise SetupError(
                f"--secret-file: {file} is there already, and it is not the secret of "
                f"{given.name!r}; name another file, or move that one away. Nothing has changed"
            )
        if not file.parent.is_dir():
            raise SetupError(
                f"--secret-file: there is no directory {file.parent}; make it first. "
                "Nothing has changed"
            )
        staged.add(file.resolve() if there else file, given.secret + "\n", over=there)
    except OSError as error:
        raise SetupError(
            f"--secret-file: {file} cannot be written: {error.strerror or error}. "
            "Nothing has changed"
        ) from error


def _is_secret_of(device: Device | None, data: bytes) -> bool:
    if device is None or device.secret is None or len(data) > _SECRET_FILE_BYTES:
        return False
    try:
        return HASHER.verify(device.secret, data.strip())
    except (VerificationError, InvalidHashError):
        return False


def add_all(
    directory: Path,
    wanted: Sequence[Wanted],
    *,
    secret_files: Mapping[str, Path] | None = None,
    show: Show | None = None,
) -> list[Given]:
    """Register devices, all of them or none; gives what each of them gets.

    A secret for which there is a file in ``secret_files`` is in it afterwards, the others are for
    ``show``. Raises SetupError, ValueError; then nothing has changed.
    """
    gets = []
    with Staged() as staged, changing(directory / REGISTRY, staged) as devices:
        for each in wanted:
            name = check_name(each.name)
            if name in devices:
                raise SetupError(
                    f"{name!r} is registered; `device set` changes what it may, `device rotate` "
                    "gives it a new secret"
                )
            if (other := clash(devices, name)) is not None:
                raise SetupError(
                    f"{name!r} looks the same as {other!r}, which is registered, and is spelt "
                    f"with other characters ({_spelt(name)} here, {_spelt(other)} there); nobody "
                    "could tell them apart. Use that one"
                )
            device, given = _credentials(directory, name, each.certificate, staged)
            devices[name] = replace(
                device,
                may_call=check_patterns(each.may_call),
                group=None if each.group is None else check_group(each.group),
                watches=each.watches,
                created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            if secret_files and name in secret_files:
                _stage_secret(staged, secret_files[name], given, None)
            gets.append(given)
        _show_all(gets, show)
    return gets


def _spelt(name: str) -> str:
    return " ".join(f"{ord(character):04X}" for character in name)


def _show_all(gets: Sequence[Given], show: Show | None) -> None:
    if show is None:
        return
    try:
        for given in gets:
            show(given)
    except OSError as error:
        raise SetupError(
            f"it could not be shown ({error.strerror or error}), so nothing has changed; "
            "--secret-file FILE writes it to a file"
        ) from error


def add(
    directory: Path,
    name: str,
    *,
    may_call: tuple[str, ...] = (),
    group: str | None = None,
    watches: bool = False,
    certificate: bool = False,
    secret_file: Path | None = None,
    show: Show | None = None,
) -> tuple[str | None, tuple[Path, Path] | None]:
    """Register a device; gives its secret, shown this once, or the files of its certificate."""
    wanted = Wanted(name, may_call, group, watches, certificate)
    files = {} if secret_file is None else {name: secret_file}
    (given,) = add_all(directory, [wanted], secret_files=files, show=show)
    return given.secret, given.files


def rotate(
    directory: Path, name: str, *, secret_file: Path | None = None, show: Show | None = None
) -> tuple[str | None, tuple[Path, Path] | None]:
    """Give a device a new secret, or a new certificate; what it had opens nothing any more."""
    with Staged() as staged, changing(directory / REGISTRY, staged) as devices:
        old = _known(devices, name)
        new, given = _credentials(directory, name, old.certificate is not None, staged)
        if secret_file is not None:
            _stage_secret(staged, secret_file, given, old)
        devices[name] = replace(
            old,
            secret=new.secret,
            pbkdf2=new.pbkdf2,
            bcrypt=new.bcrypt,
            certificate=new.certificate,
        )
        _show_all([given], show)
    return given.secret, given.files


def change(
    directory: Path,
    name: str,
    *,
    may_call: tuple[str, ...] | None = None,
    group: str | None = None,
    watches: bool | None = None,
) -> Device:
    """Change what a device may; what is None stays, an empty ``group`` is none. Gives it."""
    with changing(directory / REGISTRY) as devices:
        device = _known(devices, name)
        if group is not None:
            device = replace(device, group=check_group(group) if group else None)
        if watches is not None:
            device = replace(device, watches=watches)
        devices[name] = device
        if may_call is not None:
            wrong = [
                why
                for pattern in check_patterns(may_call)
                if (why := stands_for_nobody(devices, name, pattern)) is not None
            ]
            if wrong:
                raise SetupError(f"--may-call: {'; '.join(wrong)}. Nothing has changed")
            devices[name] = replace(device, may_call=check_patterns(may_call))
        return devices[name]


def secret_files(folder: Path | None, wanted: Sequence[Wanted]) -> dict[str, Path]:
    """Where each device's secret goes, in ``folder``, which is made; raises SetupError."""
    names = [each.name for each in wanted if not each.certificate]
    if folder is None:
        if names:
            raise SetupError("--secrets DIR is missing: where shall the devices' secrets go?")
        return {}
    files = {name: folder / f"{escape(name)}.secret" for name in names}
    for name, file in files.items():
        if file.exists() or file.is_symlink():
            raise SetupError(
                f"--secrets: {file} is there already, and {name!r} is new; choose another "
                "directory. Nothing has changed"
            )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"--secrets: {folder} cannot be made: {error.strerror}. Nothing has changed"
        ) from error
    return files


def find(directory: Path, name: str) -> Device:
    """The device of that name; raises SetupError."""
    return _known({device.name: device for device in devices(directory)}, name)


def mark_cleared(directory: Path, name: str) -> None:
    """Have the running broker clear all cells of a device."""
    with changing(directory / REGISTRY) as devices:
        devices[name] = replace(_known(devices, name), cleared=secrets.token_hex(8))


def remove(directory: Path, name: str) -> None:
    """Forget a device."""
    with changing(directory / REGISTRY) as devices:
        _known(devices, name)
        del devices[name]
    for suffix in (".crt", ".key"):
        (directory / "tls" / "devices" / f"{escape(name)}{suffix}").unlink(missing_ok=True)


def _known(devices: Mapping[str, Device], name: str) -> Device:
    if name not in devices:
        near = near_names(devices, name) if devices else f"`device add {name}` registers it"
        raise SetupError(f"there is no device {name!r}: {near} (`device list` shows all)")
    return devices[name]


def devices(directory: Path) -> list[Device]:
    """All devices, by name."""
    registry = load(directory / REGISTRY)
    return [device for _, device in sorted(registry.devices.items())]
