"""Which scenes a small peer plays too (docs/protocol.md, *What a small peer may leave out*).

:func:`left_out` is the rule, as docs/vectors/README.md has it in words: it looks at the scene
alone, never at what some small peer makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from device_sdk.core.wire import topics
from tools.scene_player import ME, MINE

#: What a small peer need not do: a scene that shows one of these rules is none of its.
RULES: Final = (
    "Connecting 3", "Connecting 4", "Not taken", "Newer logins", "Caller 7", "Caller 8",
    "Caller 10", "Callee 8", "Callee 9", "Logging out", "Talk 8",
)  # fmt: skip
#: What happens in none of its scenes.
COMMANDS: Final = ("watch", "unwatch", "logout")
OPTIONS: Final = ("wall", "channel", "group", "ack_timeout")
#: The largest payload that each small peer holds.
LARGEST: Final = 512


def left_out(scene: dict[str, Any]) -> str | None:
    """Why a scene is not of the small profile; None if it is."""
    rules = [r for r in _rules(scene["rules"]) if r.startswith(RULES)]
    if rules:
        return f"shows {rules[0]}"
    setup = scene.get("setup", {}).keys() - {"talk"}
    if setup:
        return f"has {min(setup)} of its own"
    done = [next(iter(step["do"].items())) for step in scene["steps"]]
    for kind, detail in done:
        if kind in COMMANDS:
            return f"the app may {kind}"
        if option := next((name for name in OPTIONS if name in detail), None):
            return f"needs {option}"
    if sum(kind == "connected" for kind, _ in done) > 1:
        return "connects again (Connecting 3)"
    sizes = [len(p["payload"]) // 2 for p in _payloads(scene)]
    if max(sizes, default=0) > LARGEST:
        return f"a payload of over {LARGEST} bytes (h)"
    return _waits(scene) or _asks(scene) or _not_held(scene)


def _rules(text: str) -> Iterator[str]:
    """``Caller 3, 4`` as ``Caller 3`` and ``Caller 4``."""
    name = ""
    for part in text.split(", "):
        found = re.fullmatch(r"(\D*?) ?(\d*)", part)
        assert found is not None  # noqa: S101 - the scenes are ours
        name = found[1] or name
        yield f"{name} {found[2]}".strip()


def _payloads(scene: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for step in scene["steps"]:
        if "message" in step["do"]:
            yield step["do"]["message"]
        yield from (said for said in step["out"] if "publish" in said)
        yield from ({"payload": v} for v in step["do"].get("say", {}).values() if _hex(v))


def _hex(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("([0-9a-f]{2})*", value) is not None


def _waits(scene: dict[str, Any]) -> str | None:
    """One message of its own is underway at a time."""
    for step in scene["steps"]:
        said = [o["means"] for o in step["out"] if o.get("means")]
        if any(len(means.get("messages", ())) > 1 for means in said):
            return "two messages underway"
        if "say" in step["do"] and not step["out"]:
            return "a message that waits"
    return None


def _asks(scene: dict[str, Any]) -> str | None:
    """(b) is simpler than Callee 1 and 6, and puts a question at once or not at all.

    What answers an ask is live, and so is what is unflagged of a caller that was read online.
    """
    online: set[str] = set()
    rang = False
    for step in scene["steps"]:
        asks = any((o.get("means") or {}).get("ask") for o in step["out"])
        heard = step["do"].get("message")
        if heard is None:
            if asks and rang:
                return "asks later (Callee 6)"
        else:
            cell = heard["payload"]
            topic = topics.parse("sig", heard["topic"])
            epoch = cell[14:30]
            if isinstance(topic, topics.PresenceTopic):
                online = {epoch} if cell[6:10] == "0101" else set()
            elif cell[6:10] == "0100" and topic is not None and topic.kind == "invite":
                answers = cell.endswith("1048" + MINE.hex())
                if asks and not heard["retained"] and (answers or epoch in online):
                    return "doubts what (b) takes for live"
        rang = rang or any(_told(o) == "remote_invitation_received" for o in step["out"])
    return None


def _told(out: dict[str, Any]) -> str:
    return str(out.get("tell", {}).get("event", ""))


def _not_held(scene: dict[str, Any]) -> str | None:
    """(e) answers for what is not held, once: neither kept, nor paced, nor said again."""
    held: set[str] = set()
    cleared: set[str] = set()
    said: set[str] = set()
    for step in scene["steps"]:
        ((kind, detail),) = step["do"].items()
        if kind == "send":
            held.add(detail["call_id"])
        call_id = detail["topic"].split("/")[-1] if kind == "message" else ""
        if call_id in cleared:
            return "comes for a call that was cleared (e)"
        for out in step["out"]:
            if out.get("means", {}) is None:
                cleared.add(out["publish"].split("/")[-1])
            elif "publish" in out and not out["publish"].endswith("/presence"):
                call = out["publish"].split("/")[-1]
                if call in said and call not in held:
                    return "says again what is not held (e)"
                if not (out["means"].get("ask") or out["means"].get("answer") == "received"):
                    said.add(call)
                else:
                    held.add(call)
    return None


assert ME == "me"  # noqa: S101 - the driver of a small peer has it, too
