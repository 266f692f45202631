"""The talk of a call in a real browser, with Chromium's fake microphone and camera.

The doorbell's side of the talk is a second tab: a browser, too, so both ends are real ones.
"""

from __future__ import annotations

import http.server
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_sdk.services.web.content import pack_sdp, unpack_sdp
from tests.browser.conftest import Bell, Browser, Panel, chromium, until

pytestmark = pytest.mark.browser

OFFER = """
const done = arguments[arguments.length - 1];
(async () => {
  const stream = await navigator.mediaDevices.getUserMedia({audio: true, video: true});
  window.peer = new RTCPeerConnection();
  peer.ontrack = ({track, streams}) => {
    const sink = document.body.appendChild(document.createElement(track.kind));
    sink.srcObject = streams[0];
    sink.play();
  };
  for (const track of stream.getTracks()) peer.addTrack(track, stream);
  await peer.setLocalDescription();
  await new Promise((all) => {
    const check = () => peer.iceGatheringState === "complete" && all();
    peer.onicegatheringstatechange = check;
    check();
  });
  done(peer.localDescription.sdp);
})();
"""
ANSWER = """
const done = arguments[arguments.length - 1];
(async () => {
  window.peer = new RTCPeerConnection();
  peer.ontrack = ({track, streams}) => {
    const sink = document.body.appendChild(document.createElement(track.kind));
    sink.srcObject = streams[0];
    sink.play();
  };
  const stream = await navigator.mediaDevices.getUserMedia({audio: true, video: true});
  await peer.setRemoteDescription({type: "offer", sdp: arguments[0]});
  for (const track of stream.getTracks()) peer.addTrack(track, stream);
  await peer.setLocalDescription();
  await new Promise((all) => {
    const check = () => peer.iceGatheringState === "complete" && all();
    peer.onicegatheringstatechange = check;
    check();
  });
  done(peer.localDescription.sdp);
})();
"""
AGAIN = """
const done = arguments[arguments.length - 1];
peer.setLocalDescription().then(() => done(peer.localDescription.sdp));
"""
#: How much sound has come in, and how many pictures.
HEARD = """
const done = arguments[arguments.length - 1];
PEER.getStats().then((stats) => {
  let audio = 0, frames = 0;
  for (const each of stats.values()) {
    if (each.type !== "inbound-rtp") continue;
    if (each.kind === "audio") audio = each.totalAudioEnergy || 0;
    if (each.kind === "video") frames = each.framesDecoded || 0;
  }
  done([audio, frames]);
}, () => done([0, 0]));
"""
PAGE_PEER = "[...cards.values()][0].talk.peer"


def heard(browser: Browser, peer: str) -> list[float]:
    return browser.driver.execute_async_script(HEARD.replace("PEER", peer))


def doorbells_tab(browser: Browser, panel: Panel) -> str:
    """A page of this machine, where microphones are allowed."""
    browser.driver.switch_to.new_window("tab")
    browser.driver.get(panel.url + "trust")
    return browser.driver.current_window_handle


def media_of(body: Any) -> dict[str, Any]:
    return body["media"][0]


def in_call(browser: Browser, panel: Panel, bell: Bell) -> tuple[str, str, str]:
    """The page has answered a door's offer: the tabs of page and door, and the offer."""
    page = browser.open(panel.url)
    door = doorbells_tab(browser, panel)
    offer = browser.driver.execute_async_script(OFFER)
    bell.ring({"text": "hello", "media": [{"kind": "webrtc", "sdp": pack_sdp(offer)}]})
    browser.to(page)
    browser.press(".call button.answer")
    browser.see(".call .state", "In a call")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    return page, door, offer


def heard_at_the_door(browser: Browser, bell: Bell) -> None:
    """The door's tab takes the answer, and hears the page."""
    answer = unpack_sdp(media_of(bell.response)["sdp"])
    assert answer is not None
    browser.run("return peer.setRemoteDescription({type: 'answer', sdp: arguments[0]})", answer)
    until(lambda: heard(browser, "peer")[0] > 0, "the door hears the page")


