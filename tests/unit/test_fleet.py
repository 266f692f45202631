"""The parts of a fleet that need no broker: packets, books, plans, the report."""

from __future__ import annotations

import resource
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from device_sdk.cli.fleet import packets, plan, plot, report
from device_sdk.cli.fleet.books import GHOST_AFTER, Books, CallFault, CallRecord, Plan
from device_sdk.cli.fleet.run import BrokerUse
from device_sdk.client.link.url import BrokerUrl
from device_sdk.core.events import Name
from device_sdk.errors import InvalidArgument

URL = BrokerUrl.parse("mqtt://127.0.0.1")
BROKER = plan.Broker((URL,), "sig", 15, 1, 5.0)


# --- packets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_packets_are_whole_however_the_bytes_come(step: int) -> None:
    """Also one whose length takes two bytes, cut within it."""
    stream = packets.publish("a/b", b"x" * 200, 7, retain=True) + packets.puback(9) + packets.PING
    reader, found = packets.Reader(), []
    for at in range(0, len(stream), step):
        found += list(reader.feed(stream[at : at + step]))
    (first, body), acknowledged, ping = found
    assert packets.read_publish(first, body) == ("a/b", b"x" * 200, True, 7)
    assert acknowledged == (packets.PUBACK, b"\x00\x09")
    assert ping == (0xC0, b"")


def test_a_qos_0_publish_has_no_packet_id() -> None:
    assert packets.read_publish(0x30, b"\x00\x01ahello") == ("a", b"hello", False, 0)


@pytest.mark.parametrize(
    ("first", "body"), [(0x30, b"\x00\x09a"), (0x32, b"\x00\x01a"), (0x30, b"\x00\x01\xff")]
)
def test_a_publish_that_is_none_is_said_to_be_malformed(first: int, body: bytes) -> None:
    with pytest.raises(packets.MalformedPacket):
        packets.read_publish(first, body)


def test_a_length_without_end_is_malformed() -> None:
    with pytest.raises(packets.MalformedPacket, match="length"):
        list(packets.Reader().feed(b"\x30\xff\xff\xff\xff\x01"))


# --- books --------------------------------------------------------------------------------------


def told(wanted: Plan, *names: Name, step: float = 0.1) -> Books:
    """The account of one call of which both ends were told ``names``, in this order."""
    books = Books()
    books.pressed("c", CallRecord(wanted, "door", "panel", "calm", 0.0))
    for number, name in enumerate(names):
        at = "door" if name.startswith("local_") else "panel"
        books.heard(name, "c", at, number * step)
    return books


def faults(books: Books) -> list[CallFault]:
    books.judge()
    return [finding.fault for finding in books.findings]


ACCEPTED = (Name.REMOTE_RECEIVED, Name.LOCAL_RECEIVED_BY_PEER, Name.LOCAL_ACCEPTED,
            Name.REMOTE_ACCEPTED)  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Plan.ACCEPT, ACCEPTED),
        (Plan.REFUSE, (Name.REMOTE_RECEIVED, Name.REMOTE_REFUSED, Name.LOCAL_REFUSED)),
        (Plan.CANCEL, (Name.REMOTE_RECEIVED, Name.LOCAL_CANCELED, Name.REMOTE_CANCELED)),
        (Plan.CANCEL, (Name.LOCAL_CANCELED, Name.MISSED_CALL)),
        (Plan.CANCEL, (Name.LOCAL_CANCELED,)),
    ],
)
def test_a_call_that_went_as_planned_is_no_fault(wanted: Plan, names: tuple[Name, ...]) -> None:
    books = told(wanted, *names)
    assert not books.open
    assert faults(books) == []


