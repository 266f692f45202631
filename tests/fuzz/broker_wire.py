"""atheris against the parser and the core, guided by coverage, for as long as one likes.

``python -m tests.fuzz.broker_wire -max_total_time=60``; needs ``pip install atheris``.
"""

from __future__ import annotations

import contextlib
import logging
import sys

import atheris

with atheris.instrument_imports(include=["broker_config"]):
    from broker_config.core.limits import Limits
    from broker_config.core.packets import Frames, ProtocolViolation, decode

from tests.bench.broker_wire import connect
from tests.broker_support.memory import converse, unserved

LIMITS = Limits(packet_bytes=4096, filters_per_client=5, inflight_incoming=3, retained=20)
CORE = unserved(LIMITS)


def one(data: bytes) -> None:
    """Parse, then converse with the same core again and again: what grows is seen."""
    frames = Frames(LIMITS.packet_bytes)
    frames.feed(data)
    with contextlib.suppress(ProtocolViolation):
        while (frame := frames.next()) is not None:
            decode(*frame)
    converse(CORE, [connect("one"), data])
    assert not CORE.stats.cut["error"], "an unhandled exception"
    assert not CORE.links, "a connection is left"
    assert not len(CORE.subscriptions), "a subscription is left"
    assert not CORE.sessions, "a session is left"
    assert len(CORE.retained) <= LIMITS.retained


def main() -> None:
    """Fuzz until stopped."""
    logging.disable(logging.CRITICAL)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
