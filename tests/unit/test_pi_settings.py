"""The TOML files: what they mean, and that each complaint names file, line, key, expectation."""

from __future__ import annotations

import re

import pytest

from device_sdk.cli import main
from device_sdk.services.config.account import Account, Level, OutputPin, Pull
from device_sdk.services.config.doorbell import Strategy, read_doorbell
from device_sdk.services.config.panel import read_panel
from device_sdk.services.config.toml_reader import SettingsError
from device_sdk.services.doctor.patient import patient_of
from device_sdk.services.logic.doorbell import PressOutcome, WhileInCall, WhileRinging
from device_sdk.services.logic.panel import CallEnd, PanelButton, WhenQuiet

ACCOUNT = '[account]\npeer = "front-door"\nbroker = "mqtt://broker.local"\n'
BUTTON = '[[button]]\npin = 17\nrings = ["kitchen"]\n'


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "bell.toml"
        path.write_text(text)
        return path

    return write


def test_the_shortest_doorbell(write):
    settings = read_doorbell(write(ACCOUNT + BUTTON))
    (button,) = settings.buttons
    assert (button.name, button.peers, button.ring_time) == ("door", ("kitchen",), 60.0)
    assert (button.input.pull, button.input.active) == (Pull.UP, Level.LOW)
    assert button.input.bounce_time == 0.03
    assert settings.chime.after == 1.5
    assert settings.account.password() is None


def test_a_full_doorbell(write, tmp_path):
    (tmp_path / "secret").write_text("swordfish\n")
    settings = read_doorbell(
        write(
            """
[account]
peer = "front-door"
broker = "mqtts://broker.local:8883"
secret_file = "secret"
ca_file = "ca.pem"
keepalive = 30

[groups]
upstairs = ["office", "attic"]

[[button]]
name = "gate"
pin = 5
pull = "down"
bounce_time = 0.05
rings = ["kitchen", "group:upstairs", "kitchen"]
strategy = "sequential"
content = {what = "gate", camera = 2}
ring_time = 30
while_ringing = "extend"

[[button]]
name = "door"
pin = 6
pull = "none"
active = "high"
rings = "kitchen"

[light]
pin = 27
active = "low"
idle = true

[chime]
pin = 22
command = ["aplay", "ding.wav"]
after = 2

[on.refused]
webhook = "http://home.local/refused"
"""
        )
    )
    gate, door = settings.buttons
    assert gate.peers == ("kitchen", "office", "attic")
    assert (gate.strategy, gate.while_ringing) == (Strategy.SEQUENTIAL, WhileRinging.EXTEND)
    assert gate.content == {"what": "gate", "camera": 2}
    assert (gate.input.active, door.input.active) == (Level.HIGH, Level.HIGH)
    assert settings.light == OutputPin(27, Level.LOW)
    assert settings.idle_light
    assert (settings.account.talk_limit, gate.in_call) == (180, WhileInCall.TELL)
    assert settings.chime.action.command == ("aplay", "ding.wav")
    assert settings.on[PressOutcome.REFUSED].webhook == "http://home.local/refused"
    assert settings.account.password() == "swordfish"
    assert settings.account.ca_file == tmp_path / "ca.pem"
    assert "swordfish" not in repr(settings)


