"""docs/vectors/talk.json: what a peer that can stay in a call has to know besides.

A profile of its own: cells, malformed ones, and the scenes of ``talk_scenes``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cbor2

from device_sdk.core.wire import codec, keys
from device_sdk.core.wire.cells import (
    Answer,
    AnswerState,
    Cell,
    Invite,
    InviteState,
    OverReason,
    Said,
)
from device_sdk.core.wire.talk_cells import MAX_MESSAGE, MAX_MESSAGES, encode_message
from tools.scene_player import CONTENT, GROUP, MINE, RESPONSE, THEIRS
from tools.talk_scenes import scenes

PROFILE: Final = "talk"
ACCEPTED: Final = Invite(InviteState.ACCEPTED, MINE, 2, talk=Said())
TALKING: Final = Answer(AnswerState.TALKING, MINE, 3, talk=Said(0, 0))
OPEN, TEXT = encode_message({"do": "open"}), encode_message("hello")
Row = tuple[str, str, bytes]


def _nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def cells() -> list[tuple[str, Cell]]:
    """Every cell with talk, every boundary."""
    most = Said(MAX_MESSAGES, 0, (encode_message(0),) * MAX_MESSAGES)
    largest = Said(1, keys.MAX_UINT, (encode_message(bytes(MAX_MESSAGE - 3)),))
    deepest = Said(1, 0, (encode_message(_nested(14)),))
    values = tuple(map(encode_message, (None, False, 1.5, "grüß", b"\x00", [], {1: "a", "b": 2})))
    return [
        ("ringing, with talk", Invite(InviteState.RINGING, MINE, 1, 60_000, talk=Said())),
        (
            "ringing, everything and talk",
            Invite(
                InviteState.RINGING, MINE, 1, 9, CONTENT, "a", None, GROUP, 5, THEIRS, talk=Said()
            ),
        ),
        ("accepted, with talk", ACCEPTED),
        ("accepted, talking was read", ACCEPTED._replace(talk=Said(0, 0))),
        ("accepted, with two messages", ACCEPTED._replace(talk=Said(2, None, (OPEN, TEXT)))),
        ("accepted, with the last of three", ACCEPTED._replace(talk=Said(3, 1, (TEXT,)))),
        ("accepted, all acknowledged", ACCEPTED._replace(talk=Said(3, 300))),
        ("accepted, 64 messages", ACCEPTED._replace(talk=most)),
        ("accepted, the largest message", ACCEPTED._replace(talk=largest)),
        ("an answer accepted, with talk", Answer(AnswerState.ACCEPTED, MINE, 2, talk=Said())),
        (
            "an answer accepted, with talk and a response",
            Answer(AnswerState.ACCEPTED, MINE, 2, RESPONSE, talk=Said()),
        ),
        ("talking", TALKING),
        ("talking, the largest numbers", TALKING._replace(talk=Said(keys.MAX_UINT, keys.MAX_UINT))),
        ("talking, values of all types", TALKING._replace(talk=Said(7, 2, values))),
        ("talking, a message of 14 levels", TALKING._replace(talk=deepest)),
        *(
            (f"over, reason {n:d}", Invite(InviteState.OVER, MINE, 4, reason=n, talk=Said(0, 0)))
            for n in OverReason
        ),
        *(
            (f"an answer over, reason {n:d}", Answer(AnswerState.OVER, MINE, 4, None, n, talk=said))
            for n, said in zip(OverReason, (Said(0, 0), Said(2, 1, (OPEN,))) * 3, strict=False)
        ),
        ("over, with messages", Invite(InviteState.OVER, MINE, 4, talk=Said(2, 1, (OPEN, TEXT)))),
    ]


def _with(cell: dict[int, Any], **more: Any) -> bytes:
    """A cell's bytes with these keys put, ``k5=…``, or left out (None)."""
    put = {int(name[1:]): value for name, value in more.items()}
    return cbor2.dumps({k: v for k, v in sorted((cell | put).items()) if v is not None})


RINGS: Final[dict[int, Any]] = {0: 1, 1: 0, 2: MINE, 3: 1, 4: 60_000}
DECIDES: Final[dict[int, Any]] = {0: 1, 1: 1, 2: MINE, 3: 2, 11: 1}
TALKS: Final[dict[int, Any]] = {0: 1, 1: 5, 2: MINE, 3: 3, 11: 1}
OVER: Final[dict[int, Any]] = {0: 1, 1: 3, 2: MINE, 3: 4, 11: 1}


