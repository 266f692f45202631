"""Write docs/vectors from codec, topics and engine; ``--check`` only compares."""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import cbor2

from device_sdk.core.wire import codec, keys, reasons, topics
from device_sdk.core.wire.cells import (
    Answer,
    AnswerState,
    Cell,
    EndedReason,
    Invite,
    InviteState,
    Presence,
)
from tools import random_talks, small_profile, small_scenes, talk_vectors
from tools.random_scenes import generated
from tools.scene_player import CALL, CONTENT, GROUP, MINE, THEIRS, means
from tools.vector_scenes import scenes

GENERATED = "generated.json.gz"
#: Of a profile of their own, which a peer without talk leaves out.
TALK, TALK_GENERATED = "talk.json", "talk-generated.json.gz"
#: What a small peer does otherwise than a full one.
SMALL = "small.json"
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
    2.0**-24,
    100_000.5,
    1.1,
    1e300,
    float("inf"),
    float("nan"),
    "",
    "grüß",
    b"\x00\xff",
    [],
    [1, [2]],
    {"b": 1, "a": [None], "aa": 2, 3: b""},
    {1000: 1, "a": 2, "\ufeffb": "\ufeff"},
)
#: An unknown key: none that the protocol has is as large.
UNKNOWN = 200


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
        ("ringing, a channel with a byte order mark", RINGING._replace(channel="\ufeffa")),
        ("ringing, the largest numbers", RINGING._replace(seq=keys.MAX_UINT, time=keys.MAX_UINT)),
        ("ringing, the largest content", RINGING._replace(content=codec.encode_body(bytes(8189)))),
        ("accepted", Invite(InviteState.ACCEPTED, MINE, 2)),
        *(
            (f"accepted, seq {n}", Invite(InviteState.ACCEPTED, MINE, n))
            for n in (23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32)
        ),
        ("ringing, 16 levels", RINGING._replace(content=codec.encode_body(_nested(15)))),
        *(
            (f"ended, reason {int(n)}", Invite(InviteState.ENDED, MINE, 24, reason=n))
            for n in EndedReason
        ),
        (
            "ended, everything",
            Invite(InviteState.ENDED, MINE, 256, None, CONTENT, "front", 1, GROUP, 5),
        ),
        *(
            (s.name.lower(), Answer(s, MINE, 65_536))
            for s in AnswerState
            if s < AnswerState.TALKING
        ),
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
        ("online, of the first rank", Presence(True, MINE, 5, False, 1, 1)),
        (
            "online, the largest numbers",
            Presence(True, MINE, keys.MAX_UINT, False, keys.MAX_UINT, keys.MAX_UINT),
        ),
        ("offline, asking", Presence(False, MINE, None, True, 3, 60_000)),
        *(
            (f"content {str(b)[:40]!r}", RINGING._replace(content=codec.encode_body(b)))
            for b in BODIES
        ),
    ]
    return [_cell(name, cell) for name, cell in named]


def _cell(name: str, cell: Cell) -> dict[str, Any]:
    kind = type(cell).__name__.lower()
    data = codec.encode(cell)
    return {"name": name, "kind": kind, "hex": data.hex(), "means": means(_topic(kind), data)}


def _topic(kind: str) -> str:
    return f"sig/v1/a/{kind}" if kind == "presence" else f"sig/v1/a/{kind}/b/{CALL}"


def _nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


RINGS: dict[Any, Any] = {0: 1, 1: 0, 2: MINE, 3: 1, 4: 60_000}
ENDS: dict[Any, Any] = {0: 1, 1: 2, 2: MINE, 3: 1}
ANSWERS: dict[Any, Any] = {0: 1, 1: 0, 2: MINE, 3: 1}
ONLINE: dict[Any, Any] = {0: 1, 1: 1, 2: MINE}


def _sized(size: int) -> bytes:
    """A sound cell of so many bytes, most of them under an unknown key."""
    rest = len(cbor2.dumps(RINGS | {UNKNOWN: bytes(1000)})) - 1000
    return cbor2.dumps(RINGS | {UNKNOWN: bytes(size - rest)})


