"""Every broker with devices, as `export` wrote it: who may do what there, and what is kept.

The bundled broker serves the directory itself, the others what was exported of it. What an attacker
does it does at one node, and who must not notice is at another, where there are several.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from broker_config.admin import running, setup
from broker_config.admin.setup import Wanted
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Presence, Said
from device_sdk.core.wire.talk_cells import encode_message
from tests.broker_support.raw import Raw, Will
from tests.broker_support.served import Served, setup_on_free_ports
from tests.conftest import BROKERS, need_mosquitto, need_nats
from tests.exported import Bridge, Exported, ExportedMosquitto, Nats
from tests.peers import ThreadedPeer, ring, talk
from tests.servers import free_port

CALL = "AAAAAAAAAAAAAAAAAAAAAA"
INBOX = "sig/v1/kitchen/invite/+/+"
RING = f"sig/v1/kitchen/invite/front-door/{CALL}"
DEVICES = (
    Wanted("front-door", may_call=("kitchen", "@panels")),
    Wanted("kitchen"),
    Wanted("bedroom", group="panels"),
    Wanted("neighbour", may_call=("neighbours-*",)),
    Wanted("neighbours-panel"),
    Wanted("kitchen.1", may_call=("*",)),
    Wanted("guest", may_call=("kitchen",)),
    Wanted("watcher", watches=True),
)
KINDS: dict[str, type[Exported]] = {"mosquitto": ExportedMosquitto, "bridge": Bridge, "nats": Nats}


class Secured:
    """A broker with :data:`DEVICES`, over TLS."""

    def __init__(self, name: str, ports: list[int], ca: Path, secrets: dict[str, str]) -> None:
        self.name, self.ports, self.ca, self.secrets = name, ports, ca, secrets
        self.subscribe_qos = KINDS[name].subscribe_qos if name in KINDS else 1
        self.restart: Callable[[], None]
        #: Has a device removed, and the broker told.
        self.remove: Callable[[str], None]
        self._tls = ssl.create_default_context(cafile=ca)

    def raw(self, node: int) -> Raw:
        port = self.ports[node % len(self.ports)]
        # One broker answers in order; of several, what another one says may come later.
        return Raw(port, tls=self._tls, name="127.0.0.1", patient=len(self.ports) > 1)

    def peer(self, name: str, node: int, **options: Any) -> ThreadedPeer:
        return ThreadedPeer(
            name, f"mqtts://127.0.0.1:{self.ports[node % len(self.ports)]}",
            password=self.secrets[name], ca_file=self.ca, subscribe_qos=self.subscribe_qos,
            **options,
        )  # fmt: skip


@pytest.fixture(scope="module", params=BROKERS)
def secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    """Each broker, with devices."""
    folder = tmp_path_factory.mktemp(request.param)
    directory = setup_on_free_ports(folder / "broker", "--name", "127.0.0.1")
    given = setup.add_all(directory, DEVICES)
    secrets = {each.name: each.secret or "" for each in given}
    ca = directory / "tls" / "ca.crt"
    if request.param == "bundled":
        port = free_port()
        settings = directory / "broker.toml"
        settings.write_text(settings.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1))
        served = [Served(directory)]
        bundled = Secured("bundled", [port], ca, secrets)

        def restart() -> None:
            served.pop().stop()
            served.append(Served(directory))

        def remove(name: str) -> None:
            setup.remove(directory, name)
            assert running.tell_broker(directory)

        bundled.restart, bundled.remove = restart, remove
        yield bundled
        served.pop().stop()
        return
    (need_nats if request.param == "nats" else need_mosquitto)()
    with KINDS[request.param](folder, directory, given[-1].secret) as exported:

        def anew() -> None:
            exported.stop()
            exported.export()
            exported.start()

        def without(name: str) -> None:
            setup.remove(directory, name)
            exported.export()
            exported.signal(signal.SIGHUP)

        made = Secured(request.param, exported.ports, ca, secrets)
        made.restart, made.remove = anew, without
        yield made


Login = Callable[..., Raw]


@pytest.fixture
def login(secured: Secured) -> Iterator[Login]:
    """Lets a device in, at a node."""
    with ExitStack() as stack:

        def make(
            name: str, node: int = 0, *, client_id: str | None = None, will: Will | None = None
        ) -> Raw:
            user = topics.escape(name)
            client = stack.enter_context(secured.raw(node))
            code = client.connect(
                client_id or f"{user}:test{node}",
                user=user,
                password=secured.secrets[name],
                will=will,
            )
            assert code == 0
            return client

        yield make


@pytest.fixture
def kitchen(login: Login, secured: Secured) -> Raw:
    """The victim, at another node than the attacker."""
    client = login("kitchen", 1)
    assert client.subscribe(INBOX, qos=secured.subscribe_qos) == [secured.subscribe_qos]
    client.gather()
    return client


def rung_by_the_front_door_alone(login: Login, kitchen: Raw) -> None:
    """What the front door says after the attack is all that has come."""
    login("front-door", 0).publish(RING, b"ring")
    assert kitchen.message(timeout=10).data == b"ring"
    assert kitchen.gather() == []


def kept(login: Login, secured: Secured, what: str = "sig/v1/#") -> dict[str, bytes]:
    """What is retained, seen from one that may read all."""
    watcher = login("watcher", 2)
    watcher.subscribe(what, qos=secured.subscribe_qos)
    return {each.topic: each.data for each in watcher.gather()}


@pytest.mark.parametrize(
    "topic",
    [
        f"sig/v1/kitchen/invite/bedroom/{CALL}",
        f"sig/v1/kitchen/invite/front-door/{CALL}",
        f"sig/v1/kitchen/invite/neighbour/{CALL}",
        f"sig/v1/kitchen/answer/front-door/{CALL}",
        "sig/v1/kitchen/presence",
        "sig/v1/front-door/presence",
        f"other/v1/kitchen/invite/neighbour/{CALL}",
    ],
)
def test_what_one_may_not_write_reaches_nobody(
    secured: Secured, login: Login, kitchen: Raw, topic: str
) -> None:
    """As another, or to whom one may not call; it may be acknowledged, and is not retained."""
    neighbour = login("neighbour", 0)
    neighbour.publish(topic, b"forged", retain=True)
    neighbour.publish(topic, b"", retain=True)
    neighbour.publish(topic, b"forged", retain=True)
    rung_by_the_front_door_alone(login, kitchen)
    assert b"forged" not in kept(login, secured).values()


def test_a_will_in_anothers_name_is_never_published(
    secured: Secured, login: Login, kitchen: Raw
) -> None:
    kitchen.publish("sig/v1/kitchen/presence", b"online", retain=True)
    watcher = login("watcher", 2)
    watcher.subscribe("sig/v1/+/presence", qos=secured.subscribe_qos)
    watcher.gather()
    will = Will("sig/v1/kitchen/presence", b"forged", retain=True)
    client = secured.raw(0)
    client.connect(
        "neighbour:will", user="neighbour", password=secured.secrets["neighbour"], will=will
    )
    client.close()
    rung_by_the_front_door_alone(login, kitchen)
    assert watcher.gather() == []
    kitchen.publish("sig/v1/kitchen/presence", b"", retain=True)


@pytest.mark.usefixtures("kitchen")
@pytest.mark.parametrize("wanted", [INBOX, "sig/v1/kitchen/#", "sig/v1/#", "#", "$MQTT/sub/#"])
def test_what_is_for_another_is_not_to_be_read(secured: Secured, login: Login, wanted: str) -> None:
    """Neither live nor retained, whether the subscription is refused or granted for nothing."""
    door, neighbour = login("front-door", 0), login("neighbour", 0)
    door.publish(RING, b"secret", retain=True)
    watcher = login("watcher", 2)
    watcher.subscribe(INBOX, qos=secured.subscribe_qos)
    assert watcher.message(timeout=10).data == b"secret"
    with contextlib.suppress(ConnectionError):  # some brokers close on what they never grant
        neighbour.subscribe(wanted, qos=secured.subscribe_qos)
        door.publish(RING, b"secret, too")
        assert watcher.message(timeout=10).data == b"secret, too"
        assert not [each for each in neighbour.gather() if b"secret" in each.data]
    door.publish(RING, b"", retain=True)


@pytest.mark.parametrize(
    ("user", "password"),
    [(None, None), ("kitchen", None), ("kitchen", ""), ("kitchen", "wrong"), ("nobody", "wrong")],
)
def test_nobody_is_let_in_without_a_secret(
    secured: Secured, user: str | None, password: str | None
) -> None:
    with secured.raw(0) as client:
        assert client.connect("kitchen", user=user, password=password) in (4, 5, -1)


@pytest.mark.usefixtures("kitchen")
def test_one_devices_secret_opens_no_other_name(secured: Secured) -> None:
    with secured.raw(0) as client:
        code = client.connect("x", user="kitchen", password=secured.secrets["neighbour"])
        assert code in (4, 5, -1)


def test_another_cannot_end_a_devices_connection(secured: Secured, login: Login) -> None:
    """Most brokers let any user take any client id: it is not to be guessed of what can be read."""
    door = secured.peer("front-door", 0)
    with secured.peer("kitchen", 1) as panel, door:
        online = kept(login, secured, "sig/v1/kitchen/presence")["sig/v1/kitchen/presence"]
        offline = codec.encode(Presence(False, codec.decode_presence(online).epoch))
        hashes = [hashlib.blake2b(each, digest_size=8).hexdigest() for each in (online, offline)]
        guesses = ["kitchen", *(f"kitchen:{each}" for each in hashes)]
        for guess in guesses:
            with secured.raw(1) as attacker:
                attacker.connect(guess, user="neighbour", password=secured.secrets["neighbour"])
        mine, theirs = ring(door, panel, "still there?")
        panel.accept(theirs)
        door.expect("local_invitation_accepted", mine.call_id)
        states = [t for t in panel.heard.told if t.name == "connection_state_changed"]
        assert [each.args[0].name for each in states] == ["CONNECTING", "CONNECTED"]


def test_a_call_from_one_node_to_another(secured: Secured) -> None:
    """With secrets, over TLS, from a name that topics escape, the largest body of all."""
    with secured.peer("kitchen.1", 0) as door, secured.peer("bedroom", 1) as panel:
        mine, theirs = ring(door, panel, "x" * 8000)
        assert theirs.content == "x" * 8000
        panel.accept(theirs, "y" * 8000)
        door.expect("local_invitation_accepted", mine.call_id)
        assert mine.response == "y" * 8000


@pytest.mark.parametrize("node", [0, 1])
def test_no_ring_waits_for_a_delayed_acknowledgement(secured: Secured, node: int) -> None:
    """Either way: Nagle's algorithm somewhere between the ends holds up each of them for 40 ms."""
    took = []
    with secured.peer("kitchen.1", node) as door, secured.peer("bedroom", 1 - node) as panel:
        for _ in range(8):
            began = time.perf_counter()
            mine, _ = ring(door, panel)
            took.append(time.perf_counter() - began)
            door.cancel(mine)
            panel.expect("remote_invitation_canceled", mine.call_id)
    assert statistics.median(took) < 0.03, took


