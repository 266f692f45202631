"""What is built is what works: the wheel, installed where the checkout is not."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests import commands
from tests.servers import BrokerProcess

#: Without what would bring the checkout back.
NOWHERE = {k: v for k, v in commands.NOWHERE.items() if k != "PYTHONPATH"}
ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as the README makes it (no isolation: that would need a network)."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "--wheel-dir", folder, ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel and its two dependencies, as a device has it."""
    venv = tmp_path_factory.mktemp("device")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", venv], check=True, capture_output=True
    )
    target = next(venv.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "-q",
           "--disable-pip-version-check", "--no-deps"]  # fmt: skip
    subprocess.run([*pip, "--no-index", wheel], check=True, capture_output=True)
    # The same two as here, copied: a test that waits for a download is no test.
    for name in ("paho-mqtt", "cbor2"):
        for file in distribution(name).files or ():
            source = Path(str(distribution(name).locate_file(file)))
            goal = target / str(file)
            if ".." not in file.parts and source.is_file():
                goal.parent.mkdir(parents=True, exist_ok=True)
                goal.write_bytes(source.read_bytes())
    return venv


def test_wheel_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"device_sdk", "broker_config", f"bellwire-{PROJECT['version']}.dist-info"}
    assert {"device_sdk/py.typed", "broker_config/py.typed"} <= set(names)
    assert not [name for name in names if name.endswith(".pyc")]


def test_device_gets_two_dependencies() -> None:
    names = [requirement.split(">")[0] for requirement in PROJECT["dependencies"]]
    assert sorted(names) == ["cbor2", "paho-mqtt"]


def test_command_of_the_wheel(device: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [device / "bin" / "bellwire", "--version"],
        env=NOWHERE, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == f"bellwire {PROJECT['version']}\n"
    where = subprocess.run(
        [device / "bin" / "python", "-c", "import device_sdk; print(device_sdk.__file__)"],
        env=NOWHERE, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    assert Path(where).is_relative_to(device)


def test_a_call_from_wheel_to_wheel(device: Path, bundled_broker: BrokerProcess) -> None:
    where = ("--broker", bundled_broker.url, "--realm", "wheel")
    program = (str(device / "bin" / "bellwire"),)
    panel = commands.Command("listen", "--peer", "kitchen", "--accept", "--count", "1", *where,
                    program=program)  # fmt: skip
    with panel:
        panel.ready()
        with commands.Command(
            "call", "kitchen", "--peer", "front-door", *where, program=program
        ) as door:
            assert door.end() == 0
        assert panel.end() == 0


def test_broker_command_without_its_extra_says_so(device: Path) -> None:
    done = subprocess.run(
        [device / "bin" / "bellwire-broker", "run"],
        env=NOWHERE, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "[broker]" in done.stderr
