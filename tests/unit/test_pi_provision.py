"""Provisioning a card: what is written, what is refused, all or nothing, twice the same."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from device_sdk.services import cli
from device_sdk.services.config.timezone import described, local_timezone
from device_sdk.services.provision import card, wheels
from device_sdk.services.provision.card import Format, ProvisionError
from tests.integration.certificates import Authority

CMDLINE = "console=tty1 root=PARTUUID=1234-02 rootwait quiet\n"
TEMPLATE = "#cloud-config\n\n# Settings for the first boot.\n#hostname: raspberrypi\n"
WHEELS = (
    "bellwire-0.1.0-py3-none-any.whl",
    "paho_mqtt-2.2.0-py3-none-any.whl",
    "cbor2-6.3.0-cp313-cp313-manylinux_2_28_aarch64.whl",
    "cbor2-6.3.0-cp313-cp313-manylinux_2_28_x86_64.whl",
    "cbor2-5.9.0-py3-none-any.whl",
    "gpiozero-2.0.1.post3-py3-none-any.whl",
    "colorzero-2.0-py2.py3-none-any.whl",
    "amqtt-0.12.1-py3-none-any.whl",
)


TOLD_AT_FIRST = ("user-data", "meta-data", "network-config")


@pytest.fixture
def boot(tmp_path):
    """A freshly flashed trixie card's boot partition."""
    path = tmp_path / "bootfs"
    path.mkdir()
    (path / "cmdline.txt").write_text(CMDLINE)
    (path / "config.txt").write_text("arm_64bit=1\n")
    (path / "user-data").write_text(TEMPLATE)
    (path / "meta-data").write_text("dsmode: local\ninstance_id: rpios-image\n")
    (path / "network-config").write_text("# Network settings\n")
    return path


