"""The tables of keys and of reasons, and that codec, cells and enums are those of the tables."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from device_sdk.core.wire import codec, keys, reasons
from device_sdk.core.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    Cell,
    EndedReason,
    Invite,
    InviteState,
    OverReason,
    Presence,
    Said,
)
from device_sdk.core.wire.keys import Key, Type
from device_sdk.errors import DecodeError
from device_sdk.states import EndReason

EPOCH = b"an epoch"
#: What a cell says that carries only what it must; in each rule of the table.
LEAST: dict[str, Cell] = {
    keys.RINGING: Invite(InviteState.RINGING, EPOCH, 1, ttl=9),
    keys.ACCEPTED: Invite(InviteState.ACCEPTED, EPOCH, 1),
    keys.ENDED: Invite(InviteState.ENDED, EPOCH, 1),
    keys.OVER: Invite(InviteState.OVER, EPOCH, 1, talk=Said()),
    keys.TALKING: Answer(AnswerState.TALKING, EPOCH, 1, talk=Said()),
    keys.ANSWER: Answer(AnswerState.RECEIVED, EPOCH, 1),
    keys.PRESENCE: Presence(True, EPOCH),
}
DECODE: dict[str, Any] = dict.fromkeys(keys.INVITE, codec.decode_invite) | {
    **dict.fromkeys(keys.ANSWERS, codec.decode_answer),
    keys.PRESENCE: codec.decode_presence,
}
OPTIONAL = [
    pytest.param(rule, key, field, id=f"{rule}-{key.name}")
    for rule in keys.ALL
    for key, field in keys.of(rule)
    if rule in key.optional and field != "messages" and key.number not in keys.TALK
]


def most(key: Key) -> tuple[Any, Any]:
    """The largest value that a key takes: as its field in a cell has it, and as CBOR's value."""
    if key.type is Type.BODY:
        body = bytes(key.limit - 3)
        return cbor2.dumps(body), body
    if key.type is Type.UINT:
        return key.limit, key.limit
    if key.type is Type.TRUE:
        return True, True
    text = "x" * key.limit
    value = text if key.type is Type.TEXT else text.encode()
    return value, value


def over(key: Key) -> list[Any]:
    """Values that are not what the table says: one over its limit, and of other types."""
    _, value = most(key)
    larger = {Type.TRUE: 1}.get(key.type) or (value + 1 if key.type is Type.UINT else value + value)
    return [larger] if key.type is Type.BODY else [larger, None, [], -1, 1.5]


def pairs(cell: Cell) -> dict[int, Any]:
    """A cell's keys and values."""
    return dict(cbor2.loads(codec.encode(cell)))


@pytest.mark.parametrize(
    ("cell", "rules"),
    [(Invite, keys.INVITE), (Answer, keys.ANSWERS), (Presence, (keys.PRESENCE,))],
)
def test_a_cells_fields_are_its_keys(cell: type[Cell], rules: tuple[str, ...]) -> None:
    """In the order of the table; what it must carry in each state has no default.

    What is of a call that goes on is one field, the last.
    """
    fields = [(key, field) for key, field in keys.of(*rules) if key.number not in keys.TALK]
    talk = () if cell is Presence else ("talk",)
    assert cell._fields == (*(field for _, field in fields), *talk)
    for key, field in fields:
        assert (field in cell._field_defaults) == (not {*rules} <= {*key.required})


def test_the_keys_are_by_number_and_of_one_byte() -> None:
    """What the encoding, which only appends, rests on; some are kept for later."""
    numbers = [key.number for key in keys.KEYS]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 24
    assert not {17, 18, 19} & {*numbers}


@pytest.mark.parametrize("rule", keys.ALL)
def test_the_least_cell_carries_what_it_must(rule: str) -> None:
    """And without one of these it is refused."""
    data = pairs(LEAST[rule])
    assert [*data] == [key.number for key in keys.KEYS if rule in key.required]
    for number in data:
        with pytest.raises(DecodeError) as caught:
            DECODE[rule](cbor2.dumps({k: v for k, v in data.items() if k != number}))
        without_talk = number == keys.TALK[0]  # then it is no state at all
        assert caught.value.cause == (codec.WRONG_TYPE if without_talk else codec.MISSING_KEY)


@pytest.mark.parametrize(("rule", "key", "field"), OPTIONAL)
def test_an_optional_key_is_written_and_read(rule: str, key: Key, field: str) -> None:
    """Under its number, at its limit; each codec writes what the table has, and nothing else."""
    value, plain = most(key)
    cell = LEAST[rule]._replace(**{field: value})
    assert pairs(cell) == pairs(LEAST[rule]) | {key.number: plain}
    assert DECODE[rule](codec.encode(cell)) == cell


@pytest.mark.parametrize(("rule", "key"), [p.values[:2] for p in OPTIONAL])
def test_what_is_over_its_limit_or_of_another_type_is_refused(rule: str, key: Key) -> None:
    """Whatever else the cell says."""
    for value in over(key):
        with pytest.raises(DecodeError) as caught:
            DECODE[rule](cbor2.dumps(pairs(LEAST[rule]) | {key.number: value}))
        assert caught.value.cause in (codec.WRONG_TYPE, codec.OVERSIZED)


def test_every_reason_has_a_row_and_a_word() -> None:
    """The enums' members, each once, in the order of their numbers."""
    assert [row.reason for row in reasons.ENDED] == list(EndedReason)
    assert [row.reason for row in reasons.ANSWERED] == list(AnswerReason)
    rows = [*reasons.ENDED, *reasons.ANSWERED, *reasons.OVER]
    assert [row.word for row in rows] == [EndReason[row.reason.name] for row in rows]
    assert [row.reason for row in reasons.OVER] == list(OverReason)


def test_only_what_is_refused_is_said_on_a_command_line() -> None:
    """By a word of its own."""
    flags = [row.flag for row in reasons.ANSWERED if row.flag]
    assert flags == [row.flag for row in reasons.REFUSALS]
    assert len({*flags}) == len(flags)
