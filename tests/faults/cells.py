"""One cell of the fault matrix: bring a call into a state, do the fault to one end, see what comes.

What has to come is in ``expected``; by when, in ``Fault.bound``; how it is looked at, in ``judge``.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import traceback
from collections.abc import Iterator

from tests.faults.faults import BROKER_AWAY, BROKER_STOPPED, OPEN, STATES, Fault
from tests.faults.judge import Judging
from tests.faults.registered import RegisteredBroker
from tests.faults.stage import RESOLVER, Result, World
from tests.servers import BrokerProcess


class Cell(Judging):
    """One fault in one state at one end; ``run`` gives the result and never raises."""

    def run(self) -> Result:
        try:
            with contextlib.ExitStack() as stack:
                self.more = stack
                self._into_the_state(stack)
                self._inject()
                self._heal()
                self._go_on()
                self._check()
        except BaseException:  # noqa: BLE001 - every problem belongs into the table
            lines = (traceback.format_exc(), self._on_the_wire(), self._told())
            self.result.problem = "\n".join(lines)
        return self.result


def cells_of(world: World, fault: Fault) -> Iterator[Cell]:
    """All cells of one fault."""
    number = 0
    for state in STATES:
        if (fault.name, state) in OPEN:
            continue
        for end in fault.cells(state):
            yield Cell(world, fault, state, end, number)
            number += 1


def run(fault: Fault, broker: BrokerProcess, states: tuple[str, ...] = STATES) -> list[Result]:
    """All cells of one fault at one broker, all at once: they mostly wait."""
    registered = isinstance(broker, RegisteredBroker)
    world = World(broker, "sig" if registered else f"m-{fault.name}")
    try:
        cells = [cell for cell in cells_of(world, fault) if cell.state in states]
        if fault.both:
            turns = iter((broker.kill, broker.start))
            if fault.name == "broker-away":
                turns = iter((broker.kill, lambda: _start_later(broker)))
            elif fault.name == "broker-stopped":
                turns = iter((lambda: broker.signal(signal.SIGSTOP), lambda: _thaw(broker)))

            def turn() -> None:
                next(turns)()

            world.meet = threading.Barrier(len(cells), action=turn)
        threads = [threading.Thread(target=cell.run, name="cell") for cell in cells]
        with RESOLVER:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return [cell.result for cell in cells]
    finally:
        world.close()


def _start_later(broker: BrokerProcess) -> None:
    threading.Event().wait(BROKER_AWAY)  # the fault itself is that this much time passes
    broker.start()


def _thaw(broker: BrokerProcess) -> None:
    threading.Event().wait(BROKER_STOPPED)  # the fault itself is that this much time passes
    broker.signal(signal.SIGCONT)
