"""``[web]`` of a panel's file: what is read, and what is said of what is wrong with it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from device_sdk.services import cli
from device_sdk.services.config.panel import read_panel
from device_sdk.services.config.toml_reader import SettingsError
from device_sdk.services.config.web import WebSettings, parse_listen, with_options
from device_sdk.services.web.state_file import PageState

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here
ACCOUNT = '[account]\npeer = "kitchen"\nbroker = "mqtt://127.0.0.1"\n'


@pytest.fixture
def web(tmp_path: Path) -> Callable[[str], WebSettings]:
    def read(text: str) -> WebSettings:
        path = tmp_path / "panel.toml"
        path.write_text(ACCOUNT + "[web]\n" + text)
        return read_panel(path).web

    return read


def test_without_the_table_there_is_no_page(tmp_path: Path) -> None:
    path = tmp_path / "panel.toml"
    path.write_text(ACCOUNT)
    found = read_panel(path)
    assert found.web.port is None
    found.web.check()
    assert not found.has_pins


def test_a_full_table(web, tmp_path: Path) -> None:
    found = web(
        'listen = "0.0.0.0:8080"\npin_file = "pin"\nusers_file = "users"\nca_file = "ca.crt"\n'
        'names = ["panel.lan"]\npeers = ["front-door"]\nmedia = ["HTTP://Camera:80/x"]\n'
        'door = "gate"\n'
    )
    assert (found.host, found.port, found.pin_file) == (EVERYWHERE, 8080, tmp_path / "pin")
    assert (found.peers, found.media, found.door) == (("front-door",), ("http://camera",), "gate")
    assert found.url == "http://127.0.0.1:8080/"
    assert found.elsewhere() == " (elsewhere: http://panel.lan:8080/)"
    assert WebSettings(port=8080).elsewhere() == ""
    assert "panel.lan" in found.own_names()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listen = 8080", "panel.toml:5: web.listen: expected a text in quotes"),
        ('listen = "eighty"', 'web.listen: expected [HOST:]PORT such as "8080"'),
        ('listen = "1:2:3"', "an IPv6 address stands in brackets"),
        ('listen = "99999"', "web.listen: expected [HOST:]PORT"),
        ('names = ["http://x"]', "web.names: expected a host name"),
        ('media = ["camera"]', "web.media: expected where it comes from"),
        ('peers = ["a/b", ""]', "web.peers: expected a list of texts"),
        ('peers = ["kitchen"]', "web.peers: kitchen is this panel itself"),
        ('pin = "314159"', "web.pin: unknown key; known here: ca_file"),
    ],
)
def test_complaints_name_file_line_key_and_expectation(web, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        web(text)
    assert says in str(caught.value)
    assert "panel.toml:5" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"host": EVERYWHERE}, "can be reached from elsewhere: say who may come in"),
        ({"pin_file": "none"}, "pin_file: "),
        ({"pin_file": "short"}, "short:1: pin_file: at least 6 characters"),
        ({"users_file": "short"}, "short:1: users_file: expected NAME PASSWORD"),
        ({"users_file": "twice"}, "twice:2: users_file: anna is there twice"),
        ({"users_file": "nobody"}, "users_file: nobody is in it"),
        # Its cookie was none: who had signed in by it was asked to sign in.
        ({"users_file": "long"}, "long:1: users_file: a name has at most 64 bytes"),
        ({"ca_file": "short"}, "ca_file: no certificate"),
        ({"cert_file": "short", "key_file": "short"}, "are no certificate and its key"),
        ({"cert_file": "short"}, "short is no certificate with its key in it: say key_file"),
        ({"key_file": "short"}, "say cert_file, too"),
    ],
)
def test_what_serving_needs_is_tried_first(tmp_path: Path, settings, says: str) -> None:
    (tmp_path / "short").write_text("314\n")
    (tmp_path / "twice").write_text("anna correct horse\nanna battery\n")
    (tmp_path / "nobody").write_text("# nobody\n")
    (tmp_path / "long").write_text("ü" * 33 + " correct horse\n")
    files = {key: tmp_path / name if key != "host" else name for key, name in settings.items()}
    with pytest.raises(SettingsError) as caught:
        WebSettings(port=8080, **files).check()
    assert says in str(caught.value)


def test_the_command_line_goes_before_the_file() -> None:
    found = with_options(WebSettings(EVERYWHERE, 1), "[::1]:8080", Path("c"), Path("k"))
    assert (found.host, found.port, found.https) == ("::1", 8080, True)
    assert found.url == "https://[::1]:8080/"
    assert with_options(found, None, None, None) == found
    with pytest.raises(SettingsError, match="--web: expected"):
        with_options(found, "x", None, None)
    assert parse_listen(":8080") == ("127.0.0.1", 8080)
    for half in ("[::1", "::1]:80", "[::1:80", "[panel.lan]:80"):
        with pytest.raises(ValueError, match="expected"):
            parse_listen(half)


def test_check_says_where_the_page_will_be(tmp_path: Path, capsys) -> None:
    """Before anything starts; what is wrong is exit 2."""
    path = tmp_path / "panel.toml"
    path.write_text(ACCOUNT)

    def run(*more: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        cli.add_commands(parser.add_subparsers())
        args = parser.parse_args(["panel", "--settings", str(path), "--check", *more])
        code = args.run(args)
        out = capsys.readouterr()
        return code, out.out + out.err

    assert (
        run("--web", "8080")[1]
        .strip()
        .endswith("a panel named kitchen, with a page at http://127.0.0.1:8080/, as it should be")
    )
    assert run("--web", "0.0.0.0:8080")[0] == 2
    code, out = run("--web", "8443", "--web-cert", str(path), "--web-key", str(path))
    assert code == 2
    assert "are no certificate and its key" in out


def test_what_a_page_keeps_over_restarts(tmp_path: Path) -> None:
    first = PageState("kitchen", tmp_path)
    first.set_disturb(False)
    again = PageState("kitchen", tmp_path)
    assert (again.key, again.disturb) == (first.key, False)
    assert PageState("study", tmp_path).key != first.key
    (file,) = tmp_path.glob("page-kitchen*")
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("{")
    broken = PageState("kitchen", tmp_path)
    assert broken.key != first.key
    assert broken.disturb


def test_where_nothing_can_be_written_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert len(PageState("kitchen", tmp_path / "file" / "below").key) == 32


def test_settings_of_a_page_that_is_nowhere_served_are_said(tmp_path: Path, capsys) -> None:
    """A forgotten `listen` would be a page that nobody finds."""
    path = tmp_path / "panel.toml"
    path.write_text(ACCOUNT + '[web]\npeers = ["front-door"]\n')
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())
    for more, said in (((), True), (("--web-cert", "x"), True), (("--web", "8080"), False)):
        args = parser.parse_args(["panel", "--settings", str(path), "--check", *more])
        assert args.run(args) == 0
        warned = 'no page is served: say where, such as listen = "8080" in [web], or --web 8080'
        assert (warned in capsys.readouterr().err) == said
    path.write_text(ACCOUNT)
    args = parser.parse_args(["panel", "--settings", str(path), "--check"])
    assert (args.run(args), capsys.readouterr().err) == (0, "")