def test_both_hear_each_other_and_the_door_is_seen(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """The offer rides in the content, the answer in the response, deflated: they fit a cell."""
    page, door, _ = in_call(browser, panel, bell)
    assert bell.response["text"] == "coming"
    browser.to(door)
    heard_at_the_door(browser, bell)
    browser.to(page)
    until(lambda: min(heard(browser, PAGE_PEER)) > 0, "the page hears and sees the door")
    browser.see(".call video")
    assert browser.find(".call .problem").text == ""
    browser.run("window.kept = " + PAGE_PEER)
    browser.press(".call button.hang-up")
    browser.gone(".call")
    assert browser.run("return kept.connectionState") == "closed"


def test_a_doorbell_without_an_offer_is_made_one(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """The page offers in its response; the answer, and late candidates, come in the call."""
    page = browser.open(panel.url)
    door = doorbells_tab(browser, panel)
    bell.ring({"media": [{"kind": "webrtc"}]})
    browser.to(page)
    browser.press(".call button.answer")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    browser.to(door)
    offer = unpack_sdp(media_of(bell.response)["sdp"])
    answer = browser.driver.execute_async_script(ANSWER, offer)
    bell.call.send({"sdp": pack_sdp(answer), "type": "answer"})
    bell.call.send({"candidates": ["candidate:nonsense", {"candidate": "", "sdpMid": "0"}]})
    until(lambda: heard(browser, "peer")[0] > 0, "the door hears the page")
    browser.to(page)
    until(lambda: min(heard(browser, PAGE_PEER)) > 0, "the page hears and sees the door")


def test_the_doorbell_may_offer_again_in_the_call(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """A new offer as a message is answered as one."""
    page = browser.open(panel.url)
    door = doorbells_tab(browser, panel)
    offer = browser.driver.execute_async_script(OFFER)
    bell.ring({"media": [{"kind": "webrtc", "sdp": pack_sdp(offer)}]})
    browser.to(page)
    browser.press(".call button.answer")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    answer = unpack_sdp(media_of(bell.response)["sdp"])
    browser.to(door)
    browser.run("return peer.setRemoteDescription({type: 'answer', sdp: arguments[0]})", answer)
    bell.call.send({"sdp": pack_sdp(browser.driver.execute_async_script(AGAIN))})
    browser.to(page)
    message = until(lambda: [each for each in bell.messages if "sdp" in each], "an answer")[0]
    assert message["type"] == "answer"
    assert unpack_sdp(message["sdp"]) is not None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--use-fake-device-for-media-stream", "--deny-permission-prompts"], "not allowed"),
        (["--use-fake-ui-for-media-stream"], "No microphone was found"),
    ],
)
def test_without_a_microphone_it_says_which_and_answers_all_the_same(
    options: list[str], why: str, panel: Panel, bell: Bell, tmp_path: Path
) -> None:
    """Denied, or none there: it still hears, and opens."""
    browser = Browser(chromium(*options, fake=False, folder=tmp_path / "without"))
    try:
        browser.open(panel.url)
        bell.ring({"media": [{"kind": "webrtc"}]})
        browser.press(".call button.answer")
        browser.see(".call .state", "In a call")
        browser.see(".call .problem", why)
        until(lambda: "started" in bell.heard, "the doorbell is in the call")
        assert unpack_sdp(media_of(bell.response)["sdp"]) is not None
    finally:
        browser.driver.quit()


def test_the_pages_own_camera_is_a_choice(browser: Browser, panel: Panel, bell: Bell) -> None:
    """Off until it is tapped; the door sees it in the call, and not any more when it is off."""
    page, door, _ = in_call(browser, panel, bell)
    camera = browser.see(".call button.camera", "My camera")
    assert camera.get_attribute("aria-pressed") == "false"
    browser.to(door)
    heard_at_the_door(browser, bell)
    assert heard(browser, "peer")[1] == 0, "and does not see it"
    browser.to(page)
    until(lambda: min(heard(browser, PAGE_PEER)) > 0, "the page hears and sees the door")
    assert browser.all(".call video.own") == []
    browser.press(".call button.camera")
    browser.see(".call video.own")
    browser.to(door)
    until(lambda: heard(browser, "peer")[1] > 0, "the door sees the page")
    browser.to(page)
    sound, pictures = heard(browser, PAGE_PEER)

    def goes_on() -> bool:
        more_sound, more_pictures = heard(browser, PAGE_PEER)
        return more_sound > sound and more_pictures > pictures

    until(goes_on, "and is seen and heard as before")
    browser.run("window.kept = [...cards.values()][0].talk.camera.getTracks()[0]")
    browser.press(".call button.camera")
    until(lambda: browser.run("return kept.readyState") == "ended", "the camera is off")
    until(lambda: browser.all(".call video.own") == [], "no picture of one's own")
    browser.press(".call button.camera")
    browser.see(".call video.own")
    browser.run("window.kept = [...cards.values()][0].talk.camera.getTracks()[0]")
    browser.press(".call button.hang-up")
    browser.gone(".call")
    assert browser.run("return kept.readyState") == "ended", "its light goes out with the call"


def test_a_camera_that_was_chosen_while_it_rang_is_in_the_answer(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """It is not on before; and where the page makes the offer, the door may see it, too."""
    page = browser.open(panel.url)
    door = doorbells_tab(browser, panel)
    browser.to(page)
    bell.ring({"media": [{"kind": "webrtc"}]})
    browser.press(".call button.camera")
    until(
        lambda: browser.find(".call button.camera").get_attribute("aria-pressed") == "true",
        "it is chosen",
    )
    assert browser.all(".call video.own") == []
    browser.press(".call button.answer")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    browser.see(".call video.own")
    browser.to(door)
    offer = unpack_sdp(media_of(bell.response)["sdp"])
    bell.call.send(
        {"sdp": pack_sdp(browser.driver.execute_async_script(ANSWER, offer)), "type": "answer"}
    )
    until(lambda: min(heard(browser, "peer")) > 0, "the door sees and hears the page")


def test_a_page_that_is_loaded_anew_in_its_call_talks_again(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """It offers a new connection, in the call; what was said before is not taken for its answer."""
    page, door, offer = in_call(browser, panel, bell)
    bell.call.send({"sdp": pack_sdp(offer), "type": "answer"})  # of the former life
    signals = "return [...cards.values()][0].call.signals.length"
    until(lambda: browser.run(signals) == 1, "the page has heard that")
    browser.driver.refresh()
    browser.see(".call .state", "In a call")

    def offered() -> str | None:
        again = [each for each in bell.messages if each.get("type") == "offer"]
        return unpack_sdp(again[0]["sdp"]) if again else None

    again = until(offered, "a new offer, in the call")
    browser.to(door)
    answer = browser.driver.execute_async_script(ANSWER, again)
    bell.call.send({"sdp": pack_sdp(answer), "type": "answer"})
    until(lambda: heard(browser, "peer")[0] > 0, "the door hears the page again")
    browser.to(page)
    until(lambda: min(heard(browser, PAGE_PEER)) > 0, "the page hears and sees the door again")
    assert browser.find(".call .problem").text == ""
    assert sum(each.get("type") == "offer" for each in bell.messages) == 1


def test_a_door_that_does_not_take_up_the_talk_again_is_said(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """The page was loaded anew, and nothing comes back: it still opens, and hangs up."""
    browser.open(panel.url)
    bell.ring({"media": [{"kind": "webrtc"}]})
    browser.press(".call button.answer")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    browser.see(".call .state", "In a call")
    browser.driver.refresh()
    browser.see(".call .problem", "does not take up the talk again")
    browser.press(".call button.open")
    browser.see(".call .door", "open")
    browser.press(".call button.hang-up")
    browser.gone(".call")


SEND_ONLY = OFFER.replace(
    "for (const track of stream.getTracks()) peer.addTrack(track, stream);",
    "for (const track of stream.getTracks())"
    " peer.addTransceiver(track, {direction: track.kind === 'video' ? 'sendonly' : 'sendrecv'});",
)


def test_a_door_that_shows_no_pictures_is_offered_none(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """Its offer says so: there is no button for a camera, and the talk is as ever."""
    page = browser.open(panel.url)
    doorbells_tab(browser, panel)
    offer = browser.driver.execute_async_script(SEND_ONLY)
    bell.ring({"media": [{"kind": "webrtc", "sdp": pack_sdp(offer)}]})
    browser.to(page)
    browser.see(".call.rings")
    browser.gone(".call button.camera")
    browser.press(".call button.answer")
    browser.see(".call .state", "In a call")
    browser.gone(".call button.camera")
    assert browser.find(".call .problem").text == ""


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--use-fake-device-for-media-stream", "--deny-permission-prompts"), "is not allowed"),
        ((), "No camera was found"),
    ],
)
def test_without_a_camera_it_says_which_and_talks_on(
    panel: Panel, bell: Bell, tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    """Not allowed, or none there."""
    browser = Browser(chromium(*options, fake=False, folder=tmp_path / "without"))
    try:
        browser.open(panel.url)
        bell.ring({"media": [{"kind": "webrtc"}]})
        browser.press(".call button.answer")
        browser.see(".call .state", "In a call")
        browser.press(".call button.camera")
        browser.see(".call .problem", "camera")
        browser.see(".call .problem", why)
        assert browser.find(".call button.camera").get_attribute("aria-pressed") == "false"
        browser.see(".call .state", "In a call")
    finally:
        browser.driver.quit()


def test_over_plain_http_it_says_that_talking_needs_https(
    make_panel, bell: Bell, tmp_path: Path
) -> None:
    """No microphone there; the page says what to do, and answers all the same."""
    panel = make_panel('[web]\nnames = ["panel.lan"]\n')
    folder = tmp_path / "plain"
    rule = f"MAP panel.lan 127.0.0.1:{panel.port}"
    browser = Browser(chromium(f"--host-resolver-rules={rule}", folder=folder))
    try:
        browser.open(f"http://panel.lan:{panel.port}/")
        browser.see("#https", "needs https")
        bell.ring({"media": [{"kind": "webrtc"}]})
        browser.press(".call button.answer")
        browser.see(".call .problem", "talking needs https")
        browser.see(".call .state", "In a call")
        browser.press(".call button.camera")
        browser.see(".call .problem", "showing yourself needs https")
        browser.find("#https a").click()
        browser.see("h1", "Talking needs https")
    finally:
        browser.driver.quit()


class Camera(http.server.BaseHTTPRequestHandler):
    """A camera: a snapshot, a page, and a WHEP end that is broken."""

    asked: list[str]
    #: Offers that came to a working WHEP end, and its answers.
    offers: queue.SimpleQueue[str]
    answers: queue.SimpleQueue[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        picture = self.path.startswith("/snapshot")
        body = PIXEL if picture else b"<!doctype html><p>live"
        self.send_response(200)
        self.send_header("Content-Type", "image/png" if picture else "text/html")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.asked.append(self.path)
        answer = b""
        plain = self.headers["Content-Type"].startswith("text/plain")
        if self.path == "/working" or (self.path == "/go2rtc" and plain):
            offer = self.rfile.read(int(self.headers["Content-Length"]))
            self.offers.put(offer.decode())
            answer = self.answers.get(timeout=20).encode()
        self.send_response((200 if plain else 201) if answer else 503)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Expose-Headers", "Location")
        self.send_header("Content-Type", "application/sdp")
        if not plain:
            self.send_header("Location", "/session/1")
        self.end_headers()
        self.wfile.write(answer)

    def do_DELETE(self) -> None:
        self.asked.append(f"DELETE {self.path}")
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()

    def do_OPTIONS(self) -> None:
        self.send_response(200)
        headers = "Authorization" if self.path == "/go2rtc" else "*"  # as older ones have it
        for name, value in (("Origin", "*"), ("Headers", headers), ("Methods", "*")):
            self.send_header(f"Access-Control-Allow-{name}", value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)


@pytest.fixture
def camera() -> Iterator[tuple[str, list[str]]]:
    """Its origin, and the paths that were asked for."""
    asked: list[str] = []
    handler = type("Handler", (Camera,), {"asked": asked})
    Camera.offers, Camera.answers = queue.SimpleQueue(), queue.SimpleQueue()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_media_by_address_are_shown_the_best_that_comes_where_the_settings_allow_it(
    browser: Browser, make_panel, bell: Bell, camera: tuple[str, list[str]]
) -> None:
    """A camera that is broken gives way to the next; of other origins nothing is loaded."""
    origin, asked = camera
    panel = make_panel(f'[web]\nmedia = ["{origin}"]\n')
    browser.open(panel.url)
    broken = {"kind": "whep", "url": f"{origin}/whep"}
    snapshot = {"kind": "snapshot", "url": f"{origin}/snapshot.png"}
    page = {"kind": "page", "url": f"{origin}/live"}
    foreign = {"kind": "page", "url": origin.replace("127.0.0.1", "localhost") + "/foreign"}
    first = bell.ring({"media": [foreign, broken, snapshot, page]})
    until(lambda: sum("/snapshot" in each for each in asked) >= 2, "the picture, twice")
    browser.gone(".call iframe")
    first.cancel()
    browser.gone(".call")
    second = bell.ring({"media": [page, snapshot]})
    until(lambda: "/live" in asked, "the page in its frame")
    second.cancel()
    browser.gone(".call")
    third = bell.ring({"text": "hello", "media": [broken]})
    browser.see(".call .problem", "does not come: 503")
    third.cancel()
    browser.gone(".call")
    bell.ring({"text": "hello", "media": [foreign]})
    browser.see(".call .media p", "/foreign")
    assert "/foreign" not in asked
    browser.press(".call button.answer")
    browser.see(".call .state", "In a call")


@pytest.mark.parametrize("path", ["/working", "/go2rtc"])
def test_a_cameras_live_view_by_whep(
    browser: Browser, make_panel, bell: Bell, camera: tuple[str, list[str]], path: str
) -> None:
    """The picture moves while it rings; when the call is over, the camera is told so.

    Older go2rtcs let no page of another origin name the type of its offer; there is no address for
    the view then, which ends with its connection.
    """
    origin, asked = camera
    panel = make_panel(f'[web]\nmedia = ["{origin}"]\n')
    page = browser.open(panel.url)
    lens = doorbells_tab(browser, panel)
    browser.to(page)
    invitation = bell.ring({"media": [{"kind": "whep", "url": origin + path}]})
    browser.see(".call.rings")
    browser.to(lens)
    offer = Camera.offers.get(timeout=20)
    Camera.answers.put(browser.driver.execute_async_script(ANSWER, offer))
    browser.to(page)
    until(
        lambda: browser.run("return document.querySelector('.call video')?.videoWidth > 2"),
        "a moving picture",
    )
    assert browser.run("return document.querySelector('.call video').muted")
    until(
        lambda: browser.run("return [...cards.values()][0].ends.length") == 1, "the view to be kept"
    )
    invitation.cancel()
    browser.gone(".call")
    if path == "/working":
        until(lambda: "DELETE /session/1" in asked, "the camera is told")


def test_a_picture_within_the_content(browser: Browser, panel: Panel, bell: Bell) -> None:
    """It comes with the call itself."""
    browser.open(panel.url)
    bell.ring({"media": [{"kind": "snapshot", "data": PIXEL}]})
    browser.see(".call.rings")
    until(
        lambda: browser.run("return document.querySelector('.call img').naturalWidth") == 1,
        "the picture",
    )
