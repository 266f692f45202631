"""What either face takes and what not: each wrong argument is named, and nothing has happened.

Nothing here connects: arguments are looked at before any network use.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from device_sdk import (
    AnswerReason,
    CallEventListener,
    InvalidArgument,
    LocalInvitationState,
    Policy,
    Settings,
    Tls,
)
from device_sdk.client.link.base import Will
from device_sdk.core.settings import RENAMED
from device_sdk.core.wire import topics
from device_sdk.testing import MemoryBroker
from tests.peers import Peer
from tests.unit.conftest import Do, MakePeer

#: What is not a number of seconds above 0, whatever it is for.
NO_SECONDS: list[Any] = [0, -1, -0.5, math.nan, math.inf, True, "1", b"1", [1]]


@pytest.fixture
def door(make_peer: MakePeer) -> Peer:
    """Not logged in."""
    return make_peer("front-door", login=False)


@pytest.fixture
def told_to(make_peer: MakePeer) -> tuple[Peer, Any]:
    """A kitchen that rings, and its invitation."""
    door, kitchen = make_peer("front-door"), make_peer("kitchen")
    mine = door.press("kitchen")
    return kitchen, kitchen.expect("remote_invitation_received", mine.call_id).invitation


def named(argument: str) -> Any:
    """An error that begins with the argument's name."""
    return pytest.raises(InvalidArgument, match=rf"^{argument}\b")


# --- making a client ---------------------------------------------------------------------------


@pytest.mark.parametrize("peer_id", ["", "x" * 65, "a\nb", "\ud800", "🚪" * 17, None, 7, b"door"])
def test_what_no_peer_id_is(make_peer: MakePeer, peer_id: Any) -> None:
    """Empty, long, with control characters, long once escaped, or no string."""
    with named("peer"):
        make_peer(peer_id, login=False)


@pytest.mark.parametrize(
    "peer_id", ["a", "x" * 64, "front door", "kitchen.1", "küche/+#", "🚪" * 16]
)
def test_what_a_peer_id_may_be(make_peer: MakePeer, peer_id: str) -> None:
    """Anything for people to read; topics carry it escaped."""
    assert make_peer(peer_id, login=False).client.peer_id == peer_id


@pytest.mark.parametrize("realm", ["", "x" * 65, "a/b", "a b", "haus.1", "ü", "+", None, 7])
def test_what_no_realm_is(make_peer: MakePeer, realm: Any) -> None:
    """It is one level of every topic, unescaped."""
    with named("realm"):
        make_peer("a", login=False, realm=realm)


@pytest.mark.parametrize("keepalive", [0, -1, 65536, 1.5, True, "15", None])
def test_what_no_keepalive_is(make_peer: MakePeer, keepalive: Any) -> None:
    """Whole seconds that MQTT can say, and not 0, which means never."""
    with named("keepalive"):
        make_peer("a", login=False, keepalive=keepalive)


@pytest.mark.parametrize("keepalive", [1, 65535])
def test_the_bounds_of_the_keepalive(make_peer: MakePeer, keepalive: int) -> None:
    make_peer("a", login=False, keepalive=keepalive)


@pytest.mark.parametrize("qos", [2, -1, True, False, 1.0, "1", None])
def test_what_no_quality_of_a_subscription_is(make_peer: MakePeer, qos: Any) -> None:
    """It is a byte of SUBSCRIBE: 1.0 would break each link anew, with an error of paho's."""
    with named("subscribe_qos"):
        make_peer("a", login=False, subscribe_qos=qos)


@pytest.mark.parametrize("name", Settings._fields)
def test_every_setting_is_checked_and_kept(make_peer: MakePeer, name: str) -> None:
    """By its own name, among the client's arguments."""
    for value in NO_SECONDS:
        with named(name):
            make_peer("a", login=False, **{name: value})
    client = make_peer("a", login=False, **{name: 7}).client
    assert getattr(client.settings, name) == 7
    assert client.settings._replace(**{name: getattr(Settings(), name)}) == Settings()


def test_a_ring_lasts_a_day_at_most(make_peer: MakePeer) -> None:
    """What is on the wire has no room for more."""
    make_peer("a", login=False, ring_timeout=24 * 3600)
    with named("ring_timeout"):
        make_peer("a", login=False, ring_timeout=24 * 3600 + 1)


@pytest.mark.parametrize("name", ["ring_time", "keep_alive", "timeout", "settings"])
def test_an_unknown_argument_is_named(make_peer: MakePeer, name: str) -> None:
    """A misspelt setting would otherwise be a setting that does nothing."""
    with named(name):
        make_peer("a", login=False, **{name: 1})


