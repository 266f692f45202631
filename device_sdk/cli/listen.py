"""``bellwire listen``: be rung, and accept, refuse, ignore, or ask who sits at the terminal."""

from __future__ import annotations

import argparse
import contextlib
import heapq
import sys
import time
from typing import Any

from ..client.display import complain, plain, write
from ..client.invitations import Event
from ..client.threaded import Call, RemoteInvitation
from ..core.events import ENDS, Name
from ..core.wire import reasons
from ..core.wire.codec import encode_body
from ..errors import InvitationApiCallError
from ..states import RemoteInvitationState
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
from .errors import ExitCode, UsageError
from .options import Options, add_options
from .say import Say
from .talk import HELP, Conversation, is_terminal

#: What answers a question while a call goes on, to which all else is said.
_ANSWERS = ("a", "r", "accept", "refuse")
REASONS = {row.flag: row.reason for row in reasons.REFUSALS}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "listen",
        help="be rung, and answer",
        description="Wait for calls. Without a choice of what to do with them it asks, on a"
        " terminal; elsewhere it lets them ring. With --talk: " + HELP + " A line goes to the call"
        " that began last.",
        epilog="exit: 0 after --count calls or Ctrl-C, 14 broker unreachable or refused,"
        " 2 wrong usage",
        allow_abbrev=False,
    )
    choice = parser.add_mutually_exclusive_group()
    for name, what in (
        ("accept", "accept every call"),
        ("refuse", "refuse every call"),
        ("ignore", "let every call ring"),
    ):
        choice.add_argument(f"--{name}", dest="choice", action="store_const", const=name, help=what)
    parser.add_argument("--reason", choices=REASONS, help="why it is refused (with --refuse)")
    parser.add_argument("--after", type=float, metavar="S", help="let it ring S seconds first")
    parser.add_argument("--response", metavar="TEXT", help="what the caller is answered")
    parser.add_argument("--talk", action="store_true", help="stay in calls: a line is a message")
    parser.add_argument("--count", type=int, metavar="N", help="leave after N calls")
    add_options(parser)
    parser.set_defaults(run=run, interrupted=ExitCode.OK)


def run(args: argparse.Namespace, options: Options) -> int:
    """Listen; gives the exit code."""
    client = make_client(options, talk=args.talk)
    _check(args)
    say = Say(as_json=args.json)
    choice = args.choice
    if choice is None:
        choice = "ask" if is_terminal() else "ignore"
        if choice == "ignore":
            note = "calls ring unanswered; say --accept, --refuse or --ignore"
            complain(f"bellwire listen: no terminal to ask on: {note}")
    with logged_in(client, options):
        say.logged_in(plain(options.peer), client.broker, "waiting for calls (Ctrl-C ends)")
        if choice == "ask" or (args.talk and is_terminal()):
            type_lines(client.inbox)
        return _Listening(client, say, choice, args).run()


def _check(args: argparse.Namespace) -> None:
    if args.reason is not None and args.choice != "refuse":
        raise UsageError("--reason goes with --refuse")
    if args.after is not None and not 0 <= args.after <= 86400:
        raise UsageError(f"--after: from 0 to 86400 s, not {args.after}")
    if args.after is not None and args.choice not in ("accept", "refuse"):
        raise UsageError("--after goes with --accept or --refuse")
    if args.count is not None and args.count < 1:
        raise UsageError(f"--count: at least 1, not {args.count}")
    if args.talk and args.choice in ("refuse", "ignore"):
        raise UsageError(f"--talk goes with --accept, or with a terminal, not with --{args.choice}")
    if args.response is not None:
        if args.choice == "ignore":
            raise UsageError("--response goes with an answer, not with --ignore")
        try:
            encode_body(args.response)
        except ValueError as error:
            raise UsageError(f"--response: {error}") from None