@pytest.fixture
def run(tmp_path, boot, capsys):
    """Run ``bellwire provision`` with everything it needs, and what the test adds or replaces."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in WHEELS:
        (folder / name).write_bytes(name.encode())
    (tmp_path / "secret").write_text("swordfish\n")
    (tmp_path / "ca.crt").write_bytes(Authority(tmp_path, "authority").path.read_bytes())
    (tmp_path / "wifi").write_text("correct horse\n")

    def run(*more: str, without: tuple[str, ...] = ()) -> tuple[int, str]:
        options = {
            "--peer": "front-door",
            "--broker": "mqtts://broker.local:8883",
            "--secret-file": str(tmp_path / "secret"),
            "--ca-file": str(tmp_path / "ca.crt"),
            "--wheels": str(folder),
        }
        words = [word for key in options if key not in without for word in (key, options[key])]
        parser = argparse.ArgumentParser()
        cli.add_commands(parser.add_subparsers())
        args = parser.parse_args(["provision", str(boot), *words, *more])
        code = args.run(args)
        out = capsys.readouterr()
        return code, out.out + out.err

    return run


def tree(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()
    }


def test_a_door_is_in_the_settings(run, boot):
    code, _ = run("--door-pin", "23", "--door-active", "low", "--rings", "office")
    assert code == 0
    text = (boot / "bellwire" / "doorbell.toml").read_text()
    assert '[door]\npin = 23\nactive = "low"\nseconds = 3\nobeys = ["office"]\n' in text


def test_the_bridge_to_home_assistant(run, boot, tmp_path):
    """Where its broker is and who rings; what is missing, or for another role, is named."""
    (tmp_path / "mqtt").write_text("battery staple\n")
    role = ("--role", "homeassistant")
    code, said = run(*role)
    assert (code, "--ha-broker mqtt://homeassistant.local" in said) == (2, True)
    code, said = run("--door", "front-door")
    assert (code, "--role homeassistant" in said) == (2, True)
    more = ("--ha-broker", "mqtt://ha.local", "--ha-username", "bellwire", "--door", "gate",
            "--ha-secret-file", str(tmp_path / "mqtt"))  # fmt: skip
    code, said = run(*role, *more)
    assert code == 0, said
    text = tomllib.loads((boot / "bellwire" / "homeassistant.toml").read_text())
    assert text["mqtt"] == {
        "broker": "mqtt://ha.local", "username": "bellwire", "secret_file": "mqtt-secret",
    }  # fmt: skip
    assert text["door"] == [{"peer": "gate"}]
    assert (boot / "bellwire" / "mqtt-secret").read_text() == "battery staple\n"
    assert (boot / "bellwire" / "bellwire-homeassistant.service").exists()


def test_each_node_of_a_cluster_is_in_the_settings(run, boot):
    """One broker is a text, several are a list; one that does not fit is named."""
    assert run("--broker", "mqtts://b.local", "--broker", "wss://c.local")[0] == 0
    account = tomllib.loads((boot / "bellwire" / "doorbell.toml").read_text())["account"]
    assert account["broker"] == ["mqtts://broker.local:8883", "mqtts://b.local", "wss://c.local"]
    code, out = run("--broker", "mqtts://broker.local")
    assert code == 2
    assert "mqtts://broker.local:8883 is there twice (number 2)" in out


def test_a_card_whose_broker_dns_names(run, boot, tmp_path):
    """What looks it up is installed with the rest, and missed before anything is written."""
    domain = ("--broker", "mqtts+srv://bell.example")
    code, out = run(*domain, without=("--broker",))
    assert code == 2
    assert "no wheel of dnspython" in out
    assert "--extra srv`" in out
    assert tree(boot).keys() == {"cmdline.txt", "config.txt", *TOLD_AT_FIRST}
    (tmp_path / "wheels" / "dnspython-2.9.2-py3-none-any.whl").write_bytes(b"")
    code, out = run(*domain, without=("--broker",))
    assert code == 0, out
    account = tomllib.loads((boot / "bellwire" / "doorbell.toml").read_text())["account"]
    assert account["broker"] == "mqtts+srv://bell.example"
    assert "\nextra=pi,srv\n" in (boot / "bellwire" / "install.sh").read_text()


@pytest.mark.parametrize(
    ("settings", "extra", "wheel"),
    [
        ('[metrics]\nlisten = "9884"\n', "metrics", "prometheus_client"),
        ('[on.missed]\nnotify = ["json://192.0.2.1"]\n', "notify", "apprise"),
    ],
)
def test_a_card_whose_settings_need_more(run, boot, tmp_path, settings, extra, wheel):
    """What serves figures, or tells a phone, is installed with the rest, too."""
    (tmp_path / "own.toml").write_text(settings)
    own = ("--role", "panel", "--settings", str(tmp_path / "own.toml"))
    code, out = run(*own)
    assert code == 2
    assert f"no wheel of {wheel}" in out
    assert f"--extra {extra}`" in out
    (tmp_path / "wheels" / f"{wheel}-1.0-py3-none-any.whl").write_bytes(b"")
    code, out = run(*own)
    assert code == 0, out
    assert f"\nextra=pi,{extra}\n" in (boot / "bellwire" / "install.sh").read_text()


def wifi(tmp_path: Path) -> tuple[str, ...]:
    password = str(tmp_path / "wifi")
    return ("--wifi-ssid", 'Haus "7"', "--wifi-password-file", password, "--wifi-country", "DE")


def test_a_trixie_card_gets_cloud_init(run, boot):
    code, out = run()
    assert code == 0, out
    user = (boot / "user-data").read_text()
    assert user.startswith("#cloud-config\n")
    assert '"/boot/firmware/bellwire/install.sh"' in user
    assert "instance-id: bellwire-" in (boot / "meta-data").read_text()
    ours = tree(boot / "bellwire")
    assert ours["secret"] == b"swordfish\n"
    settings = tomllib.loads(ours["doorbell.toml"].decode())
    assert settings["account"] == {
        "peer": "front-door",
        "broker": "mqtts://broker.local:8883",
        "secret_file": "secret",
        "ca_file": "ca.pem",
    }
    fitting = {name.removeprefix("wheels/") for name in ours if name.startswith("wheels/")}
    assert "cbor2-6.3.0-cp313-cp313-manylinux_2_28_aarch64.whl" in fitting
    assert not any("x86_64" in name for name in fitting)
    assert (boot / "cmdline.txt").read_text() == CMDLINE


@pytest.mark.skipif(shutil.which("cloud-init") is None, reason="needs Debian's cloud-init")
@pytest.mark.parametrize("with_wifi", [False, True])
def test_cloud_init_itself_takes_what_is_written(run, boot, tmp_path, with_wifi):
    code, out = run(*(wifi(tmp_path) if with_wifi else ()))
    assert code == 0, out
    done = subprocess.run(
        ["cloud-init", "schema", "--config-file", str(boot / "user-data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Valid" in done.stdout + done.stderr


@pytest.mark.parametrize("form", list(Format))
def test_wifi_and_hostname_reach_every_format(run, boot, tmp_path, form):
    code, out = run("--format", form, "--hostname", "tuer-1", *wifi(tmp_path), "--python", "3.13")
    assert code == 0, out
    if form is Format.CLOUD_INIT:
        lines = (boot / "network-config").read_text().splitlines()
        network = json.loads(lines[1].removeprefix("network: "))
        point = network["wifis"]["wlan0"]["access-points"]
        assert point == {'Haus "7"': {"password": "correct horse"}}
        assert network["wifis"]["wlan0"]["regulatory-domain"] == "DE"
        assert 'hostname: "tuer-1"' in (boot / "user-data").read_text()
    elif form is Format.PRESEED:
        preseed = tomllib.loads((boot / "rpi-preseed.toml").read_text())
        assert preseed["config_version"].startswith("1.")
        assert preseed["system"] == {"hostname": "tuer-1"}
        assert preseed["wlan"]["ssid"] == 'Haus "7"'
        assert preseed["runcmd"]["late"] == ["sh /boot/firmware/bellwire/install.sh"]
        assert preseed["runcmd"]["late_require_time_sync"] is False
    else:
        script = (boot / "firstrun.sh").read_text()
        assert "ssid='Haus \"7\"'" in script
        assert "hostname=tuer-1" in script
        assert "systemd.run=/boot/firmware/firstrun.sh" in (boot / "cmdline.txt").read_text()


SIP = ("--role", "sip", "--online", "--sip-uri", "sip:kitchen@192.168.1.20")


def test_a_sip_phone_and_the_baresip_beside_it(run, boot, tmp_path):
    """Baresip's control is where the settings say, its account that of the telephone system."""
    assert run(*SIP, "--sip-open-key", "9", "--hostname", "door-1")[0] == 0
    made = boot / "bellwire"
    settings = tomllib.loads((made / "sip.toml").read_text())
    assert settings["sip"] == {"uri": "sip:kitchen@192.168.1.20", "open_key": "9"}
    assert (made / "baresip/accounts").read_text() == "<sip:front-door@door-1.local>;regint=0\n"
    assert re.search(
        r"(?m)^ctrl_tcp_listen +127.0.0.1:4444$", (made / "baresip/config").read_text()
    )
    assert "beside='secret ca.pem'" in (made / "install.sh").read_text(), (
        "the door's password is not"
    )
    (tmp_path / "own.toml").write_text('[sip]\nuri = "sip:a@b"\ncontrol = "127.0.0.1:4555"\n')
    (tmp_path / "accounts").write_text("<sip:door@fritz.box>;auth_pass=x\n")
    code, out = run(
        "--role", "sip", "--online", "--settings", str(tmp_path / "own.toml"),
        "--sip-accounts-file", str(tmp_path / "accounts"),
    )  # fmt: skip
    assert code == 0, out
    assert (made / "baresip/accounts").read_text() == "<sip:door@fritz.box>;auth_pass=x\n"
    assert "127.0.0.1:4555" in (made / "baresip/config").read_text()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--role", "sip", "--online"), "--sip-uri sip:kitchen@192.168.1.20"),
        (SIP[:2] + SIP[3:], "--role sip needs --online"),
        ((*SIP, "--sip-accounts-file", "SECRET"), "no line of it is an account"),
        ((*SIP, "--sip-open-key", "99"), "sip.open_key: expected one key of a phone"),
        ((*SIP[:3], "--sip-uri", "kitchen"), "sip.uri: expected the phone"),
        ((*SIP, "--settings", "SECRET"), "--sip-uri: the settings of --settings say it in [sip]"),
        (SIP[3:], "--sip-uri is for a SIP phone: --role sip"),
        ((*SIP, "--door-pin", "4"), "--door-pin is for a doorbell"),
    ],
)
def test_a_sip_phone_that_cannot_be_is_refused_and_nothing_written(run, boot, tmp_path, more, says):
    before = tree(boot)
    code, out = run(*(str(tmp_path / "secret") if word == "SECRET" else word for word in more))
    assert (code, says in out, out) == (2, True, out)
    assert tree(boot) == before


