"""``bellwire-broker export``: another broker's configuration, written whole or not at all."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..access import pki
from ..access.registry import load, write_private
from ..access.writing import Staged, uninterrupted
from ..export.emqx import emqx
from ..export.mosquitto import bridge, mosquitto
from ..export.nats import nats
from ..export.site import BrokerNode, ExportError, Site, users_of
from .settings import BrokerSettings, is_loopback, split_address

#: What makes a directory ours: format, nodes, and what the nodes show each other.
MARK = ".bellwire-export.json"
_VERSION = 1
_RENDER: dict[str, Callable[[Site], dict[str, str]]] = {
    "mosquitto": mosquitto, "mosquitto-bridge": bridge, "nats": nats, "emqx": emqx,
}  # fmt: skip
FORMATS = tuple(_RENDER)


def export(settings: BrokerSettings, kind: str, target: Path, nodes: Sequence[str]) -> list[str]:
    """Write ``kind``'s files to ``target``; gives their names. Raises :class:`ExportError`.

    ``target`` is new, empty, or an earlier export of the same: then its files are written over one
    by one, and what the broker has kept there stays.
    """
    where = tuple(_nodes(settings, nodes))
    mark = _mark(target, kind, where)
    site = Site(
        settings.realm,
        where,
        None if settings.anonymous else users_of(load(settings.registry), settings.realm),
        mark["peer_secret"],
        _owner(settings.directory),
    )
    if site.users is None and not all(node.loopback for node in where):
        raise ExportError(
            "with anonymous = true in broker.toml everybody who reaches a node would be let in; "
            "register devices, or name nodes on 127.0.0.1"
        )
    content: dict[str, str | bytes] = {**_RENDER[kind](site), MARK: json.dumps(mark) + "\n"}
    if site.users is not None:
        content |= _certificates(settings, where)
    try:
        with uninterrupted():
            (_renew if (target / MARK).exists() else _make)(target, content, settings.directory)
    except OSError as error:
        raise ExportError(f"{target} cannot be written: {error.strerror or error}") from error
    return sorted(name for name in content if not name.endswith("/"))


def _nodes(settings: BrokerSettings, nodes: Sequence[str]) -> list[BrokerNode]:
    address = settings.listen.mqtt if settings.anonymous else settings.listen.mqtts
    host, port = split_address(address) if address else ("", 1883 if settings.anonymous else 8883)
    if nodes:
        return [BrokerNode.parse(each, port) for each in nodes]
    if is_loopback(host):
        return [BrokerNode("127.0.0.1", port)]
    return [BrokerNode(pki.local_name(), port)]


def _mark(target: Path, kind: str, nodes: tuple[BrokerNode, ...]) -> dict[str, Any]:
    """The mark of this export, with an earlier one's secret; raises where others have files."""
    new = {
        "version": _VERSION,
        "format": kind,
        "nodes": [f"{node.host}:{node.port}" for node in nodes],
        "peer_secret": secrets.token_hex(20),
    }
    if not target.exists() and not target.is_symlink():
        if not target.parent.is_dir():
            raise ExportError(f"there is no directory {target.parent}; make it first")
        return new
    if not target.is_dir():
        raise ExportError(f"{target} is there already, and is no directory; choose another name")
    if not any(target.iterdir()):
        return new
    try:
        old = json.loads((target / MARK).read_text())
        same = all(old[key] == new[key] for key in ("version", "format", "nodes"))
        new["peer_secret"] = str(old["peer_secret"])
    except (OSError, ValueError, TypeError, KeyError):
        raise ExportError(
            f"{target} is not empty, and no export of ours; choose a new or an empty directory"
        ) from None
    if not same:
        raise ExportError(
            f"{target} is an export of {old['format']} for {', '.join(old['nodes'])}; choose "
            "another directory, or move that one away"
        )
    return new


def _owner(directory: Path) -> str:
    try:
        return pwd.getpwuid(directory.stat().st_uid).pw_name
    except KeyError:  # a user without a name, as in some containers
        return "mosquitto"


def _certificates(settings: BrokerSettings, nodes: tuple[BrokerNode, ...]) -> dict[str, bytes]:
    """A certificate of the broker's CA for each node."""
    authority = settings.path(settings.tls.ca_file)
    folder = authority.parent
    if not (folder / "ca.key").exists():
        raise ExportError(f"there is no {folder / 'ca.key'}, which signs the nodes' certificates")
    made: dict[str, bytes] = {}
    for number, node in enumerate(nodes, 1):
        certificate = pki.make_node(folder, node.host)
        made |= {
            f"node{number}/tls/ca.crt": authority.read_bytes(),
            f"node{number}/tls/server.crt": certificate.certificate,
            f"node{number}/tls/server.key": certificate.key,
        }
    return made


def _write(content: dict[str, str | bytes], folder: Path, put: Callable[..., None]) -> None:
    for name, data in content.items():
        path = folder / name
        last = path if name.endswith("/") else path.parent
        for each in (*reversed(last.relative_to(folder).parents[:-1]), last.relative_to(folder)):
            (folder / each).mkdir(mode=0o700, exist_ok=True)  # `parents` makes them for all to read
        if not name.endswith("/"):
            put(path, data)


def _make(target: Path, content: dict[str, str | bytes], like: Path) -> None:
    """All in a directory beside, which then takes the place of ``target``."""
    beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        _write(content, beside, write_private)
        if os.geteuid() == 0:
            owner = like.stat()
            for path in (beside, *beside.rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid)
        beside.replace(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _renew(target: Path, content: dict[str, str | bytes], _like: Path) -> None:
    """Each file in one step, once all of them are on the disk."""
    with Staged() as staged:
        _write(content, target, lambda path, data: staged.add(path, data, over=True))
        staged.place()
