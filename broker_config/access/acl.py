"""Who may publish and subscribe what: pure rules over topics (docs/protocol.md, Topics).

The writer's peer id is a level of every topic it may write, so a rule over that one level makes
its identity unforgeable. Deny by default: what no rule names is not allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from device_sdk.core.wire.topics import PresenceTopic, escape, everything, parse

#: Whether the first peer may call the second.
MayCall = Callable[[str, str], bool]


def contains(pattern: str, topic_filter: str) -> bool:
    """Whether every topic that ``topic_filter`` matches is matched by ``pattern`` too.

    ``a/+`` contains ``a/b`` and ``a/+`` but not ``a/#``; ``a/#`` contains ``a``, ``a/+`` and
    itself [MQTT-4.7.1-2].
    """
    allowed, asked = pattern.split("/"), topic_filter.split("/")
    for index, level in enumerate(allowed):
        if level == "#":
            # A leading wildcard matches no '$' topic; a filter that names one is not within it.
            return not (index == 0 and asked[0].startswith("$"))
        if index >= len(asked):
            return False
        wanted = asked[index]
        if wanted == "#":
            return False
        if level == "+":
            if index == 0 and wanted.startswith("$"):
                return False
        elif level != wanted:
            return False
    return len(asked) == len(allowed)


def readable(realm: str, peer: str) -> tuple[str, ...]:
    """The filters within which ``peer`` may subscribe."""
    own = escape(peer)
    return (
        f"{realm}/v1/{own}/#",
        f"{realm}/v1/+/presence",
        f"{realm}/v1/+/invite/{own}/+",
        f"{realm}/v1/+/answer/{own}/+",
    )


def writable(realm: str, peer: str, callees: Container[str], callers: Container[str],
             others: Iterable[str]) -> tuple[str, ...]:  # fmt: skip
    """The filters within which ``peer`` may publish, for brokers that go by lists.

    ``callees`` are whom it may call, ``callers`` who may call it, ``others`` all who are
    registered: where that is everybody, one filter says it.
    """
    own = escape(peer)
    others = list(others)

    def levels(wanted: Container[str]) -> list[str]:
        names = [escape(name) for name in others if name in wanted]
        return ["+"] if names and len(names) == len(others) else names

    return (
        f"{realm}/v1/{own}/presence",
        *(f"{realm}/v1/{level}/invite/{own}/+" for level in levels(callees)),
        *(f"{realm}/v1/{level}/answer/{own}/+" for level in levels(callers)),
    )


def may_subscribe(realm: str, peer: str, topic_filter: str, *, watches: bool = False) -> bool:
    """Whether ``peer`` may subscribe to ``topic_filter``; one that ``watches`` reads the realm."""
    if watches and contains(everything(realm), topic_filter):
        return True
    return any(contains(pattern, topic_filter) for pattern in readable(realm, peer))


def may_publish(realm: str, peer: str, topic: str, may_call: MayCall) -> bool:
    """Whether ``peer`` may publish to ``topic``: its presence, and its cells of allowed calls.

    An answer is allowed where the call it answers is.
    """
    parsed = parse(realm, topic)
    if parsed is None:
        return False
    if isinstance(parsed, PresenceTopic):
        return parsed.peer == peer
    if parsed.writer != peer:
        return False
    if parsed.kind == "invite":
        return may_call(peer, parsed.owner)
    return may_call(parsed.owner, peer)


def stands(realm: str, topic: str, known: Container[str], may_call: MayCall) -> bool:
    """Whether a retained message of ``topic`` may be there, by the rules of today.

    Its writer may write it, and who it is for is ``known`` too: a cell that nobody may read or
    answer any more is a leftover of a removed device.
    """
    parsed = parse(realm, topic)
    if parsed is None:
        return False
    if isinstance(parsed, PresenceTopic):
        return parsed.peer in known
    return (
        parsed.owner in known
        and parsed.writer in known
        and may_publish(realm, parsed.writer, topic, may_call)
    )


def refused_call(realm: str, peer: str, topic: str) -> tuple[str, str] | None:
    """Caller and callee of a call cell that ``peer`` itself writes; None for anything else."""
    parsed = parse(realm, topic)
    if parsed is None or isinstance(parsed, PresenceTopic) or parsed.writer != peer:
        return None
    return (peer, parsed.owner) if parsed.kind == "invite" else (parsed.owner, peer)
