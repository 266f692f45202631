"""Retained messages: found by filter, in the order of publishing, with each device's share."""

from __future__ import annotations

from collections.abc import Iterator

from .groups import Groups
from .limits import Limits
from .packets import encode_topic
from .topics import Tree, matches

#: What a known device may always keep, however full the broker is: no call of one is refused for
#: the greed of others.
_FLOOR, _FLOOR_BYTES = 256, 1 << 20
#: From this part of a share on it counts as nearly full.
NEARLY = 0.9


class Retained:
    """The last message of a topic."""

    __slots__ = ("at", "data", "device", "order", "qos", "size", "topic", "wire_topic")

    def __init__(
        self, topic: str, wire: bytes, data: bytes, qos: int, device: str, at: float, order: int
    ) -> None:
        self.topic = topic
        self.wire_topic = wire
        self.data = data
        self.qos = qos
        #: Whose share it takes of, and how many bytes.
        self.device = device
        self.size = len(wire) + len(data)
        #: When it was published, on the monotonic clock of this process.
        self.at = at
        self.order = order


class RetainedMessages:
    """All of them.

    Call cells are looked for by their writer (``realm/v1/+/invite/WRITER/+``), and there are many
    owners: topics of five levels and more are found by their fourth and fifth, too.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: In the order of publishing.
        self.messages: dict[str, Retained] = {}
        #: Topics, by level and by what they are found by otherwise.
        self._tree: Tree[str] = Tree()
        self._written: Groups[tuple[str, str], str] = Groups()
        self._order = 0
        self.bytes = 0
        #: Messages and bytes of each device.
        self.held: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.messages)

    def refusal(self, topic: str, size: int, device: str, *, known: bool) -> str | None:
        """Why ``device`` may not keep ``size`` bytes of data, or None.

        ``known``: it is a registered device, of which there are not endlessly many.
        """
        limits, old = self._limits, self.messages.get(topic)
        size += len(topic.encode()) + 2
        count, total = self.held.get(device, (0, 0))
        if old is not None and old.device == device:
            if size <= old.size:
                return None  # nothing grows
            count, total = count - 1, total - old.size
        most, most_bytes = limits.retained_per_device, limits.retained_bytes_per_device
        if known:  # of the whole a quarter at most
            most = min(most, max(1, limits.retained // 4))
            most_bytes = min(most_bytes, max(1, limits.retained_bytes // 4))
        if count >= most:
            return f"it has its share of {most} retained messages"
        if total + size > most_bytes:
            return f"it has its share of {most_bytes} retained bytes"
        if known and count < _FLOOR and total + size <= _FLOOR_BYTES:
            return None
        if old is None and len(self.messages) >= limits.retained:
            return f"there are {len(self.messages)} retained messages, no more are taken"
        if self.bytes + size - (old.size if old else 0) > limits.retained_bytes:
            return f"there are {self.bytes} retained bytes, no more are taken"
        return None

    def nearly_full(self) -> list[str]:
        """A line for everything that is nearly full, the whole first, at most ten of devices."""
        limits, whole, of_devices = self._limits, [], []
        for used, limit, what in (
            (len(self.messages), limits.retained, "retained messages"),
            (self.bytes, limits.retained_bytes, "retained bytes"),
        ):
            if used >= limit * NEARLY:
                whole.append(f"{used} of {limit} {what}")
        for device, (count, total) in list(self.held.items()):  # asked from another thread
            for used, limit, what in (
                (count, limits.retained_per_device, "retained messages"),
                (total, limits.retained_bytes_per_device, "retained bytes"),
            ):
                if used >= limit * NEARLY:
                    of_devices.append(f"{used} of its {limit} {what} are held by {device!r}")
        return whole + of_devices[:10]

    def set(self, topic: str, data: bytes, qos: int, device: str, at: float) -> Retained:
        """Keep the last message of ``topic``."""
        self._order += 1
        old = self.messages.pop(topic, None)
        wire = encode_topic(topic) if old is None else old.wire_topic
        kept = Retained(topic, wire, data, qos, device, at, self._order)
        self.messages[topic] = kept
        if old is not None and old.device == device:
            self._count(device, 0, kept.size - old.size)
            return kept
        self._count(device, 1, kept.size)
        if old is not None:
            self._count(old.device, -1, -old.size)
            return kept
        self._tree.make(topic).value = topic
        levels = topic.split("/", 5)
        if len(levels) > 4:
            self._written.join((levels[3], levels[4]), topic)
        return kept

    def clear(self, topic: str) -> Retained | None:
        """Forget the message of ``topic``; gives it, without its data, if there was one."""
        old = self.messages.pop(topic, None)
        if old is None:
            return None
        self._count(old.device, -1, -old.size)
        old.data = b""  # who still has it to send leaves it out
        nodes = self._tree.find(topic)
        nodes[-1].value = None
        self._tree.prune(topic, nodes)
        levels = topic.split("/", 5)
        if len(levels) > 4:
            self._written.leave((levels[3], levels[4]), topic)
        return old

    def _count(self, device: str, more: int, size: int) -> None:
        held = self.held.setdefault(device, [0, 0])
        held[0] += more
        held[1] += size
        self.bytes += size
        if not held[0]:
            del self.held[device]

    def search(self, topic_filter: str) -> Iterator[Retained | None]:
        """All that ``topic_filter`` matches, in no order; None for a step that found nothing.

        May be left and gone on with while messages come and go: what came since may be missing,
        what was cleared has no data.
        """
        wanted = topic_filter.split("/")
        if len(wanted) > 4 and "+" in wanted[:3] and not {"+", "#"} & {*wanted[3:5]}:
            for topic in tuple(self._written.get((wanted[3], wanted[4]), ())):
                yield self.messages.get(topic) if matches(wanted, topic.split("/")) else None
            return
        stack = [(0, self._tree.root)]
        while stack:
            depth, node = stack.pop()
            at_end = depth == len(wanted)
            level = "" if at_end else wanted[depth]
            yield self.messages.get(node.value or "") if at_end or level == "#" else None
            if at_end or node.children is None:
                continue
            if level not in ("+", "#"):
                if level in node.children:
                    stack.append((depth + 1, node.children[level]))
                continue
            # The same level again: '#' takes whatever is below, without end.
            deeper = depth + (level == "+")
            stack.extend(
                (deeper, child)
                for name, child in node.children.items()
                if node is not self._tree.root or not name.startswith("$")  # [MQTT-4.7.2-1]
            )
