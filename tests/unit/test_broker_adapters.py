"""The broker's end of a TCP connection, with a socket pair in the network's place."""

from __future__ import annotations

import asyncio
import socket

import pytest

from broker_config.adapters import SignalingStreamWriter


def test_what_is_written_to_a_lost_connection_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client that goes before its acknowledgements come writes nothing into the broker's log."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        _reader, stream = await asyncio.open_connection(sock=ours)
        writer = SignalingStreamWriter(stream)
        theirs.close()
        for _ in range(20):
            writer.write(b"\x40\x02\x00\x01")
        await asyncio.sleep(0)
        for _ in range(20):
            writer.write(b"\x40\x02\x00\x01")
        writer.abandon()

    asyncio.run(run())
    assert [record.message for record in caplog.records] == []