def test_the_bridges_secret_reaches_its_service(run, boot, tmp_path):
    """What is beside the settings is what the first boot hands over, the MQTT broker's too."""
    code, out = run(
        "--role", "homeassistant", "--ha-broker", "mqtts://ha.local", "--ha-username", "bellwire",
        "--ha-secret-file", str(tmp_path / "secret"), "--ha-ca-file", str(tmp_path / "ca.crt"),
        "--door", "gate",
    )  # fmt: skip
    assert code == 0, out
    script = (boot / "bellwire" / "install.sh").read_text()
    assert "beside='secret ca.pem mqtt-secret mqtt-ca.pem'" in script
    assert "for name in $beside; do" in script


def test_a_page_in_own_settings_says_where_it_is(run, boot, tmp_path):
    (tmp_path / "own.toml").write_text('[web]\npeers = ["front-door"]\n')
    before = tree(boot)
    code, out = run(
        "--role", "panel", "--peer", "kitchen", "--settings", str(tmp_path / "own.toml")
    )
    assert (code, 'no page is served: say where, such as listen = "8080"' in out) == (2, True)
    assert tree(boot) == before


def test_the_first_boot_hands_over_what_lies_on_the_card(run, boot, tmp_path):
    """The script's own lines: unit and credentials, of each role."""
    for role, names in (
        ("doorbell", ["secret", "ca.pem"]),
        ("page", ["secret", "ca.pem", "web-pin"]),
        ("homeassistant", ["secret", "ca.pem", "mqtt-secret"]),
        ("sip", ["secret", "ca.pem"]),
    ):
        more = options_of(role, tmp_path)
        assert run(*more)[0] == 0
        here, units = boot / "bellwire", tmp_path / "units"
        units.mkdir(exist_ok=True)
        script = (here / "install.sh").read_text()
        given = "\n".join(re.findall(r"(?m)^(?:role|beside|unit)=.*$", script))
        start = script.index('install -m 0644 "$here/$unit"')
        lines = script[start : script.index("\n\n", start)]
        subprocess.run(["sh", "-euc", f"here={here}\nunits={units}\n{given}\n{lines}"], check=True)
        (conf,) = units.glob(f"bellwire-{'panel' if role == 'page' else role}.service.d/*")
        assert conf.read_text().splitlines() == [
            "[Service]", *(f"LoadCredential={name}:{here}/{name}" for name in names)
        ]  # fmt: skip


