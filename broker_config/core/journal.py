"""What has to be kept, as it is noted and as it is found again; who keeps it is not said here.

| operation | values |
|---|---|
| ``retain``, ``clear`` | topic, data, QoS; topic |
| ``session``, ``forget`` | client, owner, whether it is connected; client, with all that is its |
| ``subscribe``, ``unsubscribe`` | client, filter, QoS; client, filter |
| ``queue`` | row, client, topic, data, QoS, retain (:data:`OWED`: see there) |
| ``sent``, ``released``, ``finished`` | packet id, row; row has arrived (QoS 2); row |
| ``received``, ``freed`` | client, packet id of a QoS 2 message that came; that comes no more |
| ``will``, ``no will`` | client, topic, data, QoS, retain; client |
| ``came``, ``went`` | user with one connection more, or less: for people to look at |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: An operation: its name and its values.
Operation = tuple[Any, ...]
#: In place of ``retain``: not a message but a filter whose retained ones are to be sent.
OWED = 2


@dataclass(slots=True)
class Kept:
    """What a former broker left: rows with the values of the operations, in their order.

    Ages are in seconds; 0 where the wall clock cannot be trusted.
    """

    #: topic, data, QoS, age; in the order of publishing
    retained: list[tuple[str, bytes, int, float]] = field(default_factory=list)
    #: client, owner, seconds without a connection
    sessions: list[tuple[str, str | None, float]] = field(default_factory=list)
    #: client, filter, QoS
    filters: list[tuple[str, str, int]] = field(default_factory=list)
    #: row, client, topic, data, QoS, retain, packet id, whether the client has it (QoS 2)
    queue: list[tuple[int, str, str, bytes, int, int, int | None, int]] = field(
        default_factory=list
    )
    #: client, packet id
    incoming: list[tuple[str, int]] = field(default_factory=list)
    #: client, topic, data, QoS, retain
    wills: list[tuple[str, str, bytes, int, int]] = field(default_factory=list)


class Journal:
    """Collects operations; ``done`` says up to which of them all are kept.

    Without anybody who ``keeps`` them nothing is noted, and everything counts as kept.
    """

    __slots__ = ("done", "keeps", "noted", "operations", "refusing", "row")

    def __init__(self, *, keeps: bool) -> None:
        self.keeps = keeps
        self.operations: list[Operation] = []
        #: How many operations were noted, and up to which they are kept.
        self.noted = 0
        self.done = 0
        #: The disk takes nothing: nothing more is accepted that would have to be kept.
        self.refusing = False
        self.row = 0

    def note(self, *operation: Any) -> None:
        """Have an operation kept, after all that were noted before."""
        if self.keeps:
            self.operations.append(operation)
            self.noted += 1

    def queue(self, client: str, topic: str, data: bytes, qos: int, retain: int) -> int:
        """Have a message kept until its receiver has it; gives its row."""
        self.row += 1
        self.note("queue", self.row, client, topic, data, qos, retain)
        return self.row

    def finish(self, row: int) -> None:
        """Its receiver has the message of ``row``, or need not have it; 0 is no row."""
        if row:
            self.note("finished", row)

    def take(self) -> list[Operation]:
        """What was noted since; to be kept in this order."""
        operations, self.operations = self.operations, []
        return operations
