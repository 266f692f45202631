"""What is said when a chip or a library of the pins is not to be had."""

from __future__ import annotations

import errno
import os

import pytest

from device_sdk.services.config.account import Factory, Gpio
from device_sdk.services.gpio import pins
from device_sdk.services.gpio.pins import PinError, check_chip, explain, open_pins


def test_a_chip_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "gpiochip0").touch()
    with pytest.raises(PinError, match=r"no GPIO chip .*gpiochip7; this machine has: gpiochip0"):
        check_chip(tmp_path / "gpiochip7")


def test_no_permission_names_the_group_to_join(tmp_path, monkeypatch):
    chip = tmp_path / "gpiochip0"
    chip.touch(mode=0o660)
    chip.chmod(0o660)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(pins, "_group_name", lambda _: "gpio")
    with pytest.raises(PinError, match=r"join the group gpio \(`sudo usermod -aG gpio"):
        check_chip(chip)


def test_no_permission_and_no_group_says_to_make_one(tmp_path, monkeypatch):
    chip = tmp_path / "gpiochip0"
    chip.touch()
    chip.chmod(0o600)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PinError, match="no group has it: add a udev rule"):
        check_chip(chip)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EBUSY, "Device or resource busy"), "is taken by another program"),
        (OSError(errno.EINVAL, "Invalid argument"), "does not exist there"),
        (RuntimeError("'GPIO busy'"), "is taken by another program"),
        (OSError(errno.EIO, "Input/output error"), "cannot be used: .*Input/output error"),
    ],
)
def test_a_drivers_words_become_ours(error, says):
    told = explain("door", 17, "gpiochip0", error)
    assert str(told).startswith("door: pin 17 of gpiochip0 ")
    with pytest.raises(PinError, match=says):
        raise told


def test_without_any_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pins, "_there", lambda _: False)
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    with pytest.raises(PinError, match=r"python3-lgpio.*--keyboard"):
        open_pins(Gpio(Factory.AUTO))