@pytest.mark.parametrize(("former", "now"), RENAMED.items())
def test_a_former_setting_is_refused_with_its_name_now(
    make_peer: MakePeer, former: str, now: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^{former}: it is called {now}$"):
        make_peer("a", login=False, **{former: 1})


@pytest.mark.parametrize(
    "broker",
    ["", "localhost", "http://localhost", "mqtt://", "mqtt://:1883", "mqtt://host:0",
     "mqtt://host:99999", "mqtt://host:port", "mqtt://host/path", "mqtt://host?a=b", None, 7],
)  # fmt: skip
def test_what_no_broker_is(make_peer: MakePeer, broker: Any) -> None:
    """A URL of one of four schemes with a host, or what makes links; with a secret or without."""
    with named("broker"):
        make_peer("a", broker, login=False, password="secret")
    with named("broker"):
        make_peer("a", broker, login=False)


def test_a_password_in_the_url_is_refused_and_not_repeated(make_peer: MakePeer) -> None:
    """An error's text goes to logs."""
    with named("broker") as caught:
        make_peer("a", "mqtt://front-door:s3cret@host", login=False)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["username", "password"])
@pytest.mark.parametrize("value", [b"bytes", 7, ["a"]])
def test_a_secret_that_is_no_string_is_named_and_not_repeated(
    make_peer: MakePeer, name: str, value: Any
) -> None:
    """Only its type is told."""
    with named(name) as caught:
        make_peer("a", "mqtt://localhost", login=False, **{name: value})
    assert str(caught.value).endswith(type(value).__name__)


@pytest.mark.parametrize("scheme", ["mqtt", "ws"])
def test_tls_wants_an_encrypted_scheme(make_peer: MakePeer, scheme: str) -> None:
    """Who names an authority must not go on in the clear."""
    with named("tls"):
        make_peer("a", f"{scheme}://localhost", login=False, tls=Tls())


@pytest.mark.parametrize(
    ("argument", "files"),
    [
        ("ca_file", {"ca_file": "none.pem"}),
        ("cert_file", {"cert_file": "none.pem"}),
        ("cert_file", {"cert_file": "empty.pem", "key_file": "empty.pem"}),
        ("key_file", {"key_file": "empty.pem"}),
    ],
)
def test_tls_files_that_do_not_do_are_named(
    make_peer: MakePeer, tmp_path: Path, argument: str, files: dict[str, str]
) -> None:
    """Missing, empty, or a key that has no certificate."""
    (tmp_path / "empty.pem").touch()
    tls = Tls(**{name: str(tmp_path / file) for name, file in files.items()})
    with pytest.raises(InvalidArgument) as caught:
        make_peer("a", "mqtts://localhost", login=False, tls=tls)
    assert caught.value.argument == argument


def test_a_link_factory_is_told_what_the_broker_says_when_the_peer_is_gone(
    make_peer: MakePeer, memory: MemoryBroker
) -> None:
    """The will: this peer's presence, in its realm."""
    wills: list[Will] = []

    def make_link(will: Will) -> Any:
        wills.append(will)
        return memory(will)

    make_peer("kitchen.1", make_link, realm="house")
    assert [will.topic for will in wills] == [topics.presence("house", "kitchen.1")]


# --- making and sending an invitation ----------------------------------------------------------


@pytest.mark.parametrize("callee", ["", "x" * 65, "a\nb", None, 7, b"kitchen"])
def test_what_no_callee_is(door: Peer, callee: Any) -> None:
    with named("callee_id"):
        door.create(callee)


def test_nobody_calls_itself(door: Peer) -> None:
    """It would be caller and callee of one call."""
    with named("callee_id") as caught:
        door.create("front-door")
    assert "cannot call itself" in str(caught.value)


def test_each_invitation_is_another_call(door: Peer) -> None:
    """Its id is 16 random bytes, spelt the one way."""
    calls = [door.create("kitchen") for _ in range(50)]
    assert len({call.call_id for call in calls}) == 50
    cells = [topics.cell("sig", "invite", "kitchen", "front-door", c.call_id) for c in calls]
    assert all(topics.parse("sig", cell) for cell in cells)
    assert {(call.callee_id, call.state.name, call.group) for call in calls} == {
        ("kitchen", "IDLE", None)
    }


@pytest.mark.parametrize("ring_timeout", [*NO_SECONDS, 24 * 3600 + 1])
def test_a_ring_timeout_that_cannot_be_is_named(door: Peer, ring_timeout: Any) -> None:
    """The invitation stays IDLE and can still be sent."""
    mine = door.create("kitchen")
    with named("ring_timeout"):
        door.send(mine, ring_timeout)
    assert mine.state is LocalInvitationState.IDLE
    assert door.names() == []


@pytest.mark.parametrize("timeout", [0, "1"])
def test_call_looks_at_its_arguments_first(door: Peer, do: Do, timeout: Any) -> None:
    """As the two steps would, which it puts together."""
    with named("callee_id"):
        do(door.client.call, "")
    with named("ring_timeout"):
        do(door.client.call, "kitchen", timeout=timeout)
    with named("channel_id"):
        do(door.client.call, "kitchen", channel_id=7)
    assert door.names() == []