def test_a_full_panel(write):
    settings = read_panel(
        write(
            """
[account]
peer = "kitchen"
broker = "mqtt://broker.local"
[answer]
pin = 5
response = "coming"
[refuse]
pin = 6
[open]
pin = 7
[ringer]
pin = 22
command = ["aplay", "bell.wav"]
[missed]
pin = 23
[do_not_disturb]
hours = ["22:00-07:00", "sat-sun 13:00-15:00"]
action = "silent"
[on.accepted]
command = ["open-door"]
[on.answered_elsewhere]
command = ["true"]
"""
        )
    )
    assert set(settings.buttons) == set(PanelButton)
    assert settings.response == "coming"
    assert settings.account.talk_limit == 7200
    assert len(settings.quiet) == 2
    assert settings.when_quiet is WhenQuiet.SILENT
    assert settings.on[CallEnd.ACCEPTED].command == ("open-door",)
    assert CallEnd.ANSWERED_ELSEWHERE in settings.on


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (ACCOUNT + BUTTON + "pim = 3\n", 7, "button.pim: unknown key; known here: .*pin"),
        (ACCOUNT + BUTTON.replace("17", '"17"'), 5, "button.pin: expected a whole number.*text"),
        (ACCOUNT + BUTTON.replace("17", "true"), 5, "button.pin: expected a whole number.*true"),
        (ACCOUNT + BUTTON.replace("17", "-1"), 5, "button.pin: expected a whole number"),
        (ACCOUNT + "[[button]]\nrings = ['kitchen']\n", 4, "button.pin: missing"),
        (ACCOUNT + BUTTON + 'pull = "sideways"\n', 7, '"up" or "down" or "none"'),
        (ACCOUNT + BUTTON + "bounce_time = 30\n", 7, "bounce_time: expected seconds"),
        (ACCOUNT + BUTTON + 'while_ringing = "stop"\n', 7, '"ignore" or "extend" or "re-ring"'),
        (ACCOUNT + BUTTON + 'in_call = "stop"\n', 7, '"tell" or "hang-up" or "re-ring"'),
        (ACCOUNT + "talk_limit = 0\n" + BUTTON, 4, "talk_limit: expected seconds.*1 to 86400"),
        (ACCOUNT + BUTTON + 'rings = "x"\n', 7, "not TOML"),
        (ACCOUNT + "[[button]]\npin = 1\nrings = ['group:up']\n", 6, 'no group "up"'),
        (ACCOUNT + "[[button]]\npin = 1\nrings = ['']\n", 6, "rings"),
        (ACCOUNT + BUTTON + BUTTON + "name = 'door'\n", 4, "two buttons are named"),
        (ACCOUNT + BUTTON + "[[button]]\nname='b'\npin = 5\nrings='k'\nx=1\n", 11, "button.x"),
        (ACCOUNT + BUTTON + '[light]\npin = 4\n\n\ncolour = "red"\n', 11, "light.colour: unknown"),
        (ACCOUNT + BUTTON + "[lights]\npin = 4\n", 7, "lights: unknown key"),
        (ACCOUNT + BUTTON + "[dor]\npin = 23\n", 7, "dor: unknown key; known here: .*door"),
        (ACCOUNT + BUTTON + "[on.accepted]\ncommand = 3\n", 8, "on.accepted.command"),
        (ACCOUNT + BUTTON + "[on.answered]\ncommand = 'a'\n", 7, "answered: unknown key"),
        (ACCOUNT + BUTTON + "[chime]\nwebhook = 'ftp://x'\n", 8, "chime.webhook"),
        (ACCOUNT.replace("mqtt:", "http:") + BUTTON, 3, "account.broker: expected a broker"),
        (ACCOUNT.replace("front-door", "a" * 65) + BUTTON, 2, "account.peer"),
        (BUTTON, 1, "account.peer: missing"),
        (ACCOUNT, 1, "button: missing"),
        ("[account\n", 1, "not TOML"),
        ("[account]\npeer = gate\n", 2, "not TOML: Invalid value; is it a text"),
        (ACCOUNT + BUTTON.replace("kitchen", "front-door"), 6, "front-door is this doorbell"),
        (ACCOUNT + BUTTON + "content = {a = 2026-01-01}\n", 7, "cannot be sent: .* date"),
        (ACCOUNT + BUTTON + "content = 12:00:00\n", 7, "content: expected a text.*date"),
        (ACCOUNT + BUTTON + f"content = '{'x' * 9000}'\n", 7, "cannot be sent: 90.. bytes"),
        (ACCOUNT + BUTTON + f"content = {'[' * 20 + ']' * 20}\n", 7, "deeper than 15 levels"),
        (ACCOUNT + BUTTON + "channel = ''\n", 7, "channel: expected a text that is not empty"),
        (ACCOUNT + BUTTON + "name = ''\n", 7, "name: expected a text that is not empty"),
        (ACCOUNT + BUTTON + 'name = "a\\nb"\n', 7, "without control characters"),
        (ACCOUNT + BUTTON + "ring_time = nan\n", 7, "ring_time: expected seconds"),
        (ACCOUNT + BUTTON + "[chime]\ncommand = ['']\n", 8, "none of them empty"),
        (ACCOUNT + BUTTON + "[on.nobody]\nwebhook = 'http://h:port/'\n", 8, "webhook: expected"),
        (ACCOUNT + BUTTON + "[on.nobody]\nwebhook = 'http://'\n", 8, "webhook: expected"),
        (ACCOUNT + BUTTON + "[on.nobody]\nwebhook = 'http://\u00fc/'\n", 8, "webhook: expected"),
        (ACCOUNT + 'ca_file = "ca.pem"\n' + BUTTON, 4, "not encrypted: say mqtts://"),
        (ACCOUNT + 'key_file = "k.pem"\n' + BUTTON, 4, "a key without its certificate"),
        (ACCOUNT + 'password = "x"\n' + BUTTON, 4, "name that: secret_file"),
        (ACCOUNT + 'realm = "a/b"\n' + BUTTON, 4, "account.realm"),
        (ACCOUNT.replace("broker.local", "u:p@b") + BUTTON, 3, "no user or password"),
        (ACCOUNT.replace("broker.local", "b:99999") + BUTTON, 3, "expected a broker"),
        ("button = 3\n" + ACCOUNT, 1, r"button: expected tables: \[\[button\]\], not the number 3"),
        ("button = [1]\n" + ACCOUNT, 1, r"button: expected tables: \[\[button\]\]"),
        (ACCOUNT + BUTTON + "pull = 'none'\n", 4, "button.active: missing; without a pull"),
        (ACCOUNT + BUTTON + f"name = '{'x' * 65}'\n", 7, "name: at most 64 characters, not 65"),
        (ACCOUNT + BUTTON + "ring_time = 'long'\n", 7, "ring_time: expected seconds.*the text"),
        (ACCOUNT + BUTTON + "ring_time = inf\n", 7, "ring_time: expected seconds.*not inf"),
        (ACCOUNT + "[[button]]\npin = 1\nrings = 3\n", 6, "rings: expected a list of texts"),
        (ACCOUNT + BUTTON + '[groups]\nup = ["a\\tb", "c"]\n', 8, "groups.up: .*control"),
        (ACCOUNT + BUTTON + "[chime]\nafter = 99\n", 8, "chime.after: expected seconds"),
        (ACCOUNT + BUTTON + "[light]\nidle = 1\n", 8, "light.idle: expected true or false"),
        (ACCOUNT + BUTTON + "[gpio]\nfactory = 'pigpio'\n", 8, "gpio.factory: expected"),
        (ACCOUNT + BUTTON + "[gpio]\nchip = 100\n", 8, "gpio.chip: expected a whole number"),
        (ACCOUNT + BUTTON + '[gpio]\nchip = "0"\n', 8, "gpio.chip: expected a whole.*the text"),
        (ACCOUNT + BUTTON + '[light]\npin = "27"\n', 8, "light.pin: expected a whole.*the text"),
        (ACCOUNT + BUTTON + "[chime]\npin = [22]\n", 8, "chime.pin: expected a whole.*a list"),
        ("account = 3\n" + BUTTON, 1, "account: expected a table"),
    ],
)
def test_a_complaint_names_file_line_key_and_expectation(write, text, line, says):
    path = write(text)
    with pytest.raises(SettingsError) as caught:
        read_doorbell(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert re.search(says, message), message


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[answer]\npin = 5\n[refuse]\npin = 6\nresponse = 'no'\n", 8, "refuse.response: unknown"),
        (
            "[do_not_disturb]\nhours = ['25:00-26:00']\n",
            5,
            "do_not_disturb.hours: .*no time of day",
        ),
        (f"[answer]\npin = 5\nresponse = '{'x' * 9000}'\n", 6, "response: cannot be sent"),
        ("[answer]\npin = 5\nresponse = [2026-01-01]\n", 6, "response: cannot be sent"),
        ("[do_not_disturb]\naction = 'shout'\n", 5, '"refuse" or "silent"'),
        ("[on.accepted]\ncommand = ['a']\nshell = true\n", 6, "on.accepted.shell: unknown key"),
    ],
)
def test_a_panels_complaints(write, text, line, says):
    path = write(ACCOUNT + text)
    with pytest.raises(SettingsError) as caught:
        read_panel(path)
    assert str(caught.value).startswith(f"{path}:{line}: "), str(caught.value)
    assert re.search(says, str(caught.value)), str(caught.value)