@pytest.mark.parametrize(
    ("wanted", "names", "fault"),
    [
        (Plan.ACCEPT, (), CallFault.LOST),
        (Plan.ACCEPT, (Name.LOCAL_FAILURE,), CallFault.LOST),
        (Plan.REFUSE, (Name.REMOTE_RECEIVED, Name.REMOTE_REFUSED), CallFault.LOST),
        (Plan.CANCEL, (Name.REMOTE_RECEIVED, Name.LOCAL_CANCELED), CallFault.LOST),
        (Plan.ACCEPT, (*ACCEPTED, Name.LOCAL_ACCEPTED), CallFault.DUPLICATE),
        (Plan.ACCEPT, (*ACCEPTED, Name.REMOTE_RECEIVED), CallFault.DUPLICATE),
        (Plan.ACCEPT, ACCEPTED[:3], CallFault.SPLIT),
        (Plan.ACCEPT, (ACCEPTED[0], ACCEPTED[3], Name.LOCAL_FAILURE), CallFault.SPLIT),
        (Plan.ACCEPT, (*ACCEPTED[:3], Name.REMOTE_FAILURE), CallFault.SPLIT),
    ],
)
def test_what_must_not_be_is_found(wanted: Plan, names: tuple[Name, ...], fault: CallFault) -> None:
    assert faults(told(wanted, *names)) == [fault]


def test_a_ring_after_the_decision_is_a_ghost() -> None:
    books = told(
        Plan.CANCEL, Name.LOCAL_CANCELED, Name.REMOTE_RECEIVED, Name.REMOTE_CANCELED,
        step=GHOST_AFTER * 1.5,
    )  # fmt: skip
    assert faults(books) == [CallFault.GHOST]


def test_a_ring_of_a_call_that_nobody_made_is_a_ghost() -> None:
    books = Books()
    books.heard(Name.REMOTE_RECEIVED, "unknown", "panel", 0.0)
    assert faults(books) == [CallFault.GHOST]


def test_a_dead_caller_that_rings_is_a_ghost() -> None:
    """The power went while it called: what it left behind rings nobody."""
    books = told(Plan.ACCEPT)
    books.powered_off("door", 0.0)
    books.heard(Name.REMOTE_RECEIVED, "c", "panel", GHOST_AFTER + 0.1)
    assert CallFault.GHOST in faults(books)


def test_a_failure_for_want_of_a_link_is_told_as_cut_short() -> None:
    books = told(Plan.ACCEPT, Name.REMOTE_RECEIVED)
    books.unlinked("panel")
    books.heard(Name.LOCAL_FAILURE, "c", "door", 1.0)
    books.heard(Name.REMOTE_FAILURE, "c", "panel", 1.0)
    assert faults(books) == []
    assert books.counts() == {"made": 1, "cut short": 1}


def test_an_accept_that_is_lost_again_and_told_is_no_split() -> None:
    books = told(Plan.ACCEPT, *ACCEPTED[:3])
    books.unlinked("panel")
    books.heard(Name.REMOTE_FAILURE, "c", "panel", 1.0)
    books.heard(Name.LOCAL_PEER_LOST, "c", "door", 1.1)
    assert faults(books) == []


def test_a_power_cut_of_both_ends_leaves_nothing_open() -> None:
    books = told(Plan.ACCEPT, Name.REMOTE_RECEIVED)
    books.powered_off("panel", 0.5)
    books.powered_off("door", 0.5)
    assert not books.open
    assert faults(books) == []


# --- the plan -----------------------------------------------------------------------------------


def table(folder: Path, text: str) -> tuple[Path, Path]:
    """A CSV file and a secret for each name in it."""
    file, secrets = folder / "devices.csv", folder / "secrets"
    file.write_text(text)
    secrets.mkdir()
    for line in text.splitlines()[1:]:
        name = line.split(",")[0]
        (secrets / f"{name.replace('.', '%2E')}.secret").write_text(f"of {name}\n")
    return file, secrets


def test_the_registrys_table_says_who_calls_whom(tmp_path: Path) -> None:
    """Names, wildcards and groups; the last caller and its panel play ping-pong."""
    file, secrets = table(
        tmp_path,
        "name,may_call,group\np.1,,\np2,,floor\np3,,floor\nd1,p.1;p2,\nd2,@floor,\nd3,p*,\n",
    )
    *fleet, door, panel = plan.registered(file, secrets)
    assert (door.name, panel.name, panel.password) == ("d3", "p.1", "of p.1")
    calls = {peer.name: set(peer.calls) for peer in fleet}
    assert calls == {"p2": set(), "p3": set(), "d1": {"p2"}, "d2": {"p2", "p3"}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no table of devices"),
        ("name\np1\n", "nobody in it may call anybody"),
        ("name,may_call\np1,\nd1,p1\n", "nobody is left"),
        ("name,may_call\np1,\nd1,p1\nd2,p1\n", "nobody is left"),
    ],
)
def test_a_table_that_makes_no_fleet_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        plan.registered(*table(tmp_path, text))


