"""The file of the devices: who may call whom, and no half-written state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker_config.access.registry import (
    Device,
    Registry,
    RegistryError,
    changing,
    load,
    new_secret,
    save,
    write_private,
)

DOOR = Device("door", "hash", may_call=("kitchen", "flat-*", "@panels"), created="2026-01-01")


def registry(*devices: Device) -> Registry:
    return Registry({device.name: device for device in devices})


@pytest.mark.parametrize(
    ("callee", "verdict"),
    [
        ("kitchen", True),
        ("kitchen2", False),
        ("flat-7", True),
        ("xflat-7", False),
        ("panel", True),
        ("garage", False),
        ("unknown", False),
        ("door", False),
    ],
)
def test_who_may_call_whom(callee: str, verdict: bool) -> None:
    known = registry(DOOR, Device("panel", group="panels"), Device("garage", group="cars"))
    assert known.may_call("door", callee) is verdict
    assert not known.may_call(callee, "door")


def test_a_pattern_is_no_regular_expression() -> None:
    known = registry(Device("door", may_call=("a.c", "[x]*")))
    assert known.may_call("door", "a.c")
    assert not known.may_call("door", "abc")
    assert known.may_call("door", "[x]y")


def test_nobody_may_call_without_a_pattern() -> None:
    assert not registry(Device("door"), Device("kitchen")).may_call("door", "kitchen")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    known = registry(DOOR, Device("küche.1", certificate="ab", group="g", watches=True))
    save(path, known)
    assert load(path) == known
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    save(path, registry(DOOR))

    def fails() -> None:
        with changing(path) as devices:
            del devices["door"]
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert load(path) == registry(DOOR)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    write_private(path, "old")
    with pytest.raises(TypeError):
        write_private(path, object())  # type: ignore[arg-type] # what must not happen
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "devices": []}',
        '{"version": 1, "devices": [{"name": ""}]}',
        '{"version": 1, "devices": [{"name": "a", "may_call": "b"}]}',
        '{"version": 1, "devices": [{"name": "a", "secret": 1}]}',
        '{"version": 1, "devices": [{"name": "a", "maycall": []}]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_registry_lets_nobody_in(tmp_path: Path, content: str) -> None:
    """A misspelt rule is an error, not a rule less."""
    path = tmp_path / "devices.json"
    path.write_text(content)
    with pytest.raises(RegistryError, match=r"devices\.json"):
        load(path)


def test_a_registry_that_an_editor_has_saved_is_read(tmp_path: Path) -> None:
    """With a byte order mark and CRLF, as any text file of ours may be."""
    path = tmp_path / "devices.json"
    save(path, Registry({"panel": Device("panel", secret="$argon2id$x")}))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(load(path).devices) == ["panel"]


def test_secrets_differ_and_are_not_in_the_file(tmp_path: Path) -> None:
    assert new_secret() != new_secret()
    assert len(bytes.fromhex(new_secret())) == 20
    path = tmp_path / "devices.json"
    save(path, registry(DOOR))
    assert json.loads(path.read_text())["devices"][0]["secret"] == "hash"