class _Listening:
    """Answers what rings, now or in a while; one thread, one queue."""

    def __init__(
        self, client: QueueClient, say: Say, choice: str, args: argparse.Namespace
    ) -> None:
        self._client = client
        self._say = say
        self._choice = choice
        self._after: float = args.after or 0.0
        self._response: str | None = args.response
        self._reason = REASONS[args.reason or "declined"]
        self._left: int | None = args.count
        self._due: list[tuple[float, int, Any]] = []
        self._order = 0
        self._asked: list[RemoteInvitation] = []
        self._open = False  # a question stands at the end of the terminal's last line
        self._talk: bool = args.talk
        self._reads = is_terminal()  # what is typed, already
        self._conversations: dict[Call, Conversation] = {}  # the last is that which a line is for

    def run(self) -> int:
        """Until a signal comes or enough calls have ended."""
        while True:
            times = [each.step() for each in list(self._conversations.values())]
            if self._due:
                times.append(self._due[0][0] - time.monotonic())
            item = next_item(
                self._client.inbox, min((t for t in times if t is not None), default=None)
            )
            if item is None:
                if self._due and self._due[0][0] <= time.monotonic():
                    _, _, invitation = heapq.heappop(self._due)
                    self._answer(invitation, self._choice)
                continue
            at, what = item
            if isinstance(what, Signal):
                return ExitCode.OK
            if isinstance(what, Line):
                self._typed(what.text)
            elif self._told(what, at):
                return ExitCode.OK

    def _told(self, event: Event, at: float) -> bool:
        """Act on an event; whether it was the last to wait for."""
        if interrupted := self._open:
            self._write("\n")
            self._open = False
        self._say.event(event, at)
        if event.name is Name.REMOTE_RECEIVED:
            self._rings(event.invitation)
        elif event.name is Name.CALL_STARTED:
            self._starts(event.call)
        elif event.name is Name.CALL_ENDED:
            if (conversation := self._conversations.pop(event.call, None)) is not None:
                conversation.over()
            return self._counted()
        elif event.name in ENDS:
            if event.invitation in self._asked:
                self._asked.remove(event.invitation)
                self._ask()
            goes_on = event.name is Name.REMOTE_ACCEPTED and event.invitation.call is not None
            return not goes_on and self._counted()
        elif not event.call_id:
            check_aborted(event)
        if interrupted and not self._open:
            self._ask()
        return False

    def _counted(self) -> bool:
        """One call more is over; whether it was the last to wait for."""
        if self._left is None:
            return False
        self._left -= 1
        return self._left == 0

    def _starts(self, call: Call) -> None:
        self._conversations[call] = Conversation(self._client, call)
        if not self._reads:
            self._reads = True
            type_lines(self._client.inbox)

    def _rings(self, invitation: RemoteInvitation) -> None:
        if self._choice == "ask":
            self._asked.append(invitation)
            self._ask()
        elif self._choice != "ignore":
            if self._after:
                self._order += 1
                at = time.monotonic() + self._after
                heapq.heappush(self._due, (at, self._order, invitation))
            else:
                self._answer(invitation, self._choice)

    def _answer(self, invitation: RemoteInvitation, choice: str) -> None:
        manager = self._client.call_manager
        try:
            if choice == "accept":
                manager.accept_remote_invitation(invitation, self._response)
            else:
                manager.refuse_remote_invitation(invitation, self._response, self._reason)
        except InvitationApiCallError:
            return  # it ended first; its event tells

    # --- asking ------------------------------------------------------------------------------

    def _ask(self) -> None:
        for invitation in self._asked:
            if invitation.state is RemoteInvitationState.INVITATION_RECEIVED:
                self._write(f"{plain(invitation.caller_id)}: accept or refuse? (a/r) ")
                self._open = True
                return

    def _write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            write(text, sys.stderr)

    def _typed(self, text: str | None) -> None:
        self._open = False  # Enter has ended its line
        ringing = [
            invitation for invitation in self._asked
            if invitation.state is RemoteInvitationState.INVITATION_RECEIVED
        ]  # fmt: skip
        current = next(reversed(self._conversations.values()), None)
        answer = (text or "").lower()
        if text is None:
            if self._choice == "ask":
                self._choice = "ignore"  # nobody is left to ask
            if current is not None and is_terminal():
                current.finish()
        elif ringing and (answer in _ANSWERS if current else answer[:1] in ("a", "r")):
            self._answer(ringing[0], "accept" if answer[:1] == "a" else "refuse")
        elif current is not None:
            current.typed(text)
        elif ringing:
            self._ask()
        elif text and self._talk:
            complain(f"bellwire: not said, no call goes on: {text}")
