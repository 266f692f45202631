"""Names, patterns and tables of devices: what they stand for, and what is wrong with them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_config.access import naming
from broker_config.access.acl import refused_call, stands
from broker_config.access.registry import Device, Registry
from broker_config.admin import table

CALL = "AAAAAAAAAAAAAAAAAAAAAA"
DEVICES = {
    device.name: device
    for device in (
        Device("door", may_call=("kitchen", "@flats", "flat-*")),
        Device("kitchen", may_call=("door",)),
        Device("flat-1", group="flats"),
        Device("attic", group="flats"),
        Device("watcher", watches=True),
    )
}


def test_who_calls_whom_is_what_the_registry_allows() -> None:
    """Worked out for all at once, it is the same as asked one by one."""
    registry = Registry(DEVICES)
    calls = naming.calls(DEVICES)
    assert calls == {
        name: [each for each in sorted(DEVICES) if registry.may_call(name, each)]
        for name in DEVICES
    }
    callers = naming.turned(calls)
    assert callers["attic"] == ["door"]
    assert callers["watcher"] == []


@pytest.mark.parametrize(
    ("topic", "verdict"),
    [
        (f"sig/v1/kitchen/invite/door/{CALL}", True),
        (f"sig/v1/door/answer/kitchen/{CALL}", True),
        (f"sig/v1/attic/invite/kitchen/{CALL}", False),
        (f"sig/v1/kitchen/answer/attic/{CALL}", False),
        (f"sig/v1/flat-2/invite/door/{CALL}", False),
        (f"sig/v1/gone/answer/kitchen/{CALL}", False),
        (f"sig/v1/kitchen/invite/gone/{CALL}", False),
        ("sig/v1/kitchen/presence", True),
        ("sig/v1/gone/presence", False),
        ("other/v1/kitchen/presence", False),
        ("anything", False),
    ],
)
def test_what_may_stand(topic: str, verdict: bool) -> None:
    """A cell whose writer may write it, for somebody who is registered; so is its presence."""
    assert stands("sig", topic, DEVICES, Registry(DEVICES).may_call) is verdict


def test_the_call_that_a_refusal_is_about() -> None:
    assert refused_call("sig", "door", f"sig/v1/attic/invite/door/{CALL}") == ("door", "attic")
    assert refused_call("sig", "attic", f"sig/v1/door/answer/attic/{CALL}") == ("door", "attic")
    assert refused_call("sig", "liar", f"sig/v1/attic/invite/door/{CALL}") is None
    assert refused_call("sig", "door", "sig/v1/kitchen/presence") is None


@pytest.mark.parametrize(
    ("name", "other"),
    [("Cafe\u0301", "Caf\u00e9"), ("\uff4bitchen", "kitchen"), ("Caf\u00e9", None), ("x", None)],
)
def test_what_looks_the_same_is_one_name(name: str, other: str | None) -> None:
    assert naming.clash(["Caf\u00e9", "kitchen"], name) == other


def test_a_command_can_be_typed_as_it_stands() -> None:
    device = Device("front door", may_call=("flat-*",))
    assert naming.allow(device, "it's", "/srv/my house") == (
        "bellwire-broker device set 'front door' --may-call 'flat-*' 'it'\"'\"'s' "
        "--dir '/srv/my house'"
    )


@given(st.text(alphabet=st.sampled_from('name,may_cl;@*"#\n\r\0é\ufeff-1 yx'), max_size=200))
def test_any_table_is_devices_or_faults_with_their_lines(text: str) -> None:
    faults: list[str] | None = None
    found = []
    try:
        found = table.parse("t", "name,may_call\n" + text, {})
    except table.TableError as error:
        faults = error.lines
    if faults is None:
        assert found
        assert len({each.name for each in found}) == len(found)
    else:
        assert min(int(line.split(":")[1]) for line in faults) >= 1
    with contextlib.suppress(table.TableError):
        table.parse("t", text, DEVICES)
