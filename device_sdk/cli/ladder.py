"""A call as a ladder: one lane for each peer, one rung for each cell, milliseconds at the left.

Made from what is on the wire alone, so it shows what was really said; :class:`Ladder` is fed with
messages and gives lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..client.display import plain, shown
from ..core.wire import codec, reasons, topics
from ..core.wire.cells import Answer, AnswerState, Invite, InviteState, Said
from ..core.wire.talk_cells import decode_message
from ..errors import DecodeError
from .say import said

_GUTTER = 21
_SHORTEST, _LONGEST = 22, 58
_MOST_CALLS = 1000
_ENDED = {int(row.reason): row.word for row in reasons.ENDED}
_ANSWERED = {int(row.reason): row.word for row in reasons.ANSWERED}
#: Names a style; the default leaves the text as it is.
Style = Callable[[str, str], str]


@dataclass(slots=True)
class _LadderCall:
    start: float
    number: int
    messages: int = 0
    size: int = 0
    end: str = ""
    cleared: set[str] = field(default_factory=set)


class Ladder:
    """Feed it messages in the order they came; each gives the lines to print."""

    def __init__(
        self,
        realm: str = topics.DEFAULT_REALM,
        *,
        call_id: str | None = None,
        width: int = 100,
        style: Style = lambda _name, text: text,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._realm = realm
        self._only = call_id
        self._width = max(width, 60)
        self._style = style
        self._wall = wall
        self._lanes: list[str] = []  # in the order they stand
        self._used: dict[str, int] = {}
        self._moves = 0
        self._calls: dict[str, _LadderCall] = {}
        self._numbers = 0
        self._changed = False

    def feed(self, at: float, topic: str, payload: bytes, *, retained: bool) -> list[str]:
        """The lines of one message; none for what does not concern the call or the realm."""
        parsed = topics.parse(self._realm, topic)
        if isinstance(parsed, topics.PresenceTopic):
            return self._presence(at, parsed.peer, payload, retained)
        if parsed is None or (self._only and not parsed.call_id.startswith(self._only)):
            return []
        call = self._calls.get(parsed.call_id)
        lines: list[str] = []
        if call is None:
            if not payload:
                return []  # the last word of a call that was over before we looked
            call = self._begin(at, parsed.call_id)
            caller, callee = parsed.writer, parsed.owner
            if parsed.kind == "answer":
                caller, callee = callee, caller
            clock = time.strftime("%H:%M:%S", time.localtime(self._wall()))
            title = f"call {parsed.call_id}  {plain(caller)} → {plain(callee)}  {clock}"
            lines += ["", self._style("bold", title)]
            if set(self._lanes) <= {caller, callee}:
                self._lanes.clear()  # with nobody else there, the caller stands at the left
            self._need(caller, callee)
            self._changed = True
        self._need(parsed.writer, parsed.owner)
        lines += self._header()
        call.messages += 1
        call.size += len(payload)
        name, label, tail = _label(parsed.kind, payload)
        # The caller decides; what the callee refused or failed needs no decision.
        decides = name in ("good", "bad") and (parsed.kind == "invite" or name == "bad")
        if payload and (decides or label.startswith("over")):
            call.end = label.partition(" · ")[0]
        lines.append(self._arrow(at, call, parsed, name, (label, tail), retained))
        if payload:
            call.cleared.discard(parsed.kind)
        else:
            call.cleared.add(parsed.kind)
            if len(call.cleared) == 2:
                lines.append(self._footer(at, call))
                del self._calls[parsed.call_id]
        return lines

    def note(self, at: float, peer: str, text: str, call_id: str | None = None) -> list[str]:
        """A line of one's own in a peer's lane: what happened there besides the wire."""
        call = self._calls.get(call_id or "")
        self._need(peer)
        return [*self._header(), self._in_lane(at, call, peer, text, "bold")]

    # --- inside ----------------------------------------------------------------------------

    def _begin(self, at: float, call_id: str) -> _LadderCall:
        while len(self._calls) >= _MOST_CALLS:
            del self._calls[next(iter(self._calls))]
        self._numbers += 1
        call = self._calls[call_id] = _LadderCall(at, self._numbers)
        return call

    def _presence(self, at: float, peer: str, payload: bytes, retained: bool) -> list[str]:
        # What was so before we looked is no news; peers outside the call asked for are none either.
        if retained or (self._only and peer not in self._lanes):
            return []
        try:
            online = codec.decode_presence(payload).online if payload else False
        except DecodeError as error:
            text, name = f"✘ presence: {error.cause}", "bad"
        else:
            text, name = ("● online", "good") if online else ("○ offline", "bad")
        self._need(peer)
        return [*self._header(), self._in_lane(at, None, peer, text, name)]

    def _need(self, *peers: str) -> None:
        """Give each a lane; the one that was quiet the longest goes where there is no room."""
        most = 1 + max(1, (self._width - _GUTTER - 12) // _SHORTEST)
        for peer in peers:
            self._moves += 1
            self._used[peer] = self._moves
            if peer not in self._lanes:
                while len(self._lanes) >= most:
                    oldest = min(self._lanes, key=self._used.__getitem__)
                    self._lanes.remove(oldest)
                    del self._used[oldest]
                self._lanes.append(peer)
                self._changed = True

    def _header(self) -> list[str]:
        if not self._changed:
            return []
        self._changed = False
        row = [" "] * self._width
        for lane, peer in enumerate(self._lanes):
            name = plain(peer)
            start = max(_GUTTER - 4 if lane else 2, self._at(lane) - len(name) // 2)
            for offset, char in enumerate(name):
                if start + offset < len(row):
                    row[start + offset] = char
        return [self._style("bold", "".join(row).rstrip())]

    def _span(self) -> int:
        between = max(1, len(self._lanes) - 1)
        return max(_SHORTEST, min(_LONGEST, (self._width - _GUTTER - 12) // between))

    def _at(self, lane: int) -> int:
        return _GUTTER + lane * self._span()

    def _row(self) -> list[str]:
        row = [" "] * (self._at(len(self._lanes) - 1) + 1)
        for lane in range(len(self._lanes)):
            row[self._at(lane)] = "│"
        return row

    def _left(self, at: float, call: _LadderCall | None) -> str:
        if call is None:
            return " " * (_GUTTER - 2) + "  "
        time_ms = f"{(at - call.start) * 1000:,.1f} ms"
        return f"{time_ms:>14} {'#' + str(call.number):>4}  "

    def _arrow(
        self, at: float, call: _LadderCall, topic: topics.CallTopic, name: str,
        label: tuple[str, str],
        retained: bool,
    ) -> str:  # fmt: skip
        row = self._row()
        a, b = (self._at(self._lanes.index(peer)) for peer in (topic.writer, topic.owner))
        low, high = min(a, b), max(a, b)
        line = "╌" if retained else "─"
        for column in range(low + 1, high):
            row[column] = "┼" if row[column] == "│" else line
        words, tail = label
        if retained:
            tail += " (kept)"
        room = high - low - 6 - len(tail)
        text = f" {words if len(words) <= room else words[: max(0, room - 1)] + '…'}{tail} "
        if a < b:
            row[a], row[b - 1] = "├", "▶"
            start = a + 2
        else:
            row[a], row[b + 1] = "┤", "◀"
            start = a - 1 - len(text)
        row[start : start + len(text)] = [self._style(name, text), *[""] * (len(text) - 1)]
        left = self._style("dim", self._left(at, call))
        return (left + "".join(row[_GUTTER:])).rstrip()

    def _in_lane(self, at: float, call: _LadderCall | None, peer: str, text: str, name: str) -> str:
        row = self._row() + [" "] * (len(text) + 2)
        column = self._at(self._lanes.index(peer))
        if not text.startswith(("●", "○")):
            text = f"│ {text}"
        row[column : column + len(text)] = [self._style(name, text), *[""] * (len(text) - 1)]
        left = self._style("dim", self._left(at, call))
        return (left + "".join(row[_GUTTER:])).rstrip()

    def _footer(self, at: float, call: _LadderCall) -> str:
        took = f"{(at - call.start) * 1000:,.1f} ms"
        text = f"{took:>14} {'#' + str(call.number):>4}  {call.end or 'over'}, and forgotten:"
        return self._style("dim", f"{text} {call.messages} messages, {call.size} bytes")


def _label(kind: topics.Kind, payload: bytes) -> tuple[str, str, str]:
    """Style, words and number of a cell; the words give way where there is little room."""
    if not payload:
        return "dim", "cleared", ""
    try:
        if kind == "invite":
            return _invite(codec.decode_invite(payload))
        return _answer(codec.decode_answer(payload))
    except DecodeError as error:
        return "bad", f"✘ {error.cause}: {error}", ""


def _body(body: bytes | None) -> str:
    if body is None:
        return ""
    value = codec.decode_body(body)
    return f' · "{shown(value, 60)}"' if isinstance(value, str) else f" · {shown(value, 60)}"


def _invite(cell: Invite) -> tuple[str, str, str]:
    seq = f" · seq {cell.seq}"
    if cell.state is InviteState.RINGING:
        left = f" · {(cell.ttl or 0) / 1000:.3g} s"
        answers = " · still so" if cell.asker is not None else ""
        return "ring", f"ringing{answers}{_body(cell.content)}{left}", seq
    texts, got = _talk(cell.talk)
    if cell.state is InviteState.ACCEPTED:
        return "good", f"accepted{texts}", got + seq
    if cell.state is InviteState.OVER:
        return "dim", f"over: {reasons.over(cell.reason)}{texts}", got + seq
    return "bad", f"ended: {_ENDED.get(cell.reason or 0, cell.reason)}", seq


def _talk(talk: Said | None) -> tuple[str, str]:
    """The messages that a cell carries, each with its number; how many of the other's it got."""
    if talk is None:
        return "", ""
    first = talk.count - len(talk.messages) + 1
    texts = [f" · {n} {_message(each)}" for n, each in enumerate(talk.messages, first)]
    if talk.got is None:
        return " · talks" + "".join(texts), ""
    return "".join(texts), f" · got {talk.got}"


def _message(data: bytes) -> str:
    value = decode_message(data)
    text = isinstance(value, dict) and value.keys() == {"text"} and isinstance(value["text"], str)
    return f'"{said(value)}"' if text else said(value)


def _answer(cell: Answer) -> tuple[str, str, str]:
    word = cell.state.name.lower()
    if cell.state in (AnswerState.REFUSED, AnswerState.FAILED):
        word += f": {_ANSWERED.get(cell.reason or 0, cell.reason)}"
    elif cell.state is AnswerState.OVER:
        word += f": {reasons.over(cell.reason)}"
    texts = got = ""
    if cell.state in (AnswerState.TALKING, AnswerState.OVER):
        texts, got = _talk(cell.talk)
    name = {AnswerState.ACCEPTED: "good", AnswerState.REFUSED: "bad", AnswerState.FAILED: "bad"}
    ask = " · still so?" if cell.ask else ""
    words = f"{word}{ask}{texts}{_body(cell.response)}"
    return name.get(cell.state, "dim"), words, f"{got} · seq {cell.seq}"
