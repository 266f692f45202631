"""The scenes of docs/vectors/calls.json, each written against docs/protocol.md.

``make_vectors.py`` writes them down, with what the peer does.
"""

from __future__ import annotations

from device_sdk.core.wire import topics
from device_sdk.core.wire.cells import (
    Invite,
    InviteState,
    Presence,
)
from tools.further_scenes import further_scenes
from tools.scene_player import (
    ACCEPTED,
    CALL,
    CANCEL,
    FORMER,
    GROUP,
    LOGOUT,
    LOST,
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
    Scene,
    answered,
    calls,
    ended,
    rings,
)


def scenes() -> list[Scene]:
    """Every scene, caller's first."""
    inbox = list(topics.inbox("sig", ME))
    presence = [topics.presence("sig", PEER)]
    answer, here = LOGOUT, {"caller": PEER, "call_id": CALL}
    group = Scene("caller: a ring group, one winner", "Caller 3").sends(group=GROUP)
    group.does("send", call_id=SECOND, callee="hall", group=GROUP).hears(SAYS_YES).does("acked")
    lingering = Scene("33 presences linger", "Connecting 4")
    for number in range(34):
        lingering.watches_then_not(f"peer{number}")
    return [
        *further_scenes(),
        lingering.at(1),
        Scene("connecting for the first time", "Connecting 1, 2").does("subscribed", filters=inbox),
        Scene("connecting, no echo comes", "Connecting 2", connected=False).does("connected").at(2),
        Scene("connecting, no echo comes before it breaks", "Connecting 3", connected=False)
        .does("connected")
        .at(2)
        .does("disconnected")
        .at(3)
        .does("connected")
        .hears(answered("SEEN", epoch=FORMER, seq=3), mine=True, retained=True)
        .hears_own_presence(),
        calls("reconnecting says everything again", "Connecting 3")
        .hears(RINGING, call=SECOND)
        .does("acked")
        .does("disconnected")
        .at(5)
        .comes_back(),
        # the caller
        calls("caller: accepted", "Caller 1, 2, 3, 5").hears(SAYS_YES).hears(SEEN).does("acked"),
        calls("caller: refused", "Caller 3, 5").hears(REFUSED).does("acked"),
        calls("caller: failed by the callee", "Caller 3").hears(answered("FAILED", reason=5)),
        calls("caller: cancel", "Caller 3, 5, 9")
        .does("cancel", **CANCEL)
        .does("acked")
        .hears(SEEN),
        calls("caller: cancel without a link", "Caller 9")
        .does("acked")
        .does("disconnected")
        .does("cancel", **CANCEL)
        .at(3)
        .comes_back(),
        calls("caller: accept crosses cancel", "Caller 3")
        .does("cancel", **CANCEL)
        .hears(SAYS_YES)
        .does("acked")
        .hears(SEEN),
        calls("caller: nobody acts", "Caller 3").at(60),
        Scene("caller: nobody there", "Caller 3, 4")
        .sends()
        .does("subscribed", filters=presence)
        .at(30)
        .at(600)
        .hears(ONLINE)
        .hears(SEEN),
        Scene("caller: there but silent", "Caller 3, 4")
        .sends()
        .does("subscribed", filters=presence)
        .hears(ONLINE, retained=True)
        .at(30),
        Scene("caller: no link when the time is over", "Caller 3")
        .sends()
        .hears(OFFLINE)
        .does("acked")
        .does("disconnected")
        .at(30),
        calls("caller: a cell that the broker does not take", "Not taken 1, 2, 3, 4")
        .hears(RINGING, call=SECOND)
        .does("disconnected")
        .at(1)
        .comes_back()
        .does("acked")
        .does("acked")
        .does("disconnected")
        .at(2)
        .comes_back()
        .does("acked")
        .does("disconnected")
        .at(3)
        .comes_back()
        .does("acked"),
        rings("callee: a response that the broker does not take", "Not taken 5")
        .does("acked")
        .does("accept", response=RESPONSE, **here)
        .does("disconnected")
        .comes_back()
        .does("acked")
        .does("disconnected")
        .comes_back()
        .does("acked")
        .does("disconnected")
        .comes_back()
        .does("acked"),
        Scene("caller: pressed without a link", "Caller 3")
        .does("disconnected")
        .sends()
        .at(35)
        .comes_back()
        .at(60),
        calls("caller: a decision is said until it is seen", "Caller 4")
        .hears(SAYS_YES)
        .at(31)
        .hears(SEEN),
        calls("caller: a decision waits for a callee that is away", "Caller 4")
        .hears(OFFLINE)
        .does("cancel", **CANCEL)
        .at(100)
        .hears(Presence(True, NEWER))
        .at(103),
        calls("caller: asked whether it still rings", "Caller 6")
        .at(10)
        .hears(answered("RECEIVED", ask=True)),
        calls("caller: asked again, it says that it is there", "Caller 6")
        .hears(answered("RECEIVED", ask=True))
        .hears(answered("RECEIVED", ask=True)),
        calls("caller: the peer is lost after accept", "Caller 5").hears(SAYS_YES).hears(LOST),
        Scene("caller: answers to an unknown call", "Caller 6")
        .hears(RECEIVED)
        .hears(SEEN, call=SECOND)
        .does("acked"),
        calls("caller: a late answer to what was cleared", "Caller 6")
        .hears(REFUSED)
        .does("acked")
        .at(60)
        .hears(RECEIVED),
        Scene("caller: restarted while it rang", "Caller 7", connected=False)
        .does("connected")
        .hears(Invite(InviteState.RINGING, FORMER, 4, ttl=9000), mine=True, retained=True)
        .hears_own_presence()
        .hears(SEEN),
        group,
        calls("caller: logs out", "Logging out")
        .does("logout")
        .does("acked")
        .hears(SEEN)
        .does("acked")
        .does("acked"),
        calls("caller: logs out, and the callee is silent", "Logging out")
        .does("logout")
        .does("acked")
        .at(1)
        .does("acked"),
        # the callee
        rings("callee: accept", "Callee 1, 3, 7")
        .does("accept", response=RESPONSE, **here)
        .hears(ACCEPTED)
        .hears(None)
        .does("acked"),
        rings("callee: refuse", "Callee 4, 7")
        .does("refuse", reason=3, **here)
        .hears(None)
        .does("acked"),
        rings("callee: canceled", "Callee 5, 7").hears(ended(1)).hears(None),
        rings("callee: answered elsewhere", "Callee 5").hears(ended(2)),
        rings("callee: the caller lets it expire", "Callee 5").at(60).hears(ended(3)),
        rings("callee: the caller restarted", "Callee 5").hears(ended(6)),
        rings("callee: expires by itself", "Callee 6").at(62),
        rings("callee: accept crosses cancel", "Callee 3").does("accept", **here).hears(ended(1)),
        rings("callee: accept is not heard", "Callee 3").does("accept", **here).at(5),
        rings("callee: the invite is cleared", "Callee 5").hears(None).does("acked"),
        rings("callee: duplicates", "Callee 2").hears(RINGING).at(1).hears(RINGING),
        Scene("callee: missed while away", "Callee 5")
        .hears(ended(1), retained=True)
        .hears(ended(1))
        .hears(None)
        .does("acked"),
        Scene("callee: answered elsewhere while away", "Callee 5").hears(ended(2), retained=True),
        Scene("callee: a retained invite of a live caller", "Callee 1")
        .hears(RINGING, retained=True)
        .hears(RINGING._replace(seq=2, ttl=50_000, asker=MINE)),
        Scene("callee: a bridge hands on what was asked about", "Callee 1")
        .hears(RINGING, retained=True)
        .hears(ONLINE, retained=True)
        .at(10)
        .hears(RINGING)
        .hears(OFFLINE)
        .at(20)
        .hears(RINGING._replace(asker=FORMER))
        .hears(ended(6)),
        Scene("callee: granted before the presence of now is read", "Callee 1")
        .hears(RINGING)
        .hears(ONLINE, retained=True)
        .does("disconnected")
        .at(1)
        .comes_back()
        .does("subscribed", filters=[topics.presence("sig", PEER)])
        .hears(RINGING, call=SECOND)
        .hears(OFFLINE, retained=True),
        Scene("callee: a retained invite of a dead caller", "Callee 1")
        .hears(RINGING, retained=True)
        .hears(OFFLINE, retained=True)
        .at(70)
        .hears(Presence(True, NEWER))
        .hears(ended(6)),
        rings("callee: reconnects while it rings", "Callee 2")
        .does("acked")
        .does("disconnected")
        .at(5)
        .comes_back()
        .hears(RINGING, retained=True)
        .hears(RINGING._replace(ttl=55_000, asker=MINE))
        .at(62),
        rings("callee: the caller goes offline", "Callee 6").hears(OFFLINE).at(10),
        rings("callee: another epoch of the caller, not retained", "Callee 6")
        .hears(Presence(True, NEWER))
        .at(10),
        rings("callee: another epoch of the caller, and its answer", "Callee 6")
        .hears(Presence(True, FORMER))
        .hears(RINGING._replace(ttl=59_000, asker=MINE))
        .hears(ONLINE)
        .at(1)
        .hears(RINGING._replace(ttl=58_000, asker=MINE))
        .at(61),
        rings("callee: another epoch of the caller, and then its own", "Callee 6")
        .hears(Presence(True, FORMER))
        .at(2)
        .hears(ONLINE)
        .at(10),
        rings("callee: another epoch of the caller, and its end", "Callee 6")
        .hears(Presence(True, NEWER))
        .hears(ended(6)._replace(epoch=NEWER)),
        rings("callee: another epoch of the caller while the accept is underway", "Callee 6")
        .does("accept", **here)
        .hears(Presence(True, NEWER))
        .at(5),
        rings("callee: another epoch of the caller, retained", "Callee 6")
        .hears(Presence(True, NEWER), retained=True)
        .at(10),
        Scene("callee: accepted that nobody waits for", "Callee 5").hears(ACCEPTED, retained=True),
        Scene("callee: restarted while it rang", "Callee 8", connected=False)
        .does("connected")
        .hears(answered("RECEIVED", epoch=FORMER, seq=3), mine=True, retained=True)
        .hears_own_presence()
        .hears(RINGING, retained=True)
        .hears(RINGING._replace(asker=MINE)),
        Scene("callee: restarted after accepting", "Callee 8", connected=False)
        .does("connected")
        .hears(answered("ACCEPTED", epoch=FORMER, seq=3), mine=True, retained=True)
        .hears_own_presence()
        .hears(ACCEPTED, retained=True),
        Scene("callee: restarted after a refusal", "Callee 8", connected=False)
        .does("connected")
        .hears(answered("REFUSED", epoch=FORMER, seq=3, reason=2), mine=True, retained=True)
        .hears_own_presence()
        .hears(RINGING, retained=True)
        .hears(None)
        .does("acked"),
        rings("callee: a late copy cannot ring", "Callee 7")
        .does("refuse", **answer)
        .hears(None)
        .does("acked")
        .at(60)
        .hears(RINGING, retained=True)
        .hears(None),
        rings("callee: a late copy is answered, if not at once", "Callee 2, 7")
        .hears(RINGING)
        .hears(RINGING)
        .hears(RINGING)
        .does("refuse", **answer)
        .hears(None)
        .does("acked")
        .hears(RINGING)
        .at(3),
        rings("callee: logs out while it rings", "Logging out").does("logout").does("acked"),
        rings("callee: logs out after accept", "Logging out")
        .does("accept", **here)
        .does("logout")
        .hears(None)
        .does("acked")
        .does("acked"),
        # presence and newer logins
        Scene("watching a peer", "Connecting 4")
        .does("watch", peer=PEER)
        .hears(ONLINE, retained=True)
        .hears(OFFLINE)
        .hears(Presence(True, NEWER)),
        calls("newer login: online", "Newer logins 4").hears(
            Presence(True, NEWER, generation=1), mine=True
        ),
        Scene("newer login: a previous login was online", "Newer logins 2", connected=False)
        .does("connected")
        .hears(Presence(True, FORMER, generation=4), mine=True, retained=True)
        .hears_own_presence()
        .hears(Presence(True, FORMER, generation=4), mine=True),
        Scene("newer login: an older one that was not known", "Newer logins 5")
        .at(1)
        .hears(Presence(True, FORMER, generation=4, age=9000), mine=True),
        Scene("newer login: a late will of a previous login", "Newer logins 2", connected=False)
        .does("connected")
        .hears(Presence(True, FORMER), mine=True, retained=True)
        .hears_own_presence()
        .hears(Presence(False, FORMER), mine=True),
        Scene("newer login: wills prove nothing", "Newer logins 3")
        .does("disconnected")
        .at(1)
        .comes_back()
        .hears(Presence(False, NEWER), mine=True)
        .does("disconnected")
        .at(2)
        .does("connected")
        .hears(Presence(False, NEWER), mine=True, retained=True)
        .granted(),
        Scene("newer login: it came while this one was away", "Newer logins 4")
        .does("disconnected")
        .at(1)
        .does("connected")
        .hears(Presence(True, NEWER, generation=1), mine=True, retained=True),
        Scene("newer login: is it alive? it is", "Newer logins 6")
        .does("disconnected")
        .at(1)
        .does("connected")
        .hears(Presence(True, FORMER), mine=True, retained=True)
        .granted()
        .hears(Presence(True, FORMER, generation=1), mine=True),
        Scene("newer login: is it alive? nobody answers", "Newer logins 6")
        .does("disconnected")
        .at(1)
        .does("connected")
        .hears(Presence(True, b"also-old"), mine=True, retained=True)
        .granted()
        .at(3),
    ]