def tolerated() -> list[Row]:
    """What nobody should write, and what a reader takes it for."""
    return [
        ("a ringing with talk 2 is one without", "invite", _with(RINGS, k11=2)),
        ("a ringing with talk true is one without", "invite", _with(RINGS, k11=True)),
        (
            "a ringing with count and got, of any type",
            "invite",
            _with(RINGS, k11=1, k12="x", k13=-1),
        ),
        ("an accepted with talk 0 is one without", "invite", _with(DECIDES, k11=0, k12=-1, k5="x")),
        ("an ended with talk", "invite", _with(DECIDES, k1=2, k7=1, k12="x")),
        ("a refused with talk", "answer", _with(TALKS, k1=2, k7=1, k13="x")),
        ("talking with a count of 0", "answer", _with(TALKS, k12=0, k13=0)),
        ("talking with an empty array", "answer", _with(TALKS, k5=[], k12=4)),
        ("talking that asks, with a reason", "answer", _with(TALKS, k7=1, k10=True, k13=0)),
        ("over for no reason", "invite", _with(OVER)),
        ("over for an unknown reason", "invite", _with(OVER, k7=99)),
        ("over with a ttl, a channel, a group", "invite", _with(OVER, k4=1, k6="a", k8=GROUP)),
        (
            "a message whose keys are out of order",
            "answer",
            bytes.fromhex("a7000101050248")
            + MINE
            + bytes.fromhex("03030581a2626161016162000b010c01"),
        ),
    ]


def malformed() -> list[Row]:
    """Whole cells with one fault."""
    rows: list[tuple[str, str, dict[int, Any], dict[str, Any]]] = [
        ("over without talk", "invite", OVER, {"k11": None}),
        ("over with talk 2", "invite", OVER, {"k11": 2}),
        ("over with talk true", "invite", OVER, {"k11": True}),
        ("over with talk 1.0", "invite", OVER, {"k11": 1.0}),
        ("talking without talk", "answer", TALKS, {"k11": None}),
        ("talking with talk as text", "answer", TALKS, {"k11": "1"}),
        ("an answer over without talk", "answer", TALKS, {"k1": 6, "k11": None}),
        ("invite state 4", "invite", OVER, {"k1": 4}),
        ("answer state 7", "answer", TALKS, {"k1": 7}),
        ("a negative count", "invite", DECIDES, {"k12": -1}),
        ("a count of 2^53", "answer", TALKS, {"k12": 2**53}),
        ("a count as a float", "answer", TALKS, {"k12": 1.0}),
        ("got as text", "answer", TALKS, {"k13": "1"}),
        ("got of 2^53", "invite", OVER, {"k13": 2**53}),
        ("a negative got", "invite", OVER, {"k13": -1}),
        ("more messages than count", "answer", TALKS, {"k5": [1, 2], "k12": 1}),
        ("messages without count", "invite", DECIDES, {"k5": [1]}),
        ("65 messages", "invite", DECIDES, {"k5": [0] * 65, "k12": 65}),
        ("messages as a map", "answer", TALKS, {"k5": {"do": "open"}, "k12": 1}),
        ("messages as text", "invite", OVER, {"k5": "hello", "k12": 1}),
        ("8,193 bytes of messages", "invite", DECIDES, {"k5": [bytes(8189)], "k12": 1}),
        ("a message of 15 levels", "answer", TALKS, {"k5": [_nested(15)], "k12": 1}),
        ("a tagged message", "answer", TALKS, {"k5": [cbor2.CBORTag(1, 0)], "k12": 1}),
        ("over without seq", "invite", OVER, {"k3": None}),
        ("talking with an epoch of 7 bytes", "answer", TALKS, {"k2": MINE[:7]}),
        ("over with a reason as text", "invite", OVER, {"k7": "hung up"}),
    ]  # fmt: skip
    found = [(name, kind, _with(cell, **more)) for name, kind, cell, more in rows]
    sound = codec.encode(TALKING)
    return [
        *found,
        (
            "null as messages",
            "invite",
            b"\xa7" + _with(DECIDES)[1:-2] + b"\x05\xf6\x0b\x01\x0c\x01",
        ),
        ("talk in a long head", "answer", sound[:-4] + b"\x0b\x18\x01" + sound[-2:]),
        ("talk twice", "answer", bytes((sound[0] + 1,)) + sound[1:] + b"\x0b\x01"),
        ("an indefinite array of messages", "answer", _open_array(sound)),
    ]


def _open_array(cell: bytes) -> bytes:
    """With an array of one message that does not say how long it is."""
    return bytes((cell[0] + 2,)) + cell[1:] + b"\x0c\x01\x05\x9f\x01\xff"


def build(
    written: Callable[[str, Cell], dict[str, Any]],
    read: Callable[[Row], dict[str, Any]],
    refused: Callable[[Row], dict[str, Any]],
) -> dict[str, Any]:
    """The whole file; how a cell, one that is only read, and one that is refused are written."""
    return {
        "profile": PROFILE,
        "cells": [written(name, cell) for name, cell in cells()],
        "tolerated": [read(row) for row in tolerated()],
        "malformed": [refused(row) for row in malformed()],
        "calls": [scene.written for scene in scenes()],
    }
