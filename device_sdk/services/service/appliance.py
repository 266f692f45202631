"""What doorbell and panel services share: pins and link on one loop, signals, where lines go."""

from __future__ import annotations

import logging
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, Generic

from ...client.display import say
from ...client.listener import CallEventListener
from ...client.logs import Log
from ...client.threaded import SignalingClient
from ...states import EndReason
from ..config.account import Account, Action, InputPin, OutputPin
from ..config.timezone import described
from ..gpio.pins import Input, Levels, Output, Pins
from ..logic import appliance as logic
from ..logic.appliance import Effect, Key, Note
from ..metrics.window import OtherLink
from .actions import Actions
from .link import ClientRunner
from .loop import Loop
from .sd_notify import Notifier
from .talks import Talks

log = Log("bellwire.pi")


class Exit(IntEnum):
    """The exit codes of the services; systemd does not restart after the last two."""

    OK = 0
    #: Something failed that may mend itself: started again.
    FAILED = 1
    #: The settings or the wiring need a person.
    SETTINGS = 2
    #: Another login with the same peer id took over; starting again would only take it back.
    SUPERSEDED = 17


class LinkState:
    """Turns the link's news into status, readiness and lines; both services have one."""

    def __init__(self, peer: str, broker: str, notifier: Notifier, loop: Loop) -> None:
        self._peer = peer
        self._broker = broker
        self._notifier = notifier
        self._loop = loop
        self._online: bool | None = None
        self._troubles: set[str] = set()
        self._status, self._beside = f"logging in at {broker}", ""

    def beside(self, problem: str) -> None:
        """What is wrong with another connection stands in each status; "" when nothing is."""
        self._beside = problem
        self._notifier.status(self._with())

    def _with(self, status: str | None = None) -> str:
        self._status = self._status if status is None else status
        return "; ".join(filter(None, (self._status, self._beside)))

    def online(self, online: bool, broker: str = "") -> bool:
        """Note the link's state, and, of several, which broker serves; whether it is news."""
        if online == self._online or (self._online is None and not online):
            return False
        self._online = online
        self._troubles.clear()
        if online:
            self._broker = broker or self._broker
            self._notifier.ready(self._with(f"online as {self._peer} at {self._broker}"))
            say(f"online as {self._peer} at {self._broker}")
        else:
            self._notifier.status(self._with(f"offline: {self._broker} is away"))
            say(f"offline: {self._broker} is away; trying again")
        return True

    def trouble(self, problem: str) -> None:
        """Say why logging in fails, once for each cause."""
        self._notifier.status(self._with(f"not logged in: {problem}"))
        if problem not in self._troubles:
            self._troubles.add(problem)
            log.warning("not logged in: %s; trying again", problem)

    def lost(self, problem: str) -> None:
        """End: the client failed, and whoever starts this service starts it afresh."""
        log.error("the client is done: %s; ending, to be started afresh", problem)
        self._loop.stop(Exit.FAILED)

    def superseded(self) -> None:
        """End: somebody else is this peer now."""
        log.error("another login as %s took over; is the id used twice?", self._peer)
        self._loop.stop(Exit.SUPERSEDED)


