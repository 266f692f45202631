"""The services of ours: what one machine is, by the name that its command, unit and settings have.

Each has ``bellwire NAME`` with ``--check``, ``bellwire provision --role NAME``, a systemd unit
``bellwire-NAME``, and lines of its own in ``bellwire doctor``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SERVICES = ("doorbell", "panel", "homeassistant", "sip")
#: Where a provisioned card keeps its settings.
CARD = Path("/boot/firmware/bellwire")


def own_settings(environ: Mapping[str, str]) -> Path:
    """Where a person keeps what the commands go by, if anywhere."""
    home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config"
    return Path(home) / "bellwire.toml"


def settings_file(name: str) -> Path:
    """The settings of that service on a card."""
    return CARD / f"{name}.toml"
