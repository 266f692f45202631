"""A peer of micro_sdk under MicroPython: commands come on stdin, one JSON a line; events go out."""

import gc
import json
import select
import sys

import bellwire

told = sys.stdout


def show(name, call=None, value=None, **more):
    more["event"] = name
    if call is not None:
        more["call_id"] = call.id
        more["peer"] = call.peer
    if isinstance(value, Exception):
        value = str(value)
    if value is not None:
        more["value"] = value
    told.write(json.dumps(more) + "\n")


def find(call_id):
    for call in peer.calls.values():
        if call.id == call_id:
            return call
    return None


def event(name, call, value):
    show(name, call, value)
    if name == "ring" and "accept" in sys.argv:
        peer.accept(call, "coming", talk=True)
    if name == "message" and isinstance(value, dict) and "do" in value:
        peer.send(call, {"done": value["do"], "ok": True})


def do(what):
    name = what.pop("do")
    call = find(what.pop("call_id", ""))
    if name == "call":
        call = peer.call(what.pop("to"), **what)
        show("calling", call)
    elif name == "heap":
        gc.collect()
        show("heap", free=gc.mem_free(), used=gc.mem_alloc())
    elif name == "close":
        peer.close()
        return False
    elif call is not None:
        getattr(peer, name)(call, **what)
    return True


peer = bellwire.Peer(sys.argv[2], "127.0.0.1", int(sys.argv[1]), realm=sys.argv[3], on_event=event)
commands = select.poll()
commands.register(sys.stdin, select.POLLIN)
going = True
while going and not peer.aborted:
    peer.poll(20)
    while going and commands.poll(0):
        line = sys.stdin.readline()
        going = bool(line) and do(json.loads(line))