def options_of(role: str, folder: Path) -> tuple[str, ...]:
    """What ``provision`` takes for a card of that role, and the files that it names."""
    (folder / "pin").write_text("314159\n")
    (folder / "id.pub").write_text("ssh-ed25519 AAAA me\n")
    for name in ("starlette-1.0-py3-none-any.whl", "uvicorn-1.0-py3-none-any.whl"):
        (folder / "wheels" / name).write_bytes(b"wheel")
    return {
        "doorbell": ("--door-pin", "23"),
        "panel": ("--role", "panel"),
        "page": ("--role", "panel", "--web", "8080", "--web-pin-file", str(folder / "pin")),
        "homeassistant": (
            "--role", "homeassistant", "--ha-broker", "mqtt://ha.local", "--door", "gate",
            "--ha-username", "bellwire", "--ha-secret-file", str(folder / "pin"),
        ),
        "sip": SIP,
        "broker": ("--broker-role", "--ssh-key", str(folder / "id.pub")),
    }[role]  # fmt: skip


def test_what_cloud_init_is_given_is_the_same_whatever_the_role(run, boot, tmp_path):
    """So what its own schema says of one card it says of all."""
    given = set()
    for role in ("doorbell", "panel", "page", "homeassistant", "sip"):
        assert run(*options_of(role, tmp_path))[0] == 0
        given.add((boot / "user-data").read_text())
    assert len(given) == 1


@pytest.mark.parametrize("role", ["doorbell", "panel", "page", "homeassistant", "sip", "broker"])
def test_the_scripts_are_clean_shell(run, boot, tmp_path, role):
    more = options_of(role, tmp_path)
    code, out = run("--format", "firstrun", "--python", "3.13", *wifi(tmp_path), *more)
    assert code == 0, out
    scripts = [boot / "firstrun.sh", *(boot / "bellwire").glob("*.sh")]
    assert len(scripts) == (3 if role in ("broker", "sip") else 2)
    for script in scripts:
        assert "@" not in script.read_text().replace("@MARK@", "x").split("set -", 1)[0]
        subprocess.run(["sh", "-n", str(script)], check=True)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", str(script)], check=True)


def test_firstrun_undoes_its_kernel_arguments(run, boot):
    code, out = run("--format", "firstrun", "--python", "3.13")
    assert code == 0, out
    # The script's own last act, on a copy whose paths are ours.
    script = (boot / "firstrun.sh").read_text()
    tail = script[script.index('rm -f "$boot/firstrun.sh"') :]
    subprocess.run(["sh", "-c", f"boot={boot}\n{tail}"], check=True)
    assert (boot / "cmdline.txt").read_text() == CMDLINE
    assert not (boot / "firstrun.sh").exists()


@pytest.mark.parametrize("form", list(Format))
def test_run_twice_gives_the_same(run, boot, form):
    options = ("--format", form, "--python", "3.13")
    assert run(*options)[0] == 0
    first = tree(boot)
    code, out = run(*options)
    assert (code, tree(boot)) == (0, first)
    assert "0 file(s) changed" in out


def test_what_an_earlier_run_left_is_replaced(run, boot):
    assert run()[0] == 0
    before = (boot / "meta-data").read_text()
    assert run("--role", "panel", "--peer", "kitchen")[0] == 0
    ours = tree(boot / "bellwire")
    assert "doorbell.toml" not in ours
    assert "bellwire-panel.service" in ours
    assert (boot / "meta-data").read_text() != before, "cloud-init is to act anew"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("user-data", "#cloud-config\nhostname: somebody\n"),
        ("network-config", "network:\n  version: 2\n  wifis: {}\n"),
    ],
)
def test_a_foreign_file_is_refused_and_nothing_written(run, boot, name, text):
    (boot / name).write_text(text)
    before = tree(boot)
    code, out = run()
    assert code == 2
    assert f"{boot / name} was written by somebody else" in out
    assert "move it away" in out
    assert tree(boot) == before


