"""The page's server over HTTP: who is let in, what is refused, and what pages are told."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_config import cli as broker_cli
from broker_config.access import pki
from device_sdk.services.config.web import WebSettings
from device_sdk.services.doctor.fault import Fault
from device_sdk.services.doctor.page import examine_page
from device_sdk.services.logic.panel import CallEnd
from device_sdk.services.web.access import COOKIE, Access
from device_sdk.services.web.app import MAX_BODY, STATIC, PageApp
from device_sdk.services.web.asked import Asker, PageVerdict
from device_sdk.services.web.hub import Hub
from device_sdk.services.web.page import Page
from device_sdk.services.web.server import WebError, WebServer, bind

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here


class Desk:
    """The panel behind the page, without a broker: what is asked of it, at once."""

    def __init__(self) -> None:
        self.page = Page("kitchen")
        self.hangs = False
        self.waiting: list[Callable[[], None]] = []
        self.lock = threading.Lock()

    def post(self, call: Callable[[], None]) -> None:
        if self.hangs:
            self.waiting.append(call)
            return
        with self.lock:
            call()

    def ask(self, action: str, call: str, asker: Asker, data: dict[str, Any]) -> PageVerdict:
        if action == "answer":
            return self.page.answer(call, asker)
        if action == "seen":
            raise RuntimeError("broken")
        return PageVerdict()


class Site:
    """One server on a free port of loopback."""

    def __init__(self, access: Access, *, tls: dict[str, Path] | None = None, **more: Any) -> None:
        self.desk, self.hub = Desk(), Hub()
        app = PageApp(self.desk, self.desk.page, access, self.hub, **more)
        sock = bind("127.0.0.1", 0)
        self.port = sock.getsockname()[1]
        self.ended: list[str] = []
        self.server = WebServer(app.asgi, self.hub, sock, self.ended.append, **(tls or {}))
        self.server.start()
        self.host = f"127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (the last of each name) and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {"Host": self.host}
        if method == "POST":
            given |= {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        given = {name: value for name, value in given.items() if value}
        with contextlib.closing(connection):
            connection.request(method, path, data if method == "POST" else None, given)
            answer = connection.getresponse()
            got = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, got, answer.read()

    def told(self, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Status and sentence of a POST."""
        status, _, data = self.ask("POST", path, body, **headers)
        return status, json.loads(data).get("sentence", "")


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(access: Access | None = None, **more: Any) -> Site:
        made.append(Site(access or Access(bytes(32)), **more))
        return made[-1]

    yield make
    for site in made:
        site.server.stop()
        assert site.ended == []


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    """One for all that change nothing; its machine is called panel.lan, too."""
    site = Site(Access(bytes(32), names=["panel.lan"]), origins=("http://camera:1984",))
    yield site
    site.server.stop()
    assert site.ended == []


def test_files_have_headers_that_keep_strangers_out(shared: Site) -> None:
    """No inline script, nothing of another host but named media, in no frame of others."""
    for path in ("/", "/app.js", "/style.css", "/icon.svg", "/trust", "/manifest.webmanifest"):
        status, headers, body = shared.ask("GET", path)
        assert (status, bool(body)) == (200, True), path
        policy = headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "img-src 'self' http://camera:1984;" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    page = shared.ask("GET", "/")[2].decode()
    assert " onclick" not in page
    assert "<script>" not in page
    assert "style=" not in page


def test_no_file_names_another_host() -> None:
    """Whatever the page needs comes from the panel."""
    for path in STATIC.iterdir():
        if path.suffix in (".html", ".js", ".css", ".webmanifest"):
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in text, path.name
            assert "//" not in text.replace("https://</code>", "").replace("// ", ""), path.name


