"""What must hold of one engine, whatever the rest of the world does."""

from __future__ import annotations

from device_sdk.core.callee import OPEN
from device_sdk.core.callee import Phase as CalleePhase
from device_sdk.core.caller import UNDECIDED
from device_sdk.core.effects import DeadlineReached, Disconnected
from device_sdk.core.engine import Engine

#: Seconds within which everything that the app waits for ends, though no link ever comes back.
ALONE = 20.0
_MOST_STEPS = 100


def rings_for_the_lost(engine: Engine, now: float) -> str | None:
    """What is wrong right after a presence: one that is gone rings no longer than its grace.

    Later the caller may ring on: a live word of it is more than a presence that says otherwise.
    """
    context = engine._context
    for call in engine.callee.calls.values():
        known = context.watches.of(call.caller)
        if call.phase is not CalleePhase.RINGING or not known.current or known.online is None:
            continue
        lost = not known.online if known.epoch == call.epoch else known.online
        grace = context.settings.caller_lost_grace
        if lost and (call.ring_at is None or call.ring_at - now > grace):
            return f"{engine.peer_id} rings on for {call.caller}, which is known to be gone"
    return None


def never_ends_alone(engine: Engine, now: float) -> str | None:
    """What is wrong at any moment: without a link, all that the app waits for must still end."""
    if not _waits(engine):
        return None
    began, engine = now, engine.clone()
    engine.handle(Disconnected(), now)
    for _ in range(_MOST_STEPS):
        if not _waits(engine):
            return None
        due = engine.deadline()
        if due is None or due - began > ALONE:
            return f"{engine.peer_id} waits for ever when its link does not come back"
        now = max(now, due)
        engine.handle(DeadlineReached(), now)
    return f"{engine.peer_id} does not come to rest"


def _waits(engine: Engine) -> bool:
    return any(c.phase in UNDECIDED or c.talks for c in engine.caller.calls.values()) or any(
        c.phase in OPEN or c.talks for c in engine.callee.calls.values()
    )
