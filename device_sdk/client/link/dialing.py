"""A TCP connection to whatever a name stands for: each step bounded, nothing thrown away.

Resolving blocks, and nothing ends it: it has a thread of its own, one for each name, which whoever
asks next waits for as well. So a resolver that takes longer than anybody waits still serves the
next attempt. The addresses are then raced (RFC 8305): the next one begins a moment after the one
before, or as soon as that has failed, and the first that answers wins.
"""

from __future__ import annotations

import errno
import ipaddress
import math
import os
import select
import socket
import threading
import time
from collections import deque
from itertools import chain, zip_longest
from typing import Any

#: How long one attempt waits for the resolver; the next one goes on waiting for the same.
RESOLVE_TIMEOUT = 15.0
#: From the first address to an answer of any of them.
CONNECT_TIMEOUT = 15.0
#: One address's lead over the next one (RFC 8305, 5: Connection Attempt Delay).
LEAD = 0.25
#: An answer that took longer than ``_SLOW`` seconds serves for ``_KEPT`` more: else an attempt that
#: fails for another reason, such as its login's time, would begin with that wait again.
_SLOW = 1.0
_KEPT = 30.0

Address = tuple[int, tuple[Any, ...]]


class ResolveTimeout(TimeoutError):
    """The resolver has not answered yet."""


class _LookUp:
    """One question to the system's resolver, on a thread that ends when that answers."""

    def __init__(self, host: str, port: int) -> None:
        self.done = threading.Event()
        self.asked = self.answered = time.monotonic()
        self._host, self._port = host, port
        self._addresses: list[Address] = []
        self._error: Exception | None = None
        threading.Thread(target=self._run, name=f"bellwire-resolve-{host}", daemon=True).start()

    def result(self) -> list[Address]:
        """The addresses, in the resolver's order; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._addresses

    @property
    def spent(self) -> bool:
        """Whether its answer is not to be used again."""
        if self._error is not None or self.answered - self.asked < _SLOW:
            return True
        return time.monotonic() - self.answered > _KEPT

    def _run(self) -> None:
        try:
            self._addresses = _ask(self._host, self._port)
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            self._error = error
        self.answered = time.monotonic()
        self.done.set()


_lock = threading.Lock()
_underway: dict[tuple[str, int], _LookUp] = {}


def _forget_all() -> None:
    """After a fork: the threads that would answer are in the other process."""
    global _lock  # noqa: PLW0603 - one that was held by another thread stays so for ever
    _lock = threading.Lock()
    _underway.clear()


os.register_at_fork(after_in_child=_forget_all)


def _ask(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def resolve(host: str, port: int, timeout: float = RESOLVE_TIMEOUT) -> list[Address]:
    """The addresses of ``host``; raises ``OSError``, :class:`ResolveTimeout` after ``timeout`` s.

    Also ``UnicodeError`` for what is no host name.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return _ask(host, port)  # nothing to look up
    key = host, port
    with _lock:
        asked = _underway.get(key)
        if asked is None or (asked.done.is_set() and asked.spent):
            asked = _underway[key] = _LookUp(host, port)
    if not asked.done.wait(timeout):
        raise ResolveTimeout(f"the resolver has not answered within {timeout:.0f} s")
    return asked.result()


def interleaved(addresses: list[Address]) -> list[Address]:
    """The families by turns, each in its order, the first one's first (RFC 8305, 4)."""
    families: dict[int, list[Address]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(address[0], []).append(address)
    turns = zip_longest(*families.values())
    return [address for address in chain.from_iterable(turns) if address is not None]


def connect(host: str, port: int, at_most: float = math.inf) -> socket.socket:
    """A connected socket, blocking, with TCP_NODELAY; raises ``OSError`` of the first that failed.

    Blocks: up to :data:`RESOLVE_TIMEOUT`, then up to :data:`CONNECT_TIMEOUT`; each ``at_most`` s.
    """
    addresses = resolve(host, port, min(RESOLVE_TIMEOUT, at_most))
    return race(interleaved(addresses), min(CONNECT_TIMEOUT, at_most))


def race(addresses: list[Address], timeout: float = CONNECT_TIMEOUT) -> socket.socket:
    """Connect to whichever of ``addresses`` answers first; the others are closed."""
    waiting = deque(addresses)
    trying: dict[int, socket.socket] = {}
    poll = select.poll()
    failure: OSError | None = None
    now = time.monotonic()
    ends, begins = now + timeout, now
    try:
        while True:
            if waiting and (now >= begins or not trying):
                begins = now + LEAD
                try:
                    sock = _begin(waiting.popleft())
                except OSError as error:
                    failure = failure or error
                    continue
                trying[sock.fileno()] = sock
                poll.register(sock, select.POLLOUT)
            elif not waiting and not trying:
                raise failure or OSError("the name has no address")
            elif now >= ends:
                raise TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout:.0f} s")
            until = min(begins, ends) if waiting else ends
            for fd, _ in poll.poll(max(0.0, until - now) * 1000):
                sock = trying[fd]
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                poll.unregister(fd)
                del trying[fd]
                if code == 0:
                    sock.setblocking(True)
                    return sock
                sock.close()
                failure = failure or OSError(code, os.strerror(code))
                begins = now  # the next one need not wait
            now = time.monotonic()
    finally:
        for sock in trying.values():
            sock.close()


def _set_nodelay(sock: socket.socket) -> None:
    # Nagle's algorithm against delayed acknowledgement costs each QoS 1 message 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _begin(address: Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        _set_nodelay(sock)
        sock.setblocking(False)
        code = sock.connect_ex(where)
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            raise OSError(code, os.strerror(code))
    except OSError:
        sock.close()
        raise
    return sock