def test_a_device_without_a_secret_is_named(tmp_path: Path) -> None:
    file, secrets = table(tmp_path, "name,may_call\np1,\nd1,p1\np2,\nd2,p2\n")
    (secrets / "p1.secret").unlink()
    with pytest.raises(InvalidArgument, match=r"p1\.secret"):
        plan.registered(file, secrets)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_shares_keep_both_ends_of_each_call_together(processes: int) -> None:
    peers = plan.anonymous(60, 20)
    shares = plan.shares(BROKER, peers, processes, rate=10.0, seconds=1.0, login_timeout=60.0)
    assert sorted(p.name for share in shares for p in share.peers) == sorted(
        p.name for p in peers[:-2]
    )
    for share in shares:
        names = {peer.name for peer in share.peers}
        assert all(callee in names for peer in share.peers for callee in peer.calls)
        assert all(peer.calls for peer in share.peers if "door" in peer.name)
    assert sum(share.rate for share in shares) == pytest.approx(10.0)
    assert [share.pair is not None for share in shares] == [False] * (processes - 1) + [True]


def test_ten_devices_of_a_large_fleet_are_apart() -> None:
    """In a process of their own, with both ends of their calls and a part of all calls."""
    peers = plan.anonymous(400, 200)
    shares = plan.shares(BROKER, peers, 2, rate=10.0, seconds=1.0, login_timeout=60.0)
    assert [share.apart for share in shares] == [False, False, True]
    assert sum(share.rate for share in shares) == pytest.approx(10.0)
    last = shares[-1]
    names = {peer.name for peer in last.peers}
    assert sum("panel" in name for name in names) == 5
    callers = [peer for peer in last.peers if peer.calls]
    assert len(callers) == 5
    assert all(callee in names for peer in callers for callee in peer.calls)
    assert last.rate == pytest.approx(4.0)
    small = plan.shares(BROKER, plan.anonymous(60, 20), 1, rate=1.0, seconds=1.0,
                        login_timeout=60.0)  # fmt: skip
    assert [share.apart for share in small] == [False]


def test_a_fleet_over_the_descriptors_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    with pytest.raises(InvalidArgument, match=r"prlimit --pid \$\$ --nofile=5256.*--processes 7"):
        plan.room_for(5000, 1, [URL])


def test_the_soft_limit_is_raised_as_far_as_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 20_000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: wanted.append(limits))
    plan.room_for(5000, 1, [URL])
    assert wanted == [(5256, 20_000)]


def test_a_fleet_over_the_local_ports_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, 1 << 20))
    monkeypatch.setattr(plan, "_local_ports", lambda: 28_232)
    plan.room_for(30_000, 1, [URL, URL._replace(port=1884)])
    with pytest.raises(InvalidArgument, match="28232 ports"):
        plan.room_for(30_000, 1, [URL])


# --- the report ---------------------------------------------------------------------------------


def test_percentiles_are_of_what_was_measured() -> None:
    found = report.percentiles([n / 1000 for n in range(1, 1001)])
    assert found == {"n": 1000, "p50": 500.0, "p95": 950.0, "p99": 990.0, "p99.9": 999.0}
    assert report.percentiles([]) == {"n": 0}


