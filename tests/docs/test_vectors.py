"""The committed vectors: what the script writes, and true of codec, topics and engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cbor2
import pytest

from device_sdk.core.wire import codec, topics
from device_sdk.errors import DecodeError, InvalidArgument
from tools import make_vectors, random_scenes, random_talks
from tools.scene_player import CALL, Player, means

DOCS = Path(__file__).parents[2] / "docs"


def load(name: str) -> Any:
    """A committed file."""
    return json.loads(make_vectors.read(DOCS / "vectors" / name))


CELLS, MALFORMED, TOPICS, CALLS = (
    load(f"{name}.json") for name in ("cells", "malformed", "topics", "calls")
)
TALK = load(make_vectors.TALK)
GENERATED = make_vectors.unpacked(load(make_vectors.GENERATED))
TALK_GENERATED = make_vectors.unpacked(load(make_vectors.TALK_GENERATED))
TALK_CELLS = TALK["cells"] + TALK["tolerated"]
named = pytest.mark.parametrize


def topic_of(kind: str) -> str:
    """Some topic for a cell of this kind."""
    return "sig/v1/a/presence" if kind == "presence" else f"sig/v1/a/{kind}/b/{CALL}"


def test_the_committed_files_are_what_the_script_writes() -> None:
    """Run ``python -m tools.make_vectors`` and look at the diff."""
    for name, text in make_vectors.build().items():
        # Not with assert: the difference of megabytes takes minutes to draw.
        if make_vectors.read(DOCS / "vectors" / name) != text + "\n":
            pytest.fail(f"docs/vectors/{name} is not what the script writes")


@named("vector", CELLS["cells"] + CELLS["tolerated"] + TALK_CELLS, ids=lambda v: v["name"])
def test_cells(vector: dict[str, Any]) -> None:
    """The bytes mean what is written, and encoding that gives the bytes, if not only tolerated."""
    data = bytes.fromhex(vector["hex"])
    assert means(topic_of(vector["kind"]), data) == vector["means"]
    cell = getattr(codec, f"decode_{vector['kind']}")(data)
    assert codec.encode(cell) == data or vector in CELLS["tolerated"] + TALK["tolerated"]


BODIES = {
    b: b
    for v in CELLS["cells"]
    for b in (v["means"].get("content"), v["means"].get("response"))
    if b
}
BODIES |= {v["hex"]: v["written"] for v in CELLS["bodies"]}


@named(("hexadecimal", "written"), BODIES.items(), ids=lambda v: v[:30])
def test_bodies(hexadecimal: str, written: str) -> None:
    """A body's value, written again, is the bytes of the deterministic encoding."""
    value = codec.decode_body(bytes.fromhex(hexadecimal))
    assert codec.encode_body(value).hex() == written


@named("vector", MALFORMED + TALK["malformed"], ids=lambda v: v["name"])
def test_malformed(vector: dict[str, Any]) -> None:
    """Refused, for the cause that is written."""
    with pytest.raises(DecodeError) as caught:
        getattr(codec, f"decode_{vector['kind']}")(bytes.fromhex(vector["hex"]))
    assert caught.value.cause == vector["cause"]


def test_topics() -> None:
    """Each table of topics.json."""
    for pair in TOPICS["peers"]:
        assert topics.escape(pair["peer"]) == pair["level"]
        assert topics.unescape(pair["level"]) == pair["peer"]
    for bad in TOPICS["no_peer_ids"]:
        with pytest.raises(InvalidArgument):
            topics.check_peer_id(bad)
    assert [topics.unescape(level) for level in TOPICS["no_levels"]] == [None] * len(
        TOPICS["no_levels"]
    )
    for row in TOPICS["topics"]:
        parsed = topics.parse("sig", row.pop("topic"))
        assert parsed == (
            topics.PresenceTopic(row["presence"]) if "presence" in row else topics.CallTopic(**row)
        )
    assert not [t for t in TOPICS["unknown_topics"] if topics.parse("sig", t)]


