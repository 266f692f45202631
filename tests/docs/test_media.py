"""docs/media.md: its settings are a doorbell's, its messages those that the services know."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from pathlib import Path

import yaml

from device_sdk.cli import main
from device_sdk.services.cli import add_commands
from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.config.sip import read_sip
from device_sdk.services.logic import messages
from device_sdk.services.logic.messages import OpenResult
from device_sdk.services.web.content import view_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "media.md").read_text()


def test_the_settings_are_a_doorbells_and_the_page_shows_what_they_say(tmp_path):
    block, _ = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "bell.toml").write_text(block)
    (button,) = read_doorbell(tmp_path / "bell.toml").buttons
    view = view_of(button.content, ["http://front-door.lan:1984"])
    assert view.text == "somebody is at the door"
    assert [each["kind"] for each in view.media] == ["whep", "page", "snapshot"]
    assert all(each["allowed"] for each in view.media)


#: What go2rtc documents of the settings that examples/go2rtc.yaml has (its www/schema.json); a key
#: that it does not know it passes over in silence, and of `origin` it knows "*" alone.
LISTEN = re.compile(r"([^:]*):[0-9]{1,5}")
GO2RTC = {
    "api": {"listen": LISTEN, "origin": re.compile(r"\*")},
    "rtsp": {"listen": LISTEN},
    "webrtc": {"listen": LISTEN},
}


def test_the_settings_of_go2rtc_are_those_that_it_documents():
    """It is on no package index, so it is not run here: each key and value is looked at."""
    settings = yaml.safe_load((ROOT / "examples" / "go2rtc.yaml").read_text())
    streams = settings.pop("streams")
    assert list(streams) == ["door"]
    assert all(re.match(r"(exec|rtsp|ffmpeg|onvif):", source) for source in streams["door"])
    assert set(settings) <= set(GO2RTC)
    for section, keys in settings.items():
        for key, value in keys.items():
            assert GO2RTC[section][key].fullmatch(value), (section, key, value)
    port = settings["api"]["listen"].rpartition(":")[2]
    urls = re.findall(r'url = "http://front-door\.lan:(\d+)/\S+\?src=(\w+)"', PAGE)
    assert urls == [(port, "door")] * 3, "what the doorbell says is what go2rtc serves"


def test_the_messages_in_the_table_are_those_of_the_services():
    table = PAGE.partition("## Messages in a call")[2]
    named = [ast.literal_eval(text.replace("true", "True").replace("false", "False"))
             for text in re.findall(r'`(\{"d[^`…]*\})`', table)]  # fmt: skip
    assert messages.asks_to_open(named[0]) == ""
    assert messages.result_of_open(named[1]) == OpenResult(True)
    assert messages.opened(OpenResult(True)) == named[1]
    assert set(messages.opened(OpenResult(False, "no"))) == {"done", "ok", "why"}


def test_the_settings_of_a_sip_phone_are_checked_as_the_page_says(tmp_path, capsys):
    _, block = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    path = tmp_path / "sip.toml"
    path.write_text(block)
    assert read_sip(path).open_key == "9"
    assert main(["sip", "--check", "--settings", str(path)]) == 0
    assert "phone rings sip:kitchen@192.168.1.20" in capsys.readouterr().out


def test_the_card_of_a_sip_phone_is_one_of_our_commands():
    (command,) = re.findall(r"^```text\n(bellwire .*)\n^```", PAGE, re.MULTILINE)
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    args = parser.parse_args(shlex.split(command.replace("…", ""))[1:])
    assert (args.role, args.sip_uri) == ("sip", "sip:kitchen@192.168.1.20")
