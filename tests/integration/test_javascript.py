"""The JavaScript peer: its own tests, and calls with this implementation in both directions."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from amqtt.contexts import ListenerConfig, ListenerType

from device_sdk import AnswerReason, EndReason
from tests.broker_support.running import Running, with_tls
from tests.commands import CommandedPeer
from tests.peers import ThreadedPeer
from tests.servers import BrokerProcess, BundledBroker

JS = Path(__file__).parents[2] / "js_sdk"
NODE = shutil.which("node")
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def need_node() -> None:
    """Skip where there is no Node, or fail where there has to be one."""
    if NODE is None:
        if os.environ.get("BELLWIRE_REQUIRE_NODE"):
            pytest.fail("no node")
        pytest.skip("no node: apt install nodejs")


class Script(CommandedPeer):
    """A JavaScript peer that is logged in."""

    def __init__(self, url: str, peer: str, realm: str, *options: str) -> None:
        words = (Path(__file__).with_name("javascript_peer.mjs"), url, peer, realm, *options)
        super().__init__(*words, program=(str(NODE),))


class Pair:
    """``page`` in JavaScript and ``kitchen`` in Python at one broker."""

    def __init__(self, broker: BrokerProcess, stack: contextlib.ExitStack) -> None:
        self.broker, self.realm, self._stack = broker, f"js{next(_numbers)}", stack

    def page(self, *options: str) -> Script:
        script = self._stack.enter_context(Script(self.broker.url, "page", self.realm, *options))
        script.told_of("ready")
        return script

    def kitchen(self, **options: Any) -> ThreadedPeer:
        peer = ThreadedPeer("kitchen", self.broker.url, realm=self.realm, **options)
        return self._stack.enter_context(peer)


@pytest.fixture
def pair(broker: BrokerProcess) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        yield Pair(broker, stack)


def test_its_own_tests_pass() -> None:
    """All vectors, random scenes among them, and what its client does with the wire."""
    command = [str(NODE), "--test", "test/"]
    done = subprocess.run(command, cwd=JS, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "# fail 0" in done.stdout
    assert "# pass 0" not in done.stdout


def test_it_calls_and_is_accepted(pair: Pair) -> None:
    kitchen, page = pair.kitchen(), pair.page()
    call_id = page.call("kitchen", content={"who": "a page"}, channel="front")
    rang = kitchen.expect("remote_invitation_received", call_id).invitation
    assert (rang.caller_id, rang.content) == ("page", {"who": "a page"})
    assert rang.channel_id == "front"
    page.told_of("received", callId=call_id)
    kitchen.accept(rang, {"text": "coming"})
    ended = page.told_of("ended", callId=call_id)
    assert (ended["state"], ended["response"]) == ("accepted", {"text": "coming"})
    kitchen.expect("remote_invitation_accepted", call_id)


def test_it_calls_and_is_refused(pair: Pair) -> None:
    kitchen, page = pair.kitchen(), pair.page()
    call_id = page.call("kitchen")
    rang = kitchen.expect("remote_invitation_received", call_id).invitation
    kitchen.refuse(rang, reason=AnswerReason.DO_NOT_DISTURB)
    assert page.told_of("ended", callId=call_id)["reason"] == "do not disturb"


def test_it_calls_and_cancels(pair: Pair) -> None:
    kitchen, page = pair.kitchen(), pair.page()
    call_id = page.call("kitchen")
    kitchen.expect("remote_invitation_received", call_id)
    page.do("cancel", callId=call_id)
    assert page.told_of("ended", callId=call_id)["state"] == "canceled"
    told = kitchen.expect("remote_invitation_canceled", call_id)
    assert told.invitation.reason is EndReason.CANCELED


def test_it_calls_and_the_call_expires(pair: Pair) -> None:
    kitchen, page = pair.kitchen(), pair.page()
    call_id = page.call("kitchen", ringTimeout=1)
    kitchen.expect("remote_invitation_received", call_id)
    ended = page.told_of("ended", callId=call_id)
    assert (ended["state"], ended["reason"]) == ("failed", "expired")
    told = kitchen.expect("remote_invitation_failure", call_id)
    assert told.invitation.reason is EndReason.EXPIRED


def test_it_is_called_and_accepts(pair: Pair) -> None:
    kitchen, page = pair.kitchen(), pair.page()
    mine = kitchen.press("page", ["somebody", 1.5, None])
    ring = page.told_of("ring", callId=mine.call_id)
    assert (ring["peer"], ring["content"]) == ("kitchen", ["somebody", 1.5, None])
    page.do("accept", callId=mine.call_id, response="hello")
    kitchen.expect("local_invitation_accepted", mine.call_id)
    assert mine.response == "hello"
    assert page.told_of("ended", callId=mine.call_id)["state"] == "accepted"


def test_it_is_called_and_refuses(pair: Pair) -> None:
    kitchen, page = pair.kitchen(), pair.page()
    mine = kitchen.press("page")
    page.told_of("ring", callId=mine.call_id)
    page.do("refuse", callId=mine.call_id, reason="busy")
    kitchen.expect("local_invitation_refused", mine.call_id)
    assert mine.reason is EndReason.BUSY


def test_it_is_called_and_canceled(pair: Pair) -> None:
    kitchen, page = pair.kitchen(), pair.page()
    mine = kitchen.press("page")
    page.told_of("ring", callId=mine.call_id)
    kitchen.cancel(mine)
    kitchen.expect("local_invitation_canceled", mine.call_id)
    ended = page.told_of("ended", callId=mine.call_id)
    assert (ended["state"], ended["reason"]) == ("canceled", "canceled")


def test_it_is_called_and_the_call_expires(pair: Pair) -> None:
    kitchen, page = pair.kitchen(), pair.page()
    mine = kitchen.press("page", ring_timeout=1)
    page.told_of("ring", callId=mine.call_id)
    kitchen.expect("local_invitation_failure", mine.call_id)
    ended = page.told_of("ended", callId=mine.call_id)
    assert (ended["state"], ended["reason"]) == ("failed", "expired")


@pytest.mark.parametrize("page_calls", [True, False])
def test_they_talk(pair: Pair, page_calls: bool) -> None:
    """Messages go both ways, in order, each once, until the one who did not call hangs up."""
    kitchen, page = pair.kitchen(talk=True), pair.page("talk")
    if page_calls:
        call_id = page.call("kitchen")
        theirs = kitchen.expect("remote_invitation_received", call_id).invitation
        kitchen.accept(theirs, "hello")
    else:
        theirs = kitchen.press("page")
        call_id = theirs.call_id
        page.told_of("ring", callId=call_id)
        page.do("accept", callId=call_id, response="hello")
    kitchen.expect("call_started", call_id)
    page.told_of("up", callId=call_id)
    messages = [{"open": number} for number in range(20)]
    for message in messages:
        page.do("say", callId=call_id, message=message)
        theirs.call.send(message)
    kitchen.expect("call_message", call_id, nth=20)
    page.told_of("message", message=messages[-1])
    assert [t.args[1] for t in kitchen.heard.told if t.name == "call_message"] == messages
    assert [t["message"] for t in page.told if t["event"] == "message"] == messages
    if page_calls:
        theirs.call.hang_up()
    else:
        page.do("hangUp", callId=call_id)
    kitchen.expect("call_ended", call_id)
    assert theirs.call.reason is EndReason.HUNG_UP
    ended = page.told_of("ended", callId=call_id)
    assert (ended["state"], ended["reason"]) == ("over", "hung up")


def test_only_one_of_them_talks(pair: Pair) -> None:
    """Then the call ends with accepted, as ever."""
    kitchen, page = pair.kitchen(), pair.page("talk")
    call_id = page.call("kitchen")
    kitchen.accept(kitchen.expect("remote_invitation_received", call_id).invitation)
    assert page.told_of("ended", callId=call_id)["state"] == "accepted"


def test_it_is_killed_while_it_calls(pair: Pair) -> None:
    """Its next login ends the call that nobody waits for."""
    kitchen, page = pair.kitchen(), pair.page()
    call_id = page.call("kitchen")
    kitchen.expect("remote_invitation_received", call_id)
    page.process.kill()
    page.end()
    pair.page()
    told = kitchen.expect("remote_invitation_failure", call_id)
    assert told.invitation.reason in (EndReason.CALLER_RESTARTED, EndReason.CALLER_LOST)


def test_it_is_killed_while_it_rings(pair: Pair) -> None:
    """Its next login asks, rings and accepts."""
    kitchen, page = pair.kitchen(), pair.page()
    mine = kitchen.press("page", "still here")
    page.told_of("ring", callId=mine.call_id)
    page.process.kill()
    page.end()
    again = pair.page()
    assert again.told_of("ring", callId=mine.call_id)["content"] == "still here"
    again.do("accept", callId=mine.call_id)
    kitchen.expect("local_invitation_accepted", mine.call_id)


def test_the_other_side_comes_later(pair: Pair) -> None:
    """A call waits in the broker for a kitchen that is not there yet."""
    page = pair.page()
    call_id = page.call("kitchen")
    kitchen = pair.kitchen()
    rang = kitchen.expect("remote_invitation_received", call_id).invitation
    kitchen.accept(rang)
    assert page.told_of("ended", callId=call_id)["state"] == "accepted"


def test_both_call_at_once(pair: Pair) -> None:
    """Two calls that cross are two calls; each is answered."""
    kitchen, page = pair.kitchen(), pair.page()
    mine = kitchen.press("page")
    call_id = page.call("kitchen")
    kitchen.accept(kitchen.expect("remote_invitation_received", call_id).invitation)
    page.told_of("ring", callId=mine.call_id)
    page.do("accept", callId=mine.call_id)
    kitchen.expect("local_invitation_accepted", mine.call_id)
    assert page.told_of("ended", callId=call_id)["state"] == "accepted"


@pytest.mark.parametrize("newer", ["JavaScript", "Python"])
def test_a_newer_login_goes_on(pair: Pair, newer: str) -> None:
    """The older one ends itself and says why, and does not come back."""
    page = pair.page()
    if newer == "JavaScript":
        pair.page()
    else:
        pair._stack.enter_context(ThreadedPeer("page", pair.broker.url, realm=pair.realm))
    assert page.told_of("over")["state"] == "aborted"
    assert page.end() == 0


def test_its_broker_is_killed() -> None:
    """A call that was made meanwhile rings once the broker is back; logins survive."""
    with BundledBroker() as broker, contextlib.ExitStack() as stack:
        here = Pair(broker, stack)
        kitchen, page = here.kitchen(), here.page()
        broker.kill()
        page.told_of("state", state="reconnecting")
        call_id = page.call("kitchen")
        broker.start()
        rang = kitchen.expect("remote_invitation_received", call_id, timeout=20).invitation
        kitchen.accept(rang)
        assert page.told_of("ended", callId=call_id)["state"] == "accepted"


def test_it_goes_on_to_the_next_broker() -> None:
    """Past one that is dead at the login; and when the one that serves is killed, at once."""
    with BundledBroker() as one, BundledBroker() as two, contextlib.ExitStack() as stack:
        urls = f"mqtt://127.0.0.1:1,{one.url},{two.url}"
        page = stack.enter_context(Script(urls, "page", "several"))
        first = page.told_of("ready")["url"]
        serving, other = (one, two) if first == one.url else (two, one)
        serving.kill()
        page.told_of("state", state="connected", url=other.url)
        kitchen = stack.enter_context(ThreadedPeer("kitchen", other.url, realm="several"))
        call_id = page.call("kitchen")
        kitchen.accept(kitchen.expect("remote_invitation_received", call_id).invitation)
        assert page.told_of("ended", callId=call_id)["state"] == "accepted"


def test_it_logs_out(pair: Pair) -> None:
    """In due form: its call is canceled there, and no will follows."""
    kitchen, page = pair.kitchen(), pair.page()
    call_id = page.call("kitchen")
    kitchen.expect("remote_invitation_received", call_id)
    page.do("logout")
    told = kitchen.expect("remote_invitation_canceled", call_id)
    assert told.invitation.reason is EndReason.CANCELED
    assert page.end() == 0


# --- in a real browser ---------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = """<!doctype html><script type="module">
const told = (what) => fetch("/told", { method: "POST", body: JSON.stringify(what) });
try {
  const { Client } = await import("/bellwire.js");
  const client = new Client({ url: "URL", peer: "page", realm: "REALM", talk: true });
  await client.login();
  const call = await client.call("kitchen", { content: { from: "page" } });
  const { state, response } = call;
  await told({ state, response });
  call.send("one");
  call.send({ two: 2 });
  for await (const message of call.messages()) await told({ message });
  await told({ over: call.reason });
  for await (const ring of client.rings()) {
    ring.accept({ heard: ring.content });
    await ring.decided;
    ring.hangUp();
    await ring.ended;
    await client.logout();
    await told({ answered: ring.reason });
  }
} catch (error) {
  await told({ error: String(error.stack) });
}
</script>"""


@pytest.fixture
def browsers_broker(tmp_path: Path) -> Iterator[Running]:
    """The bundled broker, by TCP and by WebSockets with TLS and without."""
    files = with_tls(tmp_path / "tls")
    listeners = {
        "default": ListenerConfig(bind="127.0.0.1:0"),
        "wss": ListenerConfig(type=ListenerType.WS, bind="127.0.0.1:0", **files),
        "ws": ListenerConfig(type=ListenerType.WS, bind="127.0.0.1:0"),
    }
    with Running(listeners=listeners) as running:
        yield running


@contextlib.contextmanager
def browsing(page: str, folder: Path) -> Iterator[queue.Queue[dict[str, Any]]]:
    """A Chromium that has opened ``page``, which may load the module; what the page told."""
    if CHROMIUM is None:
        if os.environ.get("BELLWIRE_REQUIRE_CHROMIUM"):
            pytest.fail("no chromium")
        pytest.skip("no chromium: apt install chromium")
    told: queue.Queue[dict[str, Any]] = queue.Queue()

    class Site(BaseHTTPRequestHandler):
        def _send(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/bellwire.js":
                self._send("text/javascript", (JS / "bellwire.js").read_bytes())
            else:
                self._send("text/html", page.encode() if self.path == "/" else b"")

        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._send("text/plain", b"")

        def log_message(self, *_: object) -> None:
            """Nothing: it is asked by one page."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        browser = subprocess.Popen(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-dev-shm-usage", "--ignore-certificate-errors",
                "--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}",
                f"http://localhost:{site.server_port}/",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield told
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait(10)
            site.shutdown()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_page_in_chromium_calls_and_is_called(
    browsers_broker: Running, tmp_path: Path, scheme: str
) -> None:
    """The module as it is, loaded by a page, over WebSockets of the bundled broker; they talk."""
    port = browsers_broker.broker.bound()[scheme][1]
    realm = f"js{next(_numbers)}"
    page = PAGE.replace("URL", f"{scheme}://localhost:{port}/mqtt").replace("REALM", realm)
    url = f"mqtt://127.0.0.1:{browsers_broker.port}"
    kitchen = ThreadedPeer("kitchen", url, realm=realm, talk=True)
    with kitchen, browsing(page, tmp_path) as told:
        rang = kitchen.expect("remote_invitation_received", timeout=40).invitation
        assert rang.content == {"from": "page"}
        kitchen.accept(rang, "come in")
        assert told.get(timeout=10) == {"state": "accepted", "response": "come in"}
        kitchen.expect("call_message", rang.call_id, nth=2)
        heard = [t.args[1] for t in kitchen.heard.told if t.name == "call_message"]
        assert heard == ["one", {"two": 2}]
        rang.call.send("bye")
        assert told.get(timeout=10) == {"message": "bye"}
        rang.call.hang_up()
        assert told.get(timeout=10) == {"over": "hung up"}
        mine = kitchen.press("page", "hello, page")
        kitchen.expect("local_invitation_accepted", mine.call_id)
        assert mine.response == {"heard": "hello, page"}
        kitchen.expect("call_ended", mine.call_id)
        assert told.get(timeout=10) == {"answered": "hung up"}


