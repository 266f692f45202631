"""What goes over the wire: bytes of each cell and of whole calls, with and without topics.

``python -m tests.bench.wire``. Counted in the engines and the broker in memory: exact, not timed.
"""

from __future__ import annotations

from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Invite, InviteState
from device_sdk.testing import Network

CONTENT = "somebody is at the front door"


def invite_bytes(content: str) -> int:
    """The size of a ringing invite's payload."""
    body = codec.encode_body(content)
    cell = Invite(InviteState.RINGING, bytes(8), 1, 60000, body, time=1_800_000_000)
    return len(codec.encode(cell))


def scenes() -> dict[str, list[tuple[str, bytes]]]:
    """Every publish of a whole call, by scene."""
    found = {}
    for scene in ("accepted", "refused", "canceled"):
        network = Network()
        door, kitchen = network.peer("front-door"), network.peer("kitchen")
        network.run()
        said: list[tuple[str, bytes]] = []
        publish = network.broker.publish

        def note(topic: str, payload: bytes, said: list[tuple[str, bytes]] = said,
                 publish: object = publish) -> None:  # fmt: skip
            said.append((topic, payload))
            publish(topic, payload)  # type: ignore[operator]  # the broker's own method

        network.broker.publish = note  # type: ignore[method-assign]  # to count what is said
        call = door.send("kitchen", CONTENT, time=1_800_000_000)
        network.run()
        if scene == "accepted":
            kitchen.accept("front-door", call, "coming")
        elif scene == "refused":
            kitchen.refuse("front-door", call)
        else:
            door.cancel("kitchen", call)
        network.run()
        found[scene] = said
    return found


def describe(topic: str, payload: bytes) -> str:
    """A cell in words."""
    parsed = topics.parse("sig", topic)
    if not isinstance(parsed, topics.CallTopic):
        return "presence"
    if not payload:
        return f"{parsed.kind} cleared"
    if parsed.kind == "invite":
        return f"invite {codec.decode_invite(payload).state.name.lower()}"
    return f"answer {codec.decode_answer(payload).state.name.lower()}"


def packet(topic: str, payload: bytes) -> int:
    """Bytes of the whole PUBLISH packet, QoS 1 (MQTT 3.1.1, section 3.3)."""
    rest = 2 + len(topic.encode()) + 2 + len(payload)
    return 1 + (1 if rest < 128 else 2 if rest < 16384 else 3) + rest


def run() -> list[list[str]]:
    """Rows of the table: what, payload bytes, bytes of the PUBLISH packets."""
    rows, cells = [], {}
    for scene, said in scenes().items():
        for topic, payload in said:
            cells.setdefault(describe(topic, payload), (topic, payload))
        payloads, packets = sum(len(p) for _, p in said), sum(packet(t, p) for t, p in said)
        rows.append([f"whole call, {scene} ({len(said)} publishes)", str(payloads), str(packets)])
    each = [[name, str(len(p)), str(packet(t, p))] for name, (t, p) in sorted(cells.items())]
    return each + rows


HEAD = ["", "payload bytes", "with topic and head"]


if __name__ == "__main__":
    for row in [HEAD, *run()]:
        print(f"{row[0]:44}{row[1]:>16}{row[2]:>22}")
