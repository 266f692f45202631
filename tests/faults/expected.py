"""How both ends of a call may end, by fault, state and end: docs/protocol.md, "Who may end how"."""

from __future__ import annotations

from tests.faults.faults import ENDS, TALKS

#: States in which all that decides how the call ends was taken before the fault, by end.
SAID = ("accepted, unseen", "refused, uncleared", "canceled, unseen")


def expected(fault: str, state: str, end: str) -> tuple[set[str], set[str]]:
    """How the caller and the callee may end; "-" is told no end, a killed end that of both lives.

    "+ lost": the caller was told besides that the peer was lost.
    """
    accepted = {"ACCEPTED"}
    if state in TALKS:
        return accepted, accepted
    if fault == "bridge-ghost":
        fault = "killed"  # the same, whatever flag its cells come with
    if fault == "removed":
        return _removed(state, end)
    if fault == "taken-over":
        return _taken_over(state, end)
    if fault == "kills-always" and state not in SAID:
        return _not_taken(state, end)
    if fault == "killed" and end == "caller":
        return {
            # The call ends with its caller; what it decided before stands.
            "sent, unseen": ({"-"}, {"FAILURE", "MISSED"}),
            "ringing": ({"-"}, {"FAILURE"}),
            "accepting": ({"-"}, {"FAILURE"}),
            "accepted, unseen": (accepted, accepted),
            "refused, uncleared": ({"-"}, {"REFUSED"}),
            "canceled, unseen": ({"CANCELED"}, {"CANCELED"}),
            "probing": ({"-"}, {"MISSED"}),
        }.get(state, (accepted, accepted))
    if fault == "killed":
        lost = {"ACCEPTED + lost"}
        return {
            # Whoever accepted is gone; its next life is not in that call.
            "accepting": (lost, {"-", "FAILURE"}),
            "accepted, unseen": (lost, {"-", "FAILURE"}),
            "refused, uncleared": ({"REFUSED"}, {"REFUSED"}),
            "canceled, unseen": ({"CANCELED"}, {"MISSED"}),
        }.get(state, (accepted, accepted))
    if state == "refused, uncleared":
        return {"REFUSED"}, {"REFUSED"}
    if state == "canceled, unseen":
        return {"CANCELED"}, {"CANCELED"}
    if fault == "stopped" and (
        state == "accepting" or (state, end) == ("accepted, unseen", ENDS[1])
    ):
        # 20 s is more than the 5 s that a callee waits for the decision.
        return {"ACCEPTED + lost"}, {"FAILURE"}
    return accepted, accepted


def expected_talk(fault: str, state: str, end: str) -> tuple[set[str], set[str]]:
    """Why a call that went on is over, as the caller and the callee are told; "-" is told no end.

    A link that comes back in time ends nothing: then one of them hangs up.
    """
    hung_up = {"hung up"}
    here, there = hung_up, hung_up
    if fault in ("killed", "bridge-ghost"):
        # Its next life is not in the call; what it had said before stands.
        here, there = (hung_up, hung_up) if state == "hanging up" else ({"-"}, {"restarted"})
    elif fault == "taken-over":
        here, there = {"logged out"}, {"restarted"}  # Newer logins 1
        if state == "hanging up":
            here, there = hung_up, hung_up | {"restarted"}
    elif fault == "removed":
        here, there = {"peer lost"}, {"peer lost"}
        if state == "hanging up":
            here, there = hung_up, hung_up | {"peer lost"}
    return (there, here) if end == "callee" else (here, there)


def _not_taken(state: str, end: str) -> tuple[set[str], set[str]]:
    """Of a call whose ``end`` cannot say one cell any more ("What the broker does not take")."""
    lost, failed = {"ACCEPTED + lost"}, {"FAILURE"}
    if end == "caller":
        return {
            # It was heard before: what is accepted is decided, but that is never heard.
            "ringing": (lost, failed),
            "accepting": (lost, failed),
            # An ask may come first, and finds out that it cannot be answered.
            "sent, unseen": (lost | failed, failed | {"-"}),
        }.get(state, (failed, {"-"}))
    if state == "accepting":  # what it had to say was said
        return {"ACCEPTED"}, {"ACCEPTED"}
    if state == "ringing":
        return failed, failed
    return failed, failed | {"-", "MISSED"}


def _taken_over(state: str, end: str) -> tuple[set[str], set[str]]:
    """Of a call whose ``end`` has two logins; what both of them were told, the older one first."""
    accepted, failed = {"ACCEPTED"}, {"FAILURE"}
    if end == "caller":
        return {
            "sent, unseen": (failed, {"FAILURE", "MISSED"}),
            "ringing": (failed, failed),
            "refused, uncleared": ({"REFUSED", "FAILURE"}, {"REFUSED"}),
            "canceled, unseen": ({"CANCELED"}, {"CANCELED"}),
            "probing": (failed, {"MISSED"}),
        }.get(state, (accepted, accepted))
    return {
        "sent, unseen": (accepted, {"ACCEPTED", "FAILURE and ACCEPTED"}),
        "ringing": (accepted, {"FAILURE and ACCEPTED"}),
        "accepting": ({"ACCEPTED + lost"}, failed),
        "refused, uncleared": ({"REFUSED"}, {"REFUSED"}),
        "canceled, unseen": (
            {"CANCELED"},
            {f"{older} and MISSED" for older in ("CANCELED", "FAILURE")},
        ),
    }.get(state, (accepted, accepted))


def _removed(state: str, end: str) -> tuple[set[str], set[str]]:
    """Of a call whose ``end`` is removed: the broker clears its cells, and those to it."""
    failed = {"FAILURE"}
    if end == "caller":
        return {
            "ringing": (failed, {"CANCELED"}),
            "refused, uncleared": (failed, {"REFUSED"}),
            "canceled, unseen": ({"CANCELED"}, {"CANCELED"}),
        }.get(state, (failed, {"-", "CANCELED"}))
    return {
        "ringing": (failed, failed),
        "refused, uncleared": ({"REFUSED"}, {"REFUSED"}),
        "canceled, unseen": ({"CANCELED"}, {"FAILURE", "CANCELED"}),
    }.get(state, (failed, {"-"}))
