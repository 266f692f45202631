"""A Raspberry Pi Pico W as a panel: a buzzer while it rings, one button to accept, one to refuse.

Beside it on the flash: bellwire.mpy, and config.py with ssid, key, host, port, me, password and
realm. In the call that follows, {"do": "open"} pulls the relay for three seconds.
"""

import time

import bellwire
import config
import machine
import network

buzzer = machine.Pin(15, machine.Pin.OUT)
relay = machine.Pin(16, machine.Pin.OUT)
accept = machine.Pin(17, machine.Pin.IN, machine.Pin.PULL_UP)
refuse = machine.Pin(18, machine.Pin.IN, machine.Pin.PULL_UP)
opened = []


def event(name, call, value):
    """What the peer tells: from `poll` only, so nothing here may take long."""
    print(name, value)
    if name == "message" and value == {"do": "open"}:
        relay.value(1)
        opened.append(time.ticks_ms())
        peer.send(call, {"done": "open", "ok": True})


def pressed(call):
    if not accept.value():
        peer.accept(call, talk=True)
    elif not refuse.value():
        peer.refuse(call)


wlan = network.WLAN(network.STA_IF)
wlan.active(True)
wlan.connect(config.ssid, config.key)
peer = bellwire.Peer(
    config.me, config.host, config.port, config.password, config.realm, on_event=event
)
while not peer.aborted:
    peer.poll(20)  # it connects as soon as there is a network
    rings = [call for call in peer.calls.values() if not call.out and call.ringing]
    buzzer.value(bool(rings))
    if rings:
        pressed(rings[0])
    if opened and time.ticks_diff(time.ticks_ms(), opened[-1]) > 3000:
        relay.value(0)
        opened.clear()
