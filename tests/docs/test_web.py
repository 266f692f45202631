"""docs/web.md: its settings are read, its table is whole, its commands are there."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from pathlib import Path

from broker_config import cli as broker_cli
from broker_config.access import pki
from device_sdk.cli import main
from device_sdk.services import cli
from device_sdk.services.config.panel import read_panel
from device_sdk.services.config.web import WebSettings

PAGE = (Path(__file__).parents[2] / "docs" / "web.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_settings_are_as_they_should_be(tmp_path: Path, capsys) -> None:
    (text,) = blocks("toml")
    (tmp_path / "panel.toml").write_text(text)
    (tmp_path / "web-pin").write_text("314159\n")
    (tmp_path / "secret").write_text("correct horse\n")
    pki.make_ca(tmp_path)
    (tmp_path / "ca.crt").rename(tmp_path / "ca.pem")
    assert main(["panel", "--settings", str(tmp_path / "panel.toml"), "--check"]) == 0
    assert "with a page at http://127.0.0.1:8080/" in capsys.readouterr().out
    assert read_panel(tmp_path / "panel.toml").web.peers == ("front-door",)


def test_every_setting_is_in_the_table() -> None:
    table = PAGE.partition("| in `[web]` |")[2].partition("\n\n")[0]
    named = {word for row in table.splitlines() for word in re.findall(r"`(\w+)`", row[:40])}
    known = {field.name for field in dataclasses.fields(WebSettings)} - {"host", "port"}
    assert named == known | {"listen"}


def test_its_commands_are_there(tmp_path: Path) -> None:
    """The certificate is made; what a card is given is read, short of the card."""
    provision, certificate = (block.strip() for block in blocks("text"))
    pki_folder = tmp_path / "my-broker" / "tls"
    pki_folder.mkdir(parents=True)
    pki.make_ca(pki_folder)
    words = shlex.split(certificate.replace("my-broker", str(tmp_path / "my-broker")))[1:]
    assert broker_cli.main([*words, "--to", str(tmp_path)]) == 0
    assert (tmp_path / "kitchen-panel.local.crt").exists()
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())
    args = parser.parse_args(shlex.split(provision.replace("…", ""))[1:])
    assert args.web == "8080"


def test_its_pictures_are_there() -> None:
    pictures = re.findall(r"\]\((images/[^)]+)\)", PAGE)
    assert len(pictures) == 6
    assert all((Path(__file__).parents[2] / "docs" / each).exists() for each in pictures)
