"""The broker's rooms keep their floors: who may import whom, read from the source."""

from __future__ import annotations

from pathlib import Path

import pytest

import broker_config
from tools.imports import imports

PACKAGE = Path(broker_config.__file__).parent
#: A room, the rooms it may import from, and what it may import of other packages of ours.
ROOMS = {
    "core": {"core"},
    "store": {"core", "store"},
    "access": {"core", "access"},
    "net": {"core", "store", "access", "net"},
    "export": {"core", "access", "export"},
    "admin": {"core", "store", "access", "net", "export", "admin"},
}
#: No socket, thread, event loop, clock, chance or database in the core.
FORBIDDEN = {
    "amqtt", "asyncio", "concurrent", "datetime", "multiprocessing", "os", "pathlib", "queue",
    "random", "secrets", "select", "selectors", "signal", "socket", "sqlite3", "ssl", "subprocess",
    "threading", "time", "uuid", "websockets",
}  # fmt: skip
MODULES = [path for room in ROOMS for path in sorted((PACKAGE / room).glob("*.py"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_nothing_imports_upward(path: Path) -> None:
    """Not even for types."""
    ours = {
        name.split(".")[1] for name in imports(path, PACKAGE) if name.startswith("broker_config.")
    }
    assert ours <= ROOMS[path.parent.name]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_of_the_sdk_the_broker_knows_the_wire(path: Path) -> None:
    """And what is done in one way by all services of ours: words, TOML files, systemd, HTTP."""
    sdk = {name for name in imports(path, PACKAGE) if name.startswith("device_sdk.")}
    sdk -= {"device_sdk.__version__"}
    services = (
        ("arguments.", "config.toml_reader.", "metrics.http_server.", "service.sd_notify.")
        if path.parent.name == "admin"
        else ()
    )
    known = ("device_sdk.core.wire.", *(f"device_sdk.services.{each}" for each in services))
    assert all(name.startswith(known) for name in sdk)


@pytest.mark.parametrize(
    "path", [each for each in MODULES if each.parent.name == "core"], ids=lambda path: path.stem
)
def test_the_core_knows_no_world(path: Path) -> None:
    """Time, ids and verdicts are passed in; of the SDK it knows the topics."""
    names = imports(path, PACKAGE)
    assert not {name.split(".")[0] for name in names} & FORBIDDEN
    sdk = {name for name in names if name.startswith("device_sdk")}
    assert all(name.startswith("device_sdk.core.wire.topics.") for name in sdk)


def test_the_core_imports_in_no_circle() -> None:
    below: dict[str, set[str]] = {
        path.stem: {
            name.split(".")[2]
            for name in imports(path, PACKAGE)
            if name.startswith("broker_config.core.")
        }
        for path in (PACKAGE / "core").glob("*.py")
    }
    known: set[str] = set()
    while len(known) < len(below):
        free = {name for name, needs in below.items() if name not in known and needs <= known | {
            need for need in needs if need not in below
        }}  # fmt: skip
        assert free, f"a circle among {sorted(set(below) - known)}"
        known |= free