def test_nobody_else_speaks_in_a_call_or_ends_it(secured: Secured, login: Login) -> None:
    """Not in a side's name, nor in its own where it may write, though it knows call and epochs."""
    door, panel = (secured.peer(*who, talk=True) for who in (("front-door", 0), ("kitchen", 1)))
    with door, panel:
        mine, theirs = talk(door, panel)
        told = kept(login, secured, "sig/v1/+/presence")
        ours, yours = (
            codec.decode_presence(told[f"sig/v1/{peer.peer_id}/presence"]).epoch
            for peer in (door, panel)
        )
        said = Said(9, 9, tuple(map(encode_message, range(1, 10))))
        invites = [
            Invite(InviteState.ACCEPTED, ours, 1000, talk=said),
            Invite(InviteState.OVER, ours, 1000, reason=7, talk=said),
            Invite(InviteState.ENDED, ours, 1000, reason=1),
        ]
        answers = [
            Answer(AnswerState.TALKING, yours, 1000, talk=said),
            Answer(AnswerState.OVER, yours, 1000, reason=7, talk=said),
            Answer(AnswerState.SEEN, yours, 1000),
        ]
        # kitchen.1 may call everybody; the bedroom may answer the door, who may call it.
        for attacker in ("kitchen.1", "bedroom", "neighbour"):
            raw, own = login(attacker), topics.escape(attacker)
            for to, kind, names, cells in (
                ("kitchen", "invite", ("front-door", own), invites),
                ("front-door", "answer", ("kitchen", own), answers),
            ):
                for name in names:
                    topic = f"sig/v1/{to}/{kind}/{name}/{mine.call_id}"
                    for cell in (*map(codec.encode, cells), b""):
                        raw.publish(topic, cell, retain=True)
            for victim, epoch in (("front-door", ours), ("kitchen", yours)):
                offline = codec.encode(Presence(False, epoch))
                raw.publish(f"sig/v1/{victim}/presence", offline, retain=True)
        door.send_message(mine, "to the kitchen")
        panel.expect("call_message", mine.call_id)
        panel.send_message(theirs, "to the door")
        door.expect("call_message", mine.call_id)
        panel.hang_up(theirs)
        for peer, only in ((door, "to the door"), (panel, "to the kitchen")):
            assert str(peer.expect("call_ended", mine.call_id).args[1]) == "hung up"
            heard = [t.args[1] for t in peer.heard.told if t.name == "call_message"]
            assert heard == [only]
            assert peer.names().count("call_ended") == peer.names().count("call_started") == 1
        nothing_of_others = [t for t in panel.heard.told if t.call_id not in ("", mine.call_id)]
        assert nothing_of_others == []


