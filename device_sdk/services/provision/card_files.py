"""What a card says to its system at the first boot: pure text, for each of the three formats.

The formats differ only in who calls ``bellwire/install.sh`` and in how host name and WiFi are told;
the installation itself is one script.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import unicodedata
from dataclasses import dataclass, field
from importlib import resources

from .card import MARK, OWN, Format, ProvisionError

BOOT = "/boot/firmware"
HERE = f"{BOOT}/{OWN}"
#: A WPA key instead of the password that it is made of.
_PSK = re.compile(r"[0-9A-Fa-f]{64}")
_COMMENT = f"# {MARK[0].upper()}{MARK[1:]}; a change here is lost when it is run again."
_KERNEL_ARGUMENTS = (
    f"systemd.run={BOOT}/firstrun.sh systemd.run_success_action=reboot "
    "systemd.unit=kernel-command-line.target"
)


@dataclass(frozen=True, slots=True)
class Wifi:
    """A WiFi network; ``country`` as two letters: a Pi keeps its radio off without it.

    ``password``: 8 to 63 bytes, or the key made of it, 64 hexadecimal digits; None: an open one.
    """

    ssid: str
    password: str | None
    country: str
    hidden: bool = False

    @property
    def psk(self) -> str:
        """The key that is made of name and password (IEEE 802.11, J.4); empty for an open one."""
        if self.password is None or _PSK.fullmatch(self.password):
            return (self.password or "").lower()
        return hashlib.pbkdf2_hmac(
            "sha1", self.password.encode(), self.ssid.encode(), 4096, 32
        ).hex()


@dataclass(frozen=True, slots=True)
class Card:
    """What a card shall become."""

    role: str
    hostname: str
    settings: str
    #: What lies beside the settings, by name: secret, authority, certificate.
    beside: dict[str, bytes]
    wheels: dict[str, bytes]
    online: bool
    #: Of Bellwire, that are installed with it.
    extras: str
    wifi: Wifi | None = None
    ssh_keys: str = ""
    timezone: str = ""
    #: Of a broker that was set up already: its directory's files by name.
    broker_dir: dict[str, bytes] = field(default_factory=dict)
    #: Of a SIP phone: baresip's settings and its unit, by name.
    baresip: dict[str, bytes] = field(default_factory=dict)


def check_hostname(name: str) -> str:
    """``name`` if a host may be called so, else :class:`ProvisionError`."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", name):
        raise ProvisionError(
            f"--hostname {name!r}: letters, digits and inner hyphens, 63 at most; give another one"
        )
    return name


def check_wifi(wifi: Wifi) -> Wifi:
    """``wifi`` if there can be such a network, else :class:`ProvisionError`."""
    if not _is_text(wifi.ssid) or not 1 <= len(wifi.ssid.encode()) <= 32:
        raise ProvisionError("--wifi-ssid: 1 to 32 bytes of text without control characters")
    password = wifi.password
    if password is None or _PSK.fullmatch(password):
        pass
    elif not _is_text(password) or not 8 <= len(password.encode()) <= 63:
        raise ProvisionError(
            "--wifi-password-file: a WPA password has 8 to 63 bytes of text without control"
            " characters (or it is the key: 64 hexadecimal digits)"
        )
    if not re.fullmatch(r"[A-Z]{2}", wifi.country):
        raise ProvisionError("--wifi-country: two capital letters, such as DE")
    return wifi


