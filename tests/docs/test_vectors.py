"""The committed vectors: what the script writes, and true of codec, topics and engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cbor2
import pytest

from device_sdk.errors import DecodeError, InvalidArgument
from device_sdk.wire import codec, topics
from tools import make_vectors, random_scenes
from tools.vector_scenes import CALL, Player, means

DOCS = Path(__file__).parents[2] / "docs"


def load(name: str) -> Any:
    """A committed file."""
    return json.loads(make_vectors.read(DOCS / "vectors" / name))


CELLS, MALFORMED, TOPICS, CALLS = (
    load(f"{name}.json") for name in ("cells", "malformed", "topics", "calls")
)
GENERATED = make_vectors.unpacked(load(make_vectors.GENERATED))
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


@named("vector", CELLS["cells"] + CELLS["tolerated"], ids=lambda v: v["name"])
def test_cells(vector: dict[str, Any]) -> None:
    """The bytes mean what is written, and encoding that gives the bytes, if not only tolerated."""
    data = bytes.fromhex(vector["hex"])
    assert means(topic_of(vector["kind"]), data) == vector["means"]
    cell = getattr(codec, f"decode_{vector['kind']}")(data)
    assert codec.encode(cell) == data or vector in CELLS["tolerated"]


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


@named("vector", MALFORMED, ids=lambda v: v["name"])
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


@named("scene", CALLS, ids=lambda s: s["name"])
def test_calls(scene: dict[str, Any]) -> None:
    """The engine, fed with the scene as it is written, does what is written."""
    player = Player(scene.get("setup"))
    for step in scene["steps"]:
        assert player.play(step["at"], step["do"]) == step["out"], step["do"]


def test_generated_scenes() -> None:
    """Some of the 1,500 random ones, the same way (writing them plays all); the file is small."""
    assert (DOCS / "vectors" / make_vectors.GENERATED).stat().st_size < 400_000
    assert len(GENERATED) == random_scenes.COUNT
    for scene in GENERATED[::10]:
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
    for rule in ("ringing", "accepted", "ended", "answer", "presence")
    if pycddl is not None
}


def rule_of(kind: str, data: bytes) -> str:
    """The CDDL rule for a cell's bytes: an invite has one for each state."""
    if kind != "invite":
        return kind
    return ("ringing", "accepted", "ended")[int(cbor2.loads(data)[1])]


#: Here a former login left reasons that no version has.
ODD = next(scene for scene in CALLS if scene["name"] == "found: reasons that are unknown")


def published() -> list[tuple[str, bytes]]:
    """Every cell in the vectors: written, received, published in a scene."""
    found = {(c["kind"], bytes.fromhex(c["hex"])) for c in CELLS["cells"]}
    for scene in CALLS:
        for step in scene["steps"]:
            said = [(o["publish"], o["payload"]) for o in step["out"] if "publish" in o]
            heard = step["do"].get("message") if scene is not ODD else None
            said += [(heard["topic"], heard["payload"])] if heard else []
            found |= {(t.split("/")[3], bytes.fromhex(p)) for t, p in said if p}
    return sorted(found)


@needs_pycddl
@named(("kind", "data"), published(), ids=lambda v: v.hex()[:40] if isinstance(v, bytes) else v)
def test_every_cell_is_valid_cddl(kind: str, data: bytes) -> None:
    """And with a required key left out, or one of another type, it is not."""
    rule = rule_of(kind, data)
    RULES[rule].validate_cbor(data)
    cell = cbor2.loads(data)
    required = (
        {0, 1, 2} | ({3} if kind != "presence" else set()) | ({4} if rule == "ringing" else set())
    )
    mutants = [{k: v for k, v in cell.items() if k != key} for key in required]
    mutants += [cell | {key: None} for key in cell if key != 5]
    mutants += [cell | {0: 2}, cell | {1: 5}, cell | {2: b"short"}, cell | {19: 1}]
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