def test_the_page_weighs_less_than_60_kb() -> None:
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 60_000


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "panel.lan@evil", ""])
def test_by_a_strangers_name_nothing_is_served(shared: Site, host: str) -> None:
    """DNS rebinding: 421, the state least of all."""
    for path in ("/", "/state", "/events", "/nowhere"):
        assert shared.ask("GET", path, Host=host or " ")[0] in (400, 421)
    assert shared.ask("GET", "/state", Host="panel.lan")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ""},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_another_site_can_ask_for_nothing(shared: Site, headers: dict[str, str]) -> None:
    """Neither a call nor a sign-in, also where no PIN is asked for."""
    shared.desk.page.ringing("foreign", "front-door", "hello", 1)
    assert shared.told("/calls/foreign/answer", **headers)[0] == 403
    assert shared.told("/sign-in", **headers)[0] == 403
    assert shared.desk.page.shown()["calls"][0]["stage"] == "ringing"


def test_the_second_answer_and_the_late_one_get_409_and_a_sentence(make_site) -> None:
    site = make_site()
    site.desk.page.ringing("c", "front-door", "hello", 1)
    assert site.told("/calls/c/answer", {"tab": "a"}) == (200, "")
    assert site.told("/calls/c/answer", {"tab": "b"}) == (
        409,
        "Somebody else has answered already.",
    )
    german = {"Accept_Language": "de-DE,de;q=0.9"}
    assert site.told("/calls/c/answer", **german) == (409, "Es wurde schon angenommen.")
    site.desk.page.ended("c", CallEnd.MISSED, 2)
    assert site.told("/calls/c/answer") == (409, "Too late: this call is over.")
    assert site.told("/calls/unknown/answer")[0] == 409


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {}),
        (b"[]", {}),
        (b"[" * 5000, {}),
        (b"{}" + b" " * (MAX_BODY + 1), {}),
        ({}, {"Content_Type": "text/plain"}),
        ({}, {"Content_Type": "application/x-www-form-urlencoded"}),
    ],
)
def test_what_is_no_request_of_the_page_is_400(shared: Site, body, headers) -> None:
    assert shared.told("/calls/c/answer", body, **headers) == (
        400,
        "This is no request of the page.",
    )


def test_what_is_not_there_is_404(shared: Site) -> None:
    assert shared.ask("POST", "/calls/c/explode")[0] == 404
    assert shared.ask("POST", "/explode")[0] == 404
    assert shared.ask("GET", "/../app.py")[0] in (400, 404)
    assert shared.ask("GET", "/picture/c/0")[0] == 404
    assert shared.ask("GET", "/ca.crt")[0] == 404
    assert shared.ask("DELETE", "/", Origin=f"http://{shared.host}")[0] == 405


def test_an_error_within_is_500_and_the_server_goes_on(shared: Site) -> None:
    assert shared.ask("POST", "/seen")[0] == 500
    assert shared.ask("GET", "/state")[0] == 200


def test_a_panel_that_hangs_is_said_to_and_does_nothing_later(make_site, monkeypatch) -> None:
    """Who was told that it was not done has not opened a door ten seconds after."""
    monkeypatch.setattr("device_sdk.services.web.app.ASK_TIMEOUT", 0.05)
    site = make_site()
    site.desk.page.ringing("c", "front-door", "hello", 1)
    site.desk.hangs = True
    assert site.told("/calls/c/answer")[0] == 503
    (late,) = site.desk.waiting
    late()
    assert site.desk.page.shown()["calls"][0]["stage"] == "ringing"


def sign_in(site: Site, secret: str, user: str = "") -> tuple[int, str]:
    """Status and Cookie header."""
    status, headers, _ = site.ask("POST", "/sign-in", {"secret": secret, "user": user})
    return status, headers.get("set-cookie", "")


