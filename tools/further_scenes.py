"""What the first scenes of docs/vectors/calls.json leave open: sentence by sentence."""

from __future__ import annotations

from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import (
    Invite,
    InviteState,
    Presence,
)
from tools.scene_player import (
    ACCEPTED,
    CALL,
    CANCEL,
    CONTENT,
    FORMER,
    ME,
    MINE,
    NEWER,
    OFFLINE,
    ONLINE,
    PEER,
    RECEIVED,
    REFUSED,
    RESPONSE,
    RINGING,
    SAYS_YES,
    SECOND,
    SEEN,
    THEIRS,
    Scene,
    answered,
    calls,
    ended,
    rings,
)


def cut(scene: Scene, at: float) -> Scene:
    """The connection breaks with all unacknowledged, and the next trial is on."""
    return scene.does("disconnected").at(at).comes_back().does("acked")


def further_scenes() -> list[Scene]:
    """What the first ones leave open: sentence by sentence."""
    here, call = {"caller": PEER, "call_id": CALL}, {"callee": PEER, "call_id": CALL}
    asks = answered("RECEIVED", ask=True)
    long, short = (codec.encode_body("x" * n) for n in (510, 509))
    most = 2**53 - 1
    third = topics.call_id_from_bytes(b"\x03" * 16)

    def first(name: str, rules: str) -> Scene:
        return Scene(name, rules, connected=False).does("connected")

    def asks_if_alive(name: str) -> Scene:
        return (
            Scene(name, "Newer logins 6")
            .does("disconnected")
            .at(1)
            .does("connected")
            .hears(Presence(True, b"also-old"), mine=True, retained=True)
            .granted()
        )

    aside = calls("caller: accepted, and the broker does not take it", "Not taken 4")
    aside.does("acked").hears(SAYS_YES)
    for at in (1, 2, 3):
        cut(aside, at)
    aside.hears(SEEN)
    lifted = Scene("caller: set aside, and answered after all, twice", "Not taken 3, 4").sends()
    for at in (1, 2, 3):
        cut(lifted, at)
    lifted.hears(RECEIVED)
    for at in (4, 5, 6):
        cut(lifted, at)
    lifted.hears(RECEIVED)
    unanswerable = rings("callee: an answer that the broker does not take", "Not taken 5")
    for at in (1, 2, 3):
        cut(unanswerable, at)
    unanswerable.hears(RINGING).hears(None)
    ignored = rings("callee: what it cannot answer does not ring again", "Not taken 5")
    for at in (1, 2, 3):
        cut(ignored, at)
    ignored.hears(RINGING).hears(ONLINE, retained=True).at(62)
    silent = rings("callee: an accept that the broker does not take", "Not taken 5")
    silent.does("acked").does("accept", **here)
    for at in (1, 2, 3):
        cut(silent, at)
    silent.hears(ACCEPTED)
    # Its clear is a forbidden publish, too: a call that would be cleared is gone, and is no longer
    # waited for, so that a logout says its presence offline at once.
    unclearable = calls("caller: what is set aside is not cleared", "Not taken 3, Logging out")
    unclearable.does("acked").hears(SAYS_YES)
    for at in (1, 2, 3):
        cut(unclearable, at)
    unclearable.at(86_399).at(86_400).does("logout").at(86_402)
    unclearable_too = rings("callee: what is set aside is not cleared", "Not taken 3, Logging out")
    unclearable_too.does("acked").does("accept", **here)
    for at in (1, 2, 3):
        cut(unclearable_too, at)
    unclearable_too.hears(ACCEPTED).hears(None).does("logout").at(5)
    wordy = rings("callee: a refusal that the broker does not take", "Not taken 5")
    wordy.does("acked").does("refuse", response=RESPONSE, **here)
    for at in (1, 2, 3, 4, 5):
        cut(wordy, at)
    again = Scene("a break without a trial begins the count anew", "Not taken 2").sends()
    # One trial breaks, then a connection before any trial: the next trial is the first again.
    cut(again, 1).does("disconnected").at(2).comes_back()
    for at in (3, 4, 5):
        cut(again, at)
    busy = Scene("a trial with presence unacknowledged is none", "Not taken 2").sends()
    for at in (1, 2, 3):
        cut(busy, at).hears(OFFLINE._replace(epoch=NEWER), mine=True)
    full = Scene("callee: over its cap of one caller", "Callee 9").does("watch", peer=PEER)
    full.hears(ONLINE, retained=True)
    for number in range(10):
        ids = topics.call_id_from_bytes(bytes((9, number)) * 8)
        full.hears(RINGING._replace(content=None), call=ids)
    asked = Scene("callee: asked calls leave room for live ones", "Callee 9")
    for number in range(9):
        ids = topics.call_id_from_bytes(bytes((9, number)) * 8)
        asked.hears(RINGING._replace(content=None, epoch=FORMER), call=ids, retained=True)
    asked.hears(ONLINE, retained=True).hears(RINGING)
    few, two = ({"settings": {"max_calls_per_caller": n}} for n in (1, 2))
    return [
        # which answers carry the response
        rings("callee: a response stays in what accept leads to", "Cells, Callee 3")
        .does("accept", response=RESPONSE, **here)
        .at(5)
        .hears(ended(1)),
        rings("callee: seen after an end carries no response", "Cells, Callee 7")
        .does("accept", response=RESPONSE, **here)
        .hears(ended(1)),
        # seq
        first("caller: a found cell with the largest seq", "Cells, Caller 7")
        .hears(Invite(InviteState.RINGING, FORMER, most, ttl=9000), mine=True, retained=True)
        .hears_own_presence()
        .at(2),
        first("callee: a found answer with the largest seq", "Cells, Callee 8")
        .hears(answered("REFUSED", epoch=FORMER, seq=most, reason=2), mine=True, retained=True)
        .hears_own_presence()
        .at(2),
        # time
        Scene("caller: a decision comes before what is said again at that moment", "Caller 3, 4")
        .sends(ack_timeout=14)
        .does("subscribed", filters=[topics.presence("sig", PEER)])
        .hears(ONLINE, retained=True)
        .at(14)
        .at(16),
        calls("caller: a missed call is cleared after a day", "Caller 8")
        .hears(OFFLINE)
        .does("cancel", **CANCEL)
        .does("acked")
        .at(3_601)
        .at(86_399)
        .at(86_400)
        .does("acked"),
        Scene("callee: asked in vain", "Callee 1", setup={"settings": {"missed_call_ttl": 5}})
        .hears(RINGING, retained=True)
        .at(5)
        .at(7)
        .hears(None),
        Scene(
            "callee: a final answer that nobody sees",
            "Callee 7",
            setup={"settings": {"missed_call_ttl": 5}},
        )
        .hears(ended(1))
        .at(5)
        .does("acked")
        .hears(ended(1)),
        Scene("caller: a day and no longer", "Caller 8", setup={"settings": {"missed_call_ttl": 5}})
        .sends()
        .hears(SAYS_YES)
        .at(5)
        .does("acked"),
        # asking
        calls("caller: asked while it clears", "Caller 6").hears(REFUSED).hears(asks).hears(asks),
        calls("caller: what answered an ask answers none later", "Caller 6")
        .hears(asks)
        .does("acked")
        .does("disconnected")
        .at(1)
        .comes_back(),
        calls("caller: asked too often", "Caller 6")
        .hears(asks)
        .hears(asks)
        .hears(asks)
        .at(0.5)
        .hears(asks)
        .at(1)
        .hears(asks)
        .hears(asks)
        .at(5)
        .hears(asks),
        calls("caller: a callee that comes and goes", "Caller 6")
        .hears(OFFLINE)
        .does("cancel", **CANCEL)
        .hears(ONLINE)
        .hears(OFFLINE)
        .hears(ONLINE)
        .hears(OFFLINE)
        .hears(ONLINE)
        .at(4),
        calls("caller: accepted twice", "Caller 4").hears(SAYS_YES).hears(SAYS_YES).at(2),
        Scene("callee: a ttl of 0 does not ring", "Callee 1")
        .does("watch", peer=PEER)
        .hears(ONLINE, retained=True)
        .hears(RINGING._replace(ttl=0))
        .hears(RINGING._replace(ttl=0, asker=MINE))
        .hears(RINGING._replace(ttl=0, asker=MINE))
        .at(1),
        # cleared before an end
        Scene("callee: asked about, and cleared", "Callee 5")
        .hears(RINGING, retained=True)
        .hears(None)
        .does("acked")
        .at(60)
        .hears(RINGING),
        rings("callee: cleared while it rings, and a late copy", "Callee 5")
        .hears(None)
        .hears(RINGING)
        .at(2)
        .hears(None)
        .does("acked"),
        # the order of a cell
        rings("callee: a ringing after an end", "Cells, Callee 7")
        .hears(ended(1))
        .hears(RINGING)
        .hears(ACCEPTED),
        # presence
        Scene("presence: what is known outlives a break", "Connecting 4, Caller 4")
        .sends()
        .hears(OFFLINE)
        .does("disconnected")
        .at(1)
        .comes_back()
        .hears(ONLINE, retained=True),
        Scene("presence: online as before the break is no coming", "Caller 4")
        .sends()
        .hears(ONLINE)
        .does("disconnected")
        .at(1)
        .comes_back()
        .hears(ONLINE, retained=True),
        Scene("presence: absent, once granted", "Caller 3, 10")
        .sends()
        .at(0.5)
        .does("subscribed", filters=[topics.presence("sig", PEER)])
        .at(1.5)
        .at(30),
        rings("presence: ten minutes from the end of a call", "Connecting 4")
        .hears(ended(1))
        .at(2)
        .hears(None)
        .does("acked")
        .at(600),
        calls("presence: ten minutes from the clear of an invite", "Connecting 4")
        .at(1)
        .hears(REFUSED)
        .at(3)
        .does("acked")
        .at(601),
        Scene("presence: refused, so who lingers longest gives its place", "Connecting 4")
        .watches_then_not("attic")
        .at(1)
        .watches_then_not("cellar")
        .sends()
        .does("subscribed", filters=[], refused=[topics.presence("sig", PEER)]),
        Scene("presence: told what is known", "Connecting 4")
        .does("watch", peer=PEER)
        .hears(ONLINE, retained=True)
        .does("unwatch", peer=PEER)
        .does("watch", peer=PEER)
        .hears(ONLINE),
        Scene("presence: an hour later it is given up", "Connecting 4")
        .watches_then_not(PEER)
        .at(599)
        .at(600),
        rings("callee: the epoch is that of the last copy", "Callee 6")
        .hears(RINGING._replace(epoch=NEWER, asker=MINE))
        .hears(Presence(False, THEIRS))
        .hears(Presence(False, NEWER))
        .at(10),
        Scene("callee: the content of a later copy", "Callee 1")
        .hears(RINGING._replace(channel="front"), retained=True)
        .hears(RINGING._replace(content=RESPONSE, asker=MINE)),
        first("connecting: an empty presence before the echo", "Newer logins 3")
        .does("message", topic=topics.presence("sig", ME), payload=b"", retained=False)
        .hears_own_presence(),
        Scene("connecting: a filter is refused", "Connecting 4").does(
            "subscribed", filters=[], refused=[topics.inbox("sig", ME)[0]]
        ),
        first("connecting: what I said myself is not found", "Connecting 1")
        .hears(Invite(InviteState.RINGING, MINE, 1, ttl=9000), mine=True, retained=True)
        .hears_own_presence(),
        # the caller's presence comes and goes
        rings("callee: its caller comes and goes in a moment", "Callee 6")
        .hears(OFFLINE)
        .hears(ONLINE)
        .hears(OFFLINE)
        .hears(ONLINE)
        .at(3),
        # found
        Scene("caller: found late", "Connecting 2, Caller 7")
        .hears(Invite(InviteState.RINGING, FORMER, 4, ttl=9000), mine=True, retained=True)
        .at(1)
        .at(3),
        Scene("callee: found late", "Connecting 2, Callee 8")
        .hears(answered("FAILED", epoch=FORMER, seq=3, reason=4), mine=True, retained=True)
        .at(1),
        first("found: reasons that are unknown", "Caller 7, Callee 8")
        .hears(
            Invite(InviteState.ENDED, FORMER, 4, reason=77, content=CONTENT),
            mine=True,
            retained=True,
        )
        .hears(answered("FAILED", epoch=FORMER, reason=99), call=SECOND, mine=True, retained=True)
        .hears_own_presence(),
        # without a link
        rings("callee: accepted without a link", "Callee 3")
        .does("acked")
        .does("disconnected")
        .does("accept", **here)
        .at(5)
        .at(6)
        .comes_back(),
        rings("callee: accepted without a link, and back in time", "Callee 3")
        .does("acked")
        .does("disconnected")
        .does("accept", **here)
        .at(2)
        .comes_back()
        .hears(ACCEPTED),
        Scene("callee: not flagged, but on a connection that broke", "Callee 1")
        .hears(RINGING)
        .does("disconnected")
        .at(0.5)
        .comes_back()
        .hears(ONLINE, retained=True),
        calls("caller: the link breaks before the cancel is acknowledged", "Caller 9")
        .does("cancel", **call)
        .does("disconnected"),
        calls("caller: a cancel that is not acknowledged", "Caller 9").does("cancel", **call).at(2),
        # content
        Scene("caller: a content of 512 bytes is said again", "Not taken")
        .sends(content=short)
        .does("cancel", **call)
        .at(2),
        Scene("caller: one of 513 bytes is not", "Not taken")
        .sends(content=long)
        .does("cancel", **call)
        .at(2),
        # newer logins
        rings("newer login: what it tells of calls", "Newer logins 1")
        .sends(SECOND)
        .hears(RINGING, call=third)
        .does("accept", **here)
        .hears(Presence(True, NEWER, generation=1), mine=True),
        first("newer login: the largest generation", "Newer logins 2")
        .hears(Presence(True, b"also-old", generation=most), mine=True, retained=True)
        .hears_own_presence(),
        Scene("newer login: my own will, my own question", "Newer logins 3, 6")
        .hears(Presence(False, MINE), mine=True)
        .hears(Presence(False, MINE, ask=True), mine=True),
        Scene("newer login: equal in age it is not older", "Newer logins 1, 5")
        .at(1)
        .hears(Presence(True, NEWER, age=1000), mine=True),
        asks_if_alive("newer login: is it alive? a will proves nothing").hears(
            Presence(False, NEWER), mine=True
        ),
        asks_if_alive("newer login: is it alive? an older one that ends")
        .hears(Presence(True, b"also-old"), mine=True)
        .at(3),
        first("newer login: two breaks before the echo", "Newer logins 2")
        .does("disconnected")
        .at(1)
        .does("connected")
        .hears(Presence(True, NEWER, generation=3), mine=True, retained=True)
        .does("disconnected")
        .at(2)
        .does("connected")
        .hears(Presence(True, NEWER, generation=3), mine=True, retained=True)
        .hears(Presence(True, MINE, generation=4), mine=True),
        # policies and caps
        Scene("callee: a policy says busy", "Callee 9", setup={"policy": {"open": 1, "reason": 2}})
        .does("watch", peer=PEER)
        .hears(ONLINE, retained=True)
        .hears(RINGING)
        .hears(RINGING, call=SECOND)
        .hears(RINGING, call=third, retained=True),
        Scene("callee: do not disturb", "Callee 9", setup={"policy": {"open": 0, "reason": 3}})
        .hears(RINGING)
        .hears(ONLINE, retained=True)
        .hears(RINGING, call=SECOND, retained=True)
        .hears(RINGING._replace(asker=MINE), call=SECOND),
        full,
        asked,
        Scene("callee: asked, and over the cap once live", "Callee 9", setup=few)
        .hears(RINGING, retained=True)
        .hears(ONLINE, retained=True)
        .hears(RINGING, call=SECOND)
        .hears(RINGING._replace(asker=MINE)),
        Scene("callee: asked, and over the cap once its caller is read", "Callee 9", setup=two)
        .hears(RINGING)
        .hears(RINGING, call=SECOND)
        .hears(RINGING._replace(asker=MINE), call=SECOND)
        .hears(RINGING, call=third)
        .hears(RINGING._replace(asker=MINE), call=third)
        .hears(ONLINE, retained=True),
        # logging out
        rings("callee: logs out, its caller is away", "Logging out")
        .does("refuse", **here)
        .hears(OFFLINE)
        .does("logout")
        .does("acked"),
        Scene("caller: logs out before the link is back", "Logging out")
        .does("disconnected")
        .sends()
        .does("logout"),
        calls("caller: logs out, the callee is away", "Logging out")
        .hears(OFFLINE)
        .does("logout")
        .does("acked"),
        rings("callee: logs out, and what comes meanwhile", "Logging out")
        .does("accept", **here)
        .does("logout")
        .hears(RINGING, call=SECOND)
        .hears(Presence(True, b"also-old"), mine=True)
        .at(1)
        .does("acked"),
        calls("newer login: while this one logs out", "Newer logins 1, Logging out")
        .does("logout")
        .hears(Presence(True, NEWER), mine=True),
        # not taken
        aside,
        lifted,
        unanswerable,
        ignored,
        silent,
        unclearable,
        unclearable_too,
        wordy,
        again,
        busy,
    ]
