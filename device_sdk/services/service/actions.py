"""Commands, web hooks, notifications: beside the loop, bounded in time and number, never a shell.

A command has a thread for as long as it runs; what goes to an address has that address's lane.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping

from ...client.display import as_json, as_text
from ...client.logs import Log
from ..config.account import Action
from ..logic.notice import notice_of
from .lanes import Lanes

log = Log("bellwire.pi")

#: Commands at once, all together; more are dropped with a warning: a storm must not eat the Pi.
MAX_RUNNING = 8
STOP_TIMEOUT = 2.0
#: What was begun last has so long when the service ends: by it a light goes out; seconds.
SHUTDOWN_GRACE = 2.0
#: BELLWIRE_PEER is one's own name to the command line: a hook that calls would take the other's.
_VARIABLES = {"peer": "OTHER"}


class Actions:
    """Starts actions. Usable from any thread."""

    def __init__(self) -> None:
        self._slots = threading.Semaphore(MAX_RUNNING)
        self._lanes = Lanes()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        #: Commands whose threads have not ended yet, and when anything was begun last.
        self._commands = 0
        self._no_command = threading.Condition(self._lock)
        self._last_begun = time.monotonic() - SHUTDOWN_GRACE
        self._closed = False

    def run(self, action: Action, facts: Mapping[str, object]) -> None:
        """Run ``action``; ``facts`` become ``BELLWIRE_…`` variables and the web hook's JSON."""
        facts = dict(facts)
        self._last_begun = time.monotonic()
        webhook, timeout = action.webhook, action.timeout
        if webhook is not None:
            self._lanes.put(webhook, "a web hook", lambda: _post(webhook, facts, timeout), timeout)
        for address in action.notify:
            self._notify(address, action, facts)
        if action.command:
            self._run_command(action, facts)

    def _notify(self, address: str, action: Action, facts: dict[str, object]) -> None:
        def send() -> None:
            from .notify import NotifyError, send_notice

            try:
                send_notice(address, notice, action.link, action.picture)
            except NotifyError as error:
                log.warning("notification: %s", error)

        notice = notice_of(facts, action.link)
        self._lanes.put(address, "a notification", send, action.timeout)

    def _run_command(self, action: Action, facts: dict[str, object]) -> None:
        if not self._slots.acquire(blocking=False):
            log.warning("%d commands are running already: this one is dropped", MAX_RUNNING)
            return
        with self._lock:
            self._commands += 1
        try:
            threading.Thread(target=self._do, args=(action, facts), daemon=True).start()
        except RuntimeError as error:  # the bell goes on without it
            self._command_ended()
            log.warning("an action cannot be begun: %s", error)

    def _command_ended(self) -> None:
        self._slots.release()
        with self._no_command:
            self._commands -= 1
            self._no_command.notify_all()

    def close(self) -> None:
        """End what is running, :data:`SHUTDOWN_GRACE` after the last was begun at the latest."""
        until = self._last_begun + SHUTDOWN_GRACE
        self._lanes.close(until)
        with self._no_command:
            left = max(0.0, until - time.monotonic())
            self._no_command.wait_for(lambda: not self._commands, left)
            self._closed = True
            running = list(self._running)
        for process in running:
            _signal_group(process, signal.SIGTERM)
        for process in running:
            _end(process)

    def _do(self, action: Action, facts: dict[str, object]) -> None:
        try:
            self._command(action, facts)
        except Exception as error:  # noqa: BLE001 - this thread's supervisor: the service goes on
            log.error("an action failed", error=error)
        finally:
            self._command_ended()

    def _command(self, action: Action, facts: dict[str, object]) -> None:
        with self._lock:
            if self._closed:
                return
            process = _start(action.command, facts)
            if process is None:
                return
            self._running.add(process)
        try:
            code = process.wait(action.timeout)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.wait()
            log.warning("%s took over %g s and was ended", action.command[0], action.timeout)
        else:
            if code and not self._closed:
                log.warning("%s ended with exit code %d", action.command[0], code)
        finally:
            with self._lock:
                self._running.discard(process)


class SoundCommand:
    """A command that is to run as long as it rings: started again when it ends by itself.

    It runs in a process group of its own, and the group is ended: a script's player with it.
    What is told to end has :data:`STOP_TIMEOUT` awake for it: a process does nothing in sleep.
    """

    def __init__(
        self, command: tuple[str, ...], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._command = command
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        #: When what was told to end is ended the hard way.
        self._kill_at: float | None = None
        self.wanted = False

    def set(self, on: bool) -> None:
        """Begin or end it. Never waits."""
        self.wanted = on and bool(self._command)
        if not self.wanted and self._process is not None and self._kill_at is None:
            _signal_group(self._process, signal.SIGTERM)
            self._kill_at = self._clock() + STOP_TIMEOUT
        self.tend()

    @property
    def busy(self) -> bool:
        """Whether :meth:`tend` is to be called within a second or so."""
        return self.wanted or self._process is not None

    def tend(self) -> None:
        """Start it again if it has ended and is still wanted; reap it, and end its group."""
        if self._process is not None:
            late = self._kill_at is not None and self._clock() >= self._kill_at
            if late or self._process.poll() is not None:
                # What its script left behind would sound on, or beside the next one.
                _signal_group(self._process, signal.SIGKILL)
            if self._process.poll() is not None:
                self._process = self._kill_at = None
        if self._process is None and self.wanted:
            self._process = _start(self._command, {})
            self.wanted = self._process is not None

    def close(self) -> None:
        """End it and wait for it."""
        self.wanted = False
        if self._process is not None:
            _signal_group(self._process, signal.SIGTERM)
            _end(self._process)
            self._process = None


def _start(command: tuple[str, ...], facts: Mapping[str, object]) -> subprocess.Popen[bytes] | None:
    """The command in a process group of its own; None, and a warning, if it cannot be run."""
    environment = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
    for key, value in facts.items():
        # UTF-8 whatever the locale: a stranger's text is no reason not to run it.
        name = _VARIABLES.get(key, key.upper())
        environment[f"BELLWIRE_{name}".encode()] = as_text(value).encode()
    try:
        return subprocess.Popen(  # noqa: S603 # the owner's own command, no shell
            command, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    except (OSError, ValueError) as error:
        log.warning("%s cannot be run: %s", command[0], error)
        return None


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal ``process`` and all that it started; those that are left when it has gone, too."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a group that was told to end; the hard way after :data:`STOP_TIMEOUT`."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _post(url: str, facts: dict[str, object], timeout: float) -> None:
    import http.client
    import urllib.request  # megabytes that only a web hook is worth

    body = as_json(facts).encode()
    request = urllib.request.Request(  # noqa: S310 # the settings allow http and https only
        url, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310 # as above
            return
    except (OSError, ValueError, http.client.HTTPException) as error:
        log.warning("web hook %s: %s", url, error)