def test_without_the_pin_nothing_is_shown_or_done(make_site) -> None:
    site = make_site(Access(bytes(32), pin="314159"))
    site.desk.page.ringing("c", "front-door", "hello", 1)
    for path in ("/state", "/events", "/picture/c/0"):
        status, _, body = site.ask("GET", path)
        assert status == 401
        assert b"front-door" not in body
    for path in ("/calls/c/answer", "/disturb", "/seen"):
        assert site.ask("POST", path)[0] == 401
    assert json.loads(site.ask("GET", "/state")[2])["asks"] == ["pin"]
    status, cookie = sign_in(site, "314159")
    assert status == 200
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    mark = cookie.partition(";")[0]
    assert site.ask("GET", "/state", Cookie=mark)[0] == 200
    assert site.ask("POST", "/calls/c/answer", Cookie=mark)[0] == 200


def test_tries_to_sign_in_are_limited(make_site) -> None:
    """Five, then one in 30 s, right or wrong."""
    site = make_site(Access(bytes(32), pin="314159"), clock=lambda: 7.0)
    assert [sign_in(site, f"00000{n}")[0] for n in range(5)] == [403] * 5
    status, headers, body = site.ask("POST", "/sign-in", {"secret": "314159"})
    assert (status, headers["retry-after"]) == (429, "31")
    assert "31 s" in json.loads(body)["sentence"]


def test_the_authority_is_handed_out_to_everybody(make_site) -> None:
    """A phone has to get it before it can trust the page."""
    site = make_site(Access(bytes(32), pin="314159"), authority=b"-----BEGIN CERTIFICATE-----")
    status, headers, body = site.ask("GET", "/ca.crt")
    assert (status, body) == (200, b"-----BEGIN CERTIFICATE-----")
    assert headers["content-type"] == "application/x-x509-ca-cert"


def test_a_picture_within_the_content_is_served_as_one(shared: Site) -> None:
    content = {"media": [{"kind": "snapshot", "data": b"\xff\xd8\xff\xe0 picture"}]}
    shared.desk.page.ringing("pictured", "front-door", content, 1)
    status, headers, body = shared.ask("GET", "/picture/pictured/0")
    assert (status, headers["content-type"], body[-7:]) == (200, "image/jpeg", b"picture")


def stream(site: Site) -> tuple[http.client.HTTPConnection, Iterator[bytes]]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    connection.request("GET", "/events", headers={"Host": site.host})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.getheader("content-type", "").startswith("text/event-stream")
    return connection, iter(answer.readline, b"")


def test_pages_are_told_the_newest_state_and_have_beats_between(make_site) -> None:
    site = make_site()
    site.hub.put(b'{"version": 1}')
    connection, lines = stream(site)
    with contextlib.closing(connection):
        assert b'data: {"version": 1}\n' in lines
        site.hub.put(b'{"version": 2}')
        assert b'data: {"version": 2}\n' in lines
        assert b"event: beat\n" in lines
        site.hub.close()
        assert b"" not in list(lines)  # it ends


def test_a_page_that_goes_away_is_forgotten(make_site) -> None:
    site = make_site()
    connection, lines = stream(site)
    next(lines)
    assert site.hub.pages == 1
    connection.close()
    deadline = time.monotonic() + 20
    while site.hub.pages and time.monotonic() < deadline:
        time.sleep(0.02)
    assert site.hub.pages == 0


def test_more_pages_than_there_is_room_for_are_told_so(shared: Site, monkeypatch) -> None:
    monkeypatch.setattr("device_sdk.services.web.app.MAX_PAGES", 0)
    status, _, body = shared.ask("GET", "/events")
    assert (status, b"Too many pages are open" in body) == (503, True)
    assert "Too many pages" in json.loads(shared.ask("GET", "/state")[2])["full"]


def silent(site: Site, count: int) -> list[socket.socket]:
    """So many connections that say nothing."""
    return [socket.create_connection(("127.0.0.1", site.port), 10) for _ in range(count)]


def ended(connection: socket.socket) -> bool:
    """Whether the server has closed it; waits for that."""
    connection.settimeout(20)
    with connection:
        try:
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


