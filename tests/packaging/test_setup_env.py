"""`make` on a machine where something is missing: one line that says what to install."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "tools" / "setup_env.sh"

#: A python that is too old, and one without the venv module.
OLD = '#!/bin/sh\n[ "$1" = -V ] && { echo "Python 3.9.2"; exit 0; }\nexit 1\n'
NO_VENV = '#!/bin/sh\ncase "$2" in *venv*) exit 1;; esac\nexit 0\n'
#: One whose pip reaches no package index.
NO_NETWORK = """#!/bin/sh
[ "$1 $2" = "-m pip" ] && { echo "pip: no index" >&2; exit 1; }
[ "$1 $2" = "-m venv" ] && { mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; }
exit 0
"""


def setup(python: Path | str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", SETUP, folder / "venv"],
        env={"PYTHON": str(python), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (OLD, ("Python 3.9.2", "3.11 or newer is needed")),
        (NO_VENV, ("venv module is missing", "apt install python3-venv")),
    ],
)
def test_what_is_missing_is_one_line(tmp_path: Path, script: str, words: tuple[str, ...]) -> None:
    python = tmp_path / "python3"
    python.write_text(script)
    python.chmod(0o755)
    done = setup(python, tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert all(word in line for word in words)
    assert not (tmp_path / "venv").exists()


def test_no_python_at_all(tmp_path: Path) -> None:
    done = setup("no-such-python", tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "apt install python3 python3-venv" in line


def test_without_a_network_the_last_word_says_so(tmp_path: Path) -> None:
    """What pip says of it is long, and ends with something else."""
    python = tmp_path / "python3"
    python.write_text(NO_NETWORK)
    python.chmod(0o755)
    done = setup(python, tmp_path)
    assert done.returncode == 1
    theirs, ours = done.stderr.splitlines()
    assert theirs == "pip: no index"
    assert "the set-up has failed, as said above; without a network, try again with one" in ours
