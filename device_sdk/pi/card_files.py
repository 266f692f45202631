"""What a card says to its system at the first boot: pure text, for each of the three formats.

The formats differ only in who calls ``bellwire/install.sh`` and in how host name and WiFi are told;
the installation itself is one script.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from importlib import resources

from .card import MARK, OWN, Format, ProvisionError

BOOT = "/boot/firmware"
HERE = f"{BOOT}/{OWN}"
_COMMENT = f"# {MARK[0].upper()}{MARK[1:]}; a change here is lost when it is run again."
_KERNEL_ARGUMENTS = (
    f"systemd.run={BOOT}/firstrun.sh systemd.run_success_action=reboot "
    "systemd.unit=kernel-command-line.target"
)


@dataclass(frozen=True, slots=True)
class Wifi:
    """A WiFi network; ``country`` as two letters: a Pi keeps its radio off without it."""

    ssid: str
    password: str
    country: str


@dataclass(frozen=True, slots=True)
class Card:
    """What a card shall become."""

    role: str
    hostname: str
    settings: str
    secret: bytes | None
    ca: bytes | None
    wheels: dict[str, bytes]
    online: bool
    wifi: Wifi | None = None
    ssh_keys: str = ""


def check_hostname(name: str) -> str:
    """``name`` if a host may be called so, else :class:`ProvisionError`."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", name):
        raise ProvisionError(
            f"--hostname {name!r}: letters, digits and inner hyphens, 63 at most; give another one"
        )
    return name


def check_wifi(wifi: Wifi) -> Wifi:
    """``wifi`` if there can be such a network, else :class:`ProvisionError`."""
    if not 1 <= len(wifi.ssid.encode()) <= 32 or not wifi.ssid.isprintable():
        raise ProvisionError("--wifi-ssid: 1 to 32 bytes of visible characters")
    if not 8 <= len(wifi.password.encode()) <= 63 or not wifi.password.isprintable():
        raise ProvisionError("--wifi-password-file: a WPA password has 8 to 63 characters")
    if not re.fullmatch(r"[A-Z]{2}", wifi.country):
        raise ProvisionError("--wifi-country: two capital letters, such as DE")
    return wifi


def files(card: Card, form: Format, cmdline: str) -> dict[str, bytes]:
    """All files of the card by name; ``cmdline`` is the present kernel command line."""
    unit = f"bellwire-{card.role}.service"
    text = resources.files("device_sdk.pi").joinpath("units", unit).read_text(encoding="utf-8")
    ours: dict[str, bytes] = {
        "install.sh": _script("install.sh", ROLE=card.role, ONLINE="1" if card.online else ""),
        unit: text.encode(),
    }
    if card.role != "broker":
        ours[f"{card.role}.toml"] = card.settings.encode()
    if card.secret is not None:
        ours["secret"] = card.secret
    if card.ca is not None:
        ours["ca.pem"] = card.ca
    if card.ssh_keys:
        ours["authorized_keys"] = card.ssh_keys.encode()
    ours |= {f"wheels/{name}": data for name, data in card.wheels.items()}
    made = {f"{OWN}/{name}": data for name, data in ours.items()}
    outer = {
        Format.CLOUD_INIT: _cloud_init,
        Format.FIRSTRUN: _firstrun,
        Format.PRESEED: _preseed,
    }[form](card, cmdline)
    digest = hashlib.sha256()
    for name, data in sorted({**made, **{k: v.encode() for k, v in outer.items()}}.items()):
        digest.update(name.encode() + b"\0" + data)
    if form is Format.CLOUD_INIT:
        # cloud-init acts once for each instance: other contents, another instance.
        outer["meta-data"] = f"{_COMMENT}\ninstance-id: bellwire-{digest.hexdigest()[:16]}\n"
    return made | {name: text.encode() for name, text in outer.items()}


def _cloud_init(card: Card, _cmdline: str) -> dict[str, str]:
    # JSON is YAML, and its quoting has no surprises.
    user = {
        "hostname": card.hostname,
        "manage_etc_hosts": True,
        "runcmd": [["sh", f"{HERE}/install.sh"]],
    }
    wired: dict[str, object] = {"dhcp4": True}
    if card.wifi is not None:
        # With WiFi nobody shall wait for a cable; without, it is all there is to wait for.
        wired["optional"] = True
    network: dict[str, object] = {"version": 2, "ethernets": {"eth0": wired}}
    if card.wifi is not None:
        network["wifis"] = {
            "wlan0": {
                "dhcp4": True,
                "optional": True,
                "regulatory-domain": card.wifi.country,
                "access-points": {card.wifi.ssid: {"password": card.wifi.password}},
            }
        }
    return {
        "user-data": f"#cloud-config\n{_COMMENT}\n{_yaml(user)}",
        "network-config": f"{_COMMENT}\n{_yaml({'network': network})}",
    }


def _yaml(table: dict[str, object]) -> str:
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in table.items())


def _firstrun(card: Card, cmdline: str) -> dict[str, str]:
    words = [word for word in cmdline.split() if word not in _KERNEL_ARGUMENTS.split()]
    foreign = [word for word in words if word.startswith("systemd.run=")]
    if foreign:
        raise ProvisionError(
            f"cmdline.txt already runs {foreign[0].partition('=')[2]} at the first boot (settings "
            f"given to Raspberry Pi Imager?): flash the card again without settings"
        )
    wifi = card.wifi or Wifi("", "", "")
    script = _script(
        "firstrun.sh",
        HOSTNAME=card.hostname,
        SSID=wifi.ssid,
        PASSWORD=wifi.password,
        COUNTRY=wifi.country,
    )
    return {
        "firstrun.sh": script.decode(),
        "cmdline.txt": " ".join([*words, _KERNEL_ARGUMENTS]) + "\n",
    }


def _preseed(card: Card, _cmdline: str) -> dict[str, str]:
    lines = [
        _COMMENT,
        'config_version = "1.0"',
        "",
        "[system]",
        f"hostname = {_toml(card.hostname)}",
    ]
    if card.wifi is not None:
        lines += [
            "",
            "[wlan]",
            f"ssid = {_toml(card.wifi.ssid)}",
            f"password = {_toml(card.wifi.password)}",
            f"country = {_toml(card.wifi.country)}",
            'key_mgmt = "wpa-psk"',
        ]
    # Nothing here is decided by the clock, and without a network there is none to wait for.
    lines += ["", "[runcmd]", f'late = ["sh {HERE}/install.sh"]', "late_require_time_sync = false"]
    return {"rpi-preseed.toml": "\n".join(lines) + "\n"}


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _script(name: str, **values: str) -> bytes:
    """A shell script with its values, each quoted for the shell, in place of ``@NAME@``."""
    path = resources.files("device_sdk.pi").joinpath("firstboot", name)
    text = path.read_text(encoding="utf-8").replace("@MARK@", _COMMENT.removeprefix("# "))
    return re.sub(r"@([A-Z]+)@", lambda found: shlex.quote(values[found[1]]), text).encode()