@pytest.mark.parametrize("https", [False, True])
def test_whoever_says_nothing_gives_way_to_whoever_comes(
    make_site, monkeypatch, tmp_path: Path, https: bool
) -> None:
    """A crowd of silent connections, in TLS handshakes too: pages are heard, others served."""
    monkeypatch.setattr("device_sdk.services.web.bounds.MAX_CONNECTIONS", 10)
    tls = {}
    if https:
        pki.make_ca(tmp_path)
        pki.make_server(tmp_path, ["localhost"])
        tls = {"cert_file": tmp_path / "server.crt", "key_file": tmp_path / "server.key"}
    site = make_site(tls=tls)
    context = ssl.create_default_context(cafile=tmp_path / "ca.crt") if https else None

    def connected() -> http.client.HTTPConnection:
        if context is None:
            return http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
        return http.client.HTTPSConnection("localhost", site.port, timeout=20, context=context)

    def get(path: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = connected()
        connection.request("GET", path, headers={"Host": site.host})
        return connection, connection.getresponse()

    page, heard = get("/events")
    crowd = silent(site, 40)
    for _ in range(3):
        other, answer = get("/app.js")
        with contextlib.closing(other):
            assert (answer.status, len(answer.read()) > 1000) == (200, True)
        crowd += silent(site, 10)
    assert all(ended(each) for each in crowd[:40]), "the oldest went first"
    site.hub.put(b'{"version": 1}')
    with contextlib.closing(page):
        assert b'data: {"version": 1}\n' in iter(heard.readline, b""), "it was not closed"
    for each in crowd[40:]:
        each.close()


def test_where_all_are_busy_nobody_more_is_let_in(make_site, monkeypatch) -> None:
    """Those that are heard stay; and there is room again when one of them goes."""
    monkeypatch.setattr("device_sdk.services.web.bounds.MAX_CONNECTIONS", 2)
    site = make_site()
    pages = [stream(site) for _ in range(2)]
    for _, lines in pages:
        next(lines)
    (more,) = silent(site, 1)
    assert ended(more)
    pages[0][0].close()
    deadline = time.monotonic() + 20
    while site.hub.pages == 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert site.ask("GET", "/state")[0] == 200
    pages[1][0].close()


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_request_that_does_not_come_is_ended(make_site, monkeypatch, said: bytes) -> None:
    """Also after one that did, on the same connection."""
    monkeypatch.setattr("device_sdk.services.web.bounds.REQUEST_TIME", 0.3)
    site = make_site()
    for before in (b"", f"GET /state HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode()):
        (connection,) = silent(site, 1)
        connection.sendall(before + said)
        with connection:
            connection.settimeout(3)  # uvicorn's own, between requests, is 5 s
            got = b""
            while data := connection.recv(65536):
                got += data
        assert (b"200 OK" in got) == bool(before)


def test_a_body_that_comes_too_slowly_is_told_so(make_site, monkeypatch) -> None:
    """In the reader's language; the connection ends with it."""
    monkeypatch.setattr("device_sdk.services.web.app.BODY_TIME", 0.2)
    site = make_site()
    (connection,) = silent(site, 1)
    connection.sendall(
        f"POST /sign-in HTTP/1.1\r\nHost: {site.host}\r\nOrigin: http://{site.host}\r\n"
        "Accept-Language: de\r\nContent-Type: application/json\r\n"
        "Content-Length: 99\r\n\r\n{".encode()
    )
    with connection:
        connection.settimeout(20)
        got = b""
        while data := connection.recv(65536):
            got += data
    assert b"408 Request Timeout" in got
    assert "Das kam zu langsam an" in got.decode()


def test_headers_without_end_are_refused(shared: Site) -> None:
    """At 16 KB; others are served as ever."""
    (connection,) = silent(shared, 1)
    with connection:
        connection.settimeout(20)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + 17 * (b"X: " + b"y" * 1000 + b"\r\n"))
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert shared.ask("GET", "/state")[0] == 200


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WebError, match=f"web: 127.0.0.1:{port} cannot be listened on"):
            bind("127.0.0.1", port)
    with pytest.raises(WebError, match=r"web: no\.such\.host\.invalid"):
        bind("no.such.host.invalid", 1)
    with pytest.raises(WebError, match="cannot be listened on"):
        bind("192.0.2.1", 1)