def test_all_that_is_wrong_is_named_at_once(write):
    """An unknown key does not hide behind a missing one; a file is mended in one go."""
    path = write(
        "[account]\npear = 'door'\nbroker = 'http://b'\nkeepalive = 'long'\n"
        "[[button]]\nrings = []\npim = 3\n[lights]\n"
    )
    with pytest.raises(SettingsError) as caught:
        read_doorbell(path)
    found = [problem.removeprefix(f"{path}:").split(": ")[:3] for problem in caught.value.problems]
    assert [(line, key, what.split(";")[0]) for line, key, what in found] == [
        ("1", "account.peer", "missing"),
        ("2", "account.pear", "unknown key"),
        ("3", "account.broker", 'expected a broker such as "mqtts://broker.local:8883"'),
        ("4", "account.keepalive", 'expected a whole number from 5 to 3600, not the text "long"'),
        ("5", "button.pin", "missing"),
        ("6", "button.rings", "expected at least one peer"),
        ("7", "button.pim", "unknown key"),
        ("8", "lights", "unknown key"),
    ]


def test_one_pin_for_two_things_is_refused_with_both(write):
    with pytest.raises(SettingsError, match=r"pin 17 is used twice: by button door and by light"):
        read_doorbell(write(ACCOUNT + BUTTON + "[light]\npin = 17\n"))


