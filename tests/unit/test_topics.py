"""Topics: escaping, the limits of ids, building and taking apart."""

from __future__ import annotations

import base64

import pytest

from device_sdk.core.wire import topics
from device_sdk.errors import InvalidArgument
from device_sdk.testing import matches

CALL = "AAECAwQFBgcICQoLDA0ODw"

ESCAPED = {
    "kitchen": "kitchen",
    "front-door_2": "front-door_2",
    "kitchen.1": "kitchen%2E1",
    "a b": "a%20b",
    "a/b+c#": "a%2Fb%2Bc%23",
    "50%": "50%25",
    "küche": "k%C3%BCche",
    "台所": "%E5%8F%B0%E6%89%80",
    "🔔": "%F0%9F%94%94",
    "%41": "%2541",
}


@pytest.mark.parametrize("peer", ESCAPED)
def test_a_peer_id_and_its_level_are_one_to_one(peer: str) -> None:
    """Every character outside ``[A-Za-z0-9_-]`` as the %XX of its UTF-8 bytes, and back."""
    assert topics.escape(peer) == ESCAPED[peer]
    assert topics.unescape(ESCAPED[peer]) == peer


@pytest.mark.parametrize(
    "level",
    ["", "kitchen.1", "a%2eb", "%41", "a%2", "%", "%ZZ", "%C3", "%FF", "%00", "%7F", "%ED%A0%80",
     "küche", "a+b", "x" * 65, "%C3%BC" * 33, "a b"],
)  # fmt: skip
def test_a_level_that_is_not_the_one_spelling_is_no_peer(level: str) -> None:
    """Lower-case, needless or cut escapes, no UTF-8, control characters, too long: None."""
    assert topics.unescape(level) is None


def test_the_longest_peer_ids() -> None:
    """64 characters and 192 escaped bytes will do; one more of either will not."""
    assert topics.check_peer_id("x" * 64) == "x" * 64
    assert len(topics.escape("." * 64)) == 192
    assert len(topics.escape("ü" * 32)) == 192
    for bad in ("x" * 65, "ü" * 33, "台" * 22):
        with pytest.raises(InvalidArgument, match="peer_id"):
            topics.check_peer_id(bad)


@pytest.mark.parametrize(
    "bad", ["", None, 7, b"kitchen", "a\nb", "a\x00", "\x1f", "\x7f", "\x9f", "\ud800", chr(0xDFFF)]
)
def test_what_is_no_peer_id_is_refused_by_name(bad: object) -> None:
    """Not a string, empty, control characters, lone surrogates: an error with the argument."""
    with pytest.raises(InvalidArgument, match="callee_id") as caught:
        topics.check_peer_id(bad, "callee_id")
    assert caught.value.argument == "callee_id"


@pytest.mark.parametrize("good", [" ", "~", "\xa0", "\xad", "\ud7ff", "\ue000", "\U0010ffff"])
def test_what_is_beside_a_control_character_is_none(good: str) -> None:
    """The neighbours of those, and what else does not show."""
    assert topics.check_peer_id(good) == good


@pytest.mark.parametrize("good", ["sig", "a", "Home_1-x", "r" * 64])
def test_realms(good: str) -> None:
    """One level of 1 to 64 of ``[A-Za-z0-9_-]``."""
    assert topics.check_realm(good) == good


@pytest.mark.parametrize("bad", ["", "a/b", "+", "#", "a.b", "r" * 65, "sig\n", None, 1])
def test_no_realms(bad: object) -> None:
    """Anything else is refused, naming the argument."""
    with pytest.raises(InvalidArgument, match=r"^realm"):
        topics.check_realm(bad)


def test_a_call_id_is_16_bytes_in_base64url_without_padding() -> None:
    """22 characters; any other number of bytes is refused."""
    raw = bytes(range(16))
    assert topics.call_id_from_bytes(raw) == CALL
    assert base64.urlsafe_b64decode(CALL + "==") == raw
    for length in (0, 15, 17):
        with pytest.raises(InvalidArgument):
            topics.call_id_from_bytes(bytes(length))


