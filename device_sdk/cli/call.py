"""``bellwire call``: ring one peer, or several at once, and say how it ended.

``bellwire talk`` is the same, and what comes after *accepted*.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from ..client.display import complain, plain
from ..client.invitations import Event, check_channel
from ..client.ring_plan import GroupOutcome
from ..client.threaded import Call
from ..core.events import Name
from ..core.settings import Settings
from ..core.wire.codec import encode_body
from ..errors import InvalidArgument, InvitationApiCallError
from ..states import EndReason, LocalInvitationError, LocalInvitationState
from .client import (
    Line,
    QueueClient,
    Signal,
    check_aborted,
    logged_in,
    make_client,
    next_item,
    type_lines,
)
from .errors import CommandError, ExitCode, UsageError
from .options import Options, add_options, checked_peer
from .say import Say
from .talk import Conversation, end_code, is_end, is_terminal

_ENDS = {
    Name.LOCAL_ACCEPTED: ExitCode.OK,
    Name.LOCAL_REFUSED: ExitCode.REFUSED,
    Name.LOCAL_CANCELED: ExitCode.CANCELED,
}
_FAILURES = {
    LocalInvitationError.INVITATION_EXPIRE: ExitCode.NOT_ANSWERED,
    LocalInvitationError.NOT_LOGGEDIN: ExitCode.BROKER,
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "call",
        help="ring a peer and wait for the answer",
        description="Ring a peer (or several: the first to accept has the call) and wait for the"
        " answer. Ctrl-C cancels the call.",
        epilog="exit: 0 accepted, 10 refused, 11 not answered, 12 offline or no response,"
        " 13 canceled, 14 broker unreachable or refused, 15 not allowed or too large for the"
        " broker, 2 wrong usage",
        allow_abbrev=False,
    )
    add_flags(parser)
    parser.set_defaults(talk=False)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What ``bellwire talk`` takes, too."""
    parser.add_argument("peers", nargs="+", metavar="PEER", help="whom to call")
    parser.add_argument("--content", metavar="TEXT", help="what the callee is shown")
    parser.add_argument("--channel", metavar="ID", help="where to talk: the application's affair")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="ring for S seconds (60; 20 each with --sequential)",
    )
    parser.add_argument(
        "--sequential", action="store_true", help="of several peers, ring one after the other"
    )
    add_options(parser)
    parser.set_defaults(run=run, interrupted=ExitCode.CANCELED)


def run(args: argparse.Namespace, options: Options) -> int:
    """Call; gives the exit code."""
    client = make_client(options, talk=args.talk)
    peers = [checked_peer(peer, "PEER") for peer in args.peers]
    _check(args, options, client, peers)
    say = Say(as_json=args.json)
    with logged_in(client, options):
        names = ", ".join(plain(peer) for peer in peers)
        say.logged_in(plain(options.peer), client.broker, f"calling {names} (Ctrl-C cancels)")
        return _Calling(client, say, args, peers).run()


def _check(
    args: argparse.Namespace, options: Options, client: QueueClient, peers: list[str]
) -> None:
    """Refuse before anything is sent what the client would refuse later."""
    if client.peer_id in peers:
        raise UsageError(f"{client.peer_id!r} cannot call itself: PEER and --peer are the same")
    if args.sequential and len(peers) == 1:
        raise UsageError("--sequential goes with several PEERs")
    if len(set(peers)) != len(peers):
        raise UsageError("the same PEER twice; name each once")
    if args.timeout is not None:
        try:
            Settings(ring_timeout=args.timeout)
        except InvalidArgument as error:
            raise options.usage(error, ring_timeout="--timeout") from None
    if args.channel is not None:
        try:
            check_channel(args.channel, "--channel")
        except InvalidArgument as error:
            raise UsageError(str(error)) from None
    if args.content is not None:
        try:
            encode_body(args.content)
        except ValueError as error:
            raise UsageError(f"--content: {error}") from None


