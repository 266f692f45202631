"""``bellwire watch``: who is there, as it changes; reads only, so it disturbs nobody."""

from __future__ import annotations

import argparse
import time

from ..client.display import plain
from ..core.wire import codec, topics
from ..errors import DecodeError, InvalidArgument
from .client import raising
from .errors import ExitCode, UsageError
from .observer import Linked, Observer, Seen, observer_id
from .options import Options, add_options, checked_peer
from .say import Say

#: After the subscription, a peer of which the broker has said nothing is unknown to it.
QUIET = 0.5
_WORDS = {True: ("good", "● {} is online"), False: ("bad", "○ {} is offline"),
          None: ("dim", "○ {} was never here")}  # fmt: skip
_STATES = {True: "ONLINE", False: "OFFLINE", None: "UNKNOWN"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "watch",
        help="show who is there, as it changes",
        description="Show the presence of peers as it changes. It only reads; with --peer it reads"
        " under that peer's name, beside that peer's own login.",
        epilog="exit: 0 after --count lines or Ctrl-C, 14 broker unreachable or refused,"
        " 2 wrong usage",
        allow_abbrev=False,
    )
    parser.add_argument("peers", nargs="+", metavar="PEER", help="whom to watch")
    parser.add_argument("--count", type=int, metavar="N", help="leave after N lines")
    add_options(parser, calls=False)
    parser.set_defaults(run=run, interrupted=ExitCode.OK)


def run(args: argparse.Namespace, options: Options) -> int:
    """Watch; gives the exit code."""
    peers = [checked_peer(peer, "PEER") for peer in args.peers]
    if args.count is not None and args.count < 1:
        raise UsageError(f"--count: at least 1, not {args.count}")
    _, realm = options.checked()
    observer = make_observer(options, tuple(topics.presence(realm, peer) for peer in peers))
    say = Say(as_json=args.json)
    known: dict[str, bool | None] = {}
    left = args.count or -1
    with raising():
        try:
            first = observer.start(options.login_timeout)
            say.line(f"watching at {observer.broker} (Ctrl-C ends)", style="dim")
            say.fields("logged_in", peer=options["peer"], state="CONNECTED", content=None)
            quiet_at = time.monotonic() + QUIET
            happened: list[Seen | Linked] = list(first)
            while True:
                for what in happened:
                    changed = _changed(what, realm, known, say)
                    left -= changed
                    if changed and left == 0:
                        return ExitCode.OK
                if time.monotonic() >= quiet_at:
                    for peer in peers:
                        if peer not in known:
                            known[peer] = None
                            _tell(say, peer, None, time.monotonic())
                            left -= 1
                            if left == 0:
                                return ExitCode.OK
                happened = observer.wait(0.1 if len(known) < len(peers) else 1.0)
        finally:
            observer.close()


def make_observer(options: Options, filters: tuple[str, ...]) -> Observer:
    """An observer for ``options``; raises a usage error naming what is wrong."""
    urls, _ = options.checked()
    peer = options["peer"]
    if peer is not None:
        checked_peer(peer, options.source("peer"))
    keepalive = 15 if options["keepalive"] is None else options["keepalive"]
    if not 1 <= keepalive <= 65535:
        raise UsageError(f"{options.source('keepalive')}: 1 to 65535 s, not {keepalive}")
    subscribe_qos = 1 if options["subscribe_qos"] is None else options["subscribe_qos"]
    if subscribe_qos not in (0, 1):
        raise UsageError(f"{options.source('subscribe_qos')}: 0 or 1, not {subscribe_qos}")
    if options.tls() is not None and not urls[0].tls:
        raise UsageError(f"{options.source('broker')}: {urls[0]} is not encrypted: say mqtts://")
    username, password = options["username"], options.password()
    if username is None and password is not None:
        if peer is None:
            raise UsageError("a secret, but whose? say --peer ID or --username NAME")
        username = topics.escape(peer)
    try:
        return Observer(
            urls,
            filters,
            client_id=observer_id(peer, username),
            username=username,
            password=password,
            tls=options.tls(),
            keepalive=keepalive,
            subscribe_qos=subscribe_qos,
        )
    except InvalidArgument as error:
        raise options.usage(error) from None


def _changed(what: Seen | Linked, realm: str, known: dict[str, bool | None], say: Say) -> bool:
    """Tell a change; whether there was one."""
    if isinstance(what, Linked):
        say.line(what.text, style="dim", at=what.at)
        return False
    topic = topics.parse(realm, what.topic)
    if not isinstance(topic, topics.PresenceTopic):
        return False
    try:
        online = codec.decode_presence(what.payload).online if what.payload else None
    except DecodeError:
        return False
    if topic.peer in known and known[topic.peer] == online:
        return False
    known[topic.peer] = online
    _tell(say, topic.peer, online, what.at)
    return True


def _tell(say: Say, peer: str, online: bool | None, at: float) -> None:
    style, text = _WORDS[online]
    say.line(text.format(plain(peer)), style=style, at=at)
    say.fields("presence_changed", peer=peer, state=_STATES[online], content=online, at=at)
