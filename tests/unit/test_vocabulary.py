"""One word for each thing, in flags, variables, files and the library; the old ones are refused."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

import pytest

from device_sdk import InvalidArgument, SignalingClient, cli
from device_sdk.cli.errors import UsageError
from device_sdk.cli.options import Options, add_options
from device_sdk.client.base import BaseClient
from device_sdk.client.vocabulary import FORMER, WORDS
from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.config.toml_reader import SettingsError

#: What says how a command goes about it, not who and where.
_COMMANDS_OWN = {"login_timeout"}


def test_what_the_command_line_has_the_library_has() -> None:
    """Each word is a keyword of the client, but for how long a command tries to log in."""
    keywords = set(inspect.signature(BaseClient.__init__).parameters)
    keywords |= set(SignalingClient("a").settings._fields)
    assert {word.name for word in WORDS} - _COMMANDS_OWN <= keywords


@pytest.mark.parametrize(("former", "name"), [
    ("--as", "--peer"), ("--ca", "--ca-file"), ("--cert", "--cert-file"), ("--key", "--key-file"),
    ("--password-file", "--secret-file"), ("--config", "--settings"),
])  # fmt: skip
@pytest.mark.parametrize("command", [("call", "kitchen"), ("watch", "kitchen"), ("provision", "x")])
def test_a_former_flag_is_refused_with_the_new_name(
    command: tuple[str, ...], former: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every command, never taken for an abbreviation."""
    assert cli.main([*command, former, "x"]) == 2
    assert f"{former} is called {name}" in capsys.readouterr().err


def test_a_former_variable_is_refused_with_the_new_name() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    with pytest.raises(UsageError, match=r"BELLWIRE_AS: it is called BELLWIRE_PEER"):
        Options(parser.parse_args([]), {"BELLWIRE_AS": "me"})


@pytest.mark.parametrize("former", ["as", "ca", "cert", "key", "password_file"])
def test_a_former_key_is_refused_with_the_new_name(tmp_path: Path, former: str) -> None:
    """By the command line and by the services."""
    path = tmp_path / "x.toml"
    path.write_text(f'[account]\n{former} = "x"\n')
    parser = argparse.ArgumentParser()
    add_options(parser)
    for read in (read_doorbell, lambda p: Options(parser.parse_args(["--settings", str(p)]), {})):
        with pytest.raises((UsageError, SettingsError)) as caught:
            read(path)
        assert f"{path}:2: account.{former}: it is called {FORMER[former]}" in str(caught.value)


def test_a_former_keyword_is_refused_with_the_new_name() -> None:
    with pytest.raises(InvalidArgument, match="ca: it is called ca_file"):
        SignalingClient("a", ca="x")  # type: ignore[call-overload]  # what is refused


def test_a_devices_file_serves_the_command_line(tmp_path: Path) -> None:
    """Its account is read, its pins are not the command's affair."""
    path = tmp_path / "bell.toml"
    (tmp_path / "secret").write_text("swordfish\n")
    path.write_text(
        '[account]\npeer = "door"\nbroker = "mqtts://b"\nsecret_file = "secret"\n'
        '[[button]]\npin = 17\nrings = ["kitchen"]\n'
    )
    parser = argparse.ArgumentParser()
    add_options(parser)
    found = Options(parser.parse_args(["--settings", str(path)]), {})
    assert (found.peer, found.broker, found.password()) == ("door", "mqtts://b", "swordfish")


def test_several_brokers_are_said_in_each_place(tmp_path: Path) -> None:
    """A flag again for each, one text in the environment, a list or one text in a file."""
    both = "mqtts://a, mqtts://b"
    parser = argparse.ArgumentParser()
    add_options(parser)
    listed, text = tmp_path / "list.toml", tmp_path / "text.toml"
    listed.write_text('broker = ["mqtts://a", "mqtts://b"]')
    text.write_text('broker = "mqtts://a mqtts://b"')
    for arguments, environ in (
        (["--broker", "mqtts://a", "--broker", "mqtts://b"], {"BELLWIRE_BROKER": "mqtt://c"}),
        (["--broker", both], {}),
        ([], {"BELLWIRE_BROKER": both}),
        (["--settings", str(listed)], {}),
        (["--settings", str(text)], {}),
    ):
        urls, _ = Options(parser.parse_args(arguments), environ).checked()
        assert list(map(str, urls)) == ["mqtts://a:8883", "mqtts://b:8883"], arguments
    for bad, named in (("mqtts://a, mqtt://b", "mqtt://b:1883"), ("mqtt://a x", "'x'")):
        with pytest.raises(UsageError, match=f"BELLWIRE_BROKER: .*{named}"):
            Options(parser.parse_args([]), {"BELLWIRE_BROKER": bad}).checked()


def test_the_library_takes_the_files_by_name(tmp_path: Path) -> None:
    """As the command line does; a file and its content, or files and ``tls``, are one too many."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xef\xbb\xbfswordfish \r\n")
    SignalingClient("a", "mqtts://b", secret_file=secret)
    with pytest.raises(InvalidArgument, match="secret_file: password is given"):
        SignalingClient("a", secret_file=secret, password="x")
    with pytest.raises(InvalidArgument, match=r"secret_file: .*there is no such file"):
        SignalingClient("a", secret_file=tmp_path / "none")
    with pytest.raises(InvalidArgument, match=r"ca_file: .*not encrypted"):
        SignalingClient("a", "mqtt://b", ca_file=secret)
    with pytest.raises(InvalidArgument, match="ca_file: "):
        SignalingClient("a", "mqtts://b", ca_file=secret)


@pytest.mark.parametrize(("url", "warns"), [
    ("mqtt://broker.lan", True), ("ws://192.168.1.2", True), ("mqtts://broker.lan", False),
    ("mqtt://localhost", False), ("mqtt://127.0.0.2:1883", False), ("ws://[::1]", False),
])  # fmt: skip
def test_a_secret_in_clear_text_is_warned_of(
    url: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Where others could read it on its way; the secret itself is not shown."""
    SignalingClient("a", url, password="swordfish")
    assert ("unencrypted" in caplog.text) is warns
    assert "swordfish" not in caplog.text
    parser = argparse.ArgumentParser()
    add_options(parser)
    found = Options(parser.parse_args(["--broker", url]), {"BELLWIRE_PASSWORD": "swordfish"})
    assert ("unencrypted" in found.warning) is warns
