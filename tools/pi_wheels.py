"""Shows for each Pi that everything a doorbell needs is to be had as wheels: a table in Markdown.

``python tools/pi_wheels.py``: builds Bellwire's wheel and gathers the rest with ``bellwire
wheels`` for each Python and processor, from the package index. Exit 1 if one does not resolve.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
TARGETS = (
    ("3.11", "aarch64"),
    ("3.13", "aarch64"),
    ("3.11", "armv7l"),
    ("3.13", "armv7l"),
    ("3.11", "armv6l"),
    ("3.13", "armv6l"),
)


def main() -> int:
    """Print the table; 1 if a combination does not resolve."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(home), str(CLONE)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (wheel,) = home.glob("*.whl")
        print("| Python | processor | wheels | the pins' library |\n|---|---|---|---|")
        for python, arch in TARGETS:
            place = home / f"{python}-{arch}"
            command = [sys.executable, "-m", "device_sdk.services", "wheels", str(place)]
            command += ["--bellwire", str(wheel), "--python", python, "--arch", arch]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            failed += done.returncode != 0
            names = ["-".join(path.name.split("-")[:2]) for path in sorted(place.glob("*.whl"))]
            wheels = ", ".join(names) if done.returncode == 0 else f"**none**: {done.stderr[-200:]}"
            pins = "gpiod, a wheel" if "gpiod" in wheels else "`python3-lgpio` from apt"
            print(f"| {python} | {arch} | {wheels} | {pins} |", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
