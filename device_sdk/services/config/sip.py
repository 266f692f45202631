"""The TOML file of ``bellwire sip``: frozen dataclasses out, or one :class:`SettingsError`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import account as settings
from .doorbell import TALK_LIMIT
from .metrics import MetricsSettings, read_metrics
from .panel import ON
from .toml_reader import load

_CONTROL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):(\d{1,5})")
_URI = re.compile(r"sips?:[!-~]+")
_KEYS = "0123456789*#ABCD"


@dataclass(frozen=True, slots=True)
class SipSettings:
    """Everything ``bellwire sip`` reads from its file."""

    account: settings.Account
    uri: str
    host: str
    port: int
    open_key: str = ""
    response: Any = None
    on: dict[str, settings.Action] = field(default_factory=dict)
    metrics: MetricsSettings | None = None


def read_sip(path: Path) -> SipSettings:
    """The settings in ``path``; :class:`SettingsError` names file, line, key, expectation."""
    root = load(path)
    # Its calls are a door's: a phone that was not put down is not to keep it busy.
    account = settings.read_account(root, path, talk_limit=TALK_LIMIT)
    table = root.table("sip")
    uri = table.text("uri")
    if "uri" in table and not _URI.fullmatch(uri):
        table.wrong("uri", 'expected the phone, such as "sip:kitchen@192.168.1.20"')
    control = table.text("control", "127.0.0.1:4444")
    found = _CONTROL.fullmatch(control)
    if found is None or not 0 < int(found[2]) <= 65535:
        table.wrong(
            "control",
            'expected where baresip\'s ctrl_tcp listens on this machine, such as "127.0.0.1:4444":'
            " whoever reaches it can call anybody",
        )
    key = table.text("open_key", "", empty=True)
    if len(key) > 1 or key not in _KEYS:
        table.wrong("open_key", "expected one key of a phone: a digit, * or #")
    response = table.body("response")
    table.done()
    on = settings.read_actions(root.table("on"), ON)
    metrics = read_metrics(root)
    root.done()
    host, port = (found[1].strip("[]"), int(found[2])) if found else ("", 0)
    return SipSettings(account, uri, host, port, key, response, on, metrics)
