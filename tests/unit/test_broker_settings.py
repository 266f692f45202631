"""broker.toml: what is wrong is named with its line and key; what is unsafe does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker_config.admin.settings import BrokerSettings, is_loopback, load, split_address
from device_sdk.services.config.toml_reader import SettingsError


def read(folder: Path, text: str) -> BrokerSettings:
    (folder / "broker.toml").write_text(text)
    return load(folder)


def test_an_empty_file_is_safe(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert not settings.anonymous
    assert settings.listen.mqtt == "127.0.0.1:1883"
    assert settings.metrics.listen.startswith("127.0.0.1:")
    assert settings.limits.publishes_per_second > 0


def test_every_setting_is_read(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        'realm = "home"\n[listen]\nwss = ":8884"\n[storage]\nsynchronous = "full"\n'
        "[limits]\ninflight = 7\nstall = 2\n[log]\nformat = 'json'\n",
    )
    assert settings.realm == "home"
    assert settings.listen.wss == ":8884"
    assert settings.storage.synchronous == "full"
    assert (settings.limits.inflight, settings.limits.stall) == (7, 2.0)
    assert settings.log.format == "json"
    assert settings.registry == tmp_path / "devices.json"


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("realm = ", 1, "realm|Invalid value"),
        ("\nrealm = 3", 2, "realm"),
        ('realm = "a/b"', 1, "realm"),
        ("\n\nrealmx = 1", 3, "realmx"),
        ("[listen]\n\nmqtts = 8883", 3, "listen.mqtts"),
        ("[listen]\nmqtts = ':http'", 2, "listen.mqtts"),
        ("[listen]\nmqtts = ':70000'", 2, "listen.mqtts"),
        ("[listen]\nmqttx = ''", 2, "listen.mqttx"),
        (
            "[listen]\n\nannounce = 'yes'",
            3,
            'listen.announce: expected true or false, not the text "yes"',
        ),
        ("[listen]\nannounce = 1", 2, "listen.announce: expected true or false, not the number 1"),
        ("announce = true", 1, "announce: unknown key; known here: anonymous, limits, listen"),
        ("[log]\nformat = 'xml'", 2, "log.format"),
        ("[limits]\ninflight = -1", 2, "limits.inflight"),
        ("[limits]\ninflight = 1.5", 2, "limits.inflight"),
        # Nothing was delivered, and nothing said of it; above, a packet id was sought for ever.
        ("[limits]\ninflight = 0", 2, "limits.inflight: expected a whole number from 1 to 65535"),
        ("[limits]\ninflight = 65536", 2, "limits.inflight: expected a whole number from 1"),
        ("[limits]\nconnections = 0", 2, "limits.connections"),
        ("[limits]\nconnect_timeout = 0", 2, "limits.connect_timeout"),
        ("[limits]\ninflight = true", 2, "limits.inflight"),
        ("anonymous = 1", 1, "anonymous"),
        ("listen = 3", 1, "listen"),
        ("[unknown]\nx = 1", 1, "unknown"),
        ("[listen]\nmqtts=''\nmqtt=''", 2, "listen.mqtts: nothing is listened on"),
        ("[tls]\nca = 'x'", 2, "tls.ca: it is called ca_file"),
    ],
)
def test_a_mistake_is_named_with_line_and_key(
    tmp_path: Path, text: str, line: int, key: str
) -> None:
    with pytest.raises(SettingsError, match=rf"broker\.toml:{line}: .*({key})"):
        read(tmp_path, text)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    """An unknown key does not hide behind a wrong value, nor the second table behind the first."""
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, "realm = 3\n[listen]\nmqttx = ''\n[limits]\ninflight = -1\n")
    where = [problem.split(":")[1:3] for problem in caught.value.problems]
    assert where == [["1", " realm"], ["3", " listen.mqttx"], ["5", " limits.inflight"]]


@pytest.mark.parametrize("address", [":8883", "0.0.0.0:8883", "[::]:8883", "192.168.1.5:8883"])
def test_anonymous_access_is_for_this_machine_only(tmp_path: Path, address: str) -> None:
    with pytest.raises(SettingsError, match=r"anonymous = false|127\.0\.0\.1"):
        read(tmp_path, f'anonymous = true\n[listen]\nmqtts = "{address}"')
    assert read(tmp_path, 'anonymous = true\n[listen]\nmqtts = "[::1]:8883"').anonymous


def test_plain_mqtt_is_for_this_machine_only(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="in the clear"):
        read(tmp_path, '[listen]\nmqtt = "0.0.0.0:1883"')


def test_a_missing_file_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="bellwire-broker init"):
        load(tmp_path)


def test_addresses() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address(":80") == ("", 80)
    assert is_loopback("127.1.2.3")
    assert is_loopback("[::1]")
    assert is_loopback("localhost")
    assert not is_loopback("")
    assert not is_loopback("example.org")
