"""Whatever a client sends: no unhandled exception, nothing left of it, and others are served."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker_config.core.broker import Core
from broker_config.core.limits import Limits
from tests.bench.broker_wire import connect, publish, remaining, subscribe
from tests.broker_support.memory import converse, unserved

LIMITS = Limits(packet_bytes=2000, filters_per_client=5, inflight_incoming=3, retained=5, queued=5)
TOPICS = st.sampled_from(["a", "a/b", "$x", "a/+", "", "b/" * 40, "é", "x" * 600])
IDS = st.integers(0, 3)
PACKETS = st.one_of(
    st.builds(connect, st.sampled_from(["", "one", "x" * 700])),
    st.builds(
        publish, TOPICS, st.binary(max_size=60), IDS,
        qos=st.integers(0, 3), retain=st.booleans(),
    ),
    st.builds(
        lambda topic, number, qos: subscribe(topic, packet_id=number, qos=qos),
        TOPICS, IDS, st.integers(0, 3),
    ),
    st.builds(
        lambda kind, flags, number: bytes((kind << 4 | flags, 2, 0, number)),
        st.integers(0, 15), st.integers(0, 15), IDS,
    ),
    st.builds(
        lambda first, body: bytes((first,)) + remaining(len(body)) + body,
        st.integers(0, 255), st.binary(max_size=30),
    ),
    st.sampled_from([b"\xc0\0", b"\xe0\0", b"\x10\xff\xff\xff\x7f", b"\x30\xff\xff\xff\xff\x01"]),
    st.binary(max_size=20),
)  # fmt: skip


def left_over(core: Core) -> dict[str, int]:
    """What a clean session's end must not leave behind."""
    return {
        "connections": len(core.links),
        "sessions": len(core.sessions),
        "subscriptions": len(core.subscriptions),
        "errors": core.stats.cut["error"],
        "deliveries": core.stats.dropped["delivery failed"],
        "retained": max(0, len(core.retained) - LIMITS.retained),
        "waiting": len(core._steps) + len(core._ready) + len(core._holding),
    }


@settings(max_examples=300, deadline=None)
@given(st.lists(PACKETS, max_size=12), st.data())
def test_any_conversation_ends_without_a_trace(packets: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(packets)
    if data.draw(st.booleans(), "let in first"):
        stream = connect("one") + stream
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=4), "cuts"))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    core = unserved(LIMITS)
    converse(core, chunks)
    assert not any(left_over(core).values()), left_over(core)
    assert converse(core, [connect("two")]).startswith(b"\x20\x02\x00\x00")
