"""Whether anything of a call is left at a broker, of whatever make."""

from __future__ import annotations

import contextlib
import time

from tests.servers import BrokerProcess

from .raw import Raw


def nothing_is_left(broker: BrokerProcess, realm: str) -> None:
    """No cell of a call is at the broker any more, within a moment.

    Asked anew each time: on a cluster what stood retained may come after the word that cleared it.
    """
    qos, deadline = broker.subscribe_qos, time.monotonic() + 15
    while True:
        with Raw(broker.port, patient=len(broker.urls) > 1) as raw:
            assert raw.connect("looks") == 0
            raw.subscribe(f"{realm}/v1/+/invite/#", f"{realm}/v1/+/answer/#", qos=qos)
            left = [each.topic for each in raw.gather() if each.data]
            if not left:
                return
            assert time.monotonic() < deadline, f"cells are left: {left}"
            with contextlib.suppress(TimeoutError):
                raw.message(0.1)
