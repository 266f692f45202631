"""Every error Bellwire raises, in one tree.

::

    BellwireError
    ├── InvalidArgument (ValueError)          you passed something that cannot be
    ├── InvitationApiCallError (RuntimeError) not legal in this invitation's state; see ``code``
    ├── TooManyMessages (RuntimeError)        the other side of a call has to handle some first
    ├── ClientClosed (RuntimeError)           the client was logged out or aborted
    ├── DecodeError (ValueError)              bytes from the wire that are no cell; see ``cause``
    └── LoginError (ConnectionError)          the broker did not let us in
        ├── BrokerUnreachable                 no connection; see ``cause``
        ├── BrokerRefused                     it answered, and said no
        ├── SubscriptionRefused               it refused a topic filter; see ``topic_filter``
        └── LoginTimeout (TimeoutError)       it was not over in time

An error is also the builtin it resembles, so ``except ValueError`` does what one expects.
Nothing that comes from the wire is ever raised into the application: ``DecodeError`` is for
those who call the codec themselves.
"""

from __future__ import annotations

from .states import InvitationApiCallErrorCode


class BellwireError(Exception):
    """The root of all errors of this library."""


class InvalidArgument(BellwireError, ValueError):
    """An argument cannot be what was passed; the message names it and says what would do."""

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument}: {problem}")
        self.argument = argument


class InvitationApiCallError(BellwireError, RuntimeError):
    """The call on this invitation was not legal; nothing has changed.

    ``code`` is Agora's number for why, ``call_id`` the invitation, ``state`` the state it is in.
    """

    def __init__(
        self,
        code: InvitationApiCallErrorCode,
        problem: str,
        *,
        call_id: str = "",
        state: object = None,
    ) -> None:
        shown = "" if state is None else f", {getattr(state, 'name', state)}"
        where = f" (call {call_id}{shown})"
        super().__init__(f"{code.name}: {problem}" + (where if call_id else ""))
        self.code = code
        self.call_id = call_id
        self.state = state


class TooManyMessages(BellwireError, RuntimeError):
    """Too many messages of a call wait for the other side to handle them; nothing has changed."""


class ClientClosed(BellwireError, RuntimeError):
    """This client is logged out, or was ended by a newer login; make a new one."""


class DecodeError(BellwireError, ValueError):
    """These bytes are no valid cell; ``cause`` is the counter it is dropped under."""

    def __init__(self, cause: str, problem: str) -> None:
        super().__init__(problem)
        self.cause = cause


class LoginError(BellwireError, ConnectionError):
    """Login failed; the message says how far it came and what to look at."""


class BrokerUnreachable(LoginError):
    """No connection to the broker: ``cause`` is one of the words in :data:`CAUSES`."""

    #: Which step failed: name look-up, TCP, TLS trust, TLS otherwise, WebSocket or MQTT greeting.
    CAUSES = ("unknown host", "connection refused", "no route", "timeout", "certificate", "tls",
              "connection lost")  # fmt: skip

    def __init__(self, cause: str, problem: str) -> None:
        super().__init__(problem)
        self.cause = cause


class BrokerRefused(LoginError):
    """The broker answered CONNECT with a refusal: ``return_code`` of MQTT 3.1.1, 3.2.2.3."""

    def __init__(self, return_code: int, problem: str) -> None:
        super().__init__(problem)
        self.return_code = return_code


class SubscriptionRefused(LoginError):
    """The broker refused ``topic_filter`` (SUBACK 0x80): its access rules do not know this peer."""

    def __init__(self, topic_filter: str, problem: str) -> None:
        super().__init__(problem)
        self.topic_filter = topic_filter


class LoginTimeout(LoginError, TimeoutError):
    """The login was not over in time; the message says what it waited for."""