def test_a_foreign_first_boot_script_is_refused(run, boot):
    (boot / "cmdline.txt").write_text(CMDLINE.strip() + " systemd.run=/boot/other.sh\n")
    before = tree(boot)
    code, out = run("--format", "firstrun", "--python", "3.13")
    assert (code, tree(boot)) == (2, before)
    assert "already runs /boot/other.sh" in out


@pytest.mark.parametrize(
    ("without", "more", "says"),
    [
        (("--peer",), (), "--peer is missing"),
        (("--broker",), (), "--broker is missing"),
        (("--secret-file",), (), "--secret-file is missing"),
        ((), ("--secret-file", "nowhere"), "no such file"),
        (("--wheels",), (), "--wheels DIR"),
        ((), ("--wheels", "nowhere"), "no such directory"),
        ((), ("--python", "3.11", "--role", "panel", "--arch", "armv7l"), ""),
        ((), ("--peer", "a" * 65), "--peer"),
        ((), ("--broker", "http://x"), "expected a broker"),
        ((), ("--hostname", "a_b"), "--hostname"),
        ((), ("--wifi-ssid", "Haus"), "--wifi-password-file"),
        ((), ("--settings", "nowhere.toml"), "no such file"),
    ],
)
def test_refusals_say_what_to_do_and_write_nothing(run, boot, without, more, says):
    before = tree(boot)
    code, out = run(*more, without=without)
    if not says:
        assert code == 0, out  # cbor2 5.9.0 has a pure wheel: 32-bit is served
        return
    assert (code, tree(boot)) == (2, before)
    assert says in out


def test_a_missing_wheel_is_named_with_the_command(run, boot, tmp_path):
    (tmp_path / "wheels" / "paho_mqtt-2.2.0-py3-none-any.whl").unlink()
    code, out = run()
    assert code == 2
    assert "no wheel of paho_mqtt for Python 3.13 on aarch64" in out
    assert "bellwire wheels" in out
    assert not (boot / "bellwire").exists()


def test_the_command_for_a_broker_s_wheels_gathers_those(tmp_path):
    """Without its role it would gather a doorbell's, and be asked for again."""
    (tmp_path / "bellwire-0.1.0-py3-none-any.whl").touch()
    with pytest.raises(ProvisionError, match=r"`bellwire wheels .*\.whl --role broker --python"):
        wheels.read(tmp_path, "broker", wheels.WheelTarget(), online=False)


@pytest.mark.parametrize(
    ("data", "says"), [(None, "Is a directory"), (b"{}", "devices.json is damaged")]
)
def test_a_brokers_directory_that_cannot_be_used(run, boot, tmp_path, data, says):
    """Before anything is written to the card."""
    folder = tmp_path / "broker"
    (folder / "tls").mkdir(parents=True)
    for name in ("broker.toml", "tls/ca.crt", "tls/server.crt", "tls/server.key"):
        (folder / name).write_bytes(b"")
    if data is None:
        (folder / "devices.json").mkdir()
    else:
        (folder / "devices.json").write_bytes(data)
    before = tree(boot)
    code, out = run("--broker-role", "--broker-dir", str(folder))
    assert (code, tree(boot)) == (2, before)
    assert says in out


