"""atheris against the parser and the handler, guided by coverage, for as long as one likes.

``python -m tests.fuzz.broker_wire -max_total_time=60``; needs ``pip install atheris``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys

import atheris

with atheris.instrument_imports(include=["broker_config"]):
    from broker_config.limits import Limits
    from broker_config.wire import FrameBuffer, ProtocolViolation, decode

from tests.bench.broker_wire import connect
from tests.broker_support.memory import converse, unserved_broker

LOOP = asyncio.new_event_loop()
LIMITS = Limits(packet_bytes=4096, filters_per_client=5, inflight_incoming=3, retained=20)


async def _make() -> object:
    return unserved_broker(LIMITS)


BROKER = LOOP.run_until_complete(_make())


def one(data: bytes) -> None:
    """Parse, then converse with the same broker again and again: what grows is seen."""
    buffer = FrameBuffer(LIMITS.packet_bytes)
    buffer.feed(data)
    with contextlib.suppress(ProtocolViolation):
        for frame in buffer.frames():
            decode(*frame)
    LOOP.run_until_complete(converse(BROKER, [connect("one"), data]))
    assert not BROKER.stats.cut["error"], "an unhandled exception"
    assert not BROKER.connection_count, "a connection is left"
    assert not BROKER.subscription_count, "a subscription is left"
    assert not BROKER.sessions, "a session is left"
    assert len(BROKER.retained_messages) <= LIMITS.retained


def main() -> None:
    """Fuzz until stopped."""
    logging.disable(logging.CRITICAL)
    asyncio.set_event_loop(LOOP)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
