"""``docs/brokers.md``'s table, made by the suite: ``python -m tools.broker_table --write|--check``.

Runs the integration tests that take a broker on every broker, and says of each row whether all of
its tests passed there. ``--check`` fails if that is not what the document says, or if one was
skipped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "brokers.md"
BROKERS = {
    "bundled": "bundled",
    "mosquitto": "mosquitto",
    "bridge": "two mosquittos, bridged",
    "nats": "NATS, three nodes",
}
_EXPORTED = "tests.integration.test_exported_brokers"
#: What a row says, and whose tests it stands for: a module, or one of its tests.
ROWS = {
    "calls: every event, state and end, both faces": "tests.integration.test_face_calls",
    "links that break, newer logins, listeners that hurt": "tests.integration.test_face_network",
    "calls that go on: messages, hanging up, who is gone": "tests.integration.test_talk",
    "the commands of `bellwire`": "tests.integration.test_cli",
    "a peer written from the protocol's text alone": "tests.integration.test_bare_peer",
    "a call between nodes: TLS, secrets, 8 KB of content":
        f"{_EXPORTED}.test_a_call_from_one_node_to_another",
    "no ring between nodes waits 40 ms for a delayed acknowledgement":
        f"{_EXPORTED}.test_no_ring_waits_for_a_delayed_acknowledgement",
    "cells of 20 KiB":
        f"{_EXPORTED}.test_the_largest_cell_is_taken",
    "nobody is let in without a secret":
        f"{_EXPORTED}.test_nobody_is_let_in_without_a_secret",
    "a secret opens one name":
        f"{_EXPORTED}.test_one_devices_secret_opens_no_other_name",
    "who may call whom; what is forged reaches nobody":
        f"{_EXPORTED}.test_what_one_may_not_write_reaches_nobody",
    "a forged will is never published":
        f"{_EXPORTED}.test_a_will_in_anothers_name_is_never_published",
    "nobody reads what is for another":
        f"{_EXPORTED}.test_what_is_for_another_is_not_to_be_read",
    "nobody ends another's connection":
        f"{_EXPORTED}.test_another_cannot_end_a_devices_connection",
    "nobody else speaks in a call, or ends it":
        f"{_EXPORTED}.test_nobody_else_speaks_in_a_call_or_ends_it",
    "retained cells outlive a restart of all":
        f"{_EXPORTED}.test_what_is_retained_outlives_a_restart",
    "a device that is removed is cut off at once":
        f"{_EXPORTED}.test_a_device_that_is_removed_is_cut_off_and_stays_out",
}  # fmt: skip
BEGIN, END = "<!-- made by `python -m tools.broker_table --write` -->", "<!-- end -->"


def table(verdicts: Mapping[tuple[str, str], str]) -> str:
    """The table as Markdown, of what each row is at each broker."""
    lines = [
        "| | " + " | ".join(BROKERS.values()) + " |",
        "|---" * (len(BROKERS) + 1) + "|",
        *(
            f"| {row} | " + " | ".join(verdicts[row, broker] for broker in BROKERS) + " |"
            for row in ROWS
        ),
    ]
    return "\n".join(lines) + "\n"


def judge(cases: Iterable[tuple[str, str, bool]]) -> dict[tuple[str, str], str]:
    """``yes`` where all tests of a row passed, ``no`` where one failed, ``untested`` without any.

    A case is the dotted name of a test, what stands in its brackets, and whether it passed.
    """
    found: dict[tuple[str, str], list[bool]] = {}
    for name, parameters, passed in cases:
        words = parameters.split("-")
        broker = next((each for each in BROKERS if each in words), None)
        for row, tests in ROWS.items():
            if broker is not None and (name == tests or name.startswith(f"{tests}.")):
                found.setdefault((row, broker), []).append(passed)
    return {
        (row, broker): (
            "untested" if (row, broker) not in found else "yes" if all(found[row, broker]) else "no"
        )
        for row in ROWS
        for broker in BROKERS
    }


def run(workers: int) -> dict[tuple[str, str], str]:
    """Run the tests; gives what each row is at each broker."""
    modules = {tests.split(".test_")[1].partition(".")[0] for tests in ROWS.values()}
    files = [f"tests/integration/test_{module}.py" for module in sorted(modules)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "--dist", "loadgroup",
             "-m", "cluster or not cluster", f"--junitxml={report}", *files],
            cwd=ROOT, check=False,
        )  # fmt: skip
        cases = []
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest's own
            test, _, rest = case.attrib["name"].partition("[")
            passed = not any(
                case.find(each) is not None for each in ("failure", "error", "skipped")
            )
            cases.append((f"{case.attrib['classname']}.{test}", rest.rstrip("]"), passed))
    return judge(cases)


def replaced(text: str, made: str) -> str:
    """The document with ``made`` as its table."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{made}{END}{rest.partition(END)[2]}"


def main() -> int:
    """Print the table; write or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="put it into docs/brokers.md")
    action.add_argument("--check", action="store_true", help="fail unless docs/brokers.md has it")
    args = parser.parse_args()
    made = table(run(args.workers))
    print(made)
    text = DOCUMENT.read_text()
    if args.write:
        DOCUMENT.write_text(replaced(text, made))
    if args.check and replaced(text, made) != text:
        print("docs/brokers.md says something else")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
