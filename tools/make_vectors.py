"""Write docs/vectors/*.json from codec, topics and engine; ``--check`` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cbor2

from device_sdk.wire import codec, keys, reasons, topics
from device_sdk.wire.cells import (
    Answer,
    AnswerState,
    Cell,
    EndedReason,
    Invite,
    InviteState,
    Presence,
)
from tools.vector_scenes import CALL, CONTENT, GROUP, MINE, THEIRS, means, scenes

VECTORS = Path(__file__).parent.parent / "docs" / "vectors"
RINGING = Invite(InviteState.RINGING, MINE, 1, ttl=60_000)
BODIES: tuple[Any, ...] = (
    None,
    False,
    True,
    0,
    23,
    24,
    2**64 - 1,
    -1,
    -(2**64),
    1.5,
    1e300,
    "",
    "grüß",
    b"\x00\xff",
    [],
    [1, [2]],
    {"b": 1, "a": [None], "aa": 2, 3: b""},
)


def cells() -> list[dict[str, Any]]:
    """Every kind and state, every type of body, every boundary that a cell has."""
    named: list[tuple[str, Cell]] = [
        ("ringing, least", RINGING),
        (
            "ringing, everything",
            Invite(InviteState.RINGING, MINE, 1, 9, CONTENT, "a", None, GROUP, 5, THEIRS),
        ),
        ("ringing, answering", RINGING._replace(asker=THEIRS)),
        ("ringing, no time left", RINGING._replace(ttl=0)),
        ("ringing, a day left", RINGING._replace(ttl=keys.MAX_TTL)),
        ("ringing, the longest channel", RINGING._replace(channel="ü" * 32)),
        ("ringing, an empty channel", RINGING._replace(channel="")),
        ("ringing, the largest numbers", RINGING._replace(seq=keys.MAX_UINT, time=keys.MAX_UINT)),
        ("ringing, the largest content", RINGING._replace(content=codec.encode_body(bytes(8189)))),
        ("accepted", Invite(InviteState.ACCEPTED, MINE, 2)),
        *(
            (f"ended, reason {int(n)}", Invite(InviteState.ENDED, MINE, 24, reason=n))
            for n in EndedReason
        ),
        (
            "ended, everything",
            Invite(InviteState.ENDED, MINE, 256, None, CONTENT, "front", 1, GROUP, 5),
        ),
        *((s.name.lower(), Answer(s, MINE, 65_536)) for s in AnswerState),
        ("received, asking", Answer(AnswerState.RECEIVED, MINE, 1, ask=True)),
        ("accepted, with a response", Answer(AnswerState.ACCEPTED, MINE, 2, CONTENT)),
        *(
            (
                f"{row.answer.name.lower()}, reason {int(row.reason)}",
                Answer(row.answer, MINE, 2, None, row.reason),
            )
            for row in reasons.ANSWERED
        ),
        ("offline", Presence(False, MINE)),
        ("online", Presence(True, MINE)),
        ("online, with a time", Presence(True, MINE, 1_700_000_000)),
        *(
            (f"content {str(b)[:40]!r}", RINGING._replace(content=codec.encode_body(b)))
            for b in BODIES
        ),
    ]
    return [_cell(name, cell) for name, cell in named]


def _cell(name: str, cell: Cell) -> dict[str, Any]:
    kind = type(cell).__name__.lower()
    topic = f"sig/v1/a/{kind}" if kind == "presence" else f"sig/v1/a/{kind}/b/{CALL}"
    data = codec.encode(cell)
    return {"name": name, "kind": kind, "hex": data.hex(), "means": means(topic, data)}


def tolerated() -> list[dict[str, Any]]:
    """What no writer writes but every reader takes: the same as the least ringing invite."""
    base = {0: 1, 1: 0, 2: MINE, 3: 1, 4: 60_000}
    least = codec.encode(RINGING)
    wires = [
        ("keys in another order", cbor2.dumps(dict(reversed(base.items())))),
        (
            "keys of a later version",
            cbor2.dumps(base | {11: [1], 255: {"x": 1}, "x": None, -1: 2.5}),
        ),
        (
            "a key that only equals a known one",
            b"\xa7" + least[1:] + b"\xf5\x02" + b"\xf9\x3c\x00\x02",
        ),
        ("a float in more bytes than it needs", b"\xa6" + least[1:] + b"\x0b\xfb" + bytes(8)),
    ]
    topic = f"sig/v1/a/invite/b/{CALL}"
    return [
        {"name": n, "kind": "invite", "hex": w.hex(), "means": means(topic, w)} for n, w in wires
    ]


def malformed() -> list[dict[str, Any]]:
    """Bytes that are no cell, and the cause that they are dropped under."""
    base: dict[Any, Any] = {0: 1, 1: 0, 2: MINE, 3: 1, 4: 60_000}
    answer = {0: 1, 1: 0, 2: MINE, 3: 1}

    def put(more: dict[Any, Any], without: int | None = None) -> bytes:
        return cbor2.dumps({k: v for k, v in (base | more).items() if k != without})

    deep: Any = 0
    for _ in range(16):
        deep = [deep]
    rows: list[tuple[str, str, bytes]] = [
        ("empty map", "invite", b"\xa0"),
        *((f"without key {k}", "invite", put({}, k)) for k in base),
        ("presence without epoch", "presence", cbor2.dumps({0: 1, 1: 1})),
        ("a later version", "invite", put({0: 2})),
        ("version as text", "invite", put({0: "1"})),
        ("version true", "invite", put({0: True})),
        ("invite state 3", "invite", put({1: 3})),
        ("answer state 5", "answer", cbor2.dumps(answer | {1: 5})),
        ("presence state 2", "presence", cbor2.dumps({0: 1, 1: 2, 2: MINE})),
        ("a negative state", "invite", put({1: -1})),
        ("state as a float", "invite", put({1: 0.0})),
        ("epoch of 7 bytes", "invite", put({2: MINE[:7]})),
        ("epoch as text", "invite", put({2: "epoch-me"})),
        ("seq of 2^53", "invite", put({3: 2**53})),
        ("ttl over a day", "invite", put({4: keys.MAX_TTL + 1})),
        ("channel of 65 bytes", "invite", put({6: "x" * 65})),
        ("channel as bytes", "invite", put({6: b"x"})),
        ("reason as text", "invite", put({7: "busy"})),
        ("group of 15 bytes", "invite", put({8: GROUP[:15]})),
        ("asker of 7 bytes", "invite", put({16: MINE[:7]})),
        ("a negative time", "invite", put({9: -1})),
        ("ask as a number", "answer", cbor2.dumps(answer | {10: 1})),
        ("a body of 8193 bytes", "invite", put({5: bytes(8190)})),
        ("a payload of 20481 bytes", "invite", bytes(codec.MAX_CELL + 1)),
        ("17 levels", "invite", put({5: deep})),
        ("a tagged body", "invite", put({5: cbor2.CBORTag(1, 0)})),
        ("a tagged cell", "invite", b"\xd9\xd9\xf7" + put({})),
        ("a bignum", "invite", put({5: 2**64})),
        ("an array", "invite", b"\x80"),
        ("a number", "invite", b"\x01"),
        ("no CBOR at all", "invite", b"\xff"),
        ("JSON", "invite", b'{"state":0}'),
        ("cut off", "invite", put({})[:-1]),
        ("left over", "invite", put({}) + b"\x00"),
        ("indefinite map", "invite", b"\xbf\x00\x01\xff"),
        ("indefinite string", "invite", b"\xa1\x05\x5f\x41a\xff"),
        ("a long head", "invite", b"\xa1\x00\x18\x01"),
        ("a key in a long head", "invite", b"\xa1\x18\x00\x01"),
        ("a key twice", "invite", b"\xa2\x00\x01\x00\x01"),
        ("an array as a key", "invite", b"\xa1\x80\x01"),
        ("undefined", "invite", b"\xa1\x05\xf7"),
        ("text that is no UTF-8", "invite", b"\xa1\x05\x61\xff"),
        ("more items than bytes", "invite", b"\xbb" + b"\xff" * 8),
    ]
    return [{"name": n, "kind": k, "hex": d.hex(), "cause": _cause(k, d)} for n, k, d in rows]


def _cause(kind: str, data: bytes) -> str:
    try:
        getattr(codec, f"decode_{kind}")(data)
    except codec.DecodeError as error:
        return error.cause
    raise AssertionError(f"a cell after all: {data.hex()}")


def names() -> dict[str, Any]:
    """Peer ids and their levels, topics and what they are, and what is neither."""
    peers = [
        "kitchen",
        "front-door_2",
        "kitchen.1",
        "a b",
        "a/b+c#",
        "50%",
        "%41",
        "küche",
        "台所",
        "🔔",
        "x" * 64,
        "." * 64,
        "ü" * 32,
    ]
    levels = [
        "",
        "kitchen.1",
        "a%2eb",
        "%41",
        "a%2",
        "%ZZ",
        "%C3",
        "%FF",
        "%00",
        "%7F",
        "%ED%A0%80",
        "küche",
        "x" * 65,
        "%C3%BC" * 33,
    ]
    good = [
        topics.presence("sig", "kitchen.1"),
        topics.cell("sig", "invite", "kitchen.1", "door", CALL),
        topics.cell("sig", "answer", "door", "küche", CALL),
    ]
    bad = [
        "sig",
        "sig/v1/a",
        "sig/v2/a/presence",
        "other/v1/a/presence",
        "sig/v1//presence",
        "sig/v1/a/presence/",
        "sig/v1/a.b/presence",
        "sig/v1/%41/presence",
        f"sig/v1/a/ring/b/{CALL}",
        f"sig/v1/a/invite/b/{CALL}x",
        f"sig/v1/a/invite/b/{CALL[:-1]}R",
        "sig/v1/a/invite/b/short",
        f"sig/v1/a/invite/b/{CALL}/x",
        f"sig/v1/a/invite//{CALL}",
    ]
    parsed = [topics.parse("sig", t) for t in good]
    assert all(parsed)  # noqa: S101 - the script must not write what is not so
    assert not any(topics.parse("sig", t) for t in bad)  # noqa: S101 - as above
    return {
        "peers": [{"peer": p, "level": topics.escape(p)} for p in peers],
        "no_peer_ids": ["", "x" * 65, "ü" * 33, "a\nb", "a\u0000", "a\u007f"],
        "no_levels": levels,
        "topics": [
            {"topic": t}
            | (
                {"presence": p.peer}
                if isinstance(p, topics.PresenceTopic)
                else {k: getattr(p, k) for k in ("kind", "owner", "writer", "call_id")}
            )
            for t, p in zip(good, parsed, strict=True)
        ],
        "unknown_topics": bad,
    }


def build() -> dict[str, str]:
    """Each file's name and text."""
    files: dict[str, Any] = {
        "cells.json": {"cells": cells(), "tolerated": tolerated()},
        "malformed.json": malformed(),
        "topics.json": names(),
        "calls.json": [{"name": s.name, "rules": s.rules, "steps": s.steps} for s in scenes()],
    }
    return {name: _text(value, 3 if name == "calls.json" else 1) for name, value in files.items()}


def _text(value: Any, levels: int) -> str:
    """JSON with this many levels unfolded and the rest on one line each: short, yet diffs well."""
    if not levels or not isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        unfold = any(isinstance(v, list) for v in value.values())
        if not unfold:
            return json.dumps(value, ensure_ascii=False)
        rows = [f"{json.dumps(k)}: {_text(v, levels)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + "\n}"
    return "[\n" + ",\n".join(_text(v, levels - 1) for v in value) + "\n]"


def main() -> int:
    """Write, or with ``--check`` say what differs."""
    differ = 0
    for name, text in build().items():
        path = VECTORS / name
        if path.exists() and path.read_text() == text + "\n":
            continue
        differ = 1
        if "--check" in sys.argv:
            print(f"{path}: not what tools/make_vectors.py writes; run it and look at the diff")
        else:
            path.write_text(text + "\n")
            print(f"wrote {path}")
    return differ if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
