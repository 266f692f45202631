"""Connections of the bundled broker whose transport is not what it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from broker_config.net.connection import StreamConnection


class _TakenApart:
    """As Python 3.11.2's TLS transport is once both ends have closed it."""

    def close(self) -> None:
        """Nothing is left to close."""

    def is_closing(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        raise AttributeError("'NoneType' object has no attribute '_get_write_buffer_size'")

    def abort(self) -> None:
        raise AttributeError("'NoneType' object has no attribute '_abort'")


@pytest.mark.parametrize("how", ["end", "abort", "drop"])
def test_a_tls_transport_that_has_taken_itself_apart_is_ended_once_more(how: str) -> None:
    """Its place is given back, whatever the transport says: Debian 12's Python raises here."""
    later: list[Any] = []
    host: Any = SimpleNamespace(
        loop=SimpleNamespace(call_later=lambda _seconds, call: later.append(call))
    )
    connection = StreamConnection(host)
    connection.transport = _TakenApart()
    if how == "drop":
        connection.drop()
    else:
        connection.finish(abort=how == "abort")
    for call in later:
        call()
    assert connection.ended
    assert connection.unsent == 0