class _Calling:
    """Rings one peer or several, tells what comes, and stays in the call with ``bellwire talk``."""

    def __init__(
        self, client: QueueClient, say: Say, args: argparse.Namespace, peers: list[str]
    ) -> None:
        self._client = client
        self._say = say
        self._args = args
        self._peers = peers

    def run(self) -> int:
        """From the ring to the end; gives the exit code."""
        if self._args.talk and is_terminal():
            type_lines(self._client.inbox)
        return self._one() if len(self._peers) == 1 else self._several()

    def _one(self) -> int:
        manager, args = self._client.call_manager, self._args
        invitation = manager.create_local_invitation(self._peers[0])
        invitation.content, invitation.channel_id = args.content, args.channel
        manager.send_local_invitation(invitation, args.timeout)

        def cancel() -> None:
            manager.cancel_local_invitation(invitation)

        while True:
            event = self._next(cancel, lambda: (invitation.call_id,))
            if event is None or event.call_id != invitation.call_id:
                continue
            if event.name is Name.LOCAL_ACCEPTED and args.talk:
                return self._stay(event)
            if (code := _end(event)) is not None:
                if code is ExitCode.NOT_ALLOWED:
                    raise CommandError(code, _forbidden(self._client.peer_id, self._peers[0]))
                return code

    def _several(self) -> int:
        manager, args = self._client.call_manager, self._args
        group = manager.ring(
            self._peers,
            args.content,
            channel_id=args.channel,
            strategy="sequential" if args.sequential else "parallel",
            leg_timeout=args.timeout,
        )

        def cancel() -> None:
            manager.cancel_ring(group)

        def mine() -> tuple[str, ...]:
            return tuple(leg.call_id for leg in group.legs.values())

        while True:
            event = self._next(cancel, mine)
            if event is None:
                continue
            if event.name is Name.LOCAL_ACCEPTED and args.talk:
                return self._stay(event, *mine())
            if event.name is Name.RING_GROUP_ENDED:
                return _group_end(group.outcome)

    def _next(
        self, cancel: Callable[[], None], mine: Callable[[], tuple[str, ...]]
    ) -> Event | None:
        """The next event, told; a signal, or who hangs up, cancels."""
        item = next_item(self._client.inbox)
        if item is None:
            return None
        at, what = item
        if isinstance(what, Event):
            self._tell(what, at, *mine())
            return what
        if isinstance(what, Line) and what.text not in (None, "/hangup"):
            if what.text:
                complain("bellwire: not said: nobody has accepted yet; /hangup or Ctrl-C cancels")
            return None
        try:
            cancel()
        except InvitationApiCallError:
            return None  # it ended at that moment: its event is on the way
        self._say.line("canceling …", style="dim", at=at)
        return None

    def _stay(self, accepted: Event, *legs: str) -> int:
        """Say what is typed until the call is over; ``legs``: what else is told of."""
        call: Call | None = accepted.invitation.call
        if call is None:
            _cannot_stay(accepted.peer)
        typed = is_terminal()
        if not typed:
            type_lines(self._client.inbox)
        conversation = Conversation(self._client, call)
        while True:
            item = next_item(self._client.inbox, conversation.step())
            if item is None:
                continue
            at, what = item
            if isinstance(what, Signal):
                conversation.hang_up()
            elif isinstance(what, Event):
                self._tell(what, at, call.call_id, *legs)
                if is_end(what, call):
                    conversation.over()
                    code = end_code(what)
                    return ExitCode.LOST if conversation.unsaid and not code else code
            elif what.text is not None:
                conversation.typed(what.text)
            elif typed:
                conversation.finish()

    def _tell(self, event: Event, at: float, *mine: str) -> None:
        # Who only calls answers nobody: what comes in meanwhile rings elsewhere or later.
        if event.call_id in mine or not event.call_id:
            self._say.event(event, at)
        if not event.call_id:
            check_aborted(event)


def _cannot_stay(peer: str) -> NoReturn:
    raise CommandError(
        ExitCode.LOST,
        f"{plain(peer)} accepted, but does not stay in calls, so nothing can be said"
        " (bellwire listen --talk, or talk=True in the library, does)",
    )


def _forbidden(me: str, peer: str) -> str:
    return (
        f"the broker does not take it: perhaps {plain(me)} may not call {plain(peer)} there"
        " (bellwire-broker device add --may-call), or the content is too large for that broker"
    )


def _group_end(outcome: GroupOutcome) -> ExitCode:
    """Accepted, canceled, or what the decisive leg ended with."""
    if outcome:
        return ExitCode.OK
    leg = outcome.decisive
    if outcome.canceled or (leg is not None and leg.state is LocalInvitationState.CANCELED):
        return ExitCode.CANCELED
    if leg is not None and leg.state is LocalInvitationState.REFUSED_BY_REMOTE:
        return ExitCode.REFUSED
    if leg is not None and leg.reason is EndReason.NOT_ALLOWED:
        return ExitCode.NOT_ALLOWED
    return ExitCode.NOT_REACHED if leg is None else _FAILURES.get(leg.error, ExitCode.NOT_REACHED)


def _end(event: Event) -> ExitCode | None:
    if event.reason is EndReason.NOT_ALLOWED:
        return ExitCode.NOT_ALLOWED
    if event.name is Name.LOCAL_FAILURE:
        return _FAILURES.get(LocalInvitationError(event.error or 0), ExitCode.NOT_REACHED)
    return _ENDS.get(event.name)
