"""What the page's server answers: static files, the state as server-sent events, and what is asked.

Threads: the event loop of the server. Nothing is decided here: each request is judged by
:class:`~.access.Access`, and what it asks for by the :class:`~.page.Page`, on the service's loop.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import access as rules
from .access import Access
from .asked import Asker, PageVerdict, Problem
from .hub import MAX_PAGES, Hub
from .page import Page
from .words import language_of, sentence

STATIC = Path(__file__).parent / "static"
#: The largest body that a page sends: a session description; bytes.
MAX_BODY = 64 * 1024
#: The headers of a request, in bytes: their names and values.
MAX_HEADERS = 16 * 1024
#: How long a body may take to come; seconds.
BODY_TIME = 10.0
#: How long the service's loop may take for what a browser asks; seconds.
ASK_TIMEOUT = 5.0
#: What is asked of a call, and what else.
ACTIONS = ("answer", "refuse", "open", "hang-up", "signal")
_FILES = {
    "/": "index.html", "/app.js": "app.js", "/feed.js": "feed.js", "/talk.js": "talk.js",
    "/words.js": "words.js", "/style.css": "style.css", "/icon.svg": "icon.svg",
    "/icon-192.png": "icon-192.png", "/icon-512.png": "icon-512.png",
    "/manifest.webmanifest": "manifest.webmanifest",
}  # fmt: skip
_STATUS = {Problem.UNFIT: 400}


class Service(Protocol):
    """The panel behind the page: its one loop, and what it does for a browser there."""

    def post(self, call: Callable[[], None]) -> None:
        """Have ``call`` called on the service's loop; from any thread."""

    def ask(self, action: str, call: str, asker: Asker, data: dict[str, Any]) -> PageVerdict:
        """Do it, or say why not; on the service's loop."""


