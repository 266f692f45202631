"""``bellwire call``: ring one peer, or several at once, and say how it ended."""

from __future__ import annotations

import argparse

from ..client.display import plain
from ..client.invitations import Event, check_channel
from ..client.ring_plan import GroupOutcome
from ..core.events import Name
from ..core.settings import Settings
from ..errors import InvalidArgument, InvitationApiCallError
from ..states import EndReason, LocalInvitationError, LocalInvitationState
from ..wire.codec import encode_body
from .client import (
    QueueClient,
    Signal,
    check_aborted,
    logged_in,
    make_client,
    next_item,
)
from .errors import CommandError, ExitCode, UsageError
from .options import Options, add_options, checked_peer
from .say import Say

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
    client = make_client(options)
    peers = [checked_peer(peer, "PEER") for peer in args.peers]
    _check(args, options, client, peers)
    say = Say(as_json=args.json)
    with logged_in(client, options):
        names = ", ".join(plain(peer) for peer in peers)
        say.logged_in(plain(options.peer), client.broker, f"calling {names} (Ctrl-C cancels)")
        if len(peers) == 1:
            return _one(client, say, peers[0], args)
        return _several(client, say, peers, args)


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


def _one(client: QueueClient, say: Say, peer: str, args: argparse.Namespace) -> int:
    manager = client.call_manager
    invitation = manager.create_local_invitation(peer)
    invitation.content, invitation.channel_id = args.content, args.channel
    manager.send_local_invitation(invitation, args.timeout)
    while True:
        item = next_item(client.inbox)
        if item is None:
            continue
        at, what = item
        if isinstance(what, Signal):
            try:
                manager.cancel_local_invitation(invitation)
            except InvitationApiCallError:
                continue  # it ended at that moment: its event is on the way
            say.line("canceling …", style="dim", at=at)
        elif isinstance(what, Event):
            _tell(say, what, at, invitation.call_id)
            if what.call_id == invitation.call_id and (code := _end(what)) is not None:
                if code is ExitCode.NOT_ALLOWED:
                    raise CommandError(code, _forbidden(client.peer_id, peer))
                return code


def _forbidden(me: str, peer: str) -> str:
    return (
        f"the broker does not take it: perhaps {plain(me)} may not call {plain(peer)} there"
        " (bellwire-broker device add --may-call), or the content is too large for that broker"
    )


def _several(client: QueueClient, say: Say, peers: list[str], args: argparse.Namespace) -> int:
    manager = client.call_manager
    group = manager.ring(
        peers,
        args.content,
        channel_id=args.channel,
        strategy="sequential" if args.sequential else "parallel",
        leg_timeout=args.timeout,
    )
    while True:
        item = next_item(client.inbox)
        if item is None:
            continue
        at, what = item
        if isinstance(what, Signal):
            try:
                manager.cancel_ring(group)
            except InvitationApiCallError:
                continue
            say.line("canceling …", style="dim", at=at)
        elif isinstance(what, Event):
            _tell(say, what, at, *(leg.call_id for leg in group.legs.values()))
            if what.name is Name.RING_GROUP_ENDED:
                return _group_end(group.outcome)


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


def _tell(say: Say, event: Event, at: float, *mine: str) -> None:
    # Who only calls answers nobody: what comes in meanwhile rings elsewhere or later.
    if event.call_id in mine or not event.call_id:
        say.event(event, at)
    if not event.call_id:
        check_aborted(event)


def _end(event: Event) -> ExitCode | None:
    if event.reason is EndReason.NOT_ALLOWED:
        return ExitCode.NOT_ALLOWED
    if event.name is Name.LOCAL_FAILURE:
        return _FAILURES.get(LocalInvitationError(event.error or 0), ExitCode.NOT_REACHED)
    return _ENDS.get(event.name)
