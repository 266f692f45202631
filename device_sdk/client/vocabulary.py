"""One word for each thing: the table from which flags, variables and keys of files are made.

What is ``ca_file`` to the library is ``--ca-file`` on a command line, ``BELLWIRE_CA_FILE`` in the
environment and ``ca_file`` in the table ``[account]`` of a TOML file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

DEFAULT_BROKER = "mqtt://127.0.0.1:1883"


class Word(NamedTuple):
    """One setting; ``name`` is its keyword in the library and its key in a file."""

    name: str
    metavar: str
    help: str
    kind: type = str
    group: str = "broker"
    #: Said more than once, or as a list in a file, it is one text with commas.
    several: bool = False
    #: Of a whole number.
    low: int = 1
    high: int = 65535

    @property
    def flag(self) -> str:
        """As a command line has it."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """As the environment has it."""
        return "BELLWIRE_" + self.name.upper()


WORDS = (
    Word("peer", "ID", "my own peer id"),
    Word("broker", "URL", "mqtt://, mqtts://, ws:// or wss://; again for each further node of a"
         " cluster, or mqtts+srv://DOMAIN, whose DNS names them"
         f" (default: {DEFAULT_BROKER})", several=True),
    Word("realm", "NAME", "first level of all topics (default: sig)"),
    Word("username", "NAME", "user name (default: the peer id, where there is a secret)"),
    Word("password", "TEXT", "the secret itself; on a command line every user of this machine can"
         " read it: prefer --secret-file or BELLWIRE_PASSWORD"),
    Word("secret_file", "FILE", "a file whose first line is the secret"),
    Word("ca_file", "FILE", "PEM file of the authority to trust (default: the system's)"),
    Word("cert_file", "FILE", "my own certificate, PEM"),
    Word("key_file", "FILE", "its private key, PEM"),
    Word("keepalive", "S", "whole seconds between signs of life (default: 15)", int),
    Word("subscribe_qos", "0|1", "quality of service asked for; a cluster of NATS wants 0"
         " (default: 1)", int, low=0, high=1),
    Word("login_timeout", "S", "how long to try to log in (default: 10)", float),
    Word("ack_timeout", "S", "until a callee that shows no sign of life is given up"
         " (default: 30)", float, "timers"),
    Word("accept_timeout", "S", "until an accept that the caller does not confirm has failed"
         " (default: 5)", float, "timers"),
)  # fmt: skip
BY_NAME = {word.name: word for word in WORDS}

#: What names a file; a relative one in a TOML file is beside that file.
FILES = ("secret_file", "ca_file", "cert_file", "key_file")

#: What these were called, or are called elsewhere: refused with the word that holds here.
FORMER = {
    "as": "peer",
    "peer_id": "peer",
    "ca": "ca_file",
    "cert": "cert_file",
    "certificate": "cert_file",
    "key": "key_file",
    "password_file": "secret_file",
    "secret": "secret_file",
    "url": "broker",
    "user": "username",
    "config": "settings",
}


def present_flags(unknown: Iterable[str]) -> str:
    """For flags that are unknown: how those among them that had another name are called, or ``""``.

    >>> present_flags(["--as", "me"])
    '--as is called --peer'
    """
    said = []
    for word in unknown:
        flag = word.partition("=")[0]
        name = FORMER.get(flag.removeprefix("--").replace("-", "_"))
        if flag.startswith("--") and name is not None:
            said.append(f"{flag} is called --{name.replace('_', '-')}")
    return ", ".join(dict.fromkeys(said))
