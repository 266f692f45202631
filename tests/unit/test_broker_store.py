"""What one commit of the journal writes, and what becomes of it when it has to be tried again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker_config.core.journal import Operation
from broker_config.store import journal
from broker_config.store.journal import Store


class _Keeper:
    """Hears how each attempt went."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[int | None] = asyncio.Queue()

    def committed(self, mark: int) -> None:
        self.heard.put_nowait(mark)

    def failed(self) -> None:
        self.heard.put_nowait(None)


def written(path: Path, *groups: list[Operation]) -> Store:
    """A store that has kept ``groups``, each in a commit of its own."""

    async def write() -> Store:
        store, keeper = Store(path), _Keeper()
        store.open()
        store.start(asyncio.get_running_loop(), keeper)
        for group in groups:
            store.write(group)
            await keeper.heard.get()
        await store.close()
        return store

    return asyncio.run(write())


def test_a_group_of_any_size_comes_back_in_the_order_of_publishing(tmp_path: Path) -> None:
    """More rows than go into one statement, some of them several times in the group."""
    path, numbers = tmp_path / "kept.sqlite3", [*range(150), *range(0, 150, 7)]
    store = written(path, [("retain", f"t/{number}", b"x", 1) for number in numbers])
    found = [topic for topic, *_ in store.open().retained]
    store.database.close()
    again = {f"t/{number}": None for number in range(0, 150, 7)}
    assert found == [t for t in (f"t/{n}" for n in range(150)) if t not in again] + list(again)


def test_what_comes_and_goes_in_one_group_is_not_written(tmp_path: Path) -> None:
    """The last word of a topic holds, and a message that was delivered meanwhile is no row."""
    path = tmp_path / "kept.sqlite3"
    gone: list[Operation] = [("queue", 1, "panel", "t", b"x", 1, 0), ("finished", 1)]
    store = written(
        path,
        [("session", "panel", None, True), ("retain", "t", b"x", 1), ("retain", "u", b"x", 1)],
        [("retain", "t", b"y", 1), ("clear", "t"), ("clear", "u"), ("retain", "u", b"y", 1), *gone],
    )
    kept = store.open()
    store.database.close()
    assert ([row[:3] for row in kept.retained], kept.queue) == ([("u", b"y", 1)], [])


def test_a_commit_that_is_tried_again_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that came while the disk took nothing is shown as online until it has gone."""
    monkeypatch.setattr(journal, "_RETRY", 0.0)
    path = tmp_path / "kept.sqlite3"

    async def full_disk() -> list[list[tuple[str]]]:
        store, keeper, shown = Store(path), _Keeper(), []
        store.open()
        database = store.database._connection
        assert database is not None
        store.start(asyncio.get_running_loop(), keeper)
        database.execute("PRAGMA query_only=1")
        store.write([("came", "door")])
        assert await keeper.heard.get() is None
        database.execute("PRAGMA query_only=0")
        while await keeper.heard.get() is None:
            pass
        shown.append(database.execute("SELECT user FROM online").fetchall())
        store.write([("went", "door")])
        assert await keeper.heard.get() == 2
        shown.append(database.execute("SELECT user FROM online").fetchall())
        await store.close()
        return shown

    assert asyncio.run(full_disk()) == [[("door",)], []]
