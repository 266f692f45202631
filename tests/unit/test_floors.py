"""The house keeps its floors: who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import device_sdk

PACKAGE = Path(device_sdk.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
}

#: From the ground up. A module imports from floors below its own, or from its own floor.
FLOORS = [
    {"states", "values"},
    {"errors"},
    {"bounded", "topics", "cells", "stats"},
    {"outbox"},
    {"usual"},
    {"codec"},
    {"settings"},
    {"caller", "callee", "events", "presence"},
    {"effects"},
    {"context"},
    {"caller_side", "callee_side"},
    {"engine"},
]
CORE = set().union(*FLOORS)
#: No socket, thread, event loop, clock or randomness below the transport. (``testing`` stands above
#: it: its broker in memory serves real clients, too.)
FORBIDDEN = {
    "asyncio", "concurrent", "datetime", "multiprocessing", "os", "queue", "random", "secrets",
    "select", "selectors", "signal", "socket", "ssl", "subprocess", "threading", "time", "uuid",
}  # fmt: skip
#: Third-party modules, and the only ones of device_sdk that may import them.
THIRD_PARTY = {"cbor2": {"codec"}, "paho": {"paho_transport"}}


def imports(path: Path, root: Path = PACKAGE) -> set[str]:
    """Every module that a file imports, wherever it does; what is only for types left out.

    Relative ones come as ``device_sdk.…``.
    """
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    package = ["device_sdk", *path.relative_to(root).parent.parts]
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base += node.module.split(".") if node.module else []
            found |= (
                {".".join(base)}
                if node.module
                else {".".join((*base, alias.name)) for alias in node.names}
            )
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def ours(path: Path) -> set[str]:
    """The modules of device_sdk that a file imports, without the package's name."""
    return {
        name.removeprefix("device_sdk.") for name in imports(path) if name.startswith("device_sdk.")
    }


def test_every_core_module_has_its_floor() -> None:
    """The floors name modules that exist, each once."""
    assert set(MODULES) >= CORE
    assert sum(map(len, FLOORS)) == len(CORE)


@pytest.mark.parametrize("name", sorted(CORE))
def test_nothing_in_the_core_imports_upward(name: str) -> None:
    """Own floor or below; never transport, faces or command line."""
    floor = next(i for i, names in enumerate(FLOORS) if name in names)
    allowed = set().union(*FLOORS[: floor + 1])
    assert ours(MODULES[name]) <= allowed


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_imports_no_clock_thread_socket_or_chance(name: str) -> None:
    """Time and ids are passed in."""
    roots = {module.split(".")[0] for module in imports(MODULES[name])}
    assert not roots & FORBIDDEN


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_device_never_imports_the_broker(name: str) -> None:
    """Nor amqtt, which comes with it."""
    roots = {module.split(".")[0] for module in imports(MODULES[name])}
    assert not roots & {"broker_config", "amqtt", "tests"}


@pytest.mark.parametrize("name", sorted(n for n in MODULES if not n.startswith("pi")))
def test_only_the_pi_part_imports_the_pi_part(name: str) -> None:
    """A device without pins carries none of it; the command line may start it when asked."""
    if name != "cli" and not name.startswith("cli."):
        assert not any(m == "pi" or m.startswith("pi.") for m in ours(MODULES[name]))


@pytest.mark.parametrize("name", sorted(n for n in MODULES if not n.startswith("pi")))
def test_third_party_modules_have_one_door_each(name: str) -> None:
    """cbor2 through the codec, paho through its transport, nothing else on a device."""
    roots = {module.split(".")[0] for module in imports(MODULES[name])}
    foreign = roots - set(sys.stdlib_module_names) - {"device_sdk"}
    assert foreign <= {root for root, doors in THIRD_PARTY.items() if name in doors}


def test_the_reader_of_imports_sees_them(tmp_path: Path) -> None:
    """Plain, from, relative, nested and typing-only imports are told apart."""
    source = tmp_path / "x.py"
    source.write_text(
        "import os.path\nfrom paho.mqtt import client\nif TYPE_CHECKING:\n    import socket\n"
        "def f():\n    import threading\n"
    )
    assert imports(source, tmp_path) == {"os.path", "paho.mqtt", "threading"}
    source.write_text("from . import codec\nfrom .cells import Invite\n")
    assert imports(source, tmp_path) == {"device_sdk.codec", "device_sdk.cells"}
    (tmp_path / "pi").mkdir()
    nested = tmp_path / "pi" / "y.py"
    nested.write_text("from .. import aio\nfrom ..cells import Invite\nfrom .pins import Pin\n")
    assert imports(nested, tmp_path) == {
        "device_sdk.aio", "device_sdk.cells", "device_sdk.pi.pins",
    }  # fmt: skip


def test_the_asyncio_face_needs_nothing_of_the_threaded_one() -> None:
    """A device pays for the face that it uses; the names are there all the same."""
    code = (
        "import sys, device_sdk.aio;"
        "assert 'device_sdk.client' not in sys.modules, 'imported without need';"
        "import device_sdk;"
        "assert set(device_sdk.__all__) <= set(dir(device_sdk));"
        "from device_sdk import SignalingClient;"
        "assert SignalingClient is device_sdk.client.SignalingClient"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=True, timeout=60)


def test_a_name_that_is_not_there_is_said_to_be_missing() -> None:
    """As of any other module."""
    with pytest.raises(AttributeError, match="module 'device_sdk' has no attribute 'Client'"):
        _ = device_sdk.Client