@named("scene", CALLS + TALK["calls"], ids=lambda s: s["name"])
def test_calls(scene: dict[str, Any]) -> None:
    """The engine, fed with the scene as it is written, does what is written."""
    player = Player(scene.get("setup"))
    for step in scene["steps"]:
        assert player.play(step["at"], step["do"]) == step["out"], step["do"]


def test_generated_scenes() -> None:
    """Some of the random ones, the same way (writing them plays all); the files are small."""
    for name in (make_vectors.GENERATED, make_vectors.TALK_GENERATED):
        assert (DOCS / "vectors" / name).stat().st_size < 400_000
    assert (len(GENERATED), len(TALK_GENERATED)) == (random_scenes.COUNT, random_talks.COUNT)
    for scene in [*GENERATED[::10], *TALK_GENERATED[::10]]:
        player = Player(scene.get("setup"))
        for step in scene["steps"]:
            said = player.play(step["at"], step["do"])
            for effect in said:
                effect.pop("means", None)
            assert said == step["out"], (scene["name"], step["at"], step["do"])


def test_the_scenes_cover_every_state_and_reason_of_the_wire() -> None:
    """Both directions together: each state of each cell, each reason."""
    text = json.dumps(CALLS) + json.dumps(
        [means(topic_of(c["kind"]), bytes.fromhex(c["hex"])) for c in CELLS["cells"]]
    )
    for word in ("ringing", "accepted", "ended"):
        assert f'"invite": "{word}"' in text
    for word in ("received", "accepted", "refused", "failed", "seen"):
        assert f'"answer": "{word}"' in text
    for reason in range(1, 7):
        assert f'"reason": {reason}' in text


def test_the_scenes_of_calls_that_go_on_cover_every_end_and_every_sentence() -> None:
    """Each end is told, by hand and at random; each of the nine rules of Talk has a scene."""
    written = [[e["tell"] for s in scene["steps"] for e in s["out"] if "tell" in e]
               for scene in TALK["calls"]]  # fmt: skip
    drawn = [[e["tell"] for s in scene["steps"] for e in s["out"] if "tell" in e]
             for scene in TALK_GENERATED]  # fmt: skip
    for scenes in (written, drawn):
        told = [event for events in scenes for event in events]
        ends = {event["reason"] for event in told if event["event"] == "call_ended"}
        assert ends >= {"hung up", "peer lost", "restarted", "time is up", "logged out"}
        assert {"call_started", "call_message"} <= {event["event"] for event in told}
    rules = " ".join(scene["rules"] for scene in TALK["calls"])
    named_rules = {n for found in re.findall(r"Talk ([\d, ]+)", rules) for n in found.split(", ")}
    assert {n.strip() for n in named_rules} >= set(map(str, range(1, 10)))


def test_a_peer_that_ends_its_calls_with_accepted_can_leave_the_profile_out() -> None:
    """Nothing of talk stands in the files that are for everybody."""
    assert TALK["profile"] == load(make_vectors.TALK_GENERATED)["profile"] == "talk"
    everybody = [cell["means"] for cell in CELLS["cells"]]
    everybody += [o["means"] for s in CALLS for step in s["steps"] for o in step["out"]
                  if "publish" in o]  # fmt: skip
    assert not [said for said in everybody if said and "talk" in said]
    assert not [scene for scene in CALLS + GENERATED if "talk" in scene.get("setup", {})]


# --- CDDL ----------------------------------------------------------------------------------

try:
    import pycddl
except ImportError:  # the set-up installs it wherever it can, and says where it can't
    pycddl = None
needs_pycddl = pytest.mark.skipif(
    pycddl is None, reason="pycddl has no wheel for this Python and processor"
)
CDDL = (DOCS / "protocol.cddl").read_text()
RULES = {
    rule: pycddl.Schema(f"root = {rule}\n{CDDL}")
    for rule in ("ringing", "accepted", "ended", "over", "answer", "talking", "presence")
    if pycddl is not None
}


