"""Members of named groups; a group without members is none."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class Groups(dict[K, dict[V, None]]):
    """Groups by name, each in the order in which its members joined."""

    def join(self, name: K, member: V) -> None:
        """Add ``member``, as the youngest unless it is in there."""
        self.setdefault(name, {})[member] = None

    def leave(self, name: K, member: V) -> None:
        """Take ``member`` out, if it is in there."""
        group = self.get(name, {})
        group.pop(member, None)
        if not group:
            self.pop(name, None)
