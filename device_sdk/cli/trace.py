"""``bellwire trace``: calls as a ladder, from what is on the wire; reads only."""

from __future__ import annotations

import argparse
import shutil
import time

from ..core.wire import codec, topics
from ..core.wire.cells import Answer, Invite
from ..core.wire.talk_cells import decode_message
from ..errors import DecodeError
from .client import raising
from .errors import ExitCode, UsageError
from .ladder import Ladder
from .observer import Linked, Seen
from .options import Options, add_options
from .say import Say
from .watch import make_observer


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "trace",
        help="show calls as a ladder, as they happen on the wire",
        description="Show what peers say to each other, as a ladder. It only reads, and needs a"
        " login that may read the whole realm.",
        epilog="exit: 0 after --for or Ctrl-C, 14 broker unreachable or refused, 2 wrong usage",
        allow_abbrev=False,
    )
    parser.add_argument("--call", metavar="ID", help="only the call whose id begins so")
    parser.add_argument("--for", dest="seconds", type=float, metavar="S", help="leave after S s")
    add_options(parser, calls=False)
    parser.set_defaults(run=run, interrupted=ExitCode.OK)


def run(args: argparse.Namespace, options: Options) -> int:
    """Trace; gives the exit code."""
    if args.seconds is not None and not 0 < args.seconds <= 86400:
        raise UsageError(f"--for: from above 0 to 86400 s, not {args.seconds}")
    _, realm = options.checked()
    observer = make_observer(options, (topics.everything(realm),))
    say = Say(as_json=args.json)
    width = shutil.get_terminal_size((100, 24)).columns
    ladder = Ladder(realm, call_id=args.call, width=width, style=say.style)
    with raising():
        try:
            happened: list[Seen | Linked] = list(observer.start(options.login_timeout))
            say.line(f"reading {topics.everything(realm)} at {observer.broker} (Ctrl-C ends)",
                     style="dim")  # fmt: skip
            say.fields("logged_in", peer=options["peer"], state="CONNECTED")
            deadline = time.monotonic() + (args.seconds or float("inf"))
            while True:
                for what in happened:
                    _show(what, realm, args.call, ladder, say)
                left = deadline - time.monotonic()
                if left <= 0:
                    return ExitCode.OK
                happened = observer.wait(min(left, 1.0))
        finally:
            observer.close()


def _show(what: Seen | Linked, realm: str, call: str | None, ladder: Ladder, say: Say) -> None:
    if isinstance(what, Linked):
        say.line(what.text, style="dim", at=what.at)
    elif say.as_json:
        _fields(what, realm, call, say)
    else:
        for line in ladder.feed(what.at, what.topic, what.payload, retained=what.retained):
            say.raw(line)


def _fields(seen: Seen, realm: str, call: str | None, say: Say) -> None:
    topic = topics.parse(realm, seen.topic)
    if topic is None:
        return
    if isinstance(topic, topics.PresenceTopic):
        if call is None:
            online = _presence(seen.payload)
            say.fields("presence", at=seen.at, peer=topic.peer, state=online,
                       retained=seen.retained)  # fmt: skip
        return
    if call is not None and not topic.call_id.startswith(call):
        return
    more: dict[str, object] = {"state": "CLEARED"}
    if seen.payload:
        decode = codec.decode_invite if topic.kind == "invite" else codec.decode_answer
        try:
            more = _cell(decode(seen.payload))
        except DecodeError as error:
            more = {"state": "MALFORMED", "error": error.cause}
    say.fields(topic.kind, at=seen.at, call_id=topic.call_id, peer=topic.writer, to=topic.owner,
               bytes=len(seen.payload), retained=seen.retained, **more)  # fmt: skip


def _cell(cell: Invite | Answer) -> dict[str, object]:
    body = cell.content if isinstance(cell, Invite) else cell.response
    name = "content" if isinstance(cell, Invite) else "response"
    fields: dict[str, object] = {
        "state": cell.state.name,
        "reason": cell.reason,
        "seq": cell.seq,
        name: None if body is None else codec.decode_body(body),
    }
    if cell.talk is not None:
        messages = [decode_message(each) for each in cell.talk.messages]
        fields["talk"] = {"count": cell.talk.count, "got": cell.talk.got, "messages": messages}
    return fields


def _presence(payload: bytes) -> str:
    try:
        return "ONLINE" if payload and codec.decode_presence(payload).online else "OFFLINE"
    except DecodeError:
        return "MALFORMED"
