"""Commands and web hooks: run beside the loop, bounded in time and number, never a shell."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from collections.abc import Mapping

from .settings import Action

log = logging.getLogger("bellwire.pi")

#: At once, all actions together; more are dropped with a warning: a storm must not eat the Pi.
MAX_RUNNING = 8
STOP_TIMEOUT = 2.0


class Actions:
    """Starts actions; each has a thread for as long as it runs. Usable from any thread."""

    def __init__(self) -> None:
        self._slots = threading.Semaphore(MAX_RUNNING)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def run(self, action: Action, facts: Mapping[str, object]) -> None:
        """Run ``action``; ``facts`` become ``BELLWIRE_…`` variables and the web hook's JSON."""
        if not action.command and action.webhook is None:
            return
        if not self._slots.acquire(blocking=False):
            log.warning("%d actions are running already: this one is dropped", MAX_RUNNING)
            return
        threading.Thread(target=self._do, args=(action, dict(facts)), daemon=True).start()

    def close(self) -> None:
        """End what is running."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()

    def _do(self, action: Action, facts: dict[str, object]) -> None:
        try:
            if action.command:
                self._command(action, facts)
            if action.webhook is not None:
                _post(action.webhook, facts, action.timeout)
        finally:
            self._slots.release()

    def _command(self, action: Action, facts: dict[str, object]) -> None:
        environment = os.environ | {
            f"BELLWIRE_{key.upper()}": as_text(value) for key, value in facts.items()
        }
        with self._lock:
            if self._closed:
                return
            try:
                process = subprocess.Popen(  # noqa: S603 # the owner's own command, no shell
                    action.command, stdin=subprocess.DEVNULL, env=environment
                )
            except (OSError, ValueError) as error:
                log.warning("%s cannot be run: %s", action.command[0], error)
                return
            self._running.add(process)
        try:
            code = process.wait(action.timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            log.warning("%s took over %g s and was ended", action.command[0], action.timeout)
        else:
            if code:
                log.warning("%s ended with exit code %d", action.command[0], code)
        finally:
            with self._lock:
                self._running.discard(process)


class SoundCommand:
    """A command that is to run as long as it rings: started again when it ends by itself."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self.wanted = False

    def set(self, on: bool) -> None:
        """Begin or end it. Never waits."""
        self.wanted = on and bool(self._command)
        if not self.wanted:
            if self._process is not None:
                self._process.terminate()
            return
        self.tend()

    def tend(self) -> None:
        """Start it again if it has ended and is still wanted; reap it."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        if self._process is None and self.wanted:
            try:
                self._process = subprocess.Popen(  # noqa: S603 # the owner's own command, no shell
                    self._command, stdin=subprocess.DEVNULL
                )
            except (OSError, ValueError) as error:
                log.warning("%s cannot be run: %s", self._command[0], error)
                self.wanted = False

    def close(self) -> None:
        """End it and wait for it."""
        self.wanted = False
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def as_text(value: object) -> str:
    """A value of a call for people and environment variables: texts as they are, else JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace("\0", "")
    return json.dumps(value, default=repr, ensure_ascii=False)


def _post(url: str, facts: dict[str, object], timeout: float) -> None:
    import urllib.request  # megabytes that only a web hook is worth

    body = json.dumps(facts, default=repr).encode()
    request = urllib.request.Request(  # noqa: S310 # the settings allow http and https only
        url, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310 # as above
            return
    except (OSError, ValueError) as error:
        log.warning("web hook %s: %s", url, error)
