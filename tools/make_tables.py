"""Write what docs/ says of keys and reasons from their tables in ``device_sdk.core.wire``.

``python -m tools.make_tables`` writes docs/protocol.cddl, and in docs/protocol.md what lies between
``<!-- table:NAME -->`` and ``<!-- /table:NAME -->``; ``--check`` exits 1 when a document differs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path

from device_sdk.core.wire import keys, reasons
from device_sdk.core.wire.cells import AnswerState, InviteState
from device_sdk.core.wire.keys import ANSWER, ENDED, OVER, PRESENCE, TALKING, Key, Type
from device_sdk.core.wire.talk_cells import MAX_MESSAGES

DOCS = Path(__file__).parent.parent / "docs"

_CDDL = """\
; The cells of the wire protocol, version 1, in CDDL (RFC 8610). docs/protocol.md has the meaning;
; what CDDL does not say stands there: shortest heads, no key twice, at most 16 levels, 8 KiB of
; body, 20 KiB in all. A reader ignores keys that are not listed here; take them out first.
; Each kind of topic has its own rule; put it first to validate one kind only.
; Written by tools/make_tables.py.

cell = invite / answers / presence

invite = ringing / accepted / ended / over

answers = answer / talking

{rules}

count = 0..{most}

; Any value without tags.
body = null / bool / int / float / text / bytes / [* body] / {{ * key => body }}
key = null / bool / int / float / text / bytes
"""

#: The states of each rule, by name.
_STATES = {
    **{state.name.lower(): [state] for state in InviteState},
    ANSWER: [state for state in AnswerState if state < AnswerState.TALKING],
    TALKING: [AnswerState.TALKING, AnswerState.OVER],
    PRESENCE: [0, 1],
}
_REASONS = {
    ENDED: [row.reason for row in reasons.ENDED],
    ANSWER: [row.reason for row in reasons.ANSWERED],
    **{rule: [row.reason for row in reasons.OVER] for rule in (OVER, TALKING)},
}


def _range(numbers: Iterable[int]) -> str:
    low, high = min(found := [int(number) for number in numbers]), max(found)
    return str(low) if low == high else f"{low}..{high}"


def _cddl_type(rule: str, key: Key) -> str:
    if key.name == "version":
        return str(keys.VERSION)
    if key.name == "state":
        return _range(_STATES[rule])
    if key.name == "reason":
        return _range(_REASONS[rule])
    if key.name == "talk":
        return "1"
    if key.name == "body" and rule in keys.TALKS:
        return f"[1*{MAX_MESSAGES} body]"
    if key.type is Type.UINT:
        return "count" if key.limit == keys.MAX_UINT else f"0..{key.limit}"
    return {
        Type.BYTES: f"bytes .size {key.limit}",
        Type.TEXT: f"text .size (0..{key.limit})",
        Type.TRUE: "bool",
        Type.BODY: "body",
    }[key.type]


def cddl() -> str:
    """The text of docs/protocol.cddl."""
    rules = []
    for rule in keys.ALL:
        carried = [key for key in keys.KEYS if rule in key.cells]
        lines = []
        for key in carried:
            comma = "," if key is not carried[-1] else ""
            may = "? " if rule in key.optional else ""
            item = f"  {may}{key.number} => {_cddl_type(rule, key)}{comma}"
            name = dict(keys.of(rule)).get(key, key.name)
            lines.append(f"{item:<29}; {name}")
        rules.append("\n".join([f"{rule} = {{", *lines, "}"]))
    return _CDDL.format(rules="\n\n".join(rules), most=keys.MAX_UINT)


def _table(head: str, rows: Iterable[Iterable[object]]) -> str:
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join([f"| {head} |", "|" + "---|" * (head.count("|") + 1), *lines])


def _carriers(cells: tuple[str, ...]) -> str:
    if cells == keys.ALL:
        return "all"
    if set(keys.INVITE) <= {*cells}:
        cells = ("invite", *(cell for cell in cells if cell not in keys.INVITE))
    return ", ".join(cells)


def key_table() -> str:
    """Every key, as docs/protocol.md has it."""
    size = {
        Type.BYTES: "bstr of {}",
        Type.TEXT: "tstr of at most {} bytes",
        Type.BODY: "any CBOR value without tags, at most {:,} bytes encoded",
        Type.TRUE: "true",
    }
    rows = []
    for key in keys.KEYS:
        kind = size.get(key.type, "uint").format(key.limit)
        if key.type is Type.UINT and key.limit < keys.MAX_UINT:
            kind += f" up to {key.limit:,}"
        carriers = f"{_carriers(key.cells)}{', required' if key.required else ''}"
        if key.required and key.optional:
            carriers = f"{_carriers(key.required)}, required; {_carriers(key.optional)}"
        rows.append((key.number, key.name, f"{kind}: {key.about}".rstrip(": "), carriers))
    return _table("key | name | type | in", rows)


def _shown(state: IntEnum, error: IntEnum) -> str:
    return f"{state.name} {error.name}" if error else state.name


def ended_table() -> str:
    """Every reason of an end, as docs/protocol.md has it."""
    rows = ((int(row.reason), row.word.value, _shown(*row.local), _shown(*row.remote))
            for row in reasons.ENDED)  # fmt: skip
    return _table("*ended* | reason | the caller's app sees | the callee's app sees", rows)


def over_table() -> str:
    """Every reason of an end of a call that went on, as docs/protocol.md has it."""
    rows = ((int(row.reason), row.word.value, row.who) for row in reasons.OVER)
    return _table("*over* | reason | said by", rows)


def answered_table() -> str:
    """Every reason of a refusal or failure, as docs/protocol.md has it."""
    rows = (
        (row.answer.name.lower(), int(row.reason), row.word.value, row.who.value,
         _shown(*row.local), _shown(*row.remote))
        for row in reasons.ANSWERED
    )  # fmt: skip
    head = "answer | | reason | said by | the caller's app sees | the callee's app sees"
    return _table(head, rows)


TABLES: dict[str, Callable[[], str]] = {
    "keys": key_table,
    "ended": ended_table,
    "answered": answered_table,
    "over": over_table,
}


def filled(text: str) -> str:
    """A document with its tables as they are now."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match[2]]()}\n{match[3]}"

    pattern = r"(<!-- table:([a-z]+) -->\n).*?(\n<!-- /table:\2 -->)"
    return re.sub(pattern, table, text, flags=re.DOTALL)


def documents() -> dict[Path, str]:
    """What each document should be."""
    protocol = DOCS / "protocol.md"
    return {DOCS / "protocol.cddl": cddl(), protocol: filled(protocol.read_text())}


def main() -> int:
    """Write, or with ``--check`` compare."""
    stale = {path: text for path, text in documents().items() if path.read_text() != text}
    for path, text in stale.items():
        if "--check" not in sys.argv:
            path.write_text(text)
        print(path.name, "differs" if "--check" in sys.argv else "written")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
