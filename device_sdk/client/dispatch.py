"""Turns what the core tells into what the application holds: invitations and events.

The registry of invitations lives here too: those underway strongly, ended ones as long as the
application holds them.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from ..core import callee
from ..core.caller import CallerCall
from ..core.events import (
    ENDS,
    CallEvent,
    ConnectionStateChanged,
    CoreEvent,
    LocalEvent,
    Name,
    PeerLost,
    PresenceChanged,
    RemoteEvent,
)
from ..core.wire.talk_cells import decode_message
from ..states import (
    ConnectionChange,
    ConnectionState,
    EndReason,
    LocalInvitationError,
    RemoteInvitationError,
    RemoteInvitationState,
)
from .calls import CallBase
from .invitations import Event, LocalInvitationBase, MissedCall, RemoteInvitationBase, value_of
from .logs import Records
from .refusal import Refusals

L = TypeVar("L", bound=LocalInvitationBase)
R = TypeVar("R", bound=RemoteInvitationBase)

#: What a listener gets beside the invitation.
_WITH_RESPONSE = frozenset({Name.LOCAL_ACCEPTED, Name.LOCAL_REFUSED})
_WITH_REASON = frozenset({Name.LOCAL_FAILURE, Name.LOCAL_PEER_LOST})

#: Made here or come in, peer, call id.
InvitationKey = tuple[bool, str, str]


class Dispatcher(Generic[L, R]):
    """The part of a client that follows the core's events."""

    _local: type[L]
    _remote: type[R]
    _call: type[CallBase]
    #: At which it is logged that the broker lets this client in no more.
    _refusal_level = logging.WARNING

    def __init__(self, peer_id: str, records: Records) -> None:
        self.peer_id = peer_id
        #: What is to be logged once the guard is released.
        self._records = records
        self._refusals = Refusals()
        self._underway: dict[InvitationKey, L | R] = {}
        self._over: WeakValueDictionary[InvitationKey, L | R] = WeakValueDictionary()
        #: Calls that go on.
        self._talks: dict[InvitationKey, CallBase] = {}
        #: Legs of ring groups whose end was told, for the group to go on.
        self._legs_ended: deque[L] = deque()

    # --- for the two clients to fill in ------------------------------------------------------

    def _deliver(self, event: Event) -> None:
        """Pass an event on to the application; must not run its code."""
        raise NotImplementedError

    def _accepted_here(self) -> None:
        """A call that came in is accepted."""
        raise NotImplementedError

    # --- following ---------------------------------------------------------------------------

    def _dispatch(self, event: CoreEvent) -> None:
        if isinstance(event, LocalEvent):
            self._dispatch_local(event, event.call.reason)
        elif isinstance(event, RemoteEvent):
            self._dispatch_remote(event)
        elif isinstance(event, PeerLost):
            self._dispatch_local(event, event.reason)
        elif isinstance(event, CallEvent):
            self._dispatch_call(event)
        elif isinstance(event, PresenceChanged):
            self._deliver(Event(event.name, (event.peer, event.online), peer=event.peer,
                                content=event.online))  # fmt: skip
        else:
            self._dispatch_connection(event)

    def _dispatch_connection(self, event: ConnectionStateChanged) -> None:
        if event.state is ConnectionState.CONNECTED:
            self._refusals.connected()
        elif event.state is ConnectionState.RECONNECTING:
            refused = event.change is ConnectionChange.REFUSED
            if refused and self._refusals.refused(event.detail):
                self._say_refusal()
        self._records.add(logging.INFO, "%s: %s (%s) %s", self.peer_id, event.state.name,
                           event.change, event.detail)  # fmt: skip
        self._deliver(Event(event.name, (event.state, event.change), state=event.state,
                            reason=event.change, detail=event.detail))  # fmt: skip

    def _say_refusal(self) -> None:
        self._records.add(self._refusal_level, "%s cannot log in again: %s; trying again",
                           self.peer_id, self._refusals.last)  # fmt: skip

    def _dispatch_local(self, event: LocalEvent | PeerLost, reason: EndReason | None) -> None:
        record, name = event.call, event.name
        key = (True, record.callee, record.call_id)
        invitation = self._underway.get(key) or self._over.get(key) or self._let_go(record)
        invitation._follow(record)  # type: ignore[arg-type]  # an L by its key
        if name is Name.LOCAL_ACCEPTED and record.talks:
            self._goes_on(key, invitation)
        # Before the listener's thread is woken, which then waits for nothing of this one.
        self._records.add(logging.INFO, "call %s to %s: %s (%s)", record.call_id, record.callee,
                           name, reason)  # fmt: skip
        args: tuple[Any, ...] = (invitation,)
        if name in _WITH_RESPONSE:
            args = (invitation, invitation.response)
        elif name in _WITH_REASON:
            args = (invitation, record.error if name is Name.LOCAL_FAILURE else reason)
        self._deliver(
            Event(
                name,
                args,
                invitation,
                None,
                record.callee,
                record.call_id,
                record.state,
                reason,
                record.error,
                invitation._response,
                invitation.content,
            )
        )
        self._end(key, name, invitation)

    def _let_go(self, record: CallerCall) -> L:
        """The invitation of a call that ended, and of which the app kept none.

        It is told all the same that nobody is there after all: a door may stand open.
        """
        offer = record.offer
        invitation = self._local(record.callee, record.call_id, offer.group)
        invitation._client = self
        invitation._content, invitation._channel_id = value_of(offer.content), offer.channel
        invitation._ended = True
        return invitation

    def _dispatch_remote(self, event: RemoteEvent) -> None:
        record = event.call
        if event.name is Name.MISSED_CALL:
            missed = MissedCall.of(record)
            self._deliver(Event(event.name, (missed,), missed=missed, peer=record.caller,
                                call_id=record.call_id, state=record.state,
                                reason=record.reason, content=missed.content))  # fmt: skip
            self._log_remote(event)
            return
        key = (False, record.caller, record.call_id)
        invitation = self._underway.get(key)
        if invitation is None:
            invitation = self._underway[key] = self._remote(record)
            invitation._client = self
        invitation._follow(record)  # type: ignore[arg-type]  # an R by its key
        self._log_remote(event)
        args: tuple[Any, ...] = (invitation,)
        if event.name is Name.REMOTE_ACCEPTED:
            self._accepted_here()
            if record.talks:
                self._goes_on(key, invitation)
        elif event.name is Name.REMOTE_FAILURE:
            args = (invitation, record.error)
        self._deliver(
            Event(
                event.name,
                args,
                invitation,
                None,
                record.caller,
                record.call_id,
                record.state,
                record.reason,
                record.error,
                invitation._response,
                invitation.content,
            )
        )
        self._end(key, event.name, invitation)

    def _goes_on(self, key: InvitationKey, invitation: L | R) -> None:
        """An invitation ends with *accepted*, and its call goes on."""
        made, peer, call_id = key
        call = self._talks[key] = invitation._talk = self._call(
            peer, call_id, invitation, made=made
        )
        call._client = self

    def _dispatch_call(self, event: CallEvent) -> None:
        record, name = event.call, event.name
        peer, call_id = record.key
        key = (isinstance(record, CallerCall), peer, call_id)
        call = self._talks.get(key)
        if call is None:
            return
        args: tuple[Any, ...] = (call,)
        message = None
        if name is Name.CALL_MESSAGE and event.message is not None:
            message = decode_message(event.message)
            args = (call, message)
        elif name is Name.CALL_ENDED:
            del self._talks[key]
            call._reason = event.reason or EndReason.HUNG_UP
            args = (call, call._reason)
        self._deliver(Event(name, args, call.invitation, peer=peer, call_id=call_id,
                            state=call.state, reason=call._reason, content=message,
                            call=call))  # fmt: skip
        if name is Name.CALL_ENDED:
            call._wake()
        level = logging.DEBUG if name is Name.CALL_MESSAGE else logging.INFO
        self._records.add(level, "call %s with %s: %s (%s)", call_id, peer, name,
                           event.reason)  # fmt: skip

    def _log_remote(self, event: RemoteEvent) -> None:
        record = event.call
        self._records.add(logging.INFO, "call %s from %s: %s (%s)", record.call_id, record.caller,
                           event.name, record.reason)  # fmt: skip

    def _end(self, key: tuple[bool, str, str], name: Name, invitation: L | R) -> None:
        if name in ENDS:
            invitation._ended = True
            self._underway.pop(key, None)
            self._over[key] = invitation
            if invitation.group is not None and key[0]:
                self._legs_ended.append(invitation)  # type: ignore[arg-type]  # made here: an L
            invitation._wake()

    def _drop_underway(self) -> None:
        """End every invitation that is underway: there is nobody any more to follow it."""
        for key, invitation in list(self._underway.items()):
            if isinstance(invitation, LocalInvitationBase):
                name = Name.LOCAL_FAILURE
                invitation._fail(LocalInvitationError.NOT_LOGGEDIN, EndReason.CLIENT_FAILED)
            else:
                name = Name.REMOTE_FAILURE
                invitation._follow(
                    callee.evolve(
                        invitation._record,
                        state=RemoteInvitationState.FAILURE,
                        error=RemoteInvitationError.INVITATION_EXPIRE,
                        reason=EndReason.CLIENT_FAILED,
                    )
                )
            self._deliver_failure(name, invitation, key[1])
            self._end(key, name, invitation)
        for key, call in list(self._talks.items()):
            del self._talks[key]
            call._reason = EndReason.CLIENT_FAILED
            self._deliver(Event(Name.CALL_ENDED, (call, call._reason), call.invitation, peer=key[1],
                                call_id=key[2], state=call.state, reason=call._reason,
                                call=call))  # fmt: skip
            call._wake()

    def _deliver_failure(self, name: Name, invitation: L | R, peer: str) -> None:
        """Tell that an invitation failed, as its fields say."""
        self._deliver(Event(name, (invitation, invitation.error), invitation, peer=peer,
                            call_id=invitation.call_id, state=invitation.state,
                            reason=invitation.reason, error=invitation.error))  # fmt: skip
