"""A card's boot partition, provisioned by the command itself, as a FAT image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.image_test.broker import run_quietly

CLONE = Path(__file__).resolve().parents[2]
BOOT_MEGABYTES = 128


def make(work: Path, role: str, *provision: str) -> Path:
    """The image of a freshly flashed card after ``bellwire provision``, all its wheels on it."""
    dist, wheels, card = work / "dist", work / "wheels", work / "card"
    run_quietly(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(dist), str(CLONE))
    (wheel,) = dist.glob("*.whl")
    bellwire = str(Path(sys.executable).with_name("bellwire"))
    run_quietly(
        bellwire, "wheels", str(wheels),
        "--bellwire", str(wheel), "--python", "3.13", "--role", role,
    )  # fmt: skip
    card.mkdir()
    (card / "cmdline.txt").write_text("console=serial0,115200 root=PARTUUID=0 rootwait\n")
    (card / "config.txt").write_text("arm_64bit=1\n")
    (card / "meta-data").write_text("dsmode: local\ninstance_id: rpios-image\n")
    (card / "user-data").write_text("#cloud-config\n")
    run_quietly(bellwire, "provision", str(card), *provision, "--wheels", str(wheels))
    image = work / "boot.vfat"
    run_quietly("mkfs.vfat", "-C", "-n", "bootfs", str(image), str(BOOT_MEGABYTES * 1024))
    run_quietly("mcopy", "-s", "-i", str(image), *map(str, sorted(card.iterdir())), "::")
    return image


def holds(image: Path, name: str) -> bool:
    """Whether there is ``name`` on the card of a machine that is off."""
    found = subprocess.run(
        ["mdir", "-i", str(image), f"::{name}"], capture_output=True, check=False
    )
    return found.returncode == 0