def test_a_server_that_ends_is_told(make_site) -> None:
    """Nothing dies in silence."""
    site = make_site()
    site.server._server.should_exit = True
    site.server._thread.join(10)
    assert site.ended == ["it ended by itself"]
    site.ended.clear()


def test_https_with_a_certificate_of_the_brokers_ca(make_site, tmp_path: Path, capsys) -> None:
    """What `bellwire-broker web-certificate` makes is served, trusted, and well to the doctor."""
    tls = tmp_path / "broker" / "tls"
    tls.mkdir(parents=True)
    pki.make_ca(tls)
    words = ["--dir", str(tmp_path / "broker"), "--to", str(tmp_path)]
    assert broker_cli.main(["web-certificate", "panel.local", "127.0.0.1", *words]) == 0
    assert 'cert_file = "panel.local.crt"' in capsys.readouterr().out
    files = {"cert_file": tmp_path / "panel.local.crt", "key_file": tmp_path / "panel.local.key"}
    assert files["key_file"].stat().st_mode & 0o777 == 0o600
    site = make_site(Access(bytes(32), pin="314159"), tls=files)
    context = ssl.create_default_context(cafile=tls / "ca.crt")
    connection = http.client.HTTPSConnection("127.0.0.1", site.port, context=context, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/sign-in", json.dumps({"secret": "314159"}), {
            "Origin": f"https://{site.host}", "Content-Type": "application/json",
        })  # fmt: skip
        answer = connection.getresponse()
        assert answer.status == 200
        assert "Secure" in answer.getheader("set-cookie", "")
    (tmp_path / "pin").write_text("314159")
    web = WebSettings(port=site.port, pin_file=tmp_path / "pin", ca_file=tls / "ca.crt", **files)
    assert examine_page(web) == f"page: https://127.0.0.1:{site.port}/ answers, with a PIN"
    other = tmp_path / "other"
    other.mkdir()
    pki.make_ca(other)
    foreign = WebSettings(port=site.port, ca_file=other / "ca.crt", **files)
    with pytest.raises(Fault, match=r"certificate is not good: .*web-certificate NAME"):
        examine_page(foreign)


def test_a_web_certificate_that_cannot_be_made_is_said(tmp_path: Path, capsys) -> None:
    tls = tmp_path / "tls"
    tls.mkdir()
    assert broker_cli.main(["web-certificate", "panel.local", "--dir", str(tmp_path)]) == 2
    assert "say where the broker's directory is, --dir DIR" in capsys.readouterr().err
    pki.make_ca(tls)
    assert broker_cli.main(["web-certificate", "pan el", "--dir", str(tmp_path)]) == 2
    assert "'pan el' is no name or address of a host" in capsys.readouterr().err


def test_what_the_doctor_says_of_a_page(shared: Site) -> None:
    """That it answers, that nothing does, that something else does."""
    assert examine_page(WebSettings(port=shared.port)).endswith("answers, for this machine")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "nothing answers there" in examine_page(WebSettings(port=port))
    with pytest.raises(Fault, match="can be reached from elsewhere"):
        examine_page(WebSettings(host=EVERYWHERE, port=port))


def test_a_certificate_that_is_none_is_said_before_serving(tmp_path: Path) -> None:
    (tmp_path / "cert").write_text("none")
    sock = bind("127.0.0.1", 0)
    with contextlib.closing(sock), pytest.raises(WebError, match="cannot be used"):
        WebServer(
            lambda *_: None, Hub(), sock, print, cert_file=tmp_path / "cert",
            key_file=tmp_path / "cert",
        )  # fmt: skip
