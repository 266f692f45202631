"""Where the command line's settings come from, which one wins, and what a wrong one says."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

import device_sdk
from broker_config import cli as broker_cli
from device_sdk import cli
from device_sdk.cli.command_line import PI_COMMANDS
from device_sdk.cli.errors import UsageError
from device_sdk.cli.options import Options, add_options

SECRET = "s3cret-word"


def options(*words: str, environ: dict[str, str] | None = None) -> Options:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return Options(parser.parse_args(words), environ or {})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bellwire.toml"
    path.write_text('peer = "from-file"\nbroker = "mqtt://file"\nkeepalive = 7\n')
    path.chmod(0o600)
    return path


def test_flag_before_variable_before_file(config: Path) -> None:
    environ = {"BELLWIRE_SETTINGS": str(config), "BELLWIRE_BROKER": "mqtt://variable",
               "BELLWIRE_PEER": "from-variable"}  # fmt: skip
    found = options("--peer", "from-flag", environ=environ)
    assert found.peer == "from-flag"
    assert found.broker == "mqtt://variable"
    assert found["keepalive"] == 7


def test_defaults_without_anything() -> None:
    found = options()
    assert found.broker == "mqtt://127.0.0.1:1883"
    assert found.realm == "sig"
    assert found.password() is None
    with pytest.raises(UsageError, match="--peer ID"):
        _ = found.peer


def test_file_of_the_home_is_found_and_that_of_the_working_directory_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    (home / ".config").mkdir(parents=True)
    here.mkdir()
    (here / "bellwire.toml").write_text('peer = "stranger"\n')
    monkeypatch.chdir(here)
    assert options(environ={"HOME": str(home)})["peer"] is None
    (home / ".config" / "bellwire.toml").write_text('peer = "me"\n')
    assert options(environ={"HOME": str(home)}).peer == "me"
    other = tmp_path / "xdg"
    other.mkdir()
    assert options(environ={"HOME": str(home), "XDG_CONFIG_HOME": str(other)})["peer"] is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('peer = "a"\nbrokr = "mqtt://x"\n', ":2: brokr: unknown key"),
        # The default's broker was dialed, with the secret.
        ("broker = []\n", ":1: broker: expected at least one"),
        ("keepalive = 0\n", ":1: keepalive: expected a whole number from 1 to 65535"),
        ("\npeer = 5\n", ":2: peer: expected a text in quotes"),
        ("peer = \n", ":1: not TOML"),
        (f'password = ["{SECRET}"]\n', ":1: password: expected a text in quotes"),
    ],
)
def test_complaint_about_a_file_names_line_and_key(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        options("--settings", str(path))
    assert f"{path}{complaint}" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_missing_file_that_was_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        options("--settings", str(tmp_path / "absent.toml"))


def test_password_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\nmore\n")
    assert options("--secret-file", str(path)).password() == SECRET
    path.write_text("\n")
    with pytest.raises(UsageError, match="first line is empty"):
        options("--secret-file", str(path)).password()
    with pytest.raises(UsageError, match=r"--secret-file: .*: there is no such file"):
        options("--secret-file", str(tmp_path / "absent")).password()


def test_nearer_password_wins_over_a_farther_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("far\n")
    environ = {"BELLWIRE_SECRET_FILE": str(path)}
    assert options("--password", "near", environ=environ).password() == "near"


def test_files_named_in_the_file_are_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('secret_file = "secret"\nca_file = "ca.pem"\n')
    (tmp_path / "secret").write_text(SECRET)
    found = options("--settings", str(path))
    assert found.password() == SECRET
    tls = found.tls()
    assert tls is not None
    assert tls.ca_file == str(tmp_path / "ca.pem")


def test_warning_when_others_can_read_the_password(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'password = "{SECRET}"\n')
    path.chmod(0o644)
    warning = options("--settings", str(path)).warning
    assert f"chmod 600 {path}" in warning
    assert SECRET not in warning
    path.chmod(0o600)
    assert options("--settings", str(path)).warning == ""


CALL = ("call", "kitchen", "--peer", "me")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("lisen",), "there is no command 'lisen'; did you mean listen?"),
        (("wheels", "w", "--arch", "arm64"), "--arch is one of aarch64, armv7l, armv6l, not"),
        (("provision", "b", "--format", "x"), "one of auto, cloud-init, firstrun, preseed, not"),
        (("call", "--peer", "me"), "PEER is missing"),
        (("call", "kitchen"), "--peer ID"),
        (("call", "x" * 65, "--peer", "me"), "PEER: a peer id has 1 to 64 characters"),
        (("call", "kitchen", "--peer", "a\tb"), "--peer: a peer id has no control characters"),
        (("call", "me", "--peer", "me"), "cannot call itself"),
        (("call", "a", "a", "--peer", "me"), "twice"),
        ((*CALL, "--sequential"), "--sequential goes with several"),
        ((*CALL, "--broker", "http://x"), "--broker: starts with mqtt://"),
        ((*CALL, "--broker", f"mqtt://me:{SECRET}@x"), "--broker: no user or password"),
        ((*CALL, "--realm", "a/b"), "--realm: 1 to 64 of"),
        ((*CALL, "--timeout", "0"), "--timeout: must be above 0"),
        ((*CALL, "--timeout", "soon"), "--timeout wants a number, not 'soon'"),
        ((*CALL, "--timeout"), "--timeout wants a value"),
        ((*CALL, "--json=yes"), "--json takes no value"),
        (
            ("provision", "x", "--role", "y"),
            "--role is one of doorbell, panel, homeassistant, sip, not 'y'",
        ),
        ((*CALL, "--sequentiel"), "unknown: --sequentiel; did you mean --sequential?"),
        ((*CALL, "--ack-timeout", "nan"), "--ack-timeout: must be above 0 and finite"),
        ((*CALL, "--keepalive", "0"), "--keepalive: 1 to 65535"),
        ((*CALL, "--login-timeout", "-1"), "--login-timeout"),
        ((*CALL, "--content", "x" * 8192), "--content: "),
        ((*CALL, "--channel", "x" * 65), "--channel: at most 64 bytes"),
        ((*CALL, "--channel", "\udcff"), "--channel: no text that can be sent"),
        ((*CALL, "--content", "\udcff"), "--content: "),
        ((*CALL, "--ca-file", "/nonexistent"), "not encrypted"),
        ((*CALL, "--broker", "mqtts://x", "--ca-file", "/nonexistent"), "--ca-file: /nonexistent"),
        ((*CALL, f"--passwort={SECRET}"), "unknown: --passwort"),
        (("listen", "--peer", "me", "--accept", "--refuse"), "does not go with"),
        (("listen", "--peer", "me", "--accept", "--reason", "busy"), "--reason goes with --refuse"),
        (("listen", "--peer", "me", "--ignore", "--after", "1"), "--after goes with"),
        (("listen", "--peer", "me", "--accept", "--after", "nan"), "--after"),
        (("listen", "--peer", "me", "--ignore", "--response", "x"), "--response goes with"),
        (("listen", "--peer", "me", "--ignore", "--count", "0"), "--count: at least 1"),
        (("watch",), "PEER"),
        (("watch", "a", "--count", "0"), "--count: at least 1"),
        (("watch", "a", "--keepalive", "0"), "--keepalive"),
        (("trace", "--for", "0"), "--for"),
        (("trace", "--password", SECRET), "whose"),
    ],
)
def test_wrong_usage_is_2_and_one_line(
    words: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setattr("socket.create_connection", _no_network)
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("bellwire")
    assert complaint in line
    assert SECRET not in line


def test_without_a_command_it_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Who types the bare name sees what it can do; the exit code says that it did nothing."""
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for name in ("call", "listen", "watch", "trace", *PI_COMMANDS):
        assert f"\n    {name} " in err or f"\n    {name}\n" in err


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("the network was used before the arguments were checked")