def test_the_snippet_of_its_readme_runs(browsers_broker: Running, tmp_path: Path) -> None:
    """As it stands there, in a page; only where the broker and the module are is put in."""
    _, _, rest = (JS / "README.md").read_text().partition("```js\n")
    snippet = rest.partition("```")[0]
    port = browsers_broker.broker.bound()["wss"][1]
    for there, here in (
        ("broker.example:8884", f"localhost:{port}"),
        ('from "bellwire"', 'from "/bellwire.js"'),
    ):
        assert there in snippet
        snippet = snippet.replace(there, here)
    page = f'<!doctype html><script type="module">{snippet}</script>'
    url = f"mqtt://127.0.0.1:{browsers_broker.port}"
    door = ThreadedPeer("front-door", url, talk=True)
    with door, browsing(page, tmp_path):
        rang = door.expect("remote_invitation_received", timeout=40).invitation
        assert rang.content == {"text": "who is there?"}
        door.accept(rang)
        assert door.expect("call_message", rang.call_id).args[1] == {"do": "open"}
        rang.call.send({"done": "open", "ok": True})
        door.expect("call_ended", rang.call_id)
        assert rang.call.reason is EndReason.HUNG_UP
        mine = door.press("kitchen")
        door.expect("local_invitation_accepted", mine.call_id)
        assert mine.response == {"text": "coming"}


def test_the_minified_file_is_made_from_the_source_as_it_is() -> None:
    """``node build.mjs`` makes it; CI compares it byte for byte."""
    source = hashlib.sha256((JS / "bellwire.js").read_bytes()).hexdigest()
    assert f"SHA-256 {source} */" in (JS / "dist" / "bellwire.min.js").read_text()[:200]


def test_its_readme_says_its_sizes() -> None:
    """To the kilobyte, of what is read and of what a page loads, each also compressed."""
    said = re.search(
        r"(\d+) KB \((\d+) KB compressed\); `bellwire/min`, .*? has (\d+) KB \((\d+) KB\)",
        (JS / "README.md").read_text(),
    )
    assert said is not None
    sizes = []
    for name in ("bellwire.js", "dist/bellwire.min.js"):
        data = (JS / name).read_bytes()
        sizes += [len(data), len(gzip.compress(data, 9))]
    assert [int(size) for size in said.groups()] == [round(size / 1000) for size in sizes]
