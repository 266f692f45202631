"""Names of devices, groups and patterns: what may be given, what it stands for, what cures it."""

from __future__ import annotations

import difflib
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping

from device_sdk.core.wire.topics import check_peer_id

from .registry import Device, matches

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LONGEST = 128


def _same(name: str) -> str:
    """What people cannot tell apart is one: composed or not, wide or narrow."""
    return unicodedata.normalize("NFKC", name)


def clash(devices: Iterable[str], name: str) -> str | None:
    """The other name among ``devices`` that looks like ``name`` and has other characters."""
    return next((each for each in devices if each != name and _same(each) == _same(name)), None)


def check_name(name: str) -> str:
    """Give ``name`` back if a device may be called so; raises ValueError."""
    return check_peer_id(name, "NAME")


def check_group(group: str) -> str:
    """Give ``group`` back if a group may be called so; raises ValueError."""
    if group.startswith("@"):
        raise ValueError(f"--group: the '@' is for --may-call alone; --group {group[1:]}")
    if not group.strip() or _CONTROL.search(group) or len(group) > _LONGEST:
        raise ValueError(f"--group: {group!r} is no name for a group")
    return group


def check_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """Give the patterns back, each once; raises ValueError."""
    found = dict.fromkeys(patterns)
    for pattern in found:
        if not pattern.strip("@") or _CONTROL.search(pattern) or len(pattern) > _LONGEST:
            raise ValueError(
                f"--may-call: {pattern!r} is no pattern; a peer id, in which * stands for "
                "anything, or @GROUP"
            )
    return tuple(found)


def calls(devices: Mapping[str, Device]) -> dict[str, list[str]]:
    """Whom each registered device may call, of those that are registered."""
    groups: dict[str | None, set[str]] = {}
    for name, device in devices.items():
        groups.setdefault(device.group, set()).add(name)
    found = {}
    for name, device in devices.items():
        others: set[str] = set()
        for pattern in device.may_call:
            if pattern.startswith("@"):
                others |= groups.get(pattern[1:], set())
            elif "*" in pattern:
                others |= {each for each in devices if matches(pattern, each)}
            elif pattern in devices:
                others.add(pattern)
        found[name] = sorted(others - {name})
    return found


def turned(calls: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Who may call each, of who may call whom."""
    found: dict[str, list[str]] = {name: [] for name in calls}
    for caller in sorted(calls):
        for callee in calls[caller]:
            found[callee].append(caller)
    return found


def stands_for_nobody(devices: Mapping[str, Device], caller: str, pattern: str) -> str | None:
    """Why ``pattern`` lets ``caller`` call nobody, with what would do; None if it does."""
    others = [device for device in devices.values() if device.name != caller]
    if pattern.startswith("@"):
        if any(device.group == pattern[1:] for device in others):
            return None
        groups = sorted({device.group for device in others if device.group})
        near = "there is " + ", ".join(f"@{group}" for group in groups) if groups else (
            f"`device set NAME --group {shlex.quote(pattern[1:])}` puts one into it"
        )  # fmt: skip
        return f"no device is in {pattern}; {near}"
    if any(matches(pattern, device.name) for device in others):
        return None
    if pattern == caller:
        return f"{pattern!r} is itself, and nobody calls himself"
    if "*" in pattern:
        return f"no device is called like {pattern!r}; `device list` shows all"
    return f"no device is called {pattern!r}; {near_names(devices, pattern, caller)}"


def nearest(devices: Mapping[str, Device], name: str, caller: str = "") -> str | None:
    """The device that may have been meant by ``name``."""
    near = difflib.get_close_matches(name, [each for each in devices if each != caller], 1, 0.6)
    return near[0] if near else None


def near_names(devices: Mapping[str, Device], name: str, caller: str = "") -> str:
    """Who may have been meant by ``name``, and how it would come to be."""
    if (near := nearest(devices, name, caller)) is not None:
        return f"did you mean {near!r}?"
    return f"`device add {shlex.quote(name)}` registers it"


def command(*words: str, directory: object = None) -> str:
    """A command of ours as one types it, for the broker of ``directory``."""
    where = [] if directory is None else ["--dir", str(directory)]
    return shlex.join(["bellwire-broker", *words, *where])


def allow(device: Device, callee: str, directory: object = None) -> str:
    """The command that lets ``device`` call ``callee`` too."""
    return command(
        "device", "set", device.name, "--may-call", *device.may_call, callee, directory=directory
    )
