"""What else becomes of the bridge's calls: a row in the history, and the settings' hooks.

Neither waits for anything, nor for Home Assistant: its broker may be away.
"""

from __future__ import annotations

from collections.abc import Callable

from ..config.homeassistant import MqttButton
from ..history.store import HistoryOutcome
from ..history.writer import History
from ..logic.doorbell import PressOutcome
from ..logic.messages import text_or_all
from ..logic.notice import ServiceEvent
from ..logic.panel import CallEnd
from ..service.talks import EndedTalk
from .discovery import HaCall
from .effects import CallEvent, CallOver, CallRang

#: How each end of a call is called by hooks and by the history.
ENDS = {
    HaCall.ANSWERED: (CallEnd.ACCEPTED, HistoryOutcome.ANSWERED),
    HaCall.REFUSED: (CallEnd.REFUSED, HistoryOutcome.REFUSED),
    HaCall.MISSED: (CallEnd.MISSED, HistoryOutcome.MISSED),
    HaCall.CANCELED: (CallEnd.MISSED, HistoryOutcome.CANCELED),  # before anybody came
    HaCall.ANSWERED_ELSEWHERE: (CallEnd.ANSWERED_ELSEWHERE, HistoryOutcome.ANSWERED_ELSEWHERE),
    HaCall.FAILED: (CallEnd.FAILED, HistoryOutcome.FAILED),
}
#: And how a ring for a button ended.
_RUNG = {
    PressOutcome.ACCEPTED: HistoryOutcome.ANSWERED,
    PressOutcome.REFUSED: HistoryOutcome.REFUSED,
    PressOutcome.CANCELED: HistoryOutcome.CANCELED,
}


class CallLog:
    """Of the peer ``me``; ``happened`` runs a hook. On the loop's thread."""

    def __init__(self, me: str, history: History, happened: Callable[..., None]) -> None:
        self._me, self._history, self._happened = me, history, happened
        #: The rows of calls that buttons rang for.
        self._rows: dict[str, str] = {}

    def note(self, event: CallEvent) -> None:
        """Something has become of a call that came in."""
        if isinstance(event, CallRang):
            call = event.call
            text = text_or_all(call.content)
            self._history.rang(call.call_id, call.caller, self._me, text)
            if not event.again:
                self._happened(
                    ServiceEvent.RINGING,
                    call_id=call.call_id,
                    peer=call.caller,
                    content=call.content,
                )
        elif isinstance(event, CallOver):
            self._over(event)
        else:
            self._history.opened(event.call_id)

    def _over(self, event: CallOver) -> None:
        call, (end, outcome) = event.call, ENDS[event.how]
        if event.rang:
            here = end in (CallEnd.ACCEPTED, CallEnd.REFUSED)
            self._history.ended(call.call_id, outcome, self._me if here else "")
        else:
            text = text_or_all(call.content)
            self._history.missed(call.call_id, call.caller, self._me, text)
        self._happened(
            end,
            call_id=call.call_id,
            peer=call.caller,
            content=call.content,
            response=event.response,
        )

    def pressed(self, button: MqttButton) -> None:
        """An MQTT button was pressed."""
        self._happened(ServiceEvent.PRESSED, button=button.name, content=button.content)

    def rings(self, button: MqttButton, ring: str) -> None:
        """It rings; ``ring`` is what the history knows it by."""
        whom = ", ".join(button.peers)
        self._history.rang(ring, self._me, whom, text_or_all(button.content))

    def rung(self, button: MqttButton, ring: str, outcome: PressOutcome, peer: str) -> None:
        """That ring is over; ``peer`` is who answered, if anybody did."""
        self._history.ended(ring, _RUNG.get(outcome, HistoryOutcome.MISSED), peer)
        if outcome is PressOutcome.NOBODY:
            self._happened(ServiceEvent.MISSED, button=button.name, content=button.content)

    def talk_of_ring(self, call_id: str, ring: str) -> None:
        """That call goes on, for which a button rang."""
        self._rows[call_id] = ring

    def talk_ended(self, call_id: str, talk: EndedTalk) -> None:
        """That call is over."""
        self._history.talked(self._rows.pop(call_id, call_id), talk.seconds)
        self._happened(ServiceEvent.CALL_ENDED, **talk.facts)
