"""What a newcomer types, on each Python and machine: ``make test-pythons`` (root, network, Debian).

``make demo`` and ``make test`` in a fresh clone, with nothing but git, make and python3-venv: in a
Debian of its own for each Python that a Debian has (mmdebstrap makes it, once, in a cache outside
the clone), else with the ``pythonX.Y`` of this machine. Then, for 64-bit Arm and for what could not
be run, whether every dependency is to be had as a wheel. ``--write`` puts the tables into
docs/platforms.md. Exit 1 if something failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
DOCUMENT = CLONE / "docs" / "platforms.md"
CACHE = Path(os.environ.get("BELLWIRE_CACHE", "/var/cache/bellwire"))
MIRROR = "http://deb.debian.org/debian"
#: What a newcomer is asked to install, and nothing else. Testing's lists may be old on a mirror.
MMDEBSTRAP = (
    "--quiet", "--variant=minbase", "--include=git,make,python3-venv,ca-certificates",
    '--aptopt=Acquire::Check-Valid-Until "false"',
)  # fmt: skip
#: Each Python and the Debian that has it, if one has.
PYTHONS = {"3.11": "bookworm", "3.12": None, "3.13": "trixie", "3.14": "forky"}
#: What the two commands install, as arguments of a resolver, and what they are for.
PARTS = {
    "device": (),
    "make demo": ("--extra", "broker"),
    "make test": (
        "--extra",
        "broker",
        "--extra",
        "pi",
        "--extra",
        "metrics",
        "--extra",
        "notify",
        "--extra",
        "srv",
        "--extra",
        "web",
        "--group",
        "dev",
    ),
}
ARM = "aarch64-unknown-linux-gnu"
#: What is handed into a Debian: how this machine reaches the package index.
HANDED = re.compile(r"^(PIP_(?!FIND_LINKS).*|.*_proxy|.*_PROXY)$")


class Failed(Exception):
    """It could not be tried, or did not go as it should."""


@dataclass
class Run:
    """What came of both commands on one Python."""

    python: str
    where: str
    set_up: float
    tests: str

    def row(self) -> str:
        """A row of the table."""
        return f"| {self.python} | {self.where} | {self.set_up:.0f} s | passed | {self.tests} |"


def chroot(suite: str) -> Path:
    """A Debian with git, make and python3-venv, made if it is not in the cache yet."""
    root = CACHE / suite
    if not (root / "usr/bin/python3").exists():
        if shutil.which("mmdebstrap") is None:
            raise Failed("mmdebstrap is missing; install it with: apt install mmdebstrap")
        print(f"making a Debian {suite} in {root}, once", flush=True)
        half = CACHE / f"{suite}.half"
        shutil.rmtree(half, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mmdebstrap", *MMDEBSTRAP, suite, half, MIRROR], check=True)
        shutil.rmtree(root, ignore_errors=True)
        half.rename(root)
    return root


def handed() -> dict[str, str]:
    """The environment of a newcomer, on this machine's way to the package index."""
    found = {name: value for name, value in os.environ.items() if HANDED.match(name)}
    return found | {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                    "PIP_CONFIG_FILE": os.devnull}  # fmt: skip


def inside(root: Path, script: str) -> tuple[list[str], dict[str, str]]:
    """The command and environment that run a shell script in a chroot with /proc and /dev."""
    environment = handed()
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")  # as an installer does
    if authorities := environment.get("PIP_CERT"):
        shutil.copy(authorities, root / authorities.lstrip("/"))
    mounts = "mount -t proc proc $0/proc; mount --rbind /dev $0/dev; mount -t tmpfs tmpfs $0/tmp"
    # A mount namespace of its own: nothing is left mounted, however this ends.
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec",
               f'{mounts}; exec chroot "$0" sh -ec "$1"', str(root), script]  # fmt: skip
    return command, environment


