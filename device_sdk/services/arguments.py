"""A command line that complains as the rest of Bellwire does: one line, and what cures it."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from ..client.vocabulary import present_flags

#: The exit code of wrong usage, in all commands.
USAGE = 2


class Parser(argparse.ArgumentParser):
    """An ArgumentParser without abbreviations, whose complaint is one line in our own words.

    What it does not know it repeats only if it is a flag: the rest may be a secret.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        more.setdefault("allow_abbrev", False)
        super().__init__(*args, **more)

    def error(self, message: str) -> NoReturn:
        """End with :data:`USAGE`; ``message`` is argparse's."""
        self.exit(USAGE, f"{self.prog}: {in_our_words(message)}; see `{self.prog} --help`\n")

    # The signature is a set of overloads about the namespace's type, which nobody here uses.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is not known, by the command that does not know it."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return found, unknown

    def _unknown(self, words: Sequence[str]) -> str:
        if renamed := present_flags(words):
            return renamed
        flags = [word.partition("=")[0] for word in words if word.startswith("-")]
        if not flags:
            known = [flag for flag in _OF_BARE_WORDS if flag in self._option_string_actions]
            belongs = f": does it belong after {known[0]}?" if known else ""
            return f"{len(words)} word(s) too many{belongs}"
        return f"unknown: {' '.join(flags)}{_near(flags[0], self._option_string_actions)}"


#: What a word without a flag is meant for, where a command takes none: its first of these.
_OF_BARE_WORDS = ("--peer", "--settings", "--dir")


def sentence(what: str) -> str:
    """``what`` with a capital in front, the names in it as they are.

    >>> sentence("be a SIP phone's end")
    "Be a SIP phone's end"
    """
    return what[:1].upper() + what[1:]


def in_our_words(message: str) -> str:
    """What argparse says, as a person would.

    >>> in_our_words("argument -t/--timeout: invalid float value: 'x'")
    "--timeout wants a number, not 'x'"
    >>> in_our_words("the following arguments are required: PEER")
    'PEER is missing'
    """
    for pattern, say in _WORDS:
        if (found := re.fullmatch(pattern, message, re.DOTALL)) is not None:
            return say(*(re.sub(r"^-\w/(?=--)", "", part) for part in found.groups()))
    return message


#: What people type for a command that is called otherwise; the first that there is counts.
_OTHER_WORDS = {
    "ring": ("call",),
    "dial": ("call",),
    "answer": ("listen",),
    "install": ("provision",),
    "flash": ("provision",),
    "setup": ("provision", "init"),
    "start": ("run",),
    "serve": ("run",),
    "check": ("doctor",),
    "create": ("init", "add"),
    "new": ("init", "add"),
    "add": ("device",),
    "register": ("device", "add"),
    "delete": ("remove",),
    "rm": ("remove",),
    "show": ("list", "status"),
    "ls": ("list",),
}
#: What the other one of the two programs has.
_ELSEWHERE = {
    word: f"{program} {command or word}"
    for program, command, words in (
        ("bellwire-broker", "", ("run", "init", "device", "renew", "status", "export")),
        ("bellwire-broker", "run", ("broker", "start", "serve")),
        ("bellwire", "", ("call", "talk", "listen", "watch", "trace", "doorbell", "panel")),
        ("bellwire", "", ("fleet", "history", "provision", "wheels")),
    )
    for word in words
}


def _near(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = [name for name in _OTHER_WORDS.get(word, ()) if name in names]
    near = near or [each for each in (_ELSEWHERE.get(word),) if each]
    near = near or difflib.get_close_matches(word, names, 1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def _choice(name: str, word: str, choices: str) -> str:
    known = re.findall(r"[^\s',]+", choices)
    if name.isupper():
        return f"there is no {name.lower()} {word}{_near(word.strip(chr(39)), known)}"
    return f"{name} is one of {', '.join(known)}, not {word}"


def _value(name: str, kind: str, value: str) -> str:
    kinds = {"float": "a number", "int": "a whole number"}
    return f"{name} wants {kinds.get(kind, 'another value')}, not {value}"


_WORDS: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"argument (.+?): invalid choice: (.*?) \(choose from (.*)\)", _choice),
    (r"argument (.+?): invalid (\w+) value: (.*)", _value),
    (r"argument (.+?): expected (?:one|at least one) argument", "{} wants a value".format),
    (r"argument (.+?): not allowed with argument (.+)", "{} does not go with {}".format),
    (r"argument (.+?): ignored explicit argument .*", "{} takes no value".format),
    (r"the following arguments are required: (.*)", "{} is missing".format),
    (r"one of the arguments (.*) is required", "one of {} is missing".format),
    (r"argument (.+?): (.*)", "{}: {}".format),
)