def _is_text(text: str) -> bool:
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def files(card: Card, form: Format, cmdline: str) -> dict[str, bytes]:
    """All files of the card by name; ``cmdline`` is the present kernel command line."""
    unit = f"bellwire-{card.role}.service"
    text = (
        resources.files("device_sdk.services.provision")
        .joinpath("units", unit)
        .read_text(encoding="utf-8")
    )
    ours: dict[str, bytes] = {
        "install.sh": _script(
            "install.sh",
            ROLE=card.role,
            EXTRAS=card.extras,
            ONLINE="1" if card.online else "",
            TIMEZONE=card.timezone,
            PSK=card.wifi.psk if card.wifi is not None else "",
            BESIDE=" ".join(card.beside),
        ),
        unit: text.encode(),
    }
    if card.role == "broker":
        ours["broker.sh"] = _script("broker.sh")
        ours |= {f"broker/{name}": data for name, data in card.broker_dir.items()}
    else:
        ours[f"{card.role}.toml"] = card.settings.encode()
    if card.baresip:
        ours["baresip.sh"] = _script("baresip.sh")
        ours |= card.baresip
    ours |= card.beside
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
    user: dict[str, object] = {
        "hostname": card.hostname,
        "manage_etc_hosts": True,
        "runcmd": [["sh", f"{HERE}/install.sh"]],
    }
    if card.timezone:
        user["timezone"] = card.timezone
    wired: dict[str, object] = {"dhcp4": True}
    if card.wifi is not None:
        # With WiFi nobody shall wait for a cable; without, it is all there is to wait for.
        wired["optional"] = True
    network: dict[str, object] = {"version": 2, "ethernets": {"eth0": wired}}
    if card.wifi is not None:
        point: dict[str, object] = {}
        if card.wifi.password is not None:
            point["password"] = card.wifi.password
        if card.wifi.hidden:
            point["hidden"] = True
        network["wifis"] = {
            "wlan0": {
                "dhcp4": True,
                "optional": True,
                "regulatory-domain": card.wifi.country,
                "access-points": {card.wifi.ssid: point},
            }
        }
    return {
        "user-data": f"#cloud-config\n{_COMMENT}\n{_yaml(user)}",
        "network-config": f"{_COMMENT}\n{_yaml({'network': network})}",
    }


def _yaml(table: dict[str, object]) -> str:
    return "".join(f"{key}: {_quoted(value)}\n" for key, value in table.items())


def _quoted(value: object) -> str:
    r"""``value`` as JSON that is YAML and TOML, too.

    Those have no surrogates (``\ud83d\udcf6``), and what is invisible is spelt ``\uXXXX`` or
    ``\UXXXXXXXX``: to YAML some of it ends a line.
    """
    text = json.dumps(value, ensure_ascii=False)
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
        for c in text
    )


def _firstrun(card: Card, cmdline: str) -> dict[str, str]:
    words = [word for word in cmdline.split() if word not in _KERNEL_ARGUMENTS.split()]
    foreign = [word for word in words if word.startswith("systemd.run=")]
    if foreign:
        raise ProvisionError(
            f"cmdline.txt already runs {foreign[0].partition('=')[2]} at the first boot (settings "
            f"given to Raspberry Pi Imager?): flash the card again without settings"
        )
    wifi = card.wifi or Wifi("", None, "")
    script = _script(
        "firstrun.sh",
        HOSTNAME=card.hostname,
        SSID=wifi.ssid,
        KEYFILESSID=_keyfile(wifi.ssid),
        PSK=wifi.psk,
        COUNTRY=wifi.country,
        HIDDEN="1" if wifi.hidden else "",
    )
    return {
        "firstrun.sh": script.decode(),
        "cmdline.txt": " ".join([*words, _KERNEL_ARGUMENTS]) + "\n",
    }


def _keyfile(text: str) -> str:
    """A text as NetworkManager's keyfiles have it: ``;`` would make it a list of numbers."""
    text = text.replace("\\", "\\\\").replace(";", "\\;")
    return re.sub(r"^ | $", r"\\s", text)


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
            f"country = {_toml(card.wifi.country)}",
        ]
        if card.wifi.password is None:
            lines += ['key_mgmt = "none"']
        else:
            lines += [f"password = {_toml(card.wifi.psk)}", 'key_mgmt = "wpa-psk"']
        if card.wifi.hidden:
            lines += ["hidden = true"]
    # Nothing here is decided by the clock, and without a network there is none to wait for.
    lines += ["", "[runcmd]", f'late = ["sh {HERE}/install.sh"]', "late_require_time_sync = false"]
    return {"rpi-preseed.toml": "\n".join(lines) + "\n"}


def _toml(text: str) -> str:
    return _quoted(text)


def _script(name: str, **values: str) -> bytes:
    """A shell script with its values, each quoted for the shell, in place of ``@NAME@``."""
    path = resources.files("device_sdk.services.provision").joinpath("firstboot", name)
    text = path.read_text(encoding="utf-8").replace("@MARK@", _COMMENT.removeprefix("# "))
    return re.sub(r"@([A-Z]+)@", lambda found: shlex.quote(values[found[1]]), text).encode()
