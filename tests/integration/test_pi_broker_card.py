"""The broker's own Pi: a directory made on a laptop goes onto its card, and is changed there."""

from __future__ import annotations

import getpass
import subprocess
import sys
from pathlib import Path

import pytest

from broker_config import cli as broker_cli
from broker_config.access import pki
from broker_config.admin import setup as broker_setup
from device_sdk.cli import main as bellwire

WHEELS = ("bellwire-0.1.0-py3-none-any.whl",)


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    """A freshly flashed card's boot partition, and the directory of wheels beside it."""
    path = tmp_path / "bootfs"
    path.mkdir()
    (path / "cmdline.txt").write_text("console=tty1 root=PARTUUID=1234-02 rootwait\n")
    (path / "config.txt").write_text("arm_64bit=1\n")
    (path / "user-data").write_text("#cloud-config\n")
    (path / "meta-data").write_text("dsmode: local\ninstance_id: rpios-image\n")
    (path / "network-config").write_text("# Network settings\n")
    (tmp_path / "wheels").mkdir()
    for name in WHEELS:
        (tmp_path / "wheels" / name).write_bytes(b"wheel")
    (tmp_path / "id.pub").write_text("ssh-ed25519 AAAA me\n")
    return path


def provision(boot: Path, *more: str) -> int:
    wheels = ("--online", "--wheels", str(boot.parent / "wheels"))
    return bellwire(
        ["provision", str(boot), "--broker-role", "--hostname", "broker", *wheels, *more]
    )


def install(boot: Path, state: Path) -> None:
    """What `install.sh` does with it at the first boot."""
    program = str(Path(sys.executable).with_name("bellwire-broker"))
    card = boot / "bellwire"
    state.mkdir(exist_ok=True)
    subprocess.run(
        ["sh", str(card / "broker.sh"), str(card), str(state), program, getpass.getuser()],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip


def test_a_directory_made_on_the_laptop_serves_on_the_pi(boot: Path, tmp_path: Path) -> None:
    """Its devices and its authority go along, its keys leave the card; once only."""
    laptop, state = tmp_path / "laptop", tmp_path / "state"
    assert broker_cli.main(["init", str(laptop), "--name", "broker.local"]) == 0
    broker_setup.add(laptop, "front-door", may_call=("kitchen",))
    broker_setup.add(laptop, "kitchen", certificate=True)
    assert provision(boot, "--broker-dir", str(laptop)) == 0
    assert not list((boot / "bellwire").rglob("kitchen*")), "a device's key is the device's"
    install(boot, state)
    assert broker_setup.devices(state) == broker_setup.devices(laptop)
    for name in ("tls/ca.crt", "tls/ca.key", "broker.toml"):
        assert (state / name).read_bytes() == (laptop / name).read_bytes()
        assert (state / name).stat().st_mode & 0o077 == 0
    names = pki.extra_names(state / "tls" / "server.crt")
    assert {"broker.local", *pki.host_names()} <= set(names)
    assert not (boot / "bellwire" / "broker").exists()
    assert (boot / "bellwire" / "ca.crt").read_bytes() == (laptop / "tls" / "ca.crt").read_bytes()

    # What was changed on the Pi since is not lost by another provisioning.
    broker_setup.add(state, "study")
    assert provision(boot, "--broker-dir", str(laptop)) == 0
    install(boot, state)
    assert [device.name for device in broker_setup.devices(state)] == [
        "front-door",
        "kitchen",
        "study",
    ]
    assert not (boot / "bellwire" / "broker").exists()


def test_without_a_directory_it_makes_its_own(boot: Path, tmp_path: Path) -> None:
    """Then the card says what devices need, and the key lets somebody in to add them."""
    state = tmp_path / "state"
    assert provision(boot, "--ssh-key", str(tmp_path / "id.pub")) == 0
    install(boot, state)
    assert broker_setup.devices(state) == []
    assert (boot / "bellwire" / "ca.crt").read_bytes() == (state / "tls" / "ca.crt").read_bytes()


def test_a_power_cut_in_the_middle_costs_a_boot(boot: Path, tmp_path: Path) -> None:
    laptop, state = tmp_path / "laptop", tmp_path / "state"
    broker_setup.init(laptop)
    broker_setup.add(laptop, "front-door")
    assert provision(boot, "--broker-dir", str(laptop)) == 0
    (state / "tls").mkdir(parents=True)
    (state / "tls" / "ca.key").write_bytes(b"half")
    install(boot, state)
    assert broker_setup.devices(state) == broker_setup.devices(laptop)
    assert (state / "tls" / "ca.key").read_bytes() == (laptop / "tls" / "ca.key").read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "nobody could add a device"),
        (("--broker-dir", "{}/nowhere"), "bellwire-broker init"),
        (("--broker-dir", "{}/empty"), "no device is registered"),
        (("--broker-dir", "{}/damaged"), "devices.json is damaged"),
    ],
)
def test_a_card_that_nobody_could_administer_is_not_made(
    boot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...], told: str,
) -> None:  # fmt: skip
    broker_setup.init(tmp_path / "empty")
    broker_setup.init(tmp_path / "damaged")
    (tmp_path / "damaged" / "devices.json").write_text("[]")
    before = sorted(boot.rglob("*"))
    assert provision(boot, *(each.format(tmp_path) for each in options)) == 2
    assert told in capsys.readouterr().err
    assert sorted(boot.rglob("*")) == before
