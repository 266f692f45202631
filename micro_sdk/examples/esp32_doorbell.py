"""An ESP32 doorbell on a battery: asleep until its button is pressed; rings; sleeps again.

Beside it on the flash: bellwire.mpy, and config.py with ssid, key, host, port, me, password, realm
and panel. The button joins pin 33 and ground.
"""

import time

import bellwire
import config
import esp32
import machine
import network

BUTTON = 33
LIGHT = 2
RING_MS = 30000


def join():
    """Wi-Fi, in ten seconds or not at all."""
    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    wlan.connect(config.ssid, config.key)
    begun = time.ticks_ms()
    while not wlan.isconnected():
        if time.ticks_diff(time.ticks_ms(), begun) > 10000:
            return False
        time.sleep_ms(50)
    return True


def press():
    """Ring until somebody says something, or nobody does: accepted, refused, failed."""
    light = machine.Pin(LIGHT, machine.Pin.OUT)
    outcome = []

    def event(name, call, value):
        if call is not None and call.over and not outcome:
            outcome.append(name)

    begun = time.ticks_ms()
    peer = bellwire.Peer(
        config.me, config.host, config.port, config.password, config.realm,
        on_event=event, counter="bellwire.count",
    )  # fmt: skip
    call = peer.call(config.panel, {"button": 1}, RING_MS)
    while not call.over:
        peer.poll(50)
    light.value(outcome[0] == "accepted")
    peer.close()
    print(outcome[0], peer.bytes, "bytes", time.ticks_diff(time.ticks_ms(), begun), "ms")


if machine.reset_cause() == machine.DEEPSLEEP_RESET and join():
    press()
button = machine.Pin(BUTTON, machine.Pin.IN, machine.Pin.PULL_UP)
esp32.wake_on_ext0(button, esp32.WAKEUP_ALL_LOW)
machine.deepsleep()
