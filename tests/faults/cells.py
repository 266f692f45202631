"""One cell of the fault matrix: bring a call into a state, do the fault to one end, see what comes.

What has to come is in ``expected``; by when, in ``Fault.bound``; how it is looked at, in ``judge``.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import traceback
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager

from tests.faults.faults import BROKER_AWAY, BROKER_STOPPED, OPEN, STATES, Fault
from tests.faults.judge import Judging
from tests.faults.registered import RegisteredBroker
from tests.faults.stage import RESOLVER, Result, World
from tests.faults.stalls import Stalls
from tests.servers import BrokerProcess

States = tuple[str, ...]


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
            self.result.problem = traceback.format_exc() + self._told()
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


def run_fairly(
    fault: Fault, started: Callable[[], AbstractContextManager[BrokerProcess]], states: States
) -> list[Result]:
    """As :func:`run`, at a broker of its own.

    What failed while this machine stood still is done once more, at another broker, and that is
    said: the bounds are those of a machine that goes on.
    """
    with Stalls() as stalls, started() as broker:
        results = run(fault, broker, states)
    failed = {(each.state, each.end): each for each in results if each.problem}
    if not failed or not stalls.stood_still:
        return results
    for each in failed.values():
        print(
            f"{each.name}: the machine stood still for {stalls.worst:.1f} s; once more", flush=True
        )
    with started() as broker:
        again = run(fault, broker, states, failed)
    return [*(each for each in results if not each.problem), *again]


def run(
    fault: Fault,
    broker: BrokerProcess,
    states: States = STATES,
    only: Container[tuple[str, str]] | None = None,
) -> list[Result]:
    """All cells of one fault at one broker, all at once: they mostly wait.

    ``only``: not all of them but these, by state and end.
    """
    registered = isinstance(broker, RegisteredBroker)
    world = World(broker, "sig" if registered else f"m-{fault.name}")
    try:
        cells = [
            cell
            for cell in cells_of(world, fault)
            if cell.state in states and (only is None or (cell.state, cell.end) in only)
        ]
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
