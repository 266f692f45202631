"""docs/broker-guide.md, a call over TLS and the second week: every command, as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.servers import free_port

GUIDE = Path(__file__).parents[2] / "docs" / "broker-guide.md"
SECTIONS = ("A call over TLS, step by step", "The second week")
STEPS = 22


def commands() -> list[str]:
    text = GUIDE.read_text("utf-8")
    sections = [text.split(f"\n## {title}\n")[1].split("\n## ")[0] for title in SECTIONS]
    return [line for each in sections for line in re.findall(r"^\$ (.+)$", each, re.MULTILINE)]


def start(command: list[str], folder: Path, until: str, stack: ExitStack) -> None:
    """Start what runs in a terminal of its own; wait for the line that says that it is ready."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert process.stdout
    stack.callback(process.stdout.close)
    stack.callback(process.wait, 20)
    stack.callback(process.send_signal, signal.SIGTERM)
    seen = []
    for line in process.stdout:
        seen.append(line)
        if until in line:
            return
    raise AssertionError(f"{command} ended: {''.join(seen)}")


def environment() -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    unset = {"BELLWIRE_BROKER_DIR", "BELLWIRE_PASSWORD"}
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}


def test_the_guide_works_as_it_is_written(tmp_path: Path) -> None:
    port = free_port()
    done = []
    (table,) = re.findall(r"```csv\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "devices.csv").write_text(table)
    with ExitStack() as stack:
        for command in commands():
            words = shlex.split(command.replace("localhost:8883", f"localhost:{port}"))
            if words[:2] == ["bellwire-broker", "run"]:
                start(words, tmp_path, "(mqtts)", stack)
            elif words[:2] == ["bellwire", "listen"]:
                start(words, tmp_path, "waiting for calls", stack)
            else:
                ended = subprocess.run(
                    words, cwd=tmp_path, env=environment(), capture_output=True, text=True,
                    timeout=60, check=False,
                )  # fmt: skip
                assert ended.returncode == 0, ended.stdout + ended.stderr
                if words[:2] == ["bellwire-broker", "init"]:
                    # The one thing that is not word for word: ports that are free here.
                    settings = tmp_path / "broker" / "broker.toml"
                    text = settings.read_text().replace('":8883"', f'"127.0.0.1:{port}"')
                    text = text.replace("127.0.0.1:1883", "127.0.0.1:0")
                    settings.write_text(text.replace("127.0.0.1:9883", "127.0.0.1:0"))
                if "somebody is here" in words:
                    assert "hello" in ended.stdout + ended.stderr
            done.append(words[:2])
    assert len(done) == STEPS
    assert (tmp_path / "kitchen.secret").stat().st_mode & 0o777 == 0o600