def interpreter(python: str) -> str | None:
    """Where this machine has a Python of that version, on its path or by pyenv."""
    found = shutil.which(f"python{python}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for each in ([found] if found else []) + sorted(map(str, pyenv.glob(f"{python}.*/bin/python"))):
        said = subprocess.run([each, "-V"], capture_output=True, text=True, check=False).stdout
        if said.startswith(f"Python {python}."):
            return each
    return None


def try_out(python: str, workers: int) -> Run:
    """Both commands in a fresh clone; raises :class:`Failed` with the end of what they said."""
    suite = PYTHONS[python]
    if suite is not None:
        root = chroot(suite)
        clone, where = root / "root" / "bellwire", f"Debian {suite}"
    else:
        program = interpreter(python)
        if program is None:
            raise Failed(f"no Debian has Python {python}, and this machine no python{python}")
        clone, where = CACHE / f"clone-{python}", "an interpreter of its own, beside Debian's"
    shutil.rmtree(clone, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", CLONE, clone], check=True)

    def make(*what: str) -> str:
        words = " ".join(["make", *what])
        if suite is None:
            command, environment = ["sh", "-ec", words], handed() | {"PYTHON": str(program)}
        else:
            command, environment = inside(root, f"cd /root/bellwire; {words}")
        done = subprocess.run(
            command, env=environment, cwd=clone, text=True, check=False, timeout=1800,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{python}, {where}: {words} ended with {done.returncode}:\n"
                         + done.stdout[-6000:])  # fmt: skip
        return done.stdout

    start = time.monotonic()
    said = make(".venv/.ready-for-demo").splitlines()
    set_up = time.monotonic() - start
    if len(said) != 1:
        raise Failed(f"{python}, {where}: the set-up says more than one line: {said}")
    if "as it should be" not in make("demo"):
        raise Failed(f"{python}, {where}: the demo does not say that it went well")
    version = Path(clone / ".venv/pyvenv.cfg").read_text().split("version = ")[1].split()[0]
    tests = re.findall(r"\d+ (?:passed|skipped)", make("test", f"WORKERS={workers}"))
    shutil.rmtree(clone, ignore_errors=True)
    return Run(version, where, set_up, ", ".join(tests))


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The resolver that knows other machines' wheels."""
    return subprocess.run(
        [Path(sys.executable).parent / "uv", *arguments],
        cwd=CLONE, capture_output=True, text=True, check=False,
    )  # fmt: skip


def wheels(python: str, part: str) -> str:
    """How many wheels that takes on 64-bit Arm; raises :class:`Failed` if one is missing."""
    done = uv(
        "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--only-binary", ":all:",
        "--python-platform", ARM, "--python-version", python, *PARTS[part], "pyproject.toml",
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"{python} on {ARM}: {part}: {done.stderr[-2000:]}")
    return str(len(done.stdout.split()))


def replaced(text: str, name: str, lines: list[str]) -> str:
    """The document with what is between a table's two marks replaced."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = text.split(begin)
    return before + begin + "\n".join(lines) + "\n" + end + rest.split(end)[1]


def main() -> int:
    """Try all, print, and perhaps write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PYTHONS, action="append", help="this Python (repeatable)")
    parser.add_argument("--no-runs", action="store_true", help="look for Arm's wheels only")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    asked = parser.parse_args()
    pythons = asked.only or list(PYTHONS)
    today, failed = datetime.now(UTC).date(), 0
    here = platform.machine()
    runs = [
        f"Last run {today}, {here}:",
        "",
        "| Python | where | set-up of the demo | `make demo` | `make test` |",
    ]
    runs.append("|---|---|---:|---|---|")
    for python in () if asked.no_runs else pythons:
        try:
            runs.append(try_out(python, asked.workers).row())
        except Failed as error:
            failed += 1
            runs.append(f"| {python} | | | | **failed** |")
            print(error, file=sys.stderr)
        print(runs[-1], flush=True)
    arm = [f"Last looked at {today}; wheels needed, all there:", ""]
    arm += [f"| Python | {' | '.join(PARTS)} |", "|---|" + "---:|" * len(PARTS)]
    for python in pythons:
        cells = []
        for part in PARTS:
            try:
                cells.append(wheels(python, part))
            except Failed as error:
                failed += 1
                cells.append("**missing**")
                print(error, file=sys.stderr)
        arm.append(f"| {python} | {' | '.join(cells)} |")
        print(arm[-1], flush=True)
    if asked.write and not failed:
        text = DOCUMENT.read_text()
        text = replaced(text, "arm", arm) if asked.no_runs else replaced(
            replaced(text, "arm", arm), "runs", runs)  # fmt: skip
        DOCUMENT.write_text(text)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
