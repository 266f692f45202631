"""What the threaded and the asyncio client have in common: everything but waiting.

A :class:`BaseClient` checks arguments, owns the session, keeps the invitations and turns the core's
events into the application's. A subclass says how its one owner is woken, how an event reaches the
application, and what guards the session (a lock, or nothing).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Never

from ..core.connection import LoginSession
from ..core.effects import (
    Accept,
    Cancel,
    Input,
    Logout,
    Refuse,
    Send,
    Unwatch,
    Watch,
)
from ..core.events import Name
from ..core.rotation import Rotation
from ..core.settings import RENAMED, Settings
from ..core.wire import topics
from ..core.wire.cells import GROUP_BYTES, AnswerReason
from ..errors import (
    ClientClosed,
    InvalidArgument,
    InvitationApiCallError,
)
from ..states import (
    ConnectionState,
    EndReason,
    InvitationApiCallErrorCode,
    LocalInvitationError,
    LocalInvitationState,
)
from .clocks import since_start
from .dispatch import L, R
from .groups import Ringing
from .invitations import LocalInvitationBase, RemoteInvitationBase, body_of, value_of
from .link.base import LinkFactory
from .link.factory import Brokers, chosen_secret, chosen_tls, paho_links
from .link.url import Tls, clear_text
from .policy import Policy
from .refusal import cure
from .screening import REFUSAL_WORDS
from .vocabulary import FORMER

#: How long a logout waits for the broker to acknowledge the goodbye.
LOGOUT_TIMEOUT = 2.0
#: Of a ring's time, how much at most is waited for a first sign of life.
ACK_SHARE = 0.9

#: What the arguments of a client are where they are left out.
_BY_DEFAULT = Settings()

# Members by themselves, as in callee_steps: every ring waits for these.
_IDLE, _SENT = LocalInvitationState.IDLE, LocalInvitationState.SENT_TO_REMOTE


class BaseClient(Ringing[L, R]):
    """The common part of a signaling client; see the two clients for the arguments."""

    def __init__(
        self,
        peer: str,
        broker: str | Sequence[str] | LinkFactory = "mqtt://127.0.0.1:1883",
        *,
        username: str | None = None,
        password: str | None = None,
        secret_file: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        tls: Tls | None = None,
        realm: str = topics.DEFAULT_REALM,
        keepalive: int = 15,
        subscribe_qos: int = 1,
        policy: Policy | None = None,
        talk: bool = False,
        clock: Callable[[], float] = since_start,
        wall: Callable[[], float] = time.time,
        ring_timeout: float = _BY_DEFAULT.ring_timeout,
        ack_timeout: float = _BY_DEFAULT.ack_timeout,
        accept_timeout: float = _BY_DEFAULT.accept_timeout,
        caller_lost_grace: float = _BY_DEFAULT.caller_lost_grace,
        ring_slack: float = _BY_DEFAULT.ring_slack,
        missed_call_ttl: float = _BY_DEFAULT.missed_call_ttl,
        dedup_window: float = _BY_DEFAULT.dedup_window,
        resend_first: float = _BY_DEFAULT.resend_first,
        resend_max: float = _BY_DEFAULT.resend_max,
        probe_interval: float = _BY_DEFAULT.probe_interval,
        presence_linger: float = _BY_DEFAULT.presence_linger,
        startup_timeout: float = _BY_DEFAULT.startup_timeout,
        logout_grace: float = _BY_DEFAULT.logout_grace,
        max_calls_per_caller: int = _BY_DEFAULT.max_calls_per_caller,
        talk_limit: float = _BY_DEFAULT.talk_limit,
        peer_lost_grace: float = _BY_DEFAULT.peer_lost_grace,
        link_lost_grace: float = _BY_DEFAULT.link_lost_grace,
        max_calls: int = _BY_DEFAULT.max_calls,
        **unknown: Never,
    ) -> None:
        super().__init__(topics.check_peer_id(peer, "peer"))
        if unknown:
            name = min(unknown)
            now = FORMER.get(name) or RENAMED.get(name)
            raise InvalidArgument(name, f"it is called {now}" if now else "no such setting")
        self.realm = topics.check_realm(realm)
        if isinstance(keepalive, bool) or not isinstance(keepalive, int):
            raise InvalidArgument("keepalive", f"whole seconds, not {keepalive!r}")
        if not 1 <= keepalive <= 65535:
            raise InvalidArgument("keepalive", f"1 to 65535 s, not {keepalive}")
        if type(subscribe_qos) is not int or subscribe_qos not in (0, 1):
            raise InvalidArgument("subscribe_qos", f"0 or 1, not {subscribe_qos!r}")
        self.settings = Settings(
            ring_timeout=ring_timeout,
            ack_timeout=ack_timeout,
            accept_timeout=accept_timeout,
            caller_lost_grace=caller_lost_grace,
            ring_slack=ring_slack,
            missed_call_ttl=missed_call_ttl,
            dedup_window=dedup_window,
            resend_first=resend_first,
            resend_max=resend_max,
            probe_interval=probe_interval,
            presence_linger=presence_linger,
            startup_timeout=startup_timeout,
            logout_grace=logout_grace,
            max_calls_per_caller=max_calls_per_caller,
            talk_limit=talk_limit,
            peer_lost_grace=peer_lost_grace,
            link_lost_grace=link_lost_grace,
            max_calls=max_calls,
        )
        if not isinstance(talk, bool):
            raise InvalidArgument("talk", f"True or False, not {talk!r}")
        self.talk = talk
        tls = chosen_tls(ca_file, cert_file, key_file, tls)
        secret = "password" if secret_file is None and password is not None else secret_file
        self._refusals.cure = cure(self.peer_id, secret, None if tls is None else tls.cert_file)
        password = chosen_secret(password, secret_file)
        if not callable(broker) and password is not None and (warning := clear_text(broker)):
            self._records.add(logging.WARNING, "%s: %s", self.peer_id, warning)
            self._records.flush()
        self._brokers = (
            Brokers.only(broker)
            if callable(broker)
            else paho_links(self.peer_id, broker, username, password, tls, keepalive, subscribe_qos)
        )
        self._rotation = Rotation(self._brokers.names, self._brokers.sources)
        self._keep_alive(keepalive)
        self._clock, self._wall = clock, wall
        if policy is not None:
            self.set_policy(policy)
        for name, each in (("clock", clock), ("wall", wall)):
            if not callable(each):
                raise InvalidArgument(name, f"what gives seconds when called, not {each!r}")
        self._set_up()

    def _set_up(self) -> None:
        """Make what this client has besides; the arguments are sound."""
        raise NotImplementedError

    def _command(self, what: Input) -> None:
        if not isinstance(what, Logout):  # which may come when its loop has gone
            self._check_caller()
        with self._supervised:
            now = self._time()
            with self._guard:
                session = self._session
                if session is None or session.closed:
                    raise self._closed_error()
                try:
                    self._feed(session, what, now)
                    self._refresh(session, what)
                finally:
                    self._perform()

    def _hang_up(self) -> None:
        """Tell whoever reads events that there will be none."""

    def _check_caller(self) -> None:
        """Raise for who may not give commands; the threaded client takes them from all."""

    def _refresh(self, session: LoginSession, what: Input) -> None:
        """Let an invitation show at once what the app has just decided, and the engine took."""
        if isinstance(what, Cancel):
            made = session.engine.caller.calls[what.callee, what.call_id]
            self._underway[True, what.callee, what.call_id]._follow(made)  # type: ignore[arg-type]  # an L by its key
        elif isinstance(what, Accept):
            came = session.engine.callee.calls[what.caller, what.call_id]
            invitation = self._underway[False, what.caller, what.call_id]
            invitation._response = value_of(what.response)
            invitation._follow(came)  # type: ignore[arg-type]  # an R by its key

    # --- the application's calls -------------------------------------------------------------

    @property
    def connection_state(self) -> ConnectionState:
        """How the client stands with its broker; from any thread."""
        return ConnectionState.DISCONNECTED if self._session is None else self._session.state

    @property
    def broker(self) -> str:
        """The URL of the broker that serves, or else is tried now; ``""`` for a link of your own.

        Of several it changes with each failure.
        """
        return self._rotation.name

    @property
    def stats(self) -> dict[str, Any]:
        """What was counted since login: calls by end, drops by cause, resends, connects.

        A copy, from any thread; empty before login.
        """
        # No guard: counters are copied whole, and whoever reads them may be anywhere.
        session = self._session
        return {} if session is None else session.engine.stats.snapshot()

    def create(self, callee_id: str, group: bytes | None = None) -> L:
        """Make an invitation, IDLE; ``group``: 16 bytes that several share, of which one wins.

        Raises :class:`InvalidArgument`.
        """
        if group is not None and not (isinstance(group, bytes) and len(group) == GROUP_BYTES):
            raise InvalidArgument("group", f"{GROUP_BYTES} random bytes, not {group!r}")
        callee = topics.check_peer_id(callee_id, "callee_id")
        if callee == self.peer_id:
            raise InvalidArgument("callee_id", f"{callee!r} cannot call itself")
        call_id = topics.call_id_from_bytes(os.urandom(topics.CALL_ID_BYTES))
        invitation = self._local(callee, call_id, group)
        invitation._client = self
        return invitation

    def send(
        self,
        invitation: L,
        ring_timeout: float | None = None,
        ack_timeout: float | None = None,
    ) -> None:
        """Send an invitation that is IDLE; time-outs in seconds, None for the settings.

        Raises :class:`InvitationApiCallError` (ALREADY_SENT, ALREADY_END; INVALID_ARGUMENT: a
        content that cannot be sent), :class:`InvalidArgument`, :class:`ClientClosed` once logged
        out. Before login it fails with NOT_LOGGEDIN, told as an event.
        """
        _checked_invitation(invitation, self._local)
        _check_unsent(invitation)
        if ring_timeout is not None:
            Settings(ring_timeout=ring_timeout)  # the same bounds
        if ack_timeout is not None:
            Settings(ack_timeout=ack_timeout)
        # Who shows no sign of life did not let it ring unanswered: said before the ring expires.
        most = ACK_SHARE * (ring_timeout or self.settings.ring_timeout)
        if most < (ack_timeout or self.settings.ack_timeout):
            ack_timeout = most
        offer = invitation._offer()
        self._check_caller()
        with self._supervised:
            now = self._time()
            command = Send(
                invitation.call_id,
                invitation.callee_id,
                offer._replace(time=self._time_of_day()),
                ring_timeout,
                ack_timeout,
            )
            with self._guard:
                _check_unsent(invitation)  # by another thread, meanwhile
                session = self._session
                if session is None or not session.logged_in:
                    if session is not None and session.closed:
                        raise self._closed_error()
                    self._not_logged_in(invitation)
                    return
                invitation._state = _SENT
                self._underway[True, invitation.callee_id, invitation.call_id] = invitation
                self._feed(session, command, now)
                self._perform()

    def cancel(self, invitation: L) -> None:
        """Cancel an invitation that is underway; its end is told once the broker has that.

        Raises :class:`InvitationApiCallError` (NOT_STARTED, ALREADY_END), :class:`InvalidArgument`,
        :class:`ClientClosed`.
        """
        _checked_invitation(invitation, self._local)
        if invitation.state is LocalInvitationState.IDLE:
            raise InvitationApiCallError(
                InvitationApiCallErrorCode.NOT_STARTED,
                "it was not sent yet",
                call_id=invitation.call_id,
                state=invitation.state,
            )
        with self._ended_if_closed(invitation):
            self._command(Cancel(invitation.callee_id, invitation.call_id))

    def accept(self, invitation: R, response: Any = None) -> None:
        """Accept an invitation that rings: the caller decides, and its event tells.

        Raises :class:`InvitationApiCallError` (ALREADY_ACCEPT, ALREADY_END; INVALID_ARGUMENT: a
        response that cannot be sent), :class:`InvalidArgument`, :class:`ClientClosed`.
        """
        body = self._answer(invitation, response)
        with self._ended_if_closed(invitation):
            self._command(Accept(invitation.caller_id, invitation.call_id, body))

    def refuse(
        self, invitation: R, response: Any = None, reason: AnswerReason = AnswerReason.DECLINED
    ) -> None:
        """Refuse an invitation that rings; raises as :meth:`accept`."""
        if reason not in REFUSAL_WORDS:
            raise InvalidArgument("reason", f"one of: {', '.join(REFUSAL_WORDS.values())}")
        body = self._answer(invitation, response)
        with self._ended_if_closed(invitation):
            self._command(Refuse(invitation.caller_id, invitation.call_id, body, reason))

    def find(self, call_id: str) -> L | R | None:
        """The invitation of that call id, underway or still held by somebody; else None."""
        with self._guard:
            for known in (self._underway, self._over):
                for key, invitation in list(known.items()):
                    if key[2] == call_id:
                        return invitation
        return None

    def watch(self, peer: str) -> None:
        """Be told of ``peer``'s presence as it changes (``on_presence_changed``), until logout.

        Raises :class:`InvalidArgument`, and :class:`ClientClosed` unless logged in.
        """
        self._command(Watch(topics.check_peer_id(peer, "peer")))

    def unwatch(self, peer: str) -> None:
        """No longer be told; raises as :meth:`watch`."""
        self._command(Unwatch(topics.check_peer_id(peer, "peer")))

    def _log_out(self) -> None:
        with self._guard:  # what is cancelled here is told at its legs' ends
            for group in self._groups.values():
                group._plan.cancel()
        self._command(Logout())

    # --- inside ----------------------------------------------------------------------------

    def _ended_if_closed(self, invitation: L | R) -> _EndedIfClosed:
        return _EndedIfClosed(invitation)

    def _answer(self, invitation: R, response: Any) -> bytes | None:
        _checked_invitation(invitation, self._remote)
        value = invitation.response if response is None else response
        return body_of(value, "response", invitation)

    def _not_logged_in(self, invitation: L) -> None:
        invitation._fail(LocalInvitationError.NOT_LOGGEDIN, EndReason.NOT_LOGGED_IN)
        invitation._ended = True
        if invitation.group is not None:
            self._legs_ended.append(invitation)
        self._deliver_failure(Name.LOCAL_FAILURE, invitation, invitation.callee_id)
        invitation._wake()


def check_timeout(value: object) -> None:
    """Raise :class:`InvalidArgument` for what are no seconds to wait."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InvalidArgument("timeout", f"seconds above 0, not {value!r}")


def _check_unsent(invitation: LocalInvitationBase) -> None:
    if invitation._state is not _IDLE:
        over = invitation.ended or invitation.state >= LocalInvitationState.ACCEPTED_BY_REMOTE
        code = (
            InvitationApiCallErrorCode.ALREADY_END
            if over
            else InvitationApiCallErrorCode.ALREADY_SENT
        )
        raise InvitationApiCallError(
            code,
            "an invitation is sent once; create a new one for a new call",
            call_id=invitation.call_id,
            state=invitation.state,
        )


def _checked_invitation(value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise InvalidArgument("invitation", f"a {kind.__name__}, not {value!r}")


class _EndedIfClosed:
    """Says ALREADY_END of an ended invitation, rather than that its client is closed."""

    def __init__(self, invitation: LocalInvitationBase | RemoteInvitationBase) -> None:
        self._invitation = invitation

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if isinstance(error, ClientClosed) and self._invitation.ended:
            raise InvitationApiCallError(
                InvitationApiCallErrorCode.ALREADY_END,
                "the call has ended",
                call_id=self._invitation.call_id,
                state=self._invitation.state,
            ) from None
