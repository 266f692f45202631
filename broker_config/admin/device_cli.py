"""``bellwire-broker device``: who may connect, and call whom."""

from __future__ import annotations

import argparse
import errno
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..access.registry import Device
    from .outside import KnownDevices
    from .setup import Given

_PATTERNS = "whom it may call: peer ids, '*' for anything, @GROUP"


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    directory: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the command; ``directory`` gives each action its --dir."""
    device = commands.add_parser("device", help="who may connect, and call whom")
    actions = device.add_subparsers(dest="action", required=True, metavar="ACTION")

    add = actions.add_parser("add", help="register a device and print its secret, once")
    add.add_argument("name", metavar="NAME", nargs="?", help="its peer id")
    add.add_argument(
        "--may-call", nargs="+", action="extend", default=[], metavar="PATTERN",
        help=f"{_PATTERNS}; without it, nobody",
    )  # fmt: skip
    add.add_argument("--group", help="the group it is in, for others' @GROUP")
    add.add_argument("--watches", action="store_true", help="it may read the whole realm")
    add.add_argument(
        "--certificate", action="store_true", help="issue a client certificate, not a secret"
    )
    add.add_argument(
        "--from", dest="table", type=Path, metavar="FILE",
        help="register all devices of a CSV file, or none: name,may_call,group,watches,certificate "
        "(several patterns are separated by ';'); needs --secrets DIR",
    )  # fmt: skip
    add.add_argument(
        "--secrets", type=Path, metavar="DIR", help="with --from: NAME.secret for each device"
    )

    change = actions.add_parser("set", help="change what a device may do; the rest stays")
    change.add_argument("name", metavar="NAME")
    change.add_argument(
        "--may-call", nargs="*", action="extend", metavar="PATTERN",
        help=f"{_PATTERNS}; these alone from now on, nobody if none is given",
    )  # fmt: skip
    change.add_argument("--group", help="the group it is in; '' for none")
    change.add_argument("--watches", action=argparse.BooleanOptionalAction)

    listing = actions.add_parser("list", help="all devices: online, last seen, what they may")
    listing.add_argument("--json", action="store_true", help="for programs")
    rotate = actions.add_parser("rotate", help="give a device a new secret or certificate")
    clear = actions.add_parser(
        "clear", help="clear what it has left of its calls, and others to it"
    )
    remove = actions.add_parser(
        "remove", help="forget a device, cut its connection, clear its calls"
    )
    for each in (rotate, clear, remove):
        each.add_argument("name", metavar="NAME")
    for each in (add, rotate):
        each.add_argument(
            "--secret-file", type=Path, metavar="FILE",
            help="write the secret there (mode 600), do not print it",
        )  # fmt: skip
    for each in (add, change, listing, rotate, clear, remove):
        directory(each)


def perform(args: argparse.Namespace) -> int:
    """Run the action; raises SetupError, RegistryError, SettingsError, ValueError, OSError."""
    return _ACTIONS[args.action](args)


# --- what is shown ------------------------------------------------------------------------------


def _show(given: Given) -> None:
    """Print a secret; raises OSError unless it was taken."""
    from device_sdk.core.wire.topics import escape

    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    if given.secret is not None:
        print(f"user name: {escape(given.name)}")
        print(f"secret:    {given.secret}")
        print("The secret is not shown again.")
    sys.stdout.flush()


def _show_files(given: Given, secret_file: Path | None) -> None:
    from device_sdk.core.wire.topics import escape

    if given.files is not None:
        print(f"certificate: {given.files[0]}")
        print(f"key:         {given.files[1]}")
        print("Move the key to the device; the broker does not need it.")
    elif secret_file is not None:
        print(f"user name: {escape(given.name)}")
        print(f"its secret is in {secret_file}")


def _explain(directory: Path, name: str, devices: Mapping[str, Device]) -> None:
    """Say what a device may now, and what would have to be done for more."""
    from ..access import naming

    device = devices[name]
    everybody = naming.calls(devices)
    calls, callers = everybody[name], naming.turned(everybody)[name]
    if calls:
        print(f"{name!r} may call {', '.join(calls)}.")
    elif not device.may_call:
        cure = naming.command("device", "set", name, "--may-call", "NAME", directory=directory)
        print(f"{name!r} may call nobody; for a doorbell: {cure}")
    for pattern in device.may_call:
        why = naming.stands_for_nobody(devices, name, pattern)
        if why is not None:
            print(f"{name!r} may call {pattern!r}, but {why}{_instead(directory, name, devices)}")
    if callers:
        print(f"{', '.join(callers)} may call it.")
    else:
        cure = naming.command("device", "set", "OTHER", "--may-call", name, directory=directory)
        print(f"nobody may call it yet; for a panel: {cure}")


def _instead(directory: Path, name: str, devices: Mapping[str, Device]) -> str:
    """The command that has each unknown name be the one that it is like; "" if none is."""
    from ..access import naming

    may_call = devices[name].may_call
    meant = [
        pattern
        if naming.stands_for_nobody(devices, name, pattern) is None
        else naming.nearest(devices, pattern, name) or pattern
        for pattern in may_call
    ]
    if meant == list(may_call):
        return ""
    cure = naming.command("device", "set", name, "--may-call", *meant, directory=directory)
    return f" {cure}"


def _by_name(directory: Path) -> dict[str, Device]:
    from .setup import devices

    return {device.name: device for device in devices(directory)}


def _settled(args: argparse.Namespace) -> int:
    """Have the running broker take the change, and see that it has; 1 if it does not."""
    from device_sdk.services.config.toml_reader import SettingsError

    from ..access.registry import load
    from . import outside, running
    from .settings import REGISTRY
    from .settings import load as load_settings

    process = running.broker_process(args.directory)
    if process is None:
        return 0  # it is read at the next start
    told = running.tell_broker(args.directory)
    try:
        settings = load_settings(args.directory)
    except SettingsError as error:
        print(f"bellwire-broker: {error}", file=sys.stderr)
        return 0 if told else 1
    digest = load(args.directory / REGISTRY).digest
    taken = outside.applied(settings, digest)
    if taken is False:
        print(
            f"bellwire-broker: it is written, but the running broker (process {process}) has not "
            f"read it within {outside.PATIENCE:g} s and goes by the old rules; it tries again "
            "every second, and its log says what stands in the way",
            file=sys.stderr,
        )
        return 1
    if taken is None and not told:
        print("the running broker could not be told; it looks for itself every second")
    return 0


# --- actions ------------------------------------------------------------------------------------


def _add(args: argparse.Namespace) -> int:
    from . import setup

    if args.table is not None:
        return _add_table(args)
    if args.name is None:
        raise setup.SetupError("NAME is missing: how is it called? Or --from FILE for many")
    if args.secrets is not None:
        raise setup.SetupError("--secrets is for --from FILE; for one device it is --secret-file")
    wanted = setup.Wanted(
        args.name, tuple(args.may_call), args.group, args.watches, args.certificate
    )
    files = {} if args.secret_file is None else {args.name: args.secret_file}
    show = _show if args.secret_file is None else None
    (given,) = setup.add_all(args.directory, [wanted], secret_files=files, show=show)
    _show_files(given, args.secret_file)
    _explain(args.directory, args.name, _by_name(args.directory))
    return _settled(args)


def _add_table(args: argparse.Namespace) -> int:
    from ..access import naming
    from . import setup
    from .table import TableError, read

    alone = ("name", "group", "secret_file")
    if any(getattr(args, each) is not None for each in alone) or (
        args.may_call or args.watches or args.certificate
    ):
        raise setup.SetupError("--from FILE has all that is said of its devices; nothing beside it")
    try:
        wanted = read(args.table, _by_name(args.directory))
    except TableError as error:
        for line in error.lines:
            print(f"bellwire-broker: {line}", file=sys.stderr)
        print("bellwire-broker: nothing has changed", file=sys.stderr)
        return 2
    files = setup.secret_files(args.secrets, wanted)
    setup.add_all(args.directory, wanted, secret_files=files)
    devices = _by_name(args.directory)
    for each in wanted:
        print(f"{each.name}: {files.get(each.name) or 'its certificate is in tls/devices'}")
    print(f"{len(wanted)} devices are registered")
    calls = naming.calls(devices)
    callers = naming.turned(calls)
    for each in wanted:
        if not calls[each.name] and not callers[each.name]:
            print(f"{each.name!r} may call nobody, and nobody may call it")
    return _settled(args)


def _set(args: argparse.Namespace) -> int:
    from . import setup

    if args.may_call is None and args.group is None and args.watches is None:
        raise setup.SetupError(
            "say what to change: --may-call PATTERN…, --group GROUP, --watches or --no-watches"
        )
    before = _by_name(args.directory)
    setup.change(
        args.directory,
        args.name,
        may_call=None if args.may_call is None else tuple(args.may_call),
        group=args.group,
        watches=args.watches,
    )
    _explain(args.directory, args.name, _by_name(args.directory))
    _say_left_over(args.directory, before)
    return _settled(args)


def _rotate(args: argparse.Namespace) -> int:
    from . import setup

    show = _show if args.secret_file is None else None
    secret, files = setup.rotate(args.directory, args.name, secret_file=args.secret_file, show=show)
    _show_files(setup.Given(args.name, secret, files), args.secret_file)
    print(f"The old one opens nothing any more: give {args.name!r} this one, and start it again.")
    return _settled(args)


def _remove(args: argparse.Namespace) -> int:
    from . import setup

    before = _by_name(args.directory)
    setup.remove(args.directory, args.name)
    print(f"{args.name!r} is removed")
    _say_left_over(args.directory, before)
    return _settled(args)


def _say_left_over(directory: Path, before: Mapping[str, Device]) -> None:
    """Say which patterns stand for nobody any more, and what drops them."""
    from ..access import naming

    after = _by_name(directory)
    for name, device in after.items():
        gone = [
            pattern
            for pattern in device.may_call
            if naming.stands_for_nobody(after, name, pattern) is not None
            and (name not in before or naming.stands_for_nobody(before, name, pattern) is None)
        ]
        if gone and device == before.get(name):
            rest = [pattern for pattern in device.may_call if pattern not in gone]
            cure = naming.command("device", "set", name, "--may-call", *rest, directory=directory)
            print(
                f"{name!r} may still call {', '.join(map(repr, gone))}, who is nobody now: {cure}"
            )


def _clear(args: argparse.Namespace) -> int:
    from . import outside, running, setup
    from .settings import load

    settings = load(args.directory)
    known = setup.find(args.directory, args.name)
    try:
        cells = outside.cells_of(settings, known.name, outside.look(settings))
        process = running.broker_process(args.directory)
        if process is None:
            with running.alone(args.directory):
                outside.forget(settings, cells)
        else:
            setup.mark_cleared(args.directory, args.name)
    except sqlite3.Error as error:
        raise OSError(f"{settings.path(settings.storage.file)}: {error}") from error
    code = 0 if process is None else _settled(args)
    if not code:
        print(f"{len(cells)} cells of {args.name!r} are cleared")
    return code


def _list(args: argparse.Namespace) -> int:
    from device_sdk.services.config.toml_reader import SettingsError

    from ..access import naming
    from . import outside
    from .settings import load

    devices = _by_name(args.directory)
    known: KnownDevices | None = None
    try:
        settings = load(args.directory)
        if settings.storage.file:
            known = outside.look(settings, cells=False)
        else:
            print(
                "bellwire-broker: storage.file is empty, so who is online is not kept",
                file=sys.stderr,
            )
    except (SettingsError, sqlite3.Error) as error:
        print(f"bellwire-broker: who is online is not known: {error}", file=sys.stderr)
    calls = naming.calls(devices)
    callers = naming.turned(calls)
    shown = [
        _described(device, calls[device.name], callers[device.name], known)
        for device in devices.values()
    ]
    if args.json:
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0
    for each in shown:
        print(_line(each))
    if not shown:
        print("no device is registered yet; `bellwire-broker device add NAME` registers one")
    return 0


def _utc(at: float | None) -> str | None:
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _described(
    device: Device, calls: list[str], callers: list[str], known: KnownDevices | None
) -> dict[str, Any]:
    from device_sdk.core.wire.topics import escape

    user = escape(device.name)
    return {
        "name": device.name,
        "user": user,
        "credential": "certificate" if device.certificate else "secret",
        "online": None if known is None else user in known.online,
        "online_since": None if known is None else _utc(known.online.get(user)),
        "last_seen": None if known is None else _utc(known.seen.get(user)),
        "may_call": list(device.may_call),
        "calls": calls,
        "called_by": callers,
        "group": device.group,
        "watches": device.watches,
        "created": device.created or None,
    }


def _line(each: Mapping[str, Any]) -> str:
    if each["online"]:
        state = f"online since {each['online_since']}"
    elif each["last_seen"]:
        state = f"offline, last seen {each['last_seen']}"
    else:
        state = "online or not is not known" if each["online"] is None else "has not connected yet"
    calls = ", ".join(each["may_call"]) or "nobody"
    callers = ", ".join(each["called_by"]) or "nobody"
    group = f", in @{each['group']}" if each["group"] else ""
    watches = ", watches" if each["watches"] else ""
    return (
        f"{each['name']}: {each['credential']}, may call {calls}{group}{watches}; "
        f"may be called by {callers}; {state}"
    )


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "add": _add,
    "set": _set,
    "list": _list,
    "rotate": _rotate,
    "clear": _clear,
    "remove": _remove,
}