@pytest.mark.parametrize("peer", ["", "x" * 65, None, 7])
@pytest.mark.parametrize("method", ["watch", "unwatch"])
def test_what_nobody_can_watch(door: Peer, do: Do, method: str, peer: Any) -> None:
    """Told before it is told that one is not logged in."""
    with named("peer"):
        do(getattr(door.client, method), peer)


# --- answering ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    [r for r in AnswerReason if r.name not in ("DECLINED", "BUSY", "DO_NOT_DISTURB")] + [None, 99],
)
def test_what_no_reason_to_refuse_is(told_to: tuple[Peer, Any], reason: Any) -> None:
    """What the library says by itself; the call rings on."""
    kitchen, theirs = told_to
    with named("reason"):
        kitchen.refuse(theirs, None, reason)
    assert theirs.state.name == "INVITATION_RECEIVED"


# --- ringing several ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "peers", "options"),
    [
        ("peers", [], {}),
        ("peers", "kitchen", {}),
        ("peers", ["kitchen", "kitchen"], {}),
        ("peers", ["kitchen", ""], {}),
        ("peers", ["kitchen", 7], {}),
        ("peers", None, {}),
        ("peers", 7, {}),
        ("callee_id", ["kitchen", "front-door"], {}),
        ("strategy", ["kitchen"], {"strategy": "at random"}),
        ("strategy", ["kitchen"], {"strategy": None}),
        ("channel_id", ["kitchen"], {"channel_id": "x" * 65}),
        ("ring_timeout", ["kitchen"], {"leg_timeout": 0}),
        ("ring_timeout", ["kitchen"], {"leg_timeout": "20", "strategy": "sequential"}),
    ],
)
@pytest.mark.parametrize("at", ["manager", "client"])
def test_a_ring_group_that_cannot_be_rings_nobody(
    door: Peer, do: Do, at: str, argument: str, peers: Any, options: dict[str, Any]
) -> None:
    """All of it is looked at before the first leg."""
    ring = door.client.ring if at == "client" else door.client.call_manager.ring
    with named(argument):
        do(ring, peers, **options)
    assert door.names() == []


# --- what else an application hands over -------------------------------------------------------


@pytest.mark.parametrize("tls", [5, "ca.pem", True])
def test_what_is_no_tls(make_peer: MakePeer, tls: Any) -> None:
    """A file name has an argument of its own."""
    with named("tls"):
        make_peer("a", "mqtts://localhost", login=False, tls=tls)


@pytest.mark.parametrize("policy", [{"quiet": []}, "22:00-07:00", (), Policy])
def test_what_no_policy_is(make_peer: MakePeer, policy: Any) -> None:
    """At the start, and when it is set."""
    with named("policy"):
        make_peer("a", login=False, policy=policy)
    peer = make_peer("b", login=False)
    with named("policy"):
        peer.client.set_policy(policy)


@pytest.mark.parametrize("name", ["clock", "wall"])
def test_what_no_clock_is(make_peer: MakePeer, name: str) -> None:
    with named(name):
        make_peer("a", login=False, **{name: 7})


@pytest.mark.parametrize("listener", [None, object(), CallEventListener, lambda: None])
def test_what_no_listener_is(door: Peer, listener: Any) -> None:
    """It would hear nothing, without a word."""
    with named("listener"):
        door.client.call_manager.add_event_listener(listener)


@pytest.mark.parametrize("timeout", [0, -1, math.nan, True, "1", None])
def test_what_no_time_to_log_in_is(make_peer: MakePeer, do: Do, timeout: Any) -> None:
    """Said before anything is begun: it can be tried again."""
    peer = make_peer("a", login=False)
    for _ in range(2):
        with named("timeout"):
            do(peer.client.login, timeout)


def test_what_no_invitation_is(door: Peer, do: Do) -> None:
    """Another's, or none at all: named, not an AttributeError from inside."""
    manager = door.client.call_manager
    for command in (
        manager.send_local_invitation, manager.cancel_local_invitation,
        manager.accept_remote_invitation, manager.refuse_remote_invitation,
    ):  # fmt: skip
        with named("invitation"):
            do(command, "kitchen")
    with named("group"):
        do(manager.cancel_ring, "kitchen")


@pytest.mark.parametrize("channel", ["x" * 65, "ü" * 33, "\ud800", 7, b"room"])
def test_what_no_channel_is(door: Peer, channel: Any) -> None:
    """Too long in bytes, or no text that can be sent."""
    mine = door.create("kitchen")
    with named("channel_id"):
        mine.channel_id = channel


@pytest.mark.parametrize("name", ["username", "password"])
@pytest.mark.parametrize("value", ["\ud800", "a\0b", "x" * 65536])
def test_what_mqtt_cannot_say_is_named(make_peer: MakePeer, name: str, value: str) -> None:
    """And not repeated: it may be a secret."""
    with named(name) as caught:
        make_peer("a", "mqtt://localhost", login=False, **{name: value})
    assert "65535 bytes of UTF-8" in str(caught.value)