def test_what_pip_cannot_find_is_told(tmp_path, capsys, monkeypatch):
    """With pip's own words above; and a wheel of ours that is not there, with how it is made."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    own = tmp_path / "bellwire-0.1.0-py3-none-any.whl"
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())
    args = parser.parse_args(["wheels", str(tmp_path / "wheels"), "--bellwire", str(own)])
    assert args.run(args) == 2
    assert "pip wheel --no-deps -w dist ." in capsys.readouterr().err
    own.write_bytes(b"no wheel")
    assert args.run(args) == 2
    assert "pip found no wheels for Python 3.13 on aarch64" in capsys.readouterr().err


def test_a_card_that_is_not_there_is_refused(run, boot):
    shutil.rmtree(boot)
    code, out = run()
    assert code == 2
    assert "there is no such directory; put the freshly flashed card in" in out


def test_no_boot_partition_is_refused(run, boot):
    (boot / "config.txt").unlink()
    code, out = run()
    assert code == 2
    assert "no boot partition of Raspberry Pi OS" in out


def test_a_failing_card_is_left_as_it_was(run, boot, monkeypatch):
    assert run()[0] == 0
    before = tree(boot)
    real, calls = Path.replace, []

    def replace(self, target):
        calls.append(self)
        if len(calls) == 7:
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    code, out = run("--role", "panel", "--peer", "kitchen")
    monkeypatch.undo()
    assert code == 2
    assert "the card is as it was" in out
    assert {k: v for k, v in tree(boot).items() if not k.startswith(".bellwire-old")} == before


def test_a_full_card_is_refused(run, boot, monkeypatch):
    monkeypatch.setattr(card.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1))
    before = tree(boot)
    code, out = run()
    assert (code, tree(boot)) == (2, before)
    assert "are free" in out


def test_own_settings_keep_their_pins(run, boot, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        '[account]\npeer = "x"\nbroker = "mqtt://y"\n[[button]]\npin = 4\nrings = ["office"]\n'
    )
    assert run("--settings", str(own))[0] == 0
    settings = tomllib.loads((boot / "bellwire" / "doorbell.toml").read_text())
    assert settings["account"]["peer"] == "front-door"
    assert settings["button"][0]["pin"] == 4


def test_own_settings_with_a_mistake_are_refused(run, boot, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text("[[button]]\npin = 4\nring = ['office']\n")
    before = tree(boot)
    code, out = run("--settings", str(own))
    assert (code, tree(boot)) == (2, before)
    assert "button.rings: missing" in out


@pytest.mark.parametrize(
    ("wheel", "python", "arch", "fits"),
    [
        ("cbor2-6.3.0-cp313-cp313-manylinux_2_28_aarch64.whl", "3.13", "aarch64", True),
        ("cbor2-6.3.0-cp313-cp313-manylinux_2_28_aarch64.whl", "3.11", "aarch64", False),
        ("cbor2-5.9.0-py3-none-any.whl", "3.11", "armv6l", True),
        ("psutil-7.2.2-cp36-abi3-manylinux2014_aarch64.whl", "3.13", "aarch64", True),
        ("x-1-cp313-cp313-manylinux_2_42_aarch64.whl", "3.13", "aarch64", False),
        ("x-1-cp311-cp311-manylinux_2_41_aarch64.whl", "3.11", "aarch64", False),
        ("colorzero-2.0-py2.py3-none-any.whl", "3.11", "armv7l", True),
        ("not-a-wheel.whl", "3.11", "armv7l", False),
    ],
)
def test_which_wheels_fit(wheel, python, arch, fits):
    assert wheels.WheelTarget(python, wheels.Arch(arch)).fits(wheel) is fits


def test_wheels_without_our_own_says_how_to_make_it(tmp_path):
    with pytest.raises(ProvisionError, match="pip wheel --no-deps"):
        wheels.download(tmp_path, tmp_path / "none.whl", "doorbell", wheels.WheelTarget())


# --- what people's files and networks are like -------------------------------------------------

BOM = b"\xef\xbb\xbf"
EMOJI = ("📶 Zuhause", "🔑🔑 schlüssel")


def read_back(boot: Path, form: Format) -> tuple[str, str]:
    """Name and password (or key) of the WiFi, as the card says them."""
    if form is Format.CLOUD_INIT:
        line = (boot / "network-config").read_text("utf-8").splitlines()[1]
        assert "\\ud8" not in line, "JSON's surrogates are no YAML"
        network = json.loads(line.removeprefix("network: "))
        ((name, point),) = network["wifis"]["wlan0"]["access-points"].items()
        return name, point.get("password", "")
    if form is Format.PRESEED:
        wlan = tomllib.loads((boot / "rpi-preseed.toml").read_text("utf-8"))["wlan"]
        return wlan["ssid"], wlan.get("password", "")
    lines = (boot / "firstrun.sh").read_text("utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if line.startswith(("ssid=", "psk=")))
    return shlex.split(values["ssid"])[0], shlex.split(values["psk"])[0]


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("secret", [EMOJI[1].encode() + b"\n", BOM + EMOJI[1].encode() + b" \r\n"])
def test_a_wifi_with_emoji_is_told_as_it_is(run, boot, tmp_path, form, secret):
    """Whatever editor wrote its password; only cloud-init is told that itself, others its key."""
    (tmp_path / "wifi").write_bytes(secret)
    more = wifi(tmp_path)[2:]
    code, out = run("--wifi-ssid", EMOJI[0], *more, "--format", form, "--python", "3.13")
    assert code == 0, out
    name, password = read_back(boot, form)
    key = hashlib.pbkdf2_hmac("sha1", EMOJI[1].encode(), EMOJI[0].encode(), 4096, 32).hex()
    assert (name, password) == (EMOJI[0], EMOJI[1] if form is Format.CLOUD_INIT else key)


@pytest.mark.parametrize("form", list(Format))
def test_open_and_hidden_networks_and_keys(run, boot, tmp_path, form):
    options = ("--format", form, "--python", "3.13", "--wifi-ssid", "Haus", "--wifi-country", "DE")
    assert run(*options, "--wifi-open", "--wifi-hidden")[0] == 0
    assert read_back(boot, form) == ("Haus", "")
    written = b"\n".join(tree(boot).values())
    assert any(word in written for word in (b'"hidden": true', b"hidden=1", b"hidden = true"))
    key = "0123456789ABCDEF" * 4
    (tmp_path / "wifi").write_text(key)
    assert run(*options, "--wifi-password-file", str(tmp_path / "wifi"))[0] == 0
    assert read_back(boot, form)[1].upper() == key


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--wifi-ssid", "Haus", "--wifi-country", "DE"), "or --wifi-open"),
        (("--wifi-open",), "--wifi-open needs --wifi-ssid"),
        (("--wifi-ssid", "a\nb", "--wifi-open", "--wifi-country", "DE"), "--wifi-ssid: 1 to 32"),
        (("--wifi-ssid", "x" * 33, "--wifi-open", "--wifi-country", "DE"), "--wifi-ssid: 1 to 32"),
        (("--timezone", "Berlin"), "--timezone 'Berlin': there is no such time zone"),
        (("--timezone", "../etc/passwd"), "no such time zone"),
        (("--rings", "front-door"), "is this doorbell itself"),
        (("--door-pin", "17"), "used twice"),
        (("--door-pin", "23", "--role", "panel"), "--door-pin is for a doorbell"),
        (("--broker", "mqtt://broker.local"), "not encrypted: say mqtts://"),
        (("--wifi-ssid", "H", "--wifi-open", "--wifi-country", "de"), "two capital letters"),
        (
            (
                "--wifi-ssid",
                "H",
                "--wifi-open",
                "--wifi-country",
                "DE",
                "--wifi-password-file",
                "x",
            ),
            "leave --wifi-password-file out",
        ),
        (("--broker-dir", "x"), "--broker-dir is for the broker's Pi: --broker-role"),
        (("--broker-role", "--broker-dir", "x"), "bellwire-broker init x"),
        (("--broker-role",), "nobody could add a device on this Pi"),
        (("--cert-file", "x"), "--cert-file x: there is no such file"),
        (("--ssh-key", "x"), "--ssh-key x: there is no such file"),
    ],
)
def test_what_cannot_work_is_refused(run, boot, more, says):
    before = tree(boot)
    code, out = run(*more)
    assert (code, tree(boot)) == (2, before)
    assert says in out


@pytest.mark.parametrize(
    ("option", "data", "says"),
    [
        ("--secret-file", "geheim".encode("utf-16"), "this is UTF-16; save it as UTF-8"),
        ("--secret-file", b"\r\n", "first line is empty"),
        ("--ca-file", b"-----BEGIN CERTIFICATE-----\n", "--ca-file: "),
        ("--settings", b"[[button]]\npin = 99\nrings = 'kitchen'\n", "pin 99 is on no Raspberry"),
        ("--settings", b"[[button]]\npin = 9\nrings = 'k'\ncontent = 2026-01-01\n", "a date"),
        ("--wifi-password-file", b"short\n", "8 to 63 bytes"),
    ],
)
def test_a_file_that_cannot_work_is_refused(run, boot, tmp_path, option, data, says):
    """Now, and not by the device at its first press."""
    (tmp_path / "own").write_bytes(data)
    before = tree(boot)
    more = ("--wifi-ssid", "Haus", "--wifi-country", "DE") if "wifi" in option else ()
    code, out = run(option, str(tmp_path / "own"), *more)
    assert (code, tree(boot)) == (2, before)
    assert says in out


def test_files_of_notepad_are_taken(run, boot, tmp_path):
    """Byte order marks and CRLF; a date in its own account table hurts nobody."""
    (tmp_path / "own").write_bytes(
        BOM + b'[account]\r\npeer = "x"\r\n[[button]]\r\npin = 4\r\nrings = ["office"]\r\n'
    )
    (tmp_path / "secret").write_bytes(BOM + b"swordfish\r\n")
    code, out = run("--settings", str(tmp_path / "own"))
    assert code == 0, out
    ours = tree(boot / "bellwire")
    assert ours["secret"] == b"swordfish\n"
    assert tomllib.loads(ours["doorbell.toml"].decode())["button"] == [
        {"pin": 4, "rings": ["office"]}
    ]


@pytest.mark.parametrize("form", list(Format))
def test_the_card_has_a_time_zone(run, boot, form, monkeypatch):
    """The named one, by default this machine's: quiet hours are local time."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    code, out = run("--format", form, "--python", "3.13")
    assert code == 0, out
    assert "time zone: Pacific/Auckland" in out
    assert "timezone=Pacific/Auckland" in (boot / "bellwire" / "install.sh").read_text()
    assert run("--format", form, "--python", "3.13", "--timezone", "Europe/Berlin")[0] == 0
    assert "timezone=Europe/Berlin" in (boot / "bellwire" / "install.sh").read_text()


