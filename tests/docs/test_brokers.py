"""docs/brokers.md: its table has every row and broker of the suite that makes it, and no gap."""

from __future__ import annotations

import ast

from tests.conftest import BROKERS
from tools import broker_table


def test_the_table_is_of_all_brokers_and_rows() -> None:
    """What stands in it is checked by CI, which runs the suite; here, that it is whole."""
    text = broker_table.DOCUMENT.read_text()
    _, _, rest = text.partition(broker_table.BEGIN)
    made, _, _ = rest.partition(broker_table.END)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in made.strip().splitlines()]
    assert rows[0] == ["", *broker_table.BROKERS.values()]
    assert [row[0] for row in rows[2:]] == list(broker_table.ROWS)
    assert all(cell == "yes" for row in rows[2:] for cell in row[1:]), "a `no` needs a sentence"


def test_every_broker_of_the_suite_has_a_column() -> None:
    names = [each if isinstance(each, str) else each.values[0] for each in BROKERS]
    assert names == list(broker_table.BROKERS)


def test_every_row_stands_for_tests_that_exist() -> None:
    for tests in broker_table.ROWS.values():
        module, _, test = tests.partition(".test_")[2].partition(".")
        path = broker_table.ROOT / "tests" / "integration" / f"test_{module}.py"
        names = {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)
        }
        assert not test or test in names


def test_a_row_is_yes_only_if_all_of_its_tests_passed() -> None:
    row, tests = next(iter(broker_table.ROWS.items()))
    cases = [
        (f"{tests}.test_a", "bundled-threaded", True),
        (f"{tests}.test_b", "bundled-threaded", True),
        (f"{tests}.test_a", "nats-threaded", True),
        (f"{tests}.test_b", "nats-threaded", False),
        (f"{tests}_more.test_b", "mosquitto", True),
    ]
    verdicts = broker_table.judge(cases)
    found = [verdicts[row, broker] for broker in ("bundled", "nats", "mosquitto")]
    assert found == ["yes", "no", "untested"]