def built(*, phase: Mapping[str, Any] = MappingProxyType({}), **more: Any) -> dict[str, Any]:
    """A report of two processes, of the second one ``more``; of each phase ``phase``."""
    figures = {
        "seconds": 2.0, "whole": 2.0, "missing": 0, "errors": {}, "calls": 20, "fleet_cpu": 0.95,
        "traffic": {}, "interrupted": False, "broker_cpu": 0.1, "broker_memory": 5 << 20,
        "memory_empty": 1 << 20, "broker_ended": False, **phase,
    }  # fmt: skip
    result: dict[str, Any] = {
        "rang": {"calm": [0.002], "again": [0.5]}, "received": {"calm": [0.003]},
        "ping": {"calm": [0.001]},
        "calls": {"made": 10, "accepted": 10}, "faults": {}, "findings": [], "left": 0,
        "problems": [], "outages": [[1.0, 3.0, 5]], "apart": False, "devices": 5,
        "late": {"again": 0.4},
    }  # fmt: skip
    asked = {"devices": 10, "panels": 3, "processes": 2, "brokers": ["mqtt://<x>"]}
    phases = {name: dict(figures) for name in ("login", "calm", "cut", "again")}
    return report.build(asked, phases, [result, {**result, **more}], {}, 6_000_000)


def test_the_report_adds_up() -> None:
    found = built()
    assert found["sound"]
    assert found["calls"] == {"made": 20, "accepted": 20}
    assert (found["ratio"], found["calls_per_second"]) == (3.0, 10.0)
    assert found["broker"]["cpu_ms_per_call"] == 5.0
    said = "\n".join(report.text(found))
    assert "0 lost, 0 duplicate, 0 ghost, 0 split" in said
    assert "--processes spreads it" in said


def test_rings_in_a_storm_are_those_of_the_process_with_few_devices() -> None:
    """One that logs thousands in serves nobody meanwhile; how late each was is told beside."""
    found = built(apart=True, rang={"calm": [0.002], "again": [0.02]}, late={"again": 0.003})
    assert found["ring_meanwhile_ms"]["again"]["p50"] == 20.0
    assert (found["late_ms"]["apart"]["again"], found["late_ms"]["others"]["again"]) == (3.0, 400.0)
    assert "of that at most the fleet's own, ms: power back 3" in "\n".join(report.text(found))
    assert built()["ring_meanwhile_ms"]["again"]["p50"] == 500.0
    assert built()["few"] is None


def test_the_same_devices_alone_and_among_all_are_set_beside_each_other() -> None:
    """Rings, receipts and the ping-pong that the same process plays."""
    found = built(
        apart=True, rang={"alone": [0.002], "calm": [0.003]},
        received={"alone": [0.004], "calm": [0.005]}, ping={"alone": [0.001], "calm": [0.001]},
    )  # fmt: skip
    assert found["few"]["grown"] == {"rang": 1.5, "received": 1.25, "ping": 1.0}
    assert found["few"]["received"]["among"] == report.percentiles([0.005])
    assert found["ratio"] == 5.0
    said = "\n".join(report.text(found))
    assert "5 devices among all beside alone, p50, times: rings 1.50" in said
    assert built(apart=True)["few"]["grown"] == {}


@pytest.mark.parametrize(
    "more", [{"faults": {"lost": 1}}, {"left": 2}, {"problems": ["x: no answer"]}]
)
def test_what_is_not_as_it_must_be_makes_the_run_unsound(more: dict[str, Any]) -> None:
    assert not built(**more)["sound"]


def test_the_picture_is_xml_with_a_line_for_each_row() -> None:
    picture = ET.fromstring(plot.draw(built()))  # noqa: S314 - our own
    assert len(picture.findall("{http://www.w3.org/2000/svg}polyline")) == 4
    nothing = {**built(), "ring_ms": {"n": 0}, "receipt_ms": {"n": 0}, "ping_pong_ms": {"n": 0}}
    ET.fromstring(plot.draw({**nothing, "ring_meanwhile_ms": {}}))  # noqa: S314 - our own


def test_what_a_broker_used_stands_after_its_end() -> None:
    """A node that is killed meanwhile makes no sum smaller, and it is known that one is gone."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        use = BrokerUse([process.pid])
        before = use.cpu()
        assert use.memory() > 0
        assert not use.ended
        process.kill()
        process.wait()
    assert use.cpu() >= before
    assert use.ended


def test_a_broker_that_ended_meanwhile_has_no_figures() -> None:
    found = built(phase={"broker_ended": True})
    assert "broker" not in found
    assert report.text(found)