def test_a_wrong_variable_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("BELLWIRE_KEEPALIVE", "often")
    assert cli.main(CALL) == 2
    assert "BELLWIRE_KEEPALIVE: whole seconds are wanted" in capsys.readouterr().err


def test_a_defect_is_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError("oops")

    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setattr("device_sdk.cli.call.run", broken)
    assert cli.main(CALL) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: oops" in line


#: Ctrl-C with the first import of anything beside the entry itself.
_CTRL_C = """
import sys
class CtrlC:
    def find_spec(self, name, *_):
        if name not in ("__future__", *sys.argv[1:]):
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from {} import main
sys.exit(main(["--version"]))
"""


@pytest.mark.parametrize(
    "entry", ["device_sdk.cli", "broker_config.cli", "device_sdk.services.__main__"]
)
def test_ctrl_c_before_a_command_has_begun_is_no_traceback(entry: str) -> None:
    """Nothing is imported before what takes note of it: that takes most of a command's time."""
    packages = [entry[:end] for end, sign in enumerate(entry) if sign == "."]
    done = subprocess.run(
        [sys.executable, "-c", _CTRL_C.format(entry), *packages, entry],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr in ("", "bellwire-broker: interrupted\n")


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"bellwire {device_sdk.__version__}\n"
    with pytest.raises(SystemExit, match="0"):
        broker_cli.main(["--version"])
    assert capsys.readouterr().out == f"bellwire {device_sdk.__version__}\n"
    assert device_sdk.__version__[0].isdigit()
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("call", "listen", "watch", "trace", *PI_COMMANDS):
        assert f" {name} " in text or f" {name}\n" in text
