"""Draw the state diagrams (Mermaid) from the transition tables, between markers in the documents.

``python -m tools.draw_diagrams`` writes them, ``--check`` exits 1 when a document differs. A marker
is ``<!-- diagram:NAME -->`` … ``<!-- /diagram:NAME -->``, with NAME one of :data:`DIAGRAMS`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from device_sdk.core import callee, caller
from device_sdk.core.callee import CalleeCall
from device_sdk.core.caller import CallerCall
from device_sdk.core.wire.cells import EndedReason, Invite, InviteState
from tools.draw_rooms import rooms

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "docs/states.md", "docs/architecture.md")

Edges = dict[tuple[str, str], list[str]]


def _words(member: Enum) -> str:
    return member.name.lower().replace("_", " ")


def _mermaid(edges: Edges, first: str, last: Iterable[str]) -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for (source, target), labels in edges.items():
        lines.append(f"    {source} --> {target}: {', '.join(dict.fromkeys(labels))}")
    lines += [f"    {name} --> [*]" for name in last]
    return "\n".join([*lines, "```"])


def caller_states() -> str:
    """What the app sees of a call that it made: Agora's LocalInvitationState."""
    edges: Edges = {("IDLE", "SENT_TO_REMOTE"): ["send"]}
    for phase in (caller.Phase.SENT, caller.Phase.RECEIVED):
        record = CallerCall("id", "callee", phase=phase)
        if phase is caller.Phase.RECEIVED:
            record = caller.step(CallerCall("id", "callee"), caller.On.ANSWER_RECEIVED)[0]
        for on in caller.TABLE[phase]:
            after = caller.step(record, on)[0].state
            if after is not record.state:
                edges.setdefault((record.state.name, after.name), []).append(_words(on))
    return _mermaid(edges, "IDLE", _ends(edges))


def callee_states() -> str:
    """What the app sees of a call that comes in: Agora's RemoteInvitationState."""
    edges: Edges = {}
    ringing = callee.step(CalleeCall("id", "caller"), callee.On.RINGING)[0]
    accepting = callee.step(ringing, callee.On.ACCEPT)[0]
    edges[("IDLE", ringing.state.name)] = ["a live invite"]
    for record in (ringing, accepting):
        for on in callee.TABLE[record.phase]:
            for word, invite in _invites(on):
                after = callee.step(record, on, invite)[0].state
                if after is not record.state:
                    edges.setdefault((record.state.name, after.name), []).append(word)
    return _mermaid(edges, "IDLE", _ends(edges))


def _invites(on: callee.On) -> list[tuple[str, Invite | None]]:
    if on is not callee.On.ENDED:
        said = {callee.On.ACCEPTED: "caller accepted", callee.On.CLEARED: "invite cleared"}
        return [(said.get(on, _words(on)), None)]
    return [
        (f"caller ended ({_words(reason)})", Invite(InviteState.ENDED, bytes(8), 1, reason=reason))
        for reason in EndedReason
    ]


def _ends(edges: Edges) -> list[str]:
    """The states that nothing leads out of."""
    sources = {source for source, _ in edges}
    return list(dict.fromkeys(target for _, target in edges if target not in sources))


def _phases(table: Mapping[Any, Mapping[Any, tuple[Any, tuple[Any, ...]]]], first: str) -> str:
    edges: Edges = {}
    for phase, row in table.items():
        for on, (after, todo) in row.items():
            if after is phase and not todo:
                continue  # crossed or repeated: nothing is done
            does = f" / {' + '.join(_words(do) for do in todo)}" if todo else ""
            edges.setdefault((phase.name, after.name), []).append(f"{_words(on)}{does}")
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for (source, target), labels in edges.items():
        lines += [f"    {source} --> {target}: {label}" for label in labels]
    return "\n".join([*lines, "    GONE --> [*]", "```"])


DIAGRAMS: dict[str, Callable[[], str]] = {
    "caller": caller_states,
    "callee": callee_states,
    "caller-phases": lambda: _phases(caller.TABLE, "SENT"),
    "callee-phases": lambda: _phases(callee.TABLE, "NEW"),
    "rooms": rooms,
}

_MARKED = re.compile(r"(<!-- diagram:([a-z-]+) -->\n).*?(<!-- /diagram:\2 -->)", re.DOTALL)


def drawn(text: str) -> str:
    """``text`` with every diagram between markers as the tables say."""
    return _MARKED.sub(lambda m: f"{m[1]}{DIAGRAMS[m[2]]()}\n{m[3]}", text)


def main() -> int:
    """Write, or with ``--check`` say what differs."""
    differs = 0
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text()
        if drawn(text) != text:
            differs = 1
            if "--check" in sys.argv:
                print(f"{name}: its diagrams are not those of the tables; run tools.draw_diagrams")
            else:
                path.write_text(drawn(text))
                print(f"drew {name}")
    return differs if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