def test_where_a_machine_tells_its_time_zone(tmp_path):
    (tmp_path / "etc").mkdir()
    assert local_timezone(tmp_path, {}) is None
    (tmp_path / "etc" / "timezone").write_text("Europe/Berlin\n")
    assert local_timezone(tmp_path, {}) == "Europe/Berlin"
    (tmp_path / "etc" / "localtime").symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    assert local_timezone(tmp_path, {}) == "Asia/Tokyo"
    assert local_timezone(tmp_path, {"TZ": ":/etc/localtime"}) == "Asia/Tokyo"
    assert local_timezone(tmp_path, {"TZ": "America/Lima"}) == "America/Lima"
    assert re.search(r" \(\S+, UTC[+-]\d\d:\d\d\)$", described())


def test_the_wifi_password_does_not_stay_on_the_card(run, boot, tmp_path):
    """Once it is installed the key that is made of it stands there: the script's own line."""
    (tmp_path / "wifi").write_text('a "quoted" \\ 🔑\n')
    assert run(*wifi(tmp_path))[0] == 0
    script = (boot / "bellwire" / "install.sh").read_text()
    start = script.index("network=$(dirname")
    psk = next(line for line in script.splitlines() if line.startswith("psk="))
    lines = script[start : script.index("\nfi\n", start) + 4]
    subprocess.run(["sh", "-euc", f"here={boot}/bellwire\n{psk}\n{lines}"], check=True)
    name, password = read_back(boot, Format.CLOUD_INIT)
    assert name == 'Haus "7"'
    assert re.fullmatch("[0-9a-f]{64}", password)
    assert b"quoted" not in b"".join(tree(boot).values())