def tolerated() -> list[dict[str, Any]]:
    """What no writer writes but every reader takes."""
    least = codec.encode(RINGING)
    wires = [
        ("keys in another order", "invite", cbor2.dumps(dict(reversed(RINGS.items())))),
        (
            "keys of a later version",
            "invite",
            cbor2.dumps(RINGS | {UNKNOWN: [1], 255: {"x": 1}, "x": None, -1: 2.5}),
        ),
        (
            "a key that only equals a known one",
            "invite",
            b"\xa7" + least[1:] + b"\xf5\x02" + b"\xf9\x3c\x00\x02",
        ),
        (
            "a float in more bytes than it needs",
            "invite",
            b"\xa6" + least[1:] + b"\x18\xc8\xfb" + bytes(8),
        ),
        ("a float of single width", "invite", b"\xa6" + least[1:] + b"\x18\xc8\xfa" + bytes(4)),
        ("20,480 bytes", "invite", _sized(codec.MAX_CELL)),
        ("16 levels under an unknown key", "invite", cbor2.dumps(RINGS | {UNKNOWN: _nested(15)})),
        ("an end with a ttl and an asker", "invite", cbor2.dumps(ENDS | {4: 1, 16: MINE})),
        ("an accepted with a content", "invite", cbor2.dumps({**ENDS, 1: 1, 5: "x"})),
        ("a reason that is none", "invite", cbor2.dumps(ENDS | {7: 99})),
        ("an answer that does not ask", "answer", cbor2.dumps(ANSWERS | {10: False})),
        ("an answer with a ttl, of any type", "answer", cbor2.dumps(ANSWERS | {4: "x"})),
        ("a received with a reason", "answer", cbor2.dumps(ANSWERS | {7: 1})),
        ("a presence with a seq, of any type", "presence", cbor2.dumps(ONLINE | {3: [], 8: 1})),
        ("a presence with generation and age 0", "presence", cbor2.dumps(ONLINE | {14: 0, 15: 0})),
    ]
    return [_read(row) for row in wires]


def _read(row: tuple[str, str, bytes]) -> dict[str, Any]:
    name, kind, data = row
    return {"name": name, "kind": kind, "hex": data.hex(), "means": means(_topic(kind), data)}


def bodies() -> list[dict[str, Any]]:
    """Bodies as a reader takes them, and what a writer makes of their values."""
    wires = {
        "keys of a map out of order": "a2626161016162f6",
        "keys of a map by length": "a26161011903e802",
        "a double that a half holds": "fb3ff8000000000000",
        "a double that a single holds": "fb40f86a0800000000",
        "a single that a half holds": "fa3fc00000",
    }
    return [
        {"name": n, "hex": w, "written": codec.encode_body(cbor2.loads(bytes.fromhex(w))).hex()}
        for n, w in wires.items()
    ]


