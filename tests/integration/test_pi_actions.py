"""Commands and web hooks as real processes and servers: what is ended, what is sent."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_sdk.services.config.account import Action
from device_sdk.services.service import actions
from device_sdk.services.service.actions import Actions, SoundCommand

#: A player that its script leaves behind, and one that does not care to be asked.
BEHIND = 'sleep 60 & echo $! >"$0"'
STUBBORN = 'trap "" TERM; sleep 60 & echo $! >"$0"; wait'


def until(condition: Callable[[], object], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def written(path: Path) -> int:
    assert until(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


@pytest.mark.parametrize("script", [BEHIND, STUBBORN])
def test_the_ringing_sound_ends_with_its_player(
    tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its whole process group, whether the script has gone before or will not go."""
    monkeypatch.setattr(actions, "STOP_TIMEOUT", 0.2)
    sound = SoundCommand(("sh", "-c", script, str(tmp_path / "pid")))
    sound.set(True)
    player = written(tmp_path / "pid")
    sound.set(False)
    assert until(lambda: sound.tend() or not alive(player))
    assert until(lambda: sound.tend() or not sound.busy)


def test_closing_ends_the_player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "STOP_TIMEOUT", 0.2)
    sound = SoundCommand(("sh", "-c", STUBBORN, str(tmp_path / "pid")))
    sound.set(True)
    player = written(tmp_path / "pid")
    sound.close()
    assert until(lambda: not alive(player))


@pytest.mark.parametrize("how", ["too long", "closed"])
def test_a_hook_ends_with_what_it_started(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it takes too long, and when the service ends."""
    monkeypatch.setattr(actions, "STOP_TIMEOUT", 0.2)
    monkeypatch.setattr(actions, "SHUTDOWN_GRACE", 0.2)
    hooks = Actions()
    command = ("sh", "-c", STUBBORN, str(tmp_path / "pid"))
    hooks.run(Action(command, timeout=1.0 if how == "too long" else 60.0), {"event": "accepted"})
    child = written(tmp_path / "pid")
    if how == "closed":
        hooks.close()
    assert until(lambda: not alive(child))


def test_what_was_begun_as_the_service_ends_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command of ``[on.call_ended]`` switches off what another has switched on."""
    monkeypatch.setattr(actions, "SHUTDOWN_GRACE", 30.0)
    hooks = Actions()
    hooks.run(Action(("sh", "-c", 'sleep 0.1; echo off >"$0"', str(tmp_path / "light"))), {})
    hooks.close()
    assert (tmp_path / "light").read_text() == "off\n"


def test_a_strangers_text_reaches_the_command(tmp_path: Path) -> None:
    """What no environment can hold is left out of it; the command is run all the same."""
    hooks = Actions()
    script = 'printf %s "$BELLWIRE_CONTENT$BELLWIRE_OTHER$BELLWIRE_PEER" >"$0"'
    command = ("sh", "-c", script, str(tmp_path / "out"))
    hooks.run(Action(command), {"content": "📶\ud800\0", "peer": "door"})
    assert until(lambda: (tmp_path / "out").exists() and (tmp_path / "out").read_bytes())
    assert (tmp_path / "out").read_text() == "📶?door"


@pytest.fixture
def hook() -> Iterator[tuple[str, list[bytes]]]:
    got: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.wfile.write(b"rubbish\r\n")

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_hook_gets_strict_json_and_may_answer_rubbish(
    hook: tuple[str, list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    """NaN, bytes and dates included; what is no HTTP is a warning, and the next one is sent."""
    url, got = hook
    hooks = Actions()
    for response in (float("nan"), {b"door": 1}, object()):
        hooks.run(Action(webhook=url), {"event": "accepted", "response": response})
    assert until(lambda: len(got) == 3 and caplog.text.count("web hook") == 3)
    for body in got:
        assert json.loads(body, parse_constant=pytest.fail)["event"]
