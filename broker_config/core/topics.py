"""Topic filters: what is one, what it matches, and who subscribed (section 4.7).

Work for one message grows with the levels of its topic and with those who get it, not with the
number of clients or filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def is_filter(topic_filter: str) -> bool:
    """Whether it is not empty and misuses no wildcard [MQTT-4.7.1-2] [MQTT-4.7.1-3]."""
    if "+" not in topic_filter and "#" not in topic_filter:
        return bool(topic_filter)
    levels = topic_filter.split("/")
    return "#" not in levels[:-1] and all(
        level in ("+", "#") or ("+" not in level and "#" not in level) for level in levels
    )


def matches(wanted: list[str], levels: list[str]) -> bool:
    """Whether a filter's levels match a topic's; ``a/#`` matches ``a`` [MQTT-4.7.1-2]."""
    if levels[0].startswith("$") and wanted[0] in ("+", "#"):
        return False  # [MQTT-4.7.2-1]
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


class Node(Generic[V]):
    """A level of a tree, with what lies at it."""

    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, Node[V]] | None = None
        self.value: V | None = None


class Tree(Generic[V]):
    """Values under slash-separated paths; empty branches are cut off."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root: Node[V] = Node()

    def make(self, path: str) -> Node[V]:
        """The node at ``path``, made if need be."""
        node = self.root
        for level in path.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = Node()
            node = child
        return node

    def find(self, path: str) -> list[Node[V]]:
        """The nodes from the root to ``path``; empty when there is none at ``path``."""
        nodes = [self.root]
        for level in path.split("/"):
            child = (nodes[-1].children or {}).get(level)
            if child is None:
                return []
            nodes.append(child)
        return nodes

    def prune(self, path: str, nodes: list[Node[V]]) -> None:
        """Cut off what ``find`` found, as far as nothing lies at it or below."""
        levels = path.split("/")
        while levels and not nodes[-1].children and nodes[-1].value is None:
            del nodes[-1]
            siblings = nodes[-1].children or {}
            del siblings[levels.pop()]
            if not siblings:
                nodes[-1].children = None


class Subscriptions(Tree[dict[K, int]]):
    """Topic filters to subscribers and their QoS; ``len`` is the number of subscriptions."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, topic_filter: str, subscriber: K, qos: int) -> None:
        """Subscribe, or replace the QoS of that same subscription [MQTT-3.8.4-3]."""
        node = self.make(topic_filter)
        if node.value is None:
            node.value = {}
        self._count += subscriber not in node.value
        node.value[subscriber] = qos

    def remove(self, topic_filter: str, subscriber: K) -> bool:
        """Unsubscribe; whether there was such a subscription."""
        nodes = self.find(topic_filter)
        if not nodes or nodes[-1].value is None or subscriber not in nodes[-1].value:
            return False
        del nodes[-1].value[subscriber]
        self._count -= 1
        if not nodes[-1].value:
            nodes[-1].value = None
            self.prune(topic_filter, nodes)
        return True

    def match(self, topic: str) -> dict[K, int]:
        """Who gets a message on ``topic``, each once at the highest QoS of its matching filters.

        [MQTT-3.3.5-1]; a wildcard at the front matches no topic with a leading ``$``
        [MQTT-4.7.2-1]. The dictionary is the caller's to read only.
        """
        found: list[dict[K, int]] = []
        nodes = [self.root]
        wild = topic[0] != "$"
        for level in topic.split("/"):
            following: list[Node[dict[K, int]]] = []
            for node in nodes:
                children = node.children
                if children is None:
                    continue
                if level in children:
                    following.append(children[level])
                if wild:
                    if "+" in children:
                        following.append(children["+"])
                    if "#" in children:
                        found.append(children["#"].value or {})
            wild = True
            nodes = following
            if not nodes:
                break
        for node in nodes:
            if node.value:
                found.append(node.value)
            if node.children is not None and "#" in node.children:
                found.append(node.children["#"].value or {})
        if len(found) == 1:
            return found[0]
        merged: dict[K, int] = {}
        for values in found:
            for subscriber, qos in values.items():
                if merged.get(subscriber, -1) < qos:
                    merged[subscriber] = qos
        return merged

    def items(self) -> Iterator[tuple[str, dict[K, int]]]:
        """Every filter with its subscribers: for plugins, not for the way of a message."""
        stack: list[tuple[str, Node[dict[K, int]]]] = [("", self.root)]
        while stack:
            path, node = stack.pop()
            if node.value:
                yield path[1:], node.value
            stack.extend(
                (f"{path}/{level}", child) for level, child in (node.children or {}).items()
            )
