"""Who gets what: topic trees in place of a walk over everything. Pure, no I/O.

Work for one message grows with the levels of its topic and with those who get it, not with the
number of clients, filters or retained messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Node(Generic[V]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[V]] | None = None
        self.value: V | None = None


class _Tree(Generic[V]):
    """Values under slash-separated keys; empty branches are cut off."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[V] = _Node()

    def _get(self, path: str) -> _Node[V] | None:
        node = self._root
        for level in path.split("/"):
            child = node.children.get(level) if node.children else None
            if child is None:
                return None
            node = child
        return node

    def _make(self, path: str) -> _Node[V]:
        node = self._root
        for level in path.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        return node

    def _prune(self, path: str) -> None:
        levels = path.split("/")
        nodes = [self._root]
        for level in levels:
            children = nodes[-1].children
            if children is None or level not in children:
                return
            nodes.append(children[level])
        for depth in range(len(levels), 0, -1):
            node = nodes[depth]
            if node.children or node.value is not None:
                return
            siblings = nodes[depth - 1].children
            assert siblings is not None  # noqa: S101 - the walk above came through it
            del siblings[levels[depth - 1]]
            if not siblings:
                nodes[depth - 1].children = None


class SubscriptionIndex(_Tree[dict[K, int]]):
    """Topic filters to subscribers and their QoS; ``len`` is the number of subscriptions."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, topic_filter: str, subscriber: K, qos: int) -> None:
        """Subscribe, or replace the QoS of that same subscription [MQTT-3.8.4-3]."""
        node = self._make(topic_filter)
        if node.value is None:
            node.value = {}
        self._count += subscriber not in node.value
        node.value[subscriber] = qos

    def remove(self, topic_filter: str, subscriber: K) -> bool:
        """Unsubscribe; whether there was such a subscription."""
        node = self._get(topic_filter)
        if node is None or node.value is None or subscriber not in node.value:
            return False
        del node.value[subscriber]
        self._count -= 1
        if not node.value:
            node.value = None
            self._prune(topic_filter)
        return True

    def match(self, topic: str) -> dict[K, int]:
        """Who gets a message on ``topic``, each once at the highest QoS of its matching filters.

        [MQTT-3.3.5-1]; ``a/#`` matches ``a`` [MQTT-4.7.1-2]; a wildcard at the front matches no
        topic with a leading ``$`` [MQTT-4.7.2-1]. The dictionary is the caller's to read only.
        """
        found: list[dict[K, int]] = []
        nodes = [self._root]
        wild = not topic.startswith("$")
        for level in topic.split("/"):
            following: list[_Node[dict[K, int]]] = []
            for node in nodes:
                children = node.children
                if children is None:
                    continue
                child = children.get(level)
                if child is not None:
                    following.append(child)
                if wild:
                    child = children.get("+")
                    if child is not None:
                        following.append(child)
                    child = children.get("#")
                    if child is not None and child.value:
                        found.append(child.value)
            wild = True
            nodes = following
            if not nodes:
                break
        for node in nodes:
            if node.value:
                found.append(node.value)
            if node.children is not None:
                child = node.children.get("#")
                if child is not None and child.value:
                    found.append(child.value)
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
        stack: list[tuple[str, _Node[dict[K, int]]]] = [("", self._root)]
        while stack:
            path, node = stack.pop()
            if node.value:
                yield path[1:], node.value
            stack.extend(
                (f"{path}/{level}", child) for level, child in (node.children or {}).items()
            )


class TopicTree(_Tree[V]):
    """Topics to values, found again by filter."""

    def set(self, topic: str, value: V) -> None:
        """Put ``value`` under ``topic``."""
        self._make(topic).value = value

    def remove(self, topic: str) -> None:
        """Forget what is under ``topic``, if anything."""
        node = self._get(topic)
        if node is not None and node.value is not None:
            node.value = None
            self._prune(topic)

    def match(self, topic_filter: str) -> list[V]:
        """All values whose topics ``topic_filter`` matches, in no particular order."""
        return [value for value in self.walk(topic_filter) if value is not None]

    def walk(self, topic_filter: str) -> Iterator[V | None]:
        """The same bit by bit, None for a place without a value: a yield for each place looked at.

        The tree may change in between; what is put there meanwhile may be missed.
        """
        levels = topic_filter.split("/")
        stack: list[tuple[int, _Node[V]]] = [(0, self._root)]
        while stack:
            depth, node = stack.pop()
            if depth == len(levels):
                yield node.value
                continue
            level = levels[depth]
            found: V | None = None
            if level == "#":
                found = node.value
                # The same level again: '#' takes whatever is below, without end.
                stack.extend((depth, child) for _, child in self._open(node, depth))
            elif level == "+":
                stack.extend((depth + 1, child) for _, child in self._open(node, depth))
            elif node.children is not None and level in node.children:
                stack.append((depth + 1, node.children[level]))
            yield found

    def _open(self, node: _Node[V], depth: int) -> Iterator[tuple[str, _Node[V]]]:
        for level, child in (node.children or {}).items():
            if depth == 0 and node is self._root and level.startswith("$"):
                continue  # [MQTT-4.7.2-1]
            yield level, child