def malformed() -> list[dict[str, Any]]:
    """Whole cells with one fault, and the cause that they are dropped under."""

    def put(more: dict[Any, Any], without: int | None = None) -> bytes:
        return cbor2.dumps({k: v for k, v in (RINGS | more).items() if k != without})

    def wire(pairs: str, count: int = 6) -> bytes:
        """The least ringing invite, and these bytes of one pair or more behind it."""
        return bytes((0xA0 | count,)) + codec.encode(RINGING)[1:] + bytes.fromhex(pairs)

    def answer(more: dict[Any, Any], without: int | None = None) -> bytes:
        return cbor2.dumps({k: v for k, v in (ANSWERS | more).items() if k != without})

    def seq(head: str) -> bytes:
        """An accepted invite whose seq is written so."""
        return b"\xa4\x00\x01\x01\x01\x02\x48" + MINE + b"\x03" + bytes.fromhex(head)

    rows: list[tuple[str, str, bytes]] = [
        ("empty map", "invite", b"\xa0"),
        *((f"without key {k}", "invite", put({}, k)) for k in RINGS),
        *((f"an answer without key {k}", "answer", answer({}, k)) for k in ANSWERS),
        ("presence without epoch", "presence", cbor2.dumps({0: 1, 1: 1})),
        ("a later version", "invite", put({0: 2})),
        ("version 0", "invite", put({0: 0})),
        ("version as text", "invite", put({0: "1"})),
        ("version true", "invite", put({0: True})),
        ("invite state 3", "invite", put({1: 3})),
        ("answer state 5", "answer", answer({1: 5})),
        ("presence state 2", "presence", cbor2.dumps(ONLINE | {1: 2})),
        ("a negative state", "invite", put({1: -1})),
        ("state as a float", "invite", put({1: 0.0})),
        ("epoch of 7 bytes", "invite", put({2: MINE[:7]})),
        ("epoch of 9 bytes", "invite", put({2: MINE + b"x"})),
        ("epoch as text", "invite", put({2: "epoch-me"})),
        ("an answer's epoch of 7 bytes", "answer", answer({2: MINE[:7]})),
        ("seq of 2^53", "invite", put({3: 2**53})),
        ("seq as a float", "invite", put({3: 1.0})),
        ("ttl over a day", "invite", put({4: keys.MAX_TTL + 1})),
        ("a ttl of an end, as text", "invite", cbor2.dumps(ENDS | {4: "x"})),
        ("channel of 65 bytes", "invite", put({6: "x" * 65})),
        ("channel of 33 characters and 66 bytes", "invite", put({6: "ü" * 33})),
        ("channel as bytes", "invite", put({6: b"x"})),
        ("reason as text", "invite", put({7: "busy"})),
        ("group of 15 bytes", "invite", put({8: GROUP[:15]})),
        ("group of 17 bytes", "invite", put({8: GROUP + b"x"})),
        ("asker of 7 bytes", "invite", put({16: MINE[:7]})),
        ("a negative time", "invite", put({9: -1})),
        ("ask as a number", "answer", answer({10: 1})),
        ("ask as null", "presence", cbor2.dumps(ONLINE | {10: None})),
        ("a generation of 2^53", "presence", cbor2.dumps(ONLINE | {14: 2**53})),
        ("an age as text", "presence", cbor2.dumps(ONLINE | {15: "1"})),
        ("a body of 8193 bytes", "invite", put({5: bytes(8190)})),
        ("20,481 bytes", "invite", _sized(codec.MAX_CELL + 1)),
        ("17 levels", "invite", put({5: _nested(16)})),
        ("17 levels of maps", "invite", wire("05" + "a100" * 16 + "00")),
        ("17 levels under an unknown key", "invite", put({UNKNOWN: _nested(16)})),
        ("a tagged body", "invite", put({5: cbor2.CBORTag(1, 0)})),
        ("a tag within an unknown key", "invite", put({UNKNOWN: [cbor2.CBORTag(1, 0)]})),
        ("a tagged cell", "invite", b"\xd9\xd9\xf7" + put({})),
        ("a bignum", "invite", put({5: 2**64})),
        ("an array", "invite", b"\x80"),
        ("a number", "invite", b"\x01"),
        ("no CBOR at all", "invite", b"\xff"),
        ("JSON", "invite", b'{"state":0}'),
        ("cut off", "invite", put({})[:-1]),
        ("left over", "invite", put({}) + b"\x00"),
        ("another cell behind it", "invite", put({}) * 2),
        ("indefinite map", "invite", b"\xbf" + put({})[1:] + b"\xff"),
        ("indefinite string", "invite", wire("055f4161ff")),
        ("indefinite array", "invite", wire("059fff")),
        ("a long head", "invite", seq("1801")),
        *(
            (f"a long head of {int(h[2:], 16):,}", "invite", seq(h))
            for h in ("1817", "1900ff", "1a0000ffff", "1b00000000ffffffff")
        ),
        ("a reserved head", "invite", seq("1c" + "00" * 16)),
        ("a key in a long head", "invite", wire("18066161")),
        ("a string's length in a long head", "invite", wire("06780161")),
        ("a key twice", "invite", wire("0401")),
        ("an unknown key twice", "invite", wire("18c801" * 2, 7)),
        ("a key twice in a body", "invite", wire("05a201000100")),
        ("an array as a key", "invite", wire("8001")),
        ("a map as a key in a body", "invite", wire("05a1a001")),
        ("undefined", "invite", wire("05f7")),
        ("simple value 16", "invite", wire("05f0")),
        ("text that is no UTF-8", "invite", wire("0561ff")),
        ("a surrogate in UTF-8", "invite", wire("0563eda080")),
        ("a channel that is no UTF-8", "invite", wire("0661ff")),
        ("more items than bytes", "invite", wire("05bb" + "ff" * 8)),
        ("a string longer than the rest", "invite", wire("055a00ffffff")),
    ]
    return [_refused(row) for row in rows]