def test_the_largest_cell_is_taken(secured: Secured, login: Login) -> None:
    """20 KiB (docs/protocol.md, Cells), from node to node."""
    panel = login("bedroom", 1)
    panel.subscribe("sig/v1/bedroom/invite/+/+", qos=secured.subscribe_qos)
    panel.gather()
    cell = b"x" * 20 * 1024
    login("front-door", 0).publish(f"sig/v1/bedroom/invite/front-door/{CALL}", cell)
    assert panel.message(timeout=10).data == cell


def test_what_is_retained_outlives_a_restart(secured: Secured, login: Login) -> None:
    """Of all nodes at once; the configuration exported anew meanwhile leaves it alone."""
    login("bedroom", 0).publish("sig/v1/bedroom/presence", b"kept", retain=True)
    secured.restart()
    assert kept(login, secured, "sig/v1/bedroom/presence") == {"sig/v1/bedroom/presence": b"kept"}
    login("bedroom", 0).publish("sig/v1/bedroom/presence", b"", retain=True)


def test_a_device_that_is_removed_is_cut_off_and_stays_out(secured: Secured, login: Login) -> None:
    """Once the registry is exported anew and the brokers are told to read it."""
    guest, door = login("guest", 1), login("front-door", 1)
    secured.remove("guest")
    assert guest.closed(timeout=10)
    with secured.raw(1) as again:
        code = again.connect("guest:2", user="guest", password=secured.secrets["guest"])
    assert code in (4, 5, -1)
    assert door.gather() == []