def test_a_file_that_nests_too_deep(write):
    """The reader's own stack is no matter of the user's."""
    with pytest.raises(SettingsError, match="not TOML"):
        read_doorbell(write(f"x = {'[' * 3000}{']' * 3000}\n"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match="no such file"):
        read_doorbell(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("secret", "says"), [(None, "no such file"), (b"", "line is empty"), (b"\xff", "UTF-8")]
)
def test_a_secret_that_cannot_be_used(write, tmp_path, secret, says):
    if secret is not None:
        (tmp_path / "secret").write_bytes(secret)
    account = read_doorbell(write(ACCOUNT + 'secret_file = "secret"\n' + BUTTON)).account
    with pytest.raises(SettingsError, match=says):
        account.password()


@pytest.mark.parametrize("read", [read_doorbell, read_panel])
def test_a_pin_that_no_raspberry_pi_has(write, read):
    """Another board says which chip has it."""
    text = ACCOUNT + (
        BUTTON.replace("17", "99") if read is read_doorbell else "[answer]\npin = 99\n"
    )
    with pytest.raises(SettingsError, match=r"pin 99 is on no Raspberry Pi.*chip = N"):
        read(write(text))
    read(write(text + "[gpio]\nchip = 0\n"))


@pytest.mark.parametrize("role", ["doorbell", "panel"])
@pytest.mark.parametrize(
    ("account", "says"),
    [
        ('secret_file = "none"\n', "secret_file: .*none: there is no such file"),
        ('ca_file = "none"\n', "ca_file: .*none"),
        ('ca_file = "bell.toml"\n', "ca_file: .*bell.toml"),
        ('cert_file = "bell.toml"\n', "cert_file: .*bell.toml"),
    ],
)
def test_check_and_start_try_the_files(write, capsys, role, account, says):
    """Not the first press, or the first login."""
    text = ACCOUNT.replace("mqtt:", "mqtts:") + account
    path = write(text + (BUTTON if role == "doorbell" else "[answer]\npin = 5\n"))
    for more in (["--check"], ["--keyboard"]):
        assert main([role, "--settings", str(path), *more]) == 2
        assert re.search(says, capsys.readouterr().err)


def test_check_names_a_command_that_is_not_there(write, capsys):
    """Said, not refused: the settings may be for another machine."""
    path = write(ACCOUNT + BUTTON + '[chime]\ncommand = ["aplya", "ding.wav"]\n')
    assert main(["doorbell", "--check", "--settings", str(path)]) == 0
    assert "aplya: there is no such command" in capsys.readouterr().err


def test_the_doctor_reads_what_the_commands_go_by(tmp_path):
    """A file that is an account alone, with the commands' own keys; a typo names its line."""
    path = tmp_path / "bellwire.toml"
    path.write_text('peer = "front-door"\nbroker = "mqtt://b"\nlogin_timeout = 3\n')
    assert patient_of(path).account == Account("front-door", "mqtt://b")
    path.write_text('peer = "front-door"\nbroker = "mqtt://b"\nsecret_fil = "x"\n')
    with pytest.raises(SettingsError, match=r"bellwire\.toml:3: secret_fil: unknown key"):
        patient_of(path)


def test_the_doctor_without_settings_says_where_it_looked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(["doctor"]) == 2
    assert f"and no {tmp_path}/bellwire.toml: say --settings FILE" in capsys.readouterr().err
