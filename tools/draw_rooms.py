"""The picture of the rooms in ``docs/architecture.md``: who imports whom, read from the source."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.imports import imports

ROOT = Path(__file__).resolve().parents[1]
#: Packages and what each of their rooms is, in a few words. One that is not named here is named all
#: the same, so that a new room is seen.
WORDS = {
    "device_sdk": "public faces",
    "device_sdk.core.wire": "topics, cells, codec",
    "device_sdk.core": "engine: caller, callee, connection",
    "device_sdk.client.link": "MQTT over sockets",
    "device_sdk.client": "threads, events, groups, policies",
    "device_sdk.services": "doorbell, panel, provision, doctor",
    "device_sdk.cli": "bellwire",
    "device_sdk.testing": "a broker in memory, engines joined without a network",
    "broker_config.core": "packets, sessions, router, limits",
    "broker_config.store": "journal, SQLite",
    "broker_config.access": "ACL, registry, certificates",
    "broker_config.export": "other brokers' configuration",
    "broker_config.net": "connections, listeners",
    "broker_config.admin": "bellwire-broker",
}
#: States and errors are everywhere, and in nobody's way.
_EVERYWHERE = {"device_sdk.states", "device_sdk.errors"}
_FOREIGN = {"paho": "paho-mqtt", "cbor2": "cbor2", "dns": "dnspython", "amqtt": "amqtt",
            "sqlite3": "SQLite", "gpiozero": "gpiozero, gpiod",
            "gpiod": "gpiozero, gpiod"}  # fmt: skip


def _room(name: str) -> str | None:
    """The room of a dotted name, or what it is called outside; None where it is not drawn."""
    parts = name.split(".")
    if parts[0] not in ("device_sdk", "broker_config"):
        return _FOREIGN.get(parts[0])
    if ".".join(parts[:3]) in WORDS:
        return ".".join(parts[:3])
    if len(parts) > 1 and (ROOT / parts[0] / parts[1]).is_dir():
        return ".".join(parts[:2])
    if ".".join(parts[:2]) in _EVERYWHERE or parts[1:2] == ["__version__"]:
        return None
    return "device_sdk" if parts[0] == "device_sdk" else None


def edges() -> set[tuple[str, str]]:
    """Each room, and what it imports from, without what follows from the others."""
    direct: set[tuple[str, str]] = set()
    for path in sorted([*ROOT.glob("device_sdk/**/*.py"), *ROOT.glob("broker_config/**/*.py")]):
        here = _room(".".join(path.relative_to(ROOT).with_suffix("").parts))
        there = {_room(name) for name in imports(path, ROOT / path.relative_to(ROOT).parts[0])}
        direct |= {(here, each) for each in there if here and each and here != each}
    return {
        (here, there) for here, there in direct
        if not any((here, via) in direct and there in _below(via, direct)
                   for via in {b for a, b in direct if a == here} - {there})
    }  # fmt: skip


def _below(room: str, direct: set[tuple[str, str]]) -> set[str]:
    seen: set[str] = set()
    todo = [room]
    while todo:
        new = {there for here, there in direct if here == todo[-1]} - seen
        todo.pop()
        seen |= new
        todo += new
    return seen


def rooms() -> str:
    """The picture, as Mermaid."""
    drawn = edges()
    names = sorted({room for edge in drawn for room in edge})
    lines = ["```mermaid", "flowchart TD"]
    for package, title in (("device_sdk", "on a device"), ("broker_config", "the bundled broker")):
        lines.append(f'    subgraph {package}_box["{package}: {title}"]')
        for name in names:
            if name.split(".")[0] == package:
                short = name.partition(".")[2].replace(".", "/") or "SignalingClient, aio"
                lines.append(f'        {_id(name)}["{short}<br>{WORDS.get(name, "")}"]')
        lines.append("    end")
    lines += [
        f'    {_id(name)}(["{name}"])' for name in names if name.split(".")[0] not in
        ("device_sdk", "broker_config")
    ]  # fmt: skip
    lines += [f"    {_id(here)} --> {_id(there)}" for here, there in sorted(drawn)]
    return "\n".join([*lines, "```"])


def _id(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


if __name__ == "__main__":
    print(rooms())
    sys.exit(0)
