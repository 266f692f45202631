"""The rooms of the SDK keep their floors: who may import whom, read from the source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import device_sdk
from tools.imports import imports as read_imports

PACKAGE = Path(device_sdk.__file__).parent
#: The floors, from the lowest: each may import from itself and from those below it.
FLOORS = ("states", "errors", "core.wire", "core", "client.link", "client", "services", "cli")
#: A room, and the rooms that it may import from; its own is one of them.
ROOMS = {room: {*FLOORS[: number + 1]} for number, room in enumerate(FLOORS)}
ROOMS["services"] |= {"__init__"}
ROOMS["cli"] |= {"__init__"}
#: The public faces at the root, and what tests of others are given.
ROOMS["__init__"] = ROOMS["aio"] = ROOMS["client"]
ROOMS["testing"] = ROOMS["client.link"] | {"testing"}
#: No socket, thread, event loop, clock or chance below the link. (``testing`` stands above it: its
#: broker in memory serves real clients, too.)
PURE = ("states", "errors", "core.wire", "core")
FORBIDDEN = {
    "asyncio", "concurrent", "datetime", "multiprocessing", "os", "queue", "random", "secrets",
    "select", "selectors", "signal", "socket", "ssl", "subprocess", "threading", "time", "uuid",
}  # fmt: skip
#: Third-party modules, and who of ours may import each; pins have theirs in services.
THIRD_PARTY = {
    "cbor2": {"core/wire/cbor.py"},
    "dns": {"client/link/srv.py"},
    "paho": {"client/link/paho.py", "client/link/paho_client.py"},
    "psutil": {"cli/fleet/run.py"},
}
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(name: str) -> str:
    """The room of a file or of a dotted name below ``device_sdk``: the inner one of two."""
    parts = name.removesuffix(".py").replace("/", ".").split(".")
    inner = ".".join(parts[:2])
    return inner if inner in ROOMS else parts[0]


def imports(path: Path, root: Path = PACKAGE) -> set[str]:
    """What a file imports, as ``tools.imports`` reads it; of the package itself as ``__init__``."""
    found = read_imports(path, root)
    modules = {each.stem for each in root.iterdir()}
    own = {name for name in found if name.startswith("device_sdk.") and name.count(".") == 1}
    own = {name for name in own if name.partition(".")[2] not in modules}
    return found - own | {f"device_sdk.__init__.{name.partition('.')[2]}" for name in own}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_imports_upward(name: str) -> None:
    """Own floor or below, not even for types."""
    ours = {
        room(each.removeprefix("device_sdk."))
        for each in imports(MODULES[name])
        if each.startswith("device_sdk.")
    }
    assert ours <= ROOMS[room(name)]


def test_the_root_holds_eight_things() -> None:
    """What a user imports, and four rooms, two of them with one below: the rest lives in those."""
    names = {each.relative_to(PACKAGE).parts[0] for each in PACKAGE.rglob("*.py")}
    rooms = {"core", "client", "services", "cli"}
    assert names == rooms | {"aio.py", "errors.py", "states.py", "testing", "__init__.py"}
    assert {room(name) for name in MODULES} == set(ROOMS)


@pytest.mark.parametrize("name", [each for each in MODULES if each.startswith("cli/fleet/")])
def test_a_fleet_is_engines_on_links_of_its_own(name: str) -> None:
    """What it measures is no client's; only its command knows the ways of the command line."""
    ours = {
        room(each.removeprefix("device_sdk."))
        for each in imports(MODULES[name])
        if each.startswith("device_sdk.")
    }
    if name != "cli/fleet/command.py":
        assert not ours & {"client", "services"}
        assert not [each for each in imports(MODULES[name]) if "command" in each.split(".")]


@pytest.mark.parametrize("name", [each for each in MODULES if room(each) in PURE])
def test_the_core_imports_no_clock_thread_socket_or_chance(name: str) -> None:
    """Time and ids are passed in."""
    assert not {each.split(".")[0] for each in imports(MODULES[name])} & FORBIDDEN


@pytest.mark.parametrize("name", MODULES)
def test_third_party_modules_have_one_door_each(name: str) -> None:
    """cbor2 through the codec, paho through its link, nothing else on a device without pins.

    Never the broker, nor amqtt, which comes with it.
    """
    roots = {each.split(".")[0] for each in imports(MODULES[name])}
    foreign = roots - set(sys.stdlib_module_names) - {"device_sdk"}
    assert not foreign & {"broker_config", "amqtt", "tests"}
    if room(name) != "services":
        assert foreign <= {root for root, doors in THIRD_PARTY.items() if name in doors}


def test_the_reader_of_imports_sees_them(tmp_path: Path) -> None:
    """Plain, from, relative, nested and typing-only imports, and what the package itself gives."""
    root = tmp_path / "device_sdk"
    (root / "core" / "wire").mkdir(parents=True)
    (root / "aio.py").touch()
    source = root / "x.py"
    source.write_text(
        "import os.path\nfrom paho.mqtt import client\nif TYPE_CHECKING:\n    import socket\n"
        "def f():\n    import threading\n"
    )
    assert imports(source, root) == {"os.path", "paho.mqtt.client", "socket", "threading"}
    nested = root / "core" / "wire" / "y.py"
    nested.write_text("from ... import aio, Tls\nfrom .. import stats\nfrom .codec import read\n")
    assert imports(nested, root) == {
        "device_sdk.aio", "device_sdk.__init__.Tls", "device_sdk.core.stats",
        "device_sdk.core.wire.codec.read",
    }  # fmt: skip


def test_the_asyncio_face_needs_nothing_of_the_threaded_one() -> None:
    """A device pays for the face that it uses; the names are there all the same."""
    code = (
        "import sys, device_sdk.aio;"
        "assert 'device_sdk.client.threaded' not in sys.modules, 'imported without need';"
        "import device_sdk;"
        "assert set(device_sdk.__all__) <= set(dir(device_sdk));"
        "from device_sdk import SignalingClient;"
        "assert SignalingClient is device_sdk.client.threaded.SignalingClient"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=True, timeout=60)


def test_modules_need_no_import_of_their_own() -> None:
    """As they did not when the root still loaded them; the names are those of the modules."""
    code = (
        "import device_sdk as b;"
        "assert b.errors.LoginError is b.LoginError;"
        "assert b.states.EndReason is b.EndReason;"
        "assert (b.client.__name__, b.core.__name__) == ('device_sdk.client', 'device_sdk.core')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=True, timeout=60)


def test_a_name_that_is_not_there_is_said_to_be_missing() -> None:
    """As of any other module."""
    with pytest.raises(AttributeError, match="module 'device_sdk' has no attribute 'Client'"):
        _ = device_sdk.Client