def rule_of(kind: str, data: bytes) -> str:
    """The CDDL rule for a cell's bytes: an invite has one for each state."""
    state = int(cbor2.loads(data)[1])
    if kind == "answer":
        return "talking" if state in (5, 6) else "answer"
    return kind if kind == "presence" else ("ringing", "accepted", "ended", "over")[state]


#: Here somebody says what no version has.
ODD = {
    "found: reasons that are unknown",
    *(f"{side} ends it, reason {n}"
      for side in ("caller: the callee", "callee: the caller") for n in (3, 99)),
    "callee: found, over for an unknown reason",
    "callee: talk of a later addition is none",
    "caller: talking asks",
}  # fmt: skip


def published() -> list[tuple[str, bytes]]:
    """Every cell of the lists, and of the scenes one of each kind, state and set of keys."""
    found = {(c["kind"], bytes.fromhex(c["hex"])) for c in CELLS["cells"] + TALK["cells"]}
    alike: dict[tuple[Any, ...], tuple[str, bytes]] = {}
    for scene in CALLS + TALK["calls"]:
        for step in scene["steps"]:
            said = [(o["publish"], o["payload"]) for o in step["out"] if "publish" in o]
            heard = step["do"].get("message") if scene["name"] not in ODD else None
            said += [(heard["topic"], heard["payload"])] if heard else []
            for topic, payload in said:
                if payload:
                    kind, cell = topic.split("/")[3], cbor2.loads(bytes.fromhex(payload))
                    alike[kind, cell[1], *cell] = kind, bytes.fromhex(payload)
    return sorted(found | set(alike.values()))


@needs_pycddl
@named(("kind", "data"), published(), ids=lambda v: v.hex()[:40] if isinstance(v, bytes) else v)
def test_every_cell_is_valid_cddl(kind: str, data: bytes) -> None:
    """And with a required key left out, or one of another type, it is not."""
    rule, cell = rule_of(kind, data), cbor2.loads(data)
    if rule in ("accepted", "over", "talking") and cell.get(5):
        cell[5] = [None] * len(cell[5])  # pycddl knows of a choice in an array its first type alone
    RULES[rule].validate_cbor(cbor2.dumps(cell))
    required = (
        {0, 1, 2} | ({3} if kind != "presence" else set()) | ({4} if rule == "ringing" else set())
    )
    mutants = [{k: v for k, v in cell.items() if k != key} for key in required]
    mutants += [cell | {key: None} for key in cell if key != 5]
    mutants += [cell | {0: 2}, cell | {1: 7}, cell | {2: b"short"}, cell | {19: 1}]
    mutants += [cell | {5: cbor2.CBORTag(1, 0)}, cell | {9: -1}, cell | {6: "x" * 65}]
    mutants += [cell | {3: 2**53}, cell | {4: 86_400_001}, cell | {8: b""}]
    for mutant in mutants:
        with pytest.raises(pycddl.ValidationError):
            RULES[rule].validate_cbor(cbor2.dumps(mutant))


# pycddl takes text and bytes of the wanted size for each other.
BLIND = ("epoch as text", "channel as bytes")


@needs_pycddl
@named(
    "vector",
    [v for v in MALFORMED if v["cause"] in ("missing key", "wrong type", "unknown version")
     and v["name"] not in BLIND],
    ids=lambda v: v["name"],
)  # fmt: skip
def test_malformed_cells_are_no_valid_cddl(vector: dict[str, Any]) -> None:
    """What the codec refuses for its fields, CDDL refuses too; of the encoding it says nothing."""
    rule = "ringing" if vector["kind"] == "invite" else vector["kind"]
    with pytest.raises((pycddl.ValidationError, ValueError)):
        RULES[rule].validate_cbor(bytes.fromhex(vector["hex"]))
