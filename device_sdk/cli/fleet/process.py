"""A process of a fleet: a worker does what its pipe says, and what came of it is sent back."""

from __future__ import annotations

import asyncio
import contextlib
from multiprocessing.connection import Connection as Pipe
from typing import Any

from ...errors import BellwireError, BrokerRefused
from .plan import Share
from .worker import Worker


async def _serve(share: Share, pipe: Pipe) -> None:
    """Do what the pipe says, until it says to finish, or is closed."""
    commands: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    running: asyncio.Task[Any] | None = None

    def read() -> None:
        try:
            name, arguments = pipe.recv()
        except (EOFError, OSError):
            loop.remove_reader(pipe.fileno())
            name, arguments = "gone", ()
        if name in ("finish", "gone") and running is not None:
            running.cancel()  # whatever is underway: the rest is worth having
        commands.put_nowait((name, arguments))

    loop.add_reader(pipe.fileno(), read)
    worker = Worker(share, lambda name, what: pipe.send((name, what)))
    while True:
        name, arguments = await commands.get()
        if name == "gone":
            return
        running = loop.create_task(getattr(worker, name)(*arguments))
        try:
            done = await running
        except asyncio.CancelledError:
            running = None
            continue
        running = None
        pipe.send(("done", (name, done)))
        if name == "finish":
            return


def work(share: Share, pipe: Pipe) -> None:
    """The main function of a process; what goes wrong is told through ``pipe``."""
    try:
        asyncio.run(_serve(share, pipe))
    except (BellwireError, OSError) as error:
        code = error.return_code if isinstance(error, BrokerRefused) else 0
        with contextlib.suppress(OSError):
            pipe.send(("failed", (code, str(error))))
