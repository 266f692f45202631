"""What plain values have besides being tuples."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from device_sdk.core.callee import CalleeCall
from device_sdk.core.callee import evolve as evolve_callee
from device_sdk.core.caller import CallerCall
from device_sdk.core.caller import evolve as evolve_caller
from device_sdk.core.values import Marker, distinct, evolver


def test_a_revised_value_is_what_replacing_gives() -> None:
    """The same fields, the same class; the value itself stays as it was."""
    for evolve, call in (
        (evolve_callee, CalleeCall("call", "door")),
        (evolve_caller, CallerCall("call", "kitchen")),
    ):
        again = evolve(call, seq=3, keep_at=2.5)
        assert again == call._replace(seq=3, keep_at=2.5)
        assert type(again) is type(call)
        assert (call.seq, call.keep_at) == (0, None)
        assert evolve(call) == call


def test_an_unknown_field_cannot_be_revised() -> None:
    """A slip of the pen is an error, not a value without the change."""

    class Point(NamedTuple):
        x: int
        y: int

    with pytest.raises(KeyError, match="z"):
        evolver(Point)(Point(1, 2), z=3)


def test_distinct_values_equal_only_their_own_class() -> None:
    """Though both are tuples."""

    @distinct
    class One(NamedTuple):
        x: int

    @distinct
    class Other(NamedTuple):
        x: int

    assert One(1) == One(1)
    assert One(1) != Other(1)
    assert One(1) != (1,)
    assert len({One(1), One(1), Other(1)}) == 2


def test_signals_equal_their_class_and_say_its_name() -> None:
    """They have nothing else to say."""

    class Ping(Marker):
        __slots__ = ()

    class Pong(Marker):
        __slots__ = ()

    assert Ping() == Ping()
    assert Ping() != Pong()
    assert len({Ping(), Ping()}) == 1
    assert repr(Ping()) == "Ping()"
