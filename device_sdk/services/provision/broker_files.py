"""A broker's directory that was set up on a laptop, as it goes onto the card of the broker's Pi."""

from __future__ import annotations

import json
from pathlib import Path

from .card import ProvisionError

_NEEDED = ("broker.toml", "devices.json", "tls/ca.crt", "tls/server.crt", "tls/server.key")
#: With it the Pi can renew its certificate and make devices with certificates.
_AUTHORITY = "tls/ca.key"


def read_broker_directory(directory: Path, hostname: str, *, login: bool) -> dict[str, bytes]:
    """The files of ``directory`` by their names; raises :class:`ProvisionError`.

    Devices' own keys stay where they are. Without a ``login`` on the Pi there must be devices
    already: nobody could add any there.
    """
    found: dict[str, bytes] = {}
    for name in (*_NEEDED, _AUTHORITY):
        try:
            found[name] = (directory / name).read_bytes()
        except FileNotFoundError:
            if name != _AUTHORITY:
                raise ProvisionError(
                    f"--broker-dir {directory}: there is no {name}; `bellwire-broker init "
                    f"{directory} --name {hostname}.local` makes one"
                ) from None
        except OSError as error:
            raise ProvisionError(f"--broker-dir {directory}: {name}: {error.strerror}") from None
    try:
        devices = json.loads(found["devices.json"])["devices"]
    except (ValueError, KeyError, TypeError):
        raise ProvisionError(f"--broker-dir {directory}: devices.json is damaged") from None
    if not devices and not login:
        raise ProvisionError(
            f"--broker-dir {directory}: no device is registered in it, and without --ssh-key none "
            f"can be added on the Pi; first `bellwire-broker device add NAME --dir {directory}`"
        )
    return found
