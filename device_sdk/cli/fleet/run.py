"""The conductor of a fleet: its processes, their phases, and the broker's cost."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from ...errors import BellwireError, BrokerRefused, BrokerUnreachable
from .plan import Share
from .process import work

#: For the last word of a process that was told to finish.
_LAST_WORD = 180.0
_FINISH = "finish"
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class WorkerEnded(BellwireError):
    """A process of the fleet ended without a word: its traceback is above."""


class BrokerUse:
    """CPU seconds and memory of the broker's processes and their children, by psutil."""

    def __init__(self, pids: Sequence[int]) -> None:
        """Raises ``ImportError`` without psutil, ``ProcessLookupError`` for none of that number."""
        self._processes: list[Any] = []
        self.peak = 0
        #: One of them is no more, so what follows is not all.
        self.ended = False
        self._used: dict[Any, float] = {}
        if pids:
            import psutil  # type: ignore[import-untyped] # ships no types

            self._missing: type[Exception] = psutil.Error
            for pid in pids:
                try:
                    found = psutil.Process(pid)
                    self._processes += [found, *found.children(recursive=True)]
                except psutil.Error:
                    raise ProcessLookupError(f"there is no process {pid} to look at") from None

    def __bool__(self) -> bool:
        return bool(self._processes)

    def cpu(self) -> float:
        """Seconds so far; of one that has ended what it had when it was last asked."""
        for each in self._processes:
            try:
                times = each.cpu_times()
                self._used[each] = times.user + times.system
            except self._missing:
                self.ended = True
        return sum(self._used.values())

    def memory(self) -> int:
        """Resident bytes now."""
        total = 0
        for each in self._processes:
            try:
                total += each.memory_info().rss
            except self._missing:
                self.ended = True
        self.peak = max(self.peak, total)
        return total


class Fleet:
    """All processes; a phase is begun in all, and over when it is in all."""

    def __init__(
        self, shares: Sequence[Share], use: BrokerUse, show: Callable[[str, Counter[str]], None]
    ) -> None:
        self._shares = shares
        self._use = use
        self._show = show
        self._processes: list[BaseProcess] = []
        self._pipes: list[Pipe] = []
        self._latest: dict[Pipe, dict[str, int]] = {}
        #: What was measured in each phase.
        self.phases: dict[str, dict[str, Any]] = {}
        self.stopped = False

    def run(self, seconds: float, *, storms: bool) -> list[dict[str, Any]]:
        """Go through all phases; what came of it in each process.

        Raises :class:`LoginError`, :class:`WorkerEnded`.
        """
        before = {each: signal.signal(each, self._stop) for each in _STOPPING}
        try:
            self._start()
            empty = self._use.memory() if self._use else 0
            plan: list[tuple[str, tuple[Any, ...]]] = [("login", ()), ("calm", (seconds,))]
            if any(share.apart for share in self._shares):
                plan.insert(0, ("alone", (seconds,)))
            if storms:
                plan += [("cut", ()), ("again", ())]
            for name, arguments in plan:
                if not self.stopped:
                    self._phase(name, arguments)
                    self.phases[name]["memory_empty"] = empty
            return self._together(_FINISH)
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: object) -> None:
        """The first time: finish, in due form. The second time: now."""
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        # A terminal's Ctrl-C is for all of its processes; these hear from this one when to finish.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        for share in self._shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(share, theirs), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    def _end(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()

    def _phase(self, name: str, arguments: tuple[Any, ...]) -> None:
        used = self._use.cpu() if self._use else 0.0
        began = time.monotonic()
        figures = self._together(name, arguments)
        took = time.monotonic() - began
        phase: dict[str, Any] = {"interrupted": not figures, "whole": took}
        if figures:
            traffic: Counter[str] = Counter()
            for each in figures:
                traffic.update(each["traffic"])
            phase |= {
                "seconds": max(f["ended"] for f in figures) - min(f["began"] for f in figures),
                "missing": sum(f.get("missing", 0) for f in figures),
                "errors": sum((Counter(f.get("errors", {})) for f in figures), Counter()),
                "calls": sum(f["calls"] for f in figures),
                "fleet_cpu": max(f["cpu"] / max(f["ended"] - f["began"], 1e-6) for f in figures),
                "traffic": dict(traffic),
            }
        if self._use:
            phase |= {"broker_cpu": self._use.cpu() - used, "broker_memory": self._use.memory()}
            phase["broker_ended"] = self._use.ended
        self.phases[name] = phase

    def _together(self, name: str, arguments: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        """Have all do it, and wait for all; empty when it was stopped before."""
        until = time.monotonic() + _LAST_WORD if name == _FINISH else None
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send((name, arguments))
        done: dict[Pipe, dict[str, Any]] = {}
        while len(done) < len(self._pipes):
            ready = wait(self._pipes, 0.2)
            for each in self._pipes:
                if each in ready:
                    self._take(name, each, done)
            if self._use:
                self._use.memory()
            total: Counter[str] = Counter()
            for latest in self._latest.values():
                total.update(latest)
            self._show(name, total)
            if until is None and self.stopped:
                return []
            if until is not None and time.monotonic() > until:
                raise WorkerEnded(f"a process of the fleet did not finish in {_LAST_WORD:g} s")
        return [done[pipe] for pipe in self._pipes]

    def _take(self, name: str, pipe: Pipe, done: dict[Pipe, dict[str, Any]]) -> None:
        try:
            kind, what = pipe.recv()
        except (EOFError, OSError):
            if pipe in done:
                return
            number = self._pipes.index(pipe)
            raise WorkerEnded(f"process {number} of the fleet ended without a word") from None
        if kind == "progress":
            self._latest[pipe] = what
        elif kind == "failed":
            code, text = what
            raise BrokerRefused(code, text) if code else BrokerUnreachable("connection lost", text)
        elif what[0] == name:
            done[pipe] = what[1]


def machine() -> dict[str, Any]:
    """What the fleet ran on, as far as it matters to figures."""
    return {"cores": os.cpu_count(), "load": [round(each, 2) for each in os.getloadavg()]}
