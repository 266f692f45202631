"""The bundled broker as one would have it at home: TLS, a registry, two devices; on a free port."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.image_test.machine import HOST_ADDRESS, wait_for


@contextmanager
def broker(home: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The bundled broker with TLS and two devices; its port and their secrets."""
    command = str(Path(sys.executable).with_name("bellwire-broker"))
    run_quietly(command, "init", str(home), "--name", HOST_ADDRESS)
    secrets = {}
    for name, calls in (("front-door", "kitchen"), ("kitchen", "front-door")):
        shown = run_quietly(command, "device", "add", name, "--may-call", calls, "--dir", str(home))
        secrets[name] = re.findall(r"secret:\s+(\S+)", shown)[0]
    settings = home / "broker.toml"
    text = settings.read_text() if settings.exists() else ""
    text = re.sub(r"(?ms)^\[(listen|metrics)\][^\[]*", "", text)
    settings.write_text(
        f'{text}\n[listen]\nmqtts = "127.0.0.1:0"\nmqtt = ""\n[metrics]\nlisten = ""\n'
    )
    lines: list[str] = []
    process = subprocess.Popen(
        [command, "run", str(home)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        wait_for(lambda: _port(lines) or process.poll() is not None, 30, "the broker listens")
        assert process.poll() is None, f"the broker ended: {''.join(lines)}"
        yield _port(lines), secrets
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)
        reader.join(5)
        if process.stdout is not None:
            process.stdout.close()


def _port(lines: list[str]) -> int:
    """The port that it says it listens on; 0 until it does."""
    found = re.search(r"listening on 127\.0\.0\.1:(\d+) \(mqtts\)", "".join(list(lines)))
    return int(found[1]) if found else 0


def run_quietly(*command: str) -> str:
    """Run a command; what it printed. ``AssertionError`` with all of it when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout
