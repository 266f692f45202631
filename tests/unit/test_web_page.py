"""The state of a panel's page: who may do what when, and what all pages are shown."""

from __future__ import annotations

import pytest

from device_sdk.services.history.store import HistoryOutcome, HistoryRow
from device_sdk.services.logic.appliance import EndCall, SayInCall
from device_sdk.services.logic.panel import AcceptCall, CallEnd, RefuseCall
from device_sdk.services.web.asked import Asker, PageVerdict, Problem
from device_sdk.services.web.page import DOOR_ANSWERS, MAX_KEPT, MAX_MISSED, Page

ANNA, BEN = Asker("tab-a", "Anna"), Asker("tab-b", "Ben")


@pytest.fixture
def page() -> Page:
    made = Page("kitchen", peers=["front-door"])
    made.ringing("c", "front-door", "hello", 1000)
    return made


def call(page: Page) -> dict:
    return page.shown()["calls"][0]


def up(page: Page) -> Page:
    page.answer("c", ANNA)
    page.started("c", "front-door", 1001, 1)
    return page


def test_the_first_answer_wins_and_the_other_is_told_whose_it_is(page: Page) -> None:
    assert page.answer("c", ANNA) == PageVerdict((AcceptCall("c"),))
    assert page.answer("c", BEN) == PageVerdict((), Problem.ANSWERED, "Anna")
    assert page.refuse("c", BEN) == PageVerdict((), Problem.ANSWERED, "Anna")
    assert (call(page)["stage"], call(page)["tab"], call(page)["by"]) == (
        "answering",
        "tab-a",
        "Anna",
    )


def test_a_refusal_wins_as_well(page: Page) -> None:
    assert page.refuse("c", BEN) == PageVerdict((RefuseCall("c"),))
    for ask in (page.answer, page.refuse):
        assert ask("c", ANNA) == PageVerdict((), Problem.REFUSED, "Ben")
    assert page.open("c", ANNA, 1).problem is page.hang_up("c").problem is Problem.REFUSED
    page.ended("c", CallEnd.REFUSED, 1003)
    assert page.shown()["last"]["how"] == "refused"


def test_an_answer_that_comes_too_late_changes_nothing(page: Page) -> None:
    page.ended("c", CallEnd.MISSED, 1002)
    version = page.version
    assert page.answer("c", ANNA).problem is page.refuse("c", ANNA).problem is Problem.OVER
    assert page.open("c", ANNA, 1).problem is page.hang_up("c").problem is Problem.OVER
    assert page.signal("c", ANNA, {}).problem is Problem.OVER
    assert page.version == version


def test_missed_calls_are_kept_with_their_time_until_seen(page: Page) -> None:
    page.ended("c", CallEnd.MISSED, 1002)
    page.missed("garden", {"text": "it rang while off"}, 900)
    shown = page.shown()
    assert [each["caller"] for each in shown["missed"]] == ["garden", "front-door"]
    assert [each["at"] for each in shown["missed"]] == [900, 1002]
    assert shown["unseen"] == 2
    page.seen()
    assert (page.shown()["unseen"], len(page.shown()["missed"])) == (0, 2)
    for number in range(MAX_MISSED + 5):
        page.missed("x", None, number)
    assert len(page.shown()["missed"]) == MAX_MISSED


def test_open_in_a_call_is_asked_once_at_a_time(page: Page) -> None:
    up(page)
    assert page.open("c", BEN, 1).effects == (SayInCall("c", {"do": "open"}),)
    assert page.open("c", ANNA, 2).problem is Problem.ASKED
    page.message("c", {"done": "open", "ok": True}, 1005)
    assert (call(page)["door"], page.deadline) == ("open", None)
    assert page.open("c", ANNA, 3).effects == (SayInCall("c", {"do": "open"}),)
    page.message("c", {"done": "open", "ok": False, "why": "not by you"}, 1006)
    assert (call(page)["door"], call(page)["why"]) == ("not opened", "not by you")


def test_open_while_it_rings_answers_first(page: Page) -> None:
    assert page.open("c", ANNA, 1) == PageVerdict((AcceptCall("c"),))
    assert page.open("c", ANNA, 1).problem is Problem.ASKED
    assert page.started("c", "front-door", 1001, 2) == [SayInCall("c", {"do": "open"})]
    assert call(page)["door"] == "asked"


def test_open_while_somebody_answers_waits_for_the_call(page: Page) -> None:
    page.answer("c", ANNA)
    assert page.open("c", BEN, 1) == PageVerdict()
    assert page.started("c", "front-door", 1001, 2) == [SayInCall("c", {"do": "open"})]


def test_a_door_that_says_nothing_is_given_up(page: Page) -> None:
    up(page).open("c", ANNA, 1)
    assert page.deadline == 1 + DOOR_ANSWERS
    page.tick(page.deadline - 0.1)
    assert call(page)["door"] == "asked"
    page.tick(1 + DOOR_ANSWERS)
    assert (call(page)["door"], page.deadline) == ("unknown", None)


def test_a_door_of_several_is_asked_by_its_name() -> None:
    page = Page("kitchen", door="gate")
    page.ringing("c", "front-door", None, 1)
    assert up(page).open("c", ANNA, 1).effects == (SayInCall("c", {"do": "open", "door": "gate"}),)


def test_a_caller_that_does_not_stay_in_the_call_cannot_be_asked(page: Page) -> None:
    page.open("c", ANNA, 1)
    page.ended("c", CallEnd.ACCEPTED, 1002)
    assert page.shown()["last"]["no_door"] is True


def test_hanging_up(page: Page) -> None:
    assert page.hang_up("c").problem is Problem.NOT_UP
    up(page)
    assert page.hang_up("c").effects == (EndCall("c"),)
    page.over("c", "hung up", 1009)
    assert page.shown()["calls"] == []
    assert page.shown()["last"]["how"] == "hung up"


def test_hanging_up_while_it_is_answered_waits_for_the_call(page: Page) -> None:
    page.answer("c", ANNA)
    assert page.hang_up("c") == PageVerdict()
    assert page.started("c", "front-door", 1001, 1) == [EndCall("c")]


def test_what_could_not_be_done_rings_on(page: Page) -> None:
    page.open("c", ANNA, 1)
    page.undone("c")
    assert (call(page)["stage"], call(page)["tab"]) == ("ringing", "")
    assert page.answer("c", BEN).effects == (AcceptCall("c"),)
    assert page.started("c", "front-door", 1, 1) == []


def test_a_call_that_was_answered_by_a_button_is_shown(page: Page) -> None:
    page.started("c", "front-door", 1001, 1)
    assert (call(page)["stage"], call(page)["tab"]) == ("up", "")
    page.started("unheard-of", "garden", 1002, 2)
    assert len(page.shown()["calls"]) == 2


def test_signals_are_of_the_tab_that_is_in_the_call(page: Page) -> None:
    assert page.signal("c", ANNA, {"candidates": []}).problem is Problem.NOT_UP
    up(page)
    assert page.signal("c", BEN, {"candidates": []}) == PageVerdict((), Problem.ANSWERED, "Anna")
    assert page.signal("c", ANNA, {"candidates": ["x"]}).effects == (
        SayInCall("c", {"candidates": ["x"]}),
    )
    long = page.signal("c", ANNA, {"sdp": "v=0 " * 1000}).effects[0]
    assert isinstance(long, SayInCall)
    assert isinstance(long.message["sdp"], bytes)  # deflated: it would not fit


def test_what_the_other_side_says_is_numbered_kept_and_bounded(page: Page) -> None:
    up(page)
    for number in range(MAX_KEPT + 1):
        page.message("c", {"candidates": [f"candidate:{number}"]}, 1)
    page.message("c", {"text": "<b>one moment</b>"}, 1002)
    page.message("gone", "to nobody", 1002)
    shown = call(page)
    assert len(shown["signals"]) == MAX_KEPT
    assert shown["signals"][-1] == {"n": MAX_KEPT + 1, "candidates": [f"candidate:{MAX_KEPT}"]}
    assert shown["said"] == [{"text": "<b>one moment</b>", "at": 1002}]


def test_the_browsers_side_of_the_talk_goes_into_the_response(page: Page) -> None:
    effect = page.answer("c", ANNA, "v=0").effects[0]
    assert effect == AcceptCall("c", {"media": [{"kind": "webrtc", "sdp": "v=0"}]})


def test_presence_and_link(page: Page) -> None:
    page.link(True)
    page.presence("front-door", True)
    page.presence("stranger", True)
    shown = page.shown()
    assert shown["online"]
    assert shown["peers"] == [{"name": "front-door", "online": True}]
    page.link(False)
    assert page.shown()["peers"] == [{"name": "front-door", "online": None}]


def test_whatever_changes_has_a_new_version_and_nothing_else_has(page: Page) -> None:
    version = page.version
    page.ringing("c", "front-door", "again", 1001)
    page.set_disturb(True)
    page.seen()
    page.ended("unknown", CallEnd.MISSED, 1)
    page.tick(1e9)
    assert page.version == version
    page.set_disturb(False)
    assert page.version > version
    assert page.shown()["disturb"] is False


def test_all_calls_are_listed_with_how_they_ended_and_whether_the_door_was_opened(
    page: Page,
) -> None:
    up(page).open("c", ANNA, 1)
    page.message("c", {"done": "open", "ok": True}, 1002)
    page.message("c", {"done": "open", "ok": False}, 1003)
    page.over("c", "peer lost", 1004)
    for number, end in enumerate(CallEnd):
        page.ringing(f"{number}", "gate", None, 1)
        page.ended(f"{number}", end, 2000 + number)
    rows = [(row["outcome"], row["by"], row["opened"]) for row in page.shown()["listed"]][::-1]
    assert rows[0] == ("answered", "Anna", True)
    assert [row[0] for row in rows[1:]] == [
        "answered",
        "refused",
        "missed",
        "answered_elsewhere",
        "failed",
    ]


def test_what_a_previous_life_kept_is_listed_and_no_news() -> None:
    page = Page("kitchen")
    page.restore(
        [
            HistoryRow("a", 900, "gate", "kitchen", HistoryOutcome.ANSWERED, "kitchen"),
            HistoryRow("b", 901, "gate", "kitchen", HistoryOutcome.ANSWERED, "Anna", True),
            HistoryRow("c", 902, "gate", "kitchen", HistoryOutcome.MISSED, text="parcel"),
            HistoryRow("d", None, "gate", "kitchen", HistoryOutcome.MISSED),
        ]
    )
    shown = page.shown()
    assert [row["by"] for row in shown["listed"]] == ["", "", "Anna", ""]
    assert shown["missed"] == [{"caller": "gate", "at": 902, "text": "parcel"}]
    assert (shown["unseen"], shown["last"], page.by("a")) == (0, None, "")