class LinkedService(ABC, Generic[Effect]):
    """What every service has: a link, actions, and effects that are performed, all on the loop.

    Tests replace ``make_link``. ``listener`` hears of calls on the client's threads.
    """

    def __init__(
        self,
        account: Account,
        listener: CallEventListener,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., ClientRunner],
        on: Mapping[str, Action] | None = None,
    ) -> None:
        self._loop = loop
        self._notifier = notifier
        self._actions = Actions()
        self._on = on or {}
        self._talks = Talks()
        self._state = LinkState(account.peer, account.broker, notifier, loop)
        self._link = make_link(account, listener, self, loop.post)

    @property
    def client(self) -> SignalingClient:
        """The client that it has."""
        return self._link.client

    @property
    def other_links(self) -> list[OtherLink]:
        """What it is connected to beside that, for its figures."""
        return []

    def on_link(self, online: bool, broker: str = "") -> None:
        """See :class:`~.link.LinkEvents`."""
        if self._state.online(online, broker):
            self._linked(online)

    @abstractmethod
    def _linked(self, online: bool) -> None:
        """The link came or went, which is news."""

    def on_trouble(self, problem: str) -> None:
        """See :class:`~.link.LinkEvents`."""
        self._state.trouble(problem)

    def on_superseded(self) -> None:
        """See :class:`~.link.LinkEvents`."""
        self._state.superseded()

    def on_lost(self, problem: str = "") -> None:
        """See :class:`~.link.LinkEvents`."""
        self._state.lost(problem)

    @abstractmethod
    def _call_ended(self, call: Any, reason: EndReason) -> None:
        """A call that went on is over."""

    def _log_out(self) -> None:
        """Log out. The loop turns no more: the ends that this makes are told from here."""
        self._link.stop()
        try:
            self._tell_ends()
        except Exception as error:  # noqa: BLE001 - what is left is to be closed all the same
            log.error("what went on has ended, and that is not told", error=error)

    def _tell_ends(self) -> None:
        """Tell that what went on until now is over."""
        for call in self._talks.underway():
            self._call_ended(call, call.reason or EndReason.LOGGED_OUT)

    def _do(self, effects: Iterable[Effect | Note]) -> None:
        for effect in effects:
            if isinstance(effect, Note):
                log.log(logging.WARNING if effect.warning else logging.INFO, "%s", effect.text)
            else:
                self._perform(effect)

    @abstractmethod
    def _perform(self, effect: Effect) -> None:
        """Do what was decided."""

    def _happened(self, event: str, **facts: object) -> None:
        """Have done outside what the settings say of that event."""
        action = self._on.get(event)
        if action is not None:
            self._actions.run(action, {"event": str(event), **facts})


class Appliance(LinkedService[Effect], Generic[Key, Effect]):
    """Pins, link and actions around the decisions of ``logic``; everything runs on the loop.

    Tests replace ``pins`` and ``make_link``.
    """

    def __init__(
        self,
        account: Account,
        buttons: Mapping[Key, InputPin],
        decisions: logic.ApplianceLogic[Key, Effect],
        listener: CallEventListener,
        pins: Pins,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., ClientRunner],
        on: Mapping[str, Action] | None = None,
    ) -> None:
        super().__init__(account, listener, loop, notifier, make_link, on)
        self._decisions = decisions
        self._pins = pins
        self._levels = Levels()
        self._inputs: dict[Key, Input] = {}
        for key, pin in buttons.items():
            self._inputs[key] = pins.watch(str(key), pin, self._edge(key))

    def run(self) -> int:
        """Serve until the loop is stopped; the exit code. Everything is closed afterwards."""
        try:
            held = frozenset(key for key, pin in self._inputs.items() if pin.active())
            self._do(self._decisions.start(held, self._loop.now()))
            say(f"time zone: {described()}")
            self._link.start()
            self._loop.pulse = self._link.pulse
            return self._loop.run(self._tick, self._deadline)
        finally:
            self._notifier.stopping()
            self._log_out()
            self._close()
            self._actions.close()
            self._pins.close()

    # --- what comes in, on the loop ----------------------------------------------------------

    def _linked(self, online: bool) -> None:
        self._do(self._decisions.link(online, self._loop.now()))

    def _edge(self, key: Key) -> Callable[[bool], None]:
        def edge(active: bool) -> None:
            # The time is that of the edge, not when the loop comes to it.
            at = self._loop.now()
            self._loop.post(lambda: self._do(self._decisions.edge(key, active, at)))

        return edge

    def _deadline(self) -> float | None:
        due = self._decisions.deadline
        return self._levels.before(due) if self._inputs else due

    def _tick(self) -> None:
        now = self._loop.now()
        for key, active in self._levels.ask(self._inputs, now):
            self._do(self._decisions.edge(key, active, now))
        self._do(self._decisions.tick(now))
        self._show()

    # --- what goes out -----------------------------------------------------------------------

    @abstractmethod
    def _show(self) -> None:
        """Bring the outputs to what the decisions say."""

    def _close(self) -> None:
        """Close what it has beyond pins, link and actions."""

    def _output(self, name: str, pin: OutputPin | None) -> Output:
        return _NoOutput() if pin is None else self._pins.output(name, pin)


class _NoOutput:
    def set(self, on: bool) -> None:
        """See :class:`~.pins.Output`."""


def stop_on_signals(loop: Loop) -> Callable[[], None]:
    """SIGTERM and SIGINT end the loop; returns what puts the former handlers back."""

    def stop(_number: int, _frame: Any) -> None:
        loop.stop(Exit.OK)

    former = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    return restore