@pytest.mark.parametrize("last", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
def test_a_call_id_has_one_spelling(last: str) -> None:
    """The last character carries two bits: only A, Q, g and w occur."""
    topic = topics.parse("sig", f"sig/v1/kitchen/invite/front-door/{CALL[:-1]}{last}")
    assert (topic is not None) == (last in "AQgw")


@pytest.mark.parametrize("bad", ["", CALL[:-1], CALL + "A", CALL[:-2] + "=w", CALL[:-2] + "+w",
                                 CALL + "\n"])  # fmt: skip
def test_no_call_ids(bad: str) -> None:
    """Too short, too long, padding, the other alphabet, a line end."""
    assert topics.parse("sig", f"sig/v1/kitchen/answer/front-door/{bad}") is None


def test_building_and_parsing_agree() -> None:
    """Each kind of topic, taken apart, gives back what it was built of."""
    assert topics.presence("sig", "kitchen.1") == "sig/v1/kitchen%2E1/presence"
    assert topics.parse("sig", "sig/v1/kitchen%2E1/presence") == topics.PresenceTopic("kitchen.1")
    for kind in ("invite", "answer"):
        topic = topics.cell("home", kind, "küche", "door", CALL)  # type: ignore[arg-type] # one of two
        assert topic == f"home/v1/k%C3%BCche/{kind}/door/{CALL}"
        assert topics.parse("home", topic) == topics.CallTopic(kind, "küche", "door", CALL)  # type: ignore[arg-type] # as above


def test_the_longest_topic_is_below_512_bytes() -> None:
    """Longest realm, longest peers."""
    topic = topics.cell("r" * 64, "invite", "." * 64, "ü" * 32, CALL)
    assert len(topic.encode()) == 483


@pytest.mark.parametrize(
    "topic",
    [
        "", "/", "sig", "sig/v1", "sig/v1/a", "sig/v1/a/b", "sig/v2/a/presence",
        "other/v1/a/presence", "sig/v1//presence", "sig/v1/a/presence/", "/sig/v1/a/presence",
        "sig/v1/a.b/presence", f"sig/v1/a/invite/b/{CALL}/x", f"sig/v1/a/invite/b.c/{CALL}",
        f"sig/v1/a/ring/b/{CALL}", "sig/v1/a/invite/b/short", f"sig/v1/a/invite//{CALL}",
        f"sig/v1/a/Invite/b/{CALL}", "sig/v1/+/presence", "sig/v1/a/invite/+/+", "$SYS/broker/up",
        "sig/v1/a/presence/b/" + CALL, "sig/v1/a/invite",
    ],
)  # fmt: skip
def test_an_unknown_topic_is_none(topic: str) -> None:
    """Whatever is not exactly one of the three shapes with canonical levels."""
    assert topics.parse("sig", topic) is None


def test_the_filters_catch_what_they_are_for() -> None:
    """Inbox and outbox of one peer, and the whole realm, against real topics."""
    to_me = {k: topics.cell("sig", k, "me.1", "you", CALL) for k in ("invite", "answer")}  # type: ignore[arg-type] # literals
    from_me = {k: topics.cell("sig", k, "you", "me.1", CALL) for k in ("invite", "answer")}  # type: ignore[arg-type] # literals
    for i, kind in enumerate(("invite", "answer")):
        inbox, outbox = topics.inbox("sig", "me.1")[i], topics.outbox("sig", "me.1")[i]
        assert matches(inbox, to_me[kind])
        assert not matches(inbox, from_me[kind])
        assert matches(outbox, from_me[kind])
        assert not matches(outbox, to_me[kind])
        assert matches(topics.everything("sig"), to_me[kind])
    assert topics.inbox("sig", "me.1")[0] == "sig/v1/me%2E1/invite/+/+"
    assert topics.outbox("sig", "me.1")[1] == "sig/v1/+/answer/me%2E1/+"
