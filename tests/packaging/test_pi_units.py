"""The systemd units: accepted by systemd, hardened, and shipped in the package."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from device_sdk.services.roles import SERVICES

UNITS = sorted(
    Path(str(path))
    for path in resources.files("device_sdk.services.provision").joinpath("units").iterdir()
    if path.name.endswith(".service")
)
#: Beside them, on a SIP phone's card.
BARESIP = Path(
    str(resources.files("device_sdk.services.provision").joinpath("baresip"))
) / "bellwire-baresip.service"  # fmt: skip
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)
#: systemd-analyze's exposure, 0 to 10: what each unit may have at most.
MOST = 2.5


def test_there_is_one_for_each_role():
    assert {unit.stem for unit in UNITS} == {f"bellwire-{role}" for role in (*SERVICES, "broker")}


@needs_systemd
@pytest.mark.parametrize("unit", [*UNITS, BARESIP], ids=lambda unit: unit.stem)
def test_exposure(unit):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Overall exposure level.*: ([\d.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= MOST, done.stdout


@needs_systemd
@pytest.mark.parametrize("unit", [*UNITS, BARESIP], ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_wrong(unit, tmp_path):
    # The programs are on the Pi; here anything executable stands in for them.
    copy = tmp_path / unit.name
    copy.write_text(
        re.sub(
            r"=-?/(opt/bellwire/venv|usr)/bin/(bellwire|baresip)[\w-]*",
            "=/bin/true",
            unit.read_text(),
        )
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_readiness_watchdog_and_restart(unit):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(unit)
    service = parser["Service"]
    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) > 0
    assert service["Restart"] == "always"
    assert service.get("DynamicUser") == "yes" or service["User"] != "root"
    assert "2" in service["RestartPreventExitStatus"].split()


def test_the_broker_may_ask_for_its_own_addresses():
    """getifaddrs(3) asks over netlink; refused that, the broker has nothing to announce."""
    (unit,) = [unit for unit in UNITS if unit.stem == "bellwire-broker"]
    families = re.search(r"(?m)^RestrictAddressFamilies=(.*)$", unit.read_text())
    assert families
    assert "AF_NETLINK" in families[1].split()
