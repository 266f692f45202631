"""The keys of the cells, as one table: their numbers, types, limits, and who carries them.

``codec`` encodes and decodes by it, and is all that needs to know of a new optional key besides
its field in ``cells``. ``python -m tools.make_tables`` writes docs/protocol.cddl and the table of
keys in docs/protocol.md from it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from .cells import EPOCH_BYTES, GROUP_BYTES

VERSION: Final = 1
MAX_BODY: Final = 8 * 1024
MAX_CHANNEL: Final = 64
#: Unsigned integers stay below 2**53, so that a peer whose numbers are doubles can read them;
#: a ttl is at most a day.
MAX_UINT: Final = 2**53 - 1
MAX_TTL: Final = 24 * 60 * 60 * 1000


class Type(Enum):
    """What a key's value is; the limit beside it is of this."""

    UINT = "uint"  # its largest value
    BYTES = "bstr"  # its length
    TEXT = "tstr"  # its most bytes
    TRUE = "true"  # or absent; without a limit
    BODY = "any CBOR value without tags"  # its most bytes, encoded


#: What a cell can be: the states of an invite each by themselves.
RINGING, ACCEPTED, ENDED, ANSWER, PRESENCE = "ringing", "accepted", "ended", "answer", "presence"
#: Of a call that goes on: the caller's last word, and the callee's two.
OVER, TALKING = "over", "talking"
INVITE: Final = (RINGING, ACCEPTED, ENDED, OVER)
ANSWERS: Final = (ANSWER, TALKING)
TALKS: Final = (ACCEPTED, OVER, TALKING)
ALL: Final = (*INVITE, *ANSWERS, PRESENCE)


class Key(NamedTuple):
    """One key: which cells must have it, and which may; ``about`` is for the documents.

    ``fields``: its name in ``cells``, where that is another one, by the cell. A cell without it
    is read, and one that says what its field is without it is written, without it.
    """

    number: int
    name: str
    type: Type
    limit: int
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    about: str = ""
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def cells(self) -> tuple[str, ...]:
        """All that carry it."""
        return tuple(cell for cell in ALL if cell in self.required or cell in self.optional)


#: By number, the fields of each cell in the same order; a number is below 24, so that it is one
#: byte. 11 to 13, and the body of those cells, are one field in ``cells``: ``talk``. 17 to 19 are
#: kept for signatures.
KEYS: Final = (
    Key(0, "version", Type.UINT, MAX_UINT, required=ALL, about="always 1"),
    Key(1, "state", Type.UINT, MAX_UINT, required=ALL, about="see States",
        fields=((PRESENCE, "online"),)),
    Key(2, "epoch", Type.BYTES, EPOCH_BYTES, required=ALL,
        about="random per login of the writer, kept across reconnects"),
    Key(3, "seq", Type.UINT, MAX_UINT, required=(*INVITE, *ANSWERS),
        about="+1 on each publish of this cell"),
    Key(4, "ttl", Type.UINT, MAX_TTL, required=(RINGING,),
        about="milliseconds of ringing left when published, at most a day"),
    Key(5, "body", Type.BODY, MAX_BODY, optional=(RINGING, ENDED, ANSWER, *TALKS),
        about="the content of an invite, the response of an answer; in a call that goes on the"
        " array of messages",
        fields=((RINGING, "content"), (ENDED, "content"), (ANSWER, "response"),
                *((cell, "messages") for cell in TALKS))),
    Key(6, "channel", Type.TEXT, MAX_CHANNEL, optional=(RINGING, ENDED)),
    Key(7, "reason", Type.UINT, MAX_UINT, optional=(ENDED, *ANSWERS, OVER), about="see Reasons"),
    Key(8, "group", Type.BYTES, GROUP_BYTES, optional=(RINGING, ENDED), about="ring group"),
    Key(9, "time", Type.UINT, MAX_UINT, optional=(RINGING, ENDED, PRESENCE),
        about="unix seconds, **advisory**: shown to people, never decided from"),
    Key(10, "ask", Type.TRUE, 0, optional=(ANSWER, PRESENCE),
        about='"I got this retained: is it still so?"'),
    Key(11, "talk", Type.UINT, MAX_UINT, required=(OVER, TALKING),
        optional=(RINGING, ACCEPTED, ANSWER), about="always 1: I can stay in the call"),
    Key(12, "count", Type.UINT, MAX_UINT, optional=TALKS,
        about="messages that I have said in this call; 0 if absent"),
    Key(13, "got", Type.UINT, MAX_UINT, optional=TALKS,
        about="of the other's messages, those that I have handled; absent until I have read"
        " *talking*"),
    Key(14, "generation", Type.UINT, MAX_UINT, optional=(PRESENCE,),
        about="0 if absent: with the epoch the rank of a login (Newer logins)"),
    Key(15, "age", Type.UINT, MAX_UINT, optional=(PRESENCE,),
        about="milliseconds since this login's first CONNACK, by a clock that only counts; 0 if"
        " absent"),
    Key(16, "asker", Type.BYTES, EPOCH_BYTES, optional=(RINGING,),
        about="epoch of the answer whose `ask` this answers"),
)  # fmt: skip
BY_NAME: Final = {key.name: key for key in KEYS}
#: The keys that ``cells`` has as one field.
TALK: Final = tuple(BY_NAME[name].number for name in ("talk", "count", "got"))


def of(*cells: str) -> tuple[tuple[Key, str], ...]:
    """The keys of these cells besides the version, each with the name of its field there."""
    return tuple(
        (key, next((name for cell, name in key.fields if cell in cells), key.name))
        for key in KEYS[1:]
        if not {*key.cells}.isdisjoint(cells)
    )