def _refused(row: tuple[str, str, bytes]) -> dict[str, Any]:
    name, kind, data = row
    return {"name": name, "kind": kind, "hex": data.hex(), "cause": _cause(kind, data)}


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
        "a~b!c'(d)*",
        "\ufeffx",
        "x" * 64,
        "🔔" * 11 + "x" * 53,
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
        "no_peer_ids": [
            "",
            "x" * 65,
            "ü" * 33,
            "." * 64 + "x",
            "ü" * 32 + "x",
            "🔔" * 64,
            "a\nb",
            "a\u0000",
            "a\u007f",
            "a\u0085",
            "a\ud800",
        ],
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


def packed(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Scenes in a form that compresses: what happens in them stands in a table, once."""
    table: dict[str, int] = {}

    def number(what: dict[str, Any]) -> int:
        return table.setdefault(json.dumps(what), len(table))

    def effect(at: float, step_at: float, what: dict[str, Any]) -> int | list[Any]:
        return number(what) if at == step_at else [at, number(what)]

    written = [
        {k: v for k, v in scene.items() if k != "steps"}
        | {
            "steps": [
                [
                    step["at"],
                    number(step["do"]),
                    [
                        effect(said["at"], step["at"], {k: said[k] for k in said if k != "at"})
                        for said in step["out"]
                    ],
                ]
                for step in scene["steps"]
            ]
        }
        for scene in found
    ]
    return {"table": [json.loads(what) for what in table], "scenes": written}


def unpacked(file: dict[str, Any]) -> list[dict[str, Any]]:
    """What :func:`packed` packed."""
    table = file["table"]

    def effect(step_at: float, said: int | list[Any]) -> dict[str, Any]:
        at, what = (step_at, said) if isinstance(said, int) else said
        return {"at": at} | table[what]

    return [
        scene
        | {
            "steps": [
                {"at": at, "do": table[do], "out": [effect(at, said) for said in out]}
                for at, do, out in scene["steps"]
            ]
        }
        for scene in file["scenes"]
    ]


def marked(scene: dict[str, Any]) -> dict[str, Any]:
    """With ``small``, if it is one of a small peer's."""
    mark = {} if small_profile.left_out(scene) else {"small": True}
    steps = scene.pop("steps")
    return scene | mark | {"steps": steps}


def build() -> dict[str, str]:
    """Each file's name and text; that of a compressed one, uncompressed."""
    files: dict[str, Any] = {
        "cells.json": {"cells": cells(), "tolerated": tolerated(), "bodies": bodies()},
        "malformed.json": malformed(),
        "topics.json": names(),
        "calls.json": [marked(scene.written) for scene in scenes()],
    }
    talk = talk_vectors.build(_cell, _read, _refused)
    talk["calls"] = [marked(scene) for scene in talk["calls"]]
    small = {
        "profile": small_scenes.PROFILE,
        "calls": [scene.written for scene in small_scenes.scenes()],
    }
    texts = {name: _text(value, 3 if name == "calls.json" else 1) for name, value in files.items()}
    return texts | {
        GENERATED: json.dumps(packed(generated()), separators=(",", ":")),
        TALK: _text(talk, 1),
        SMALL: _text(small, 1),
        TALK_GENERATED: json.dumps(
            {"profile": talk_vectors.PROFILE} | packed(list(random_talks.scenes())),
            separators=(",", ":"),
        ),
    }


def read(path: Path) -> str:
    """A file's text, decompressed where it is compressed."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def _write(path: Path, text: str) -> None:
    data = text.encode()
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)


def _text(value: Any, levels: int) -> str:
    """JSON with this many levels unfolded and the rest on one line each: short, yet diffs well."""
    if not levels or not isinstance(value, list | dict):
        text = json.dumps(value, ensure_ascii=False)
        return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    if isinstance(value, dict):
        unfold = any(isinstance(v, list) for v in value.values())
        if not unfold:
            return _text(value, 0)
        rows = [f"{json.dumps(k)}: {_text(v, levels)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + "\n}"
    return "[\n" + ",\n".join(_text(v, levels - 1) for v in value) + "\n]"


def main() -> int:
    """Write, or with ``--check`` say what differs."""
    differ = 0
    for name, text in build().items():
        path = VECTORS / name
        if path.exists() and read(path) == text + "\n":
            continue
        differ = 1
        if "--check" in sys.argv:
            print(f"{path}: not what tools/make_vectors.py writes; run it and look at the diff")
        else:
            _write(path, text + "\n")
            print(f"wrote {path}")
    return differ if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
