"""How many plausible mistakes of a small peer its vectors catch: `python mistakes.py FOLDER`.

Each is one small change of bellwire.py, applied alone: [what is wrong, text, what stands there
instead]. They measure the vectors, not this implementation. Prints those that pass (-v: each, with
the vector that catches it); fails if one no longer applies, or if fewer than ENOUGH are caught.
"""

import os
import sys
import types

import play

ENOUGH = 0.95
SOURCE = os.path.join(os.path.dirname(__file__), "..", "bellwire.py")

MISTAKES = [
    ["(a) a decision is taken back by a later answer", "if call.state == _RINGING:\n            if state in (_SEEN, _TALKING):", "if call.state != _CLEARED:\n            if state in (_SEEN, _TALKING):"],
    ["(b) what is retained rings", "live = not retained and cell[4] and", "live = cell[4] and"],
    ["(b) a ttl of 0 rings", "live = not retained and cell[4] and", "live = not retained and"],
    ["(b) any asker is an answer", "cell.get(16) == self.epoch or known", "16 in cell or known"],
    ["(b) it rings whoever is online", "known = self._online.get(peer) == cell[2]", "known = self._online.get(peer)"],
    ["(b) it rings for a caller of whom nothing was read", "(cell.get(16) == self.epoch or known)", "True"],
    ["(b) it does not ask", "state, ask = _RECEIVED, True", "state = _RECEIVED"],
    ["(b) it acts on its own accept", "            self._set(call, _ACCEPTED)\n\n    def refuse", "            self._set(call, _ACCEPTED)\n            self._event(\"accepted\", call)\n\n    def refuse"],
    ["(c) an ask is not answered", "self._reply(call, False, cell[2])", "pass"],
    ["(c) the asker is its own epoch", "self._reply(call, False, cell[2])", "self._reply(call, False, self.epoch)"],
    ["(c) a refused call is not cleared", "                self._clear(call)\n                self._tell(call, \"refused\" if", "                self._tell(call, \"refused\" if"],
    ["(d) an answer is not cleared", "            self._clear(call)\n            return\n        state = cell[1]", "            return\n        state = cell[1]"],
    ["(e) an ended of an unknown call is not answered", "            self._once(peer, call_id, _SEEN)", "            pass"],
    ["(e) an accepted of an unknown call is seen", "self._once(peer, call_id, _FAILED, _ACCEPT_FAILURE)", "self._once(peer, call_id, _SEEN, None)"],
    ["(e) what it ended rings again", "if known or state != _RINGING:", "if state != _RINGING:"],
    ["(e) what it ended is answered as seen", "            state, reason = known[0]\n", "            state, reason = _SEEN, None\n"],
    ["(e) answers of unknown calls are cleared, whatever they say", "self._publish(self._topic(True, peer, call_id), said)", "self._publish(self._topic(True, peer, call_id), b\"\")"],
    ["(e) talking of an unknown call is ended, not over", "if state == _TALKING:\n                said", "if False:\n                said"],
    ["(f) an invite that rang is left", "            state, reason = _ENDED, _RESTARTED", "            pass"],
    ["(f) an accepted talk is left", "elif state == _TALKING or out and state == _ACCEPTED and 11 in cell:", "elif state == _TALKING:"],
    ["(f) an accept is left", "            state, reason = _FAILED, _ACCEPT_FAILURE\n", "            return\n"],
    ["(f) a talk is left", "elif state == _TALKING or out and", "elif out and"],
    ["(f) received is left", "if not out or self._found > 8:", "if not out and state != _RECEIVED or self._found > 8:"],
    ["(f) each final invite is left", "if not out or self._found > 8:", "if not out:"],
    ["(f) its own cells of this life are found", "if not cell or cell[2] == self.epoch or", "if not cell or"],
    ["(h) what is too large is dropped", "                self._too_large(kind == \"answer\", writer, call_id, data)", "                pass"],
    ["(h) what is too large is busy, whatever it says", "        elif not out and state == _RINGING:\n", "        elif not out:\n"],
    ["said again at 2, 4, 8 s", "                call.delay = min(call.delay * 2, 30000)\n                self._say(call)", "                self._say(call)\n                call.delay = min(call.delay * 2, 30000)"],
    ["said again without end each 2 s", "call.delay = min(call.delay * 2, 30000)", "pass"],
    ["a ring is never said again", "        call.due = None if rests else call.said + call.delay", "        call.due = None"],
    ["a decision is said to who is away", "call.state == _RINGING or self._online.get(call.peer) is not None:", "True:"],
    ["who comes online is told nothing", "if call.out and came and call.due is not None:", "if False:"],
    ["the ttl is that of the press", "4: max(0, call.end - call.said) if ringing", "4: 60000 if ringing"],
    ["accept waits 30 s", "call.end = _now() + 5000", "call.end = _now() + 30000"],
    ["no slack after the ttl", "self._ring(call, _now() + cell[4] + 2000)", "self._ring(call, _now() + cell[4])"],
    ["a silent callee rings for the whole minute", "min(30000, ring_ms * 9 // 10)", "ring_ms"],
    ["who is offline gave no response", "_PEER_OFFLINE if gone else _NO_RESPONSE", "_NO_RESPONSE"],
    ["a lost caller is expired", "_CALLER_LOST if lost else _CALLEE_EXPIRED", "_CALLEE_EXPIRED"],
    ["a caller that goes offline rings on", "call.end = min(call.end, now + 10000)", "pass"],
    ["answered elsewhere is a missed call", "cell.get(7, _EXPIRED) != 2:", "True:"],
    ["the callee's failure after the decision is not told", "if call.state == _ACCEPTED and state != _SEEN:", "if False:"],
    ["the link is settled before its echo", "            self._present()\n        elif kind == 0x40:", "            self._present()\n            self._settle()\n        elif kind == 0x40:"],
    ["its outbox stays subscribed, and is found", "cell[2] == self.epoch or (kind ==", "(kind =="],
    ["a resync says nothing", "                self._say(call, ask=not call.out and call.state == _RECEIVED)", "                pass"],
    ["a resync does not clear again", "            if call.state == _CLEARED:\n                self._clear(call)\n            else:", "            if call.state != _CLEARED:"],
    ["talk is offered without being asked for", "offers = call.mine and", "offers = True and"],
    ["the callee offers talk to who has none", "call.offer and state == _ACCEPTED", "state == _ACCEPTED"],
    ["a message is handled twice", "if first + n > (call.got or 0):", "if True:"],
    ["a message after a gap is handled", "if first <= (call.got or 0) + 1:", "if True:"],
    ["a message of another login is handled", "if cell[2] == call.epoch:\n                    self._messages", "if True:\n                    self._messages"],
    ["a message is not acknowledged", "        if handled:\n            self._set(call, call.state)", "        if handled:\n            pass"],
    ["an acknowledged message is said on", "            call.message = None\n            call.due = None", "            call.due = None"],
    ["got above what was said is believed", "call.acked < got <= call.count", "call.acked < got"],
    ["the other's end is not answered", "            self._seen(call, \"over\")\n        elif call.state == _ACCEPTED:", "            self._tell(call, \"over\")\n        elif call.state == _ACCEPTED:"],
    ["who goes offline is lost at once", "now + (10000 if cell else 30000)", "now + (10000 if cell else 29000)"],
    ["a talk has no limit", "call.limit = call.end = _now() + 7200000", "call.limit = call.end = _now() + 72000000"],
    ["a late will ends a talk", "(online or cell.get(2) == call.epoch or not cell)", "True"],
    ["hanging up says no reason", "7: call.reason if state in (2, 3, _OVER) else None", "7: call.reason if state in (2, _FAILED) and not up else None"],
    ["keys may come twice", "if raw in pairs:", "if False:"],
    ["heads may be long", "if major < 7 and n < least:", "if False:"],
    ["tags are taken", "if major == 6 or depth > 15:", "if major == 6:\n            return self.item(depth)\n        if depth > 15:"],
    ["what follows the end is taken", "if reader.at != len(data) or cell[0]", "if cell[0]"],
    ["a peer id in lower-case hex is one", "    if escape(peer) != level:", "    if escape(peer).lower() != level.lower():"],
]  # fmt: skip


def mistaken(source, what, text, instead):
    """The module with that mistake; ValueError if it no longer applies."""
    if source.count(text) != 1:
        times = source.count(text)
        raise ValueError("%r no longer applies: its text is there %d times" % (what, times))
    module = types.ModuleType("bellwire")
    exec(compile(source.replace(text, instead), what, "exec"), module.__dict__)
    return module


def main():
    with open(SOURCE) as file:
        source = file.read()
    caught = 0
    for what, text, instead in MISTAKES:
        _, found = play.differences(mistaken(source, what, text, instead), sys.argv[1], first=True)
        caught += bool(found)
        if not found or "-v" in sys.argv:
            print("caught" if found else "PASSES", what, "by " + found[0][0] if found else "")
    print("mistakes caught: %d of %d" % (caught, len(MISTAKES)))
    return 0 if caught >= ENOUGH * len(MISTAKES) else 1


if __name__ == "__main__":
    sys.exit(main())