class PageApp:
    """The application (ASGI), as :attr:`asgi`. ``authority``: a CA certificate to hand out."""

    def __init__(
        self,
        service: Service,
        page: Page,
        access: Access,
        hub: Hub,
        *,
        origins: tuple[str, ...] = (),
        authority: bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service, self._page, self._access, self._hub = service, page, access, hub
        self._authority = authority
        self._clock = clock
        routes = [Route(path, self._file) for path in _FILES]
        routes += [
            Route("/trust", self._trust),
            Route("/state", self._state),
            Route("/events", self._events),
            Route("/picture/{call}/{number}", self._picture),
            Route("/ca.crt", self._ca),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Route("/calls/{call}/{action}", self._call, methods=["POST"]),
            Route("/{action:str}", self._act, methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers={_TooSlow: _too_slow})
        self.asgi: ASGIApp = _Guard(app, access, _policy(origins))

    # --- for everybody --------------------------------------------------------------------------

    async def _file(self, request: Request) -> Response:
        return FileResponse(STATIC / _FILES[request.url.path])

    async def _trust(self, request: Request) -> Response:
        return FileResponse(STATIC / f"trust.{_language(request)}.html")

    async def _ca(self, _request: Request) -> Response:
        if self._authority is None:
            return JSONResponse({"sentence": "there is none"}, 404)
        return Response(self._authority, media_type="application/x-x509-ca-cert")

    async def _sign_in(self, request: Request) -> Response:
        asked = await _json(request)
        user, secret = _text(asked, "user"), _text(asked, "secret")
        address = request.client.host if request.client else ""
        wait = self._access.tries.wait(address, self._clock())
        if wait:
            answer = _said(request, 429, "wait", seconds=int(wait) + 1)
            answer.headers["Retry-After"] = str(int(wait) + 1)
            return answer
        mark = self._access.sign_in(user, secret)
        if mark is None:
            return _said(request, 403, "wrong")
        self._access.tries.forget(address)
        answer = JSONResponse({"user": user})
        answer.set_cookie(
            rules.COOKIE, mark, max_age=400 * 24 * 3600, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    async def _sign_out(self, _request: Request) -> Response:
        answer = JSONResponse({})
        answer.delete_cookie(rules.COOKIE, httponly=True, samesite="strict")
        return answer

    # --- for who signed in ----------------------------------------------------------------------

    async def _state(self, request: Request) -> Response:
        user = self._user(request)
        about = {"asks": self._access.asks, "ca": self._authority is not None}
        if user is None:
            return JSONResponse(about | {"sentence": _words(request, "sign in")}, 401)
        if self._hub.pages >= MAX_PAGES:  # an event stream that is refused cannot say why
            about["full"] = _words(request, "full")
        return JSONResponse(about | {"user": user})

    async def _events(self, request: Request) -> Response:
        if self._user(request) is None:
            return _said(request, 401, "sign in")
        if self._hub.pages >= MAX_PAGES:
            return _said(request, 503, "full")
        return StreamingResponse(self._hub.stream(), media_type="text/event-stream")

    async def _picture(self, request: Request) -> Response:
        if self._user(request) is None:
            return _said(request, 401, "sign in")
        call, number = request.path_params["call"], request.path_params["number"]
        picture = None
        if number.isdecimal() and len(number) < 4:  # int() raises at thousands of digits
            picture = await self._on_loop(lambda: self._page.picture(call, int(number)))
        if picture is None:
            return _said(request, 404, Problem.OVER)
        return Response(picture.data, media_type=picture.kind)

    async def _call(self, request: Request) -> Response:
        if request.path_params["action"] not in ACTIONS:
            return _said(request, 404, "request")
        return await self._asked(request, request.path_params["call"])

    async def _act(self, request: Request) -> Response:
        if request.path_params["action"] not in ("seen", "disturb"):
            return _said(request, 404, "request")
        return await self._asked(request, "")

    async def _asked(self, request: Request, call: str) -> Response:
        user = self._user(request)
        if user is None:
            return _said(request, 401, "sign in")
        data = await _json(request)
        if data is None:
            return _said(request, 400, "request")
        action, asker = request.path_params["action"], Asker(_text(data, "tab")[:64], user)
        try:
            verdict = await self._on_loop(lambda: self._service.ask(action, call, asker, data))
        except TimeoutError:
            return _said(request, 503, "busy")
        if verdict.problem is None:
            return JSONResponse({})
        status = _STATUS.get(verdict.problem, 409)
        return _said(request, status, verdict.problem, by=verdict.by)

    # --- inside ---------------------------------------------------------------------------------

    def _user(self, request: Request) -> str | None:
        return self._access.user_of(request.cookies.get(rules.COOKIE))

    async def _on_loop(self, call: Callable[[], Any]) -> Any:
        """``call()`` on the service's loop; TimeoutError if that does not turn."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def give(result: Any, error: Exception | None) -> None:
            if not done.done():
                done.set_result(result) if error is None else done.set_exception(error)

        def run() -> None:
            result, error = None, None
            if done.done():
                return  # given up, and told so: no door is opened later on
            try:
                result = call()
            except Exception as problem:  # noqa: BLE001 - it is the request's, which raises it
                error = problem
            loop.call_soon_threadsafe(give, result, error)

        self._service.post(run)
        async with asyncio.timeout(ASK_TIMEOUT):
            return await done


class _Guard:
    """Before anything else: whose name is asked for, by which page; and headers on what is said."""

    def __init__(self, app: ASGIApp, access: Access, policy: str) -> None:
        self._app = app
        self._access = access
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(self), microphone=(self), geolocation=()"),
            (b"cache-control", b"no-cache"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        request = Request(scope)
        refused = self._refused(request)
        if refused is not None:
            await refused(scope, receive, with_headers)
            return
        try:
            await self._app(scope, receive, with_headers)
        except ClientDisconnect:
            return

    def _refused(self, request: Request) -> Response | None:
        if sum(len(name) + len(value) for name, value in request.headers.raw) > MAX_HEADERS:
            return _said(request, 431, "request")
        host = request.headers.get("host", "")
        if not self._access.host_is_ours(host):
            return _said(request, 421, "host", host=host[:100])
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if request.method not in ("GET", "HEAD") and not self._access.origin_is_ours(
            origin, site, request.url.scheme, host
        ):
            return _said(request, 403, "origin")
        return None


def _policy(origins: tuple[str, ...]) -> str:
    """What a page may load: its own files, and media of those origins."""
    media = " ".join(("'self'", *origins))
    rules_of = {
        "default-src": "'none'",
        "script-src": "'self'",
        "worker-src": "'self'",
        "style-src": "'self'",
        "img-src": media,
        "media-src": f"{media} blob:",
        "frame-src": media,
        "connect-src": media,
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules_of.items())


class _TooSlow(Exception):
    """A body does not come."""


async def _too_slow(request: Request, _: Exception) -> Response:
    answer = _said(request, 408, "slow")
    answer.headers["Connection"] = "close"  # what is left of it may still come
    return answer


async def _json(request: Request) -> dict[str, Any] | None:
    """The request's body, an object in JSON of bounded size; None for anything else.

    All text in it can be said again, to every page and in every file.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return None  # no form of another page can send that
    body = b""
    try:
        async with asyncio.timeout(BODY_TIME):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY:
                    return None
    except TimeoutError:
        raise _TooSlow from None
    try:
        made = json.loads(body or b"{}")
        json.dumps(made, ensure_ascii=False).encode()  # lone surrogates are no text: ValueError
    except (ValueError, RecursionError):
        return None
    return made if isinstance(made, dict) else None


def _text(asked: dict[str, Any] | None, key: str) -> str:
    value = (asked or {}).get(key)
    return value if isinstance(value, str) and len(value) <= MAX_BODY else ""


def _words(request: Request, code: str, **values: object) -> str:
    return sentence(code, _language(request), **values)


def _language(request: Request) -> str:
    return language_of(request.headers.get("accept-language", ""))


def _said(request: Request, status: int, code: str, **values: object) -> JSONResponse:
    made = {"problem": str(code), "sentence": _words(request, code, **values)}
    return JSONResponse(made, status)