def test_a_device_with_a_certificate(run, boot, tmp_path):
    """It needs no secret; certificate and key lie beside the settings, and are tried before."""
    authority = Authority(tmp_path, "devices")
    pem, key = authority.sign("front-door")
    files = ("--cert-file", str(pem), "--key-file", str(key))
    code, out = run(*files, without=("--secret-file",))
    assert code == 0, out
    ours = tree(boot / "bellwire")
    account = tomllib.loads(ours["doorbell.toml"].decode())["account"]
    assert (account["cert_file"], account["key_file"]) == ("cert.pem", "key.pem")
    assert "secret_file" not in account
    assert {"cert.pem", "key.pem", "ca.pem"} <= set(ours)
    before = tree(boot)
    code, out = run("--cert-file", str(pem), without=("--secret-file",))
    assert (code, tree(boot)) == (2, before)
    assert "--cert-file: " in out


def test_a_panel_with_a_page(run, boot, tmp_path):
    """Its PIN and certificate are beside the settings, systemd hands them over, its extra is in."""
    (tmp_path / "pin").write_text("314159\n")
    page = ("--role", "panel", "--peer", "kitchen", "--web", "8080")
    code, out = run(*page, "--web-pin-file", str(tmp_path / "pin"))
    assert code == 2
    assert "no wheel of starlette" in out
    assert "--extra web" in out
    for name in ("starlette-1.0.0-py3-none-any.whl", "uvicorn-0.40.0-py3-none-any.whl"):
        (tmp_path / "wheels" / name).write_bytes(b"wheel")
    assert run(*page, "--web-pin-file", str(tmp_path / "pin"))[0] == 0
    settings = tomllib.loads((boot / "bellwire" / "panel.toml").read_text())
    assert settings["web"] == {"listen": "0.0.0.0:8080", "pin_file": "web-pin"}
    assert (boot / "bellwire" / "web-pin").read_text() == "314159\n"
    script = (boot / "bellwire" / "install.sh").read_text()
    assert "beside='secret ca.pem web-pin'" in script
    assert "extra=pi,web\n" in script


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--web", "8080"), "--web is for a panel: --role panel"),
        (("--role", "panel", "--web", "8080"), "can be reached from elsewhere"),
        (("--role", "panel", "--web", "eighty"), "--web: expected [HOST:]PORT"),
        (("--role", "panel", "--web-pin-file", "PIN"), "--web-pin-file is for a page: --web 8080"),
        (
            ("--role", "panel", "--web", "8080", "--web-pin-file", "SHORT"),
            "at least 6 characters",
        ),
        (
            ("--role", "panel", "--web", "8080", "--settings", "OWN", "--web-pin-file", "PIN"),
            "have [web] already",
        ),
    ],
)
def test_a_page_that_cannot_be_is_refused_and_nothing_written(run, boot, tmp_path, more, says):
    (tmp_path / "PIN").write_text("314159\n")
    (tmp_path / "SHORT").write_text("31\n")
    (tmp_path / "OWN").write_text('[web]\nlisten = "127.0.0.1:1"\n')
    before = tree(boot)
    files = {"PIN", "SHORT", "OWN"}
    code, out = run(*(str(tmp_path / word) if word in files else word for word in more))
    assert code == 2
    assert says in out
    assert tree(boot) == before
