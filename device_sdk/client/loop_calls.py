"""What the asyncio client hands out: the same as ``threaded_calls``, awaited."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ..core.wire.cells import AnswerReason
from ..states import EndReason
from .calls import CallBase
from .invitations import LocalInvitationBase, RemoteInvitationBase
from .ring_plan import RingGroupBase


class Awaited:
    """What tasks may wait for: the first that does makes the event."""

    _over: asyncio.Event | None = None

    @property
    def ended(self) -> bool:
        """Whether its end was told."""
        raise NotImplementedError

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, ``timeout`` seconds at most; whether it has ended."""
        if not self.ended:
            self._over = self._over or asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._over.wait()
        return self.ended

    def _wake(self) -> None:
        """Let all who wait go on."""
        if self._over is not None:
            self._over.set()


class Call(CallBase, Awaited):
    """A call that goes on after *accepted*; ``invitation.call``, and the event ``call_started``.

    Threads: as of a :class:`LocalInvitation`.
    """

    async def send(self, message: Any) -> None:
        """Say something to the other side: any CBOR value without tags, 8 KiB encoded.

        It is handled there once, in order, while the call goes on; until then it is said again.
        Raises :class:`InvalidArgument`; :class:`TooManyMessages` when 64 wait;
        :class:`InvitationApiCallError`: ALREADY_END; :class:`ClientClosed` where the client is
        done, and the call is not. Where it raises, nothing was sent.
        """
        self._say(message)

    async def hang_up(self, reason: EndReason | str = EndReason.HUNG_UP) -> None:
        """End it: *hung up*, or *time is up*; both sides are told one end.

        Raises :class:`InvitationApiCallError`: ALREADY_END; :class:`InvalidArgument` for another
        ``reason``; :class:`ClientClosed` where the client is done, and the call is not.
        """
        self._end(reason)


class LocalInvitation(LocalInvitationBase, Awaited):
    """The caller's end of a call; made by :meth:`CallManager.create_local_invitation`.

    Threads: what it shows may be read from any; its methods are for the event loop.
    """

    @property
    def call(self) -> Call | None:
        """What goes on once it is accepted, if both sides can (``talk=True``)."""
        return self._talk  # type: ignore[no-any-return]  # this client's

    async def cancel(self) -> None:
        """Cancel it; raises :class:`InvitationApiCallError`: NOT_STARTED or ALREADY_END.

        :class:`ClientClosed` where the client is done, and the call is not.
        """
        self._client.cancel(self)


class RemoteInvitation(RemoteInvitationBase, Awaited):
    """The callee's end of a call; comes with the event ``remote_invitation_received``.

    Threads: as of a :class:`LocalInvitation`.
    """

    @property
    def call(self) -> Call | None:
        """What goes on once it is accepted, if both sides can (``talk=True``)."""
        return self._talk  # type: ignore[no-any-return]  # this client's

    async def accept(self, response: Any = None) -> None:
        """Accept it; the caller decides: :meth:`wait` for it.

        Raises :class:`InvitationApiCallError`: ALREADY_ACCEPT, ALREADY_END, or INVALID_ARGUMENT
        (the response); :class:`ClientClosed` where the client is done, and the call is not.
        """
        self._client.accept(self, response)

    async def refuse(
        self, response: Any = None, reason: AnswerReason = AnswerReason.DECLINED
    ) -> None:
        """Refuse it; raises as :meth:`accept`, :class:`InvalidArgument` for another ``reason``."""
        self._client.refuse(self, response, reason)


class RingGroup(RingGroupBase, Awaited):
    """Several peers rung for one answer; made by :meth:`CallManager.ring`.

    Threads: as of a :class:`LocalInvitation`.
    """

    legs: dict[str, LocalInvitation]  # type: ignore[assignment]  # this client's invitations
