"""Drives :mod:`tests.faults.peer`: a peer that can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from queue import Empty, Queue
from types import SimpleNamespace
from typing import Any

from tests.peers import PATIENCE, Heard, Peer, Told


class _Life:
    """One process, and what it says."""

    def __init__(self, arguments: list[str]) -> None:
        self.heard = Heard()
        self.done: Queue[dict[str, str]] = Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.peer", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.reader = threading.Thread(
            target=self._read, args=(self.process, self.heard, self.done), daemon=True
        )
        self.reader.start()

    @staticmethod
    def _read(process: subprocess.Popen[str], heard: Heard, done: Queue[dict[str, str]]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            if "done" in said:
                done.put(said)
                continue
            invitation = SimpleNamespace(**said)
            with heard._news:
                heard.told.append(
                    Told(
                        said["event"],
                        (invitation, said["message"]),
                        "",
                        time.monotonic(),
                        said["state"],
                    )
                )
                heard._news.notify_all()
        done.put({"done": "", "error": "the process ended"})

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # a command that it did not live to read
                    pipe.close()


class ProcessPeer(Peer):
    """A peer of the threaded face in a process of its own; ``lives`` keeps what each was told."""

    face = "process"

    def __init__(self, peer_id: str, url: str, *, lives: int = 1, **options: Any) -> None:
        super().__init__(peer_id)
        self._arguments = [peer_id, url, json.dumps(options)]
        self.lives: list[Heard] = []
        # Started before they are needed: a cell is about the protocol, not about starting Python.
        self._spares = [_Life(self._arguments) for _ in range(lives)]
        self._begin()

    def _begin(self) -> None:
        life = self._life = self._spares.pop(0)
        self.heard = life.heard
        self.lives.append(life.heard)
        self._done, self._process = life.done, life.process

    def ready(self) -> None:
        """Wait until every life of it takes commands."""
        self.done(60)
        for spare in self._spares:
            assert "error" not in spare.done.get(timeout=60)

    def tell(self, do: str, **more: str) -> None:
        """Give a command, without waiting for it to be done."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()

    def done(self, timeout: float = PATIENCE) -> dict[str, str]:
        """Wait until the last command is done."""
        try:
            said = self._done.get(timeout=timeout)
        except Empty:
            raise AssertionError(f"{self.peer_id}: nothing was done in {timeout} s") from None
        assert "error" not in said, f"{self.peer_id}: {said}"
        return said

    def kill(self) -> None:
        """SIGKILL."""
        self._life.end()

    def stop(self) -> None:
        """SIGSTOP, and wait until every thread stands: one that still ran could hear and decide."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def restart(self, timeout: float = 30) -> None:
        """Begin the next life after :meth:`kill`, and log in."""
        self._begin()
        self.login(timeout)

    def login(self, timeout: float = 30, *, keep_trying: bool = False) -> None:
        del keep_trying  # it always does
        self.tell("login")
        self.done(timeout)

    def logout(self) -> None:
        """End the process, in due form if it still can."""
        for spare in self._spares:
            spare.end()
        if self._process.poll() is None:
            self.resume()
            try:
                self.tell("logout")
                self.done(10)
            finally:
                self._life.end()

    def press(self, callee: str, content: Any = None, ring_timeout: float | None = None) -> Any:
        del content, ring_timeout
        self.tell("press", callee=callee)
        return SimpleNamespace(call_id=self.done()["call_id"])

    def cancel(self, invitation: Any) -> None:
        self.tell("cancel", call_id=invitation.call_id)
        self.done()

    def accept(self, invitation: Any, response: Any = None) -> None:
        del response
        self.tell("accept", call_id=invitation.call_id)
        self.done()

    def refuse(self, invitation: Any, response: Any = None, reason: Any = None) -> None:
        del response, reason
        self.tell("refuse", call_id=invitation.call_id)
        self.done()

    def send_message(self, call: Any, message: Any) -> None:
        self.tell("say", call_id=call.call_id, message=message)
        self.done()

    def hang_up(self, call: Any) -> None:
        self.tell("hang up", call_id=call.call_id)
        self.done()
