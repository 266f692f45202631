"""The median of several whole runs of the latency bench, and an old commit beside it.

Runs of both take turns, so that a noisy machine disturbs them alike. The old commit is run from an
unpacked copy of it by this interpreter: its own client, broker and bench, and the same libraries.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from . import latency

#: Of each broker, the rows of its table.
Tables = dict[str, list[list[str]]]
ROOT = Path(__file__).parents[2]


def median(runs: Sequence[Tables]) -> Tables:
    """Each cell's median over the runs; all have the same rows."""
    return {
        name: [
            [cells[0][0], *(_middle(column) for column in list(zip(*cells, strict=True))[1:])]
            for cells in zip(*(run[name] for run in runs), strict=True)
        ]
        for name in runs[0]
    }


def _middle(column: Sequence[str]) -> str:
    if not all(column):
        return ""
    digits = len(column[0].partition(".")[2])
    return f"{statistics.median(map(float, column)):.{digits}f}"


def parse(text: str) -> Tables:
    """The tables in what ``python -m tests.bench.latency`` prints."""
    tables: Tables = {}
    for line in text.splitlines():
        cells = latency.split(line)
        if line and not line.startswith(" ") and not any(cells[1:]):
            rows = tables[line.strip()] = []
        elif cells[0]:
            rows.append(cells)
    return tables


def is_commit(name: str) -> bool:
    """Whether git knows it."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0


@contextlib.contextmanager
def unpacked(commit: str) -> Iterator[Path]:
    """A copy of the project as it was at ``commit``."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "commit.tar")
        command = ["git", "archive", "--output", str(archive), commit]
        subprocess.run(command, cwd=ROOT, check=True)
        tree = Path(folder, "tree")
        tree.mkdir()
        subprocess.run(["tar", "xf", str(archive)], cwd=tree, check=True)
        yield tree


def run_at(tree: Path, calls: int) -> Tables:
    """The tables that the project in ``tree`` measures of itself."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "tests.bench.latency", "--calls", str(calls)]
    done = subprocess.run(
        command,
        cwd=tree,
        env=env | {"PYTHONPATH": str(tree)},  # before what is installed here
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return parse(done.stdout)


def run(calls: int, runs: int, beside: str | None) -> dict[str, Tables]:
    """The medians: under "" of this tree, under ``beside`` of that commit."""
    with contextlib.ExitStack() as stack:
        measured: dict[str, Callable[[], Tables]] = {"": lambda: latency.run(calls)}
        if beside is not None:
            tree = stack.enter_context(unpacked(beside))
            measured[beside] = lambda: run_at(tree, calls)
        results: dict[str, list[Tables]] = {name: [] for name in measured}
        for number in range(1, runs + 1):
            for name, measure in measured.items():
                load = os.getloadavg()[0]
                tables = measure()
                results[name].append(tables)
                what = name or "this tree"
                print(f"run {number} of {runs}, {what}, load {load:.1f}: {_said(tables)}",
                      file=sys.stderr, flush=True)  # fmt: skip
    return {name: median(result) for name, result in results.items()}


def _is_bounded(what: str) -> bool:
    return "receivedByPeer" in what or "acknowledged" in what


def _said(tables: Tables) -> str:
    """The ratios that are bounded, in a line."""
    return "; ".join(
        f"{name} " + ", ".join(f"{row[3]}/{row[4]}" for row in rows if _is_bounded(row[0]))
        for name, rows in tables.items()
    )
