"""``bellwire panel --web``: the panel, and its page for browsers; both on the one loop."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from ...client.display import is_plausible, say
from ...client.invitations import MissedCall
from ...client.invitations import RemoteInvitationBase as RemoteInvitation
from ...client.listener import Call
from ...errors import ClientClosed, InvitationApiCallError
from ...states import EndReason, InvitationApiCallErrorCode, RemoteInvitationState
from ..config.history import default_file
from ..config.panel import PanelSettings
from ..gpio.pins import Pins
from ..history.store import HistoryError, HistoryFilter, HistoryRow
from ..logic.appliance import EndCall, SayInCall
from ..logic.panel import AcceptCall, CallEnd, RefuseCall
from ..service.appliance import Exit, log
from ..service.link import ClientRunner
from ..service.loop import Loop
from ..service.panel import PanelService
from ..service.sd_notify import Notifier
from .access import Access
from .app import PageApp
from .asked import Asker, PageEffect, PageVerdict, Problem
from .content import MAX_SDP
from .hub import Hub
from .page import MAX_MISSED, Page
from .server import WebServer, bind
from .state_file import PageState

#: What a browser's signal may say.
_SIGNAL = ("sdp", "type", "candidates")


class WebPanelService(PanelService):
    """One panel with a page. Binds the page's port at once: :class:`~.server.WebError`."""

    def __init__(
        self,
        settings: PanelSettings,
        pins: Pins,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., ClientRunner] = ClientRunner,
        wall: Callable[[], datetime] = datetime.now,
        unix: Callable[[], float] = time.time,
    ) -> None:
        web = settings.web
        peer = settings.account.peer
        self._unix = unix
        self._kept = PageState(peer, default_file(peer, os.environ).parent)
        self._page = Page(peer, peers=web.peers, origins=web.media, door=web.door)
        self._page.set_disturb(self._kept.disturb)
        self._hub = Hub()
        self._published = 0
        access = Access(self._kept.key, pin=web.pin(), users=web.users(), names=web.own_names())
        app = PageApp(
            self, self._page, access, self._hub, origins=web.media, authority=web.authority()
        )
        entrance = bind(web.host, web.port or 0)
        self._web_settings = replace(web, port=entrance.getsockname()[1])  # of port 0 a free one
        self._web = WebServer(
            app.asgi,
            self._hub,
            entrance,
            self._web_ended,
            cert_file=web.cert_file,
            key_file=web.key_file,
        )
        super().__init__(settings, pins, loop, notifier, make_link, wall)
        self._page.restore(self._remembered())

    def _remembered(self) -> list[HistoryRow]:
        try:
            return self._history.read(HistoryFilter(limit=MAX_MISSED))[::-1]
        except HistoryError as error:
            log.warning("the page's list of calls begins anew: %s", error)
            return []

    def run(self) -> int:
        """See :class:`~.appliance.Appliance`; the page is served as long as it turns."""
        self._web.start()
        say(f"page: {self._web_settings.url}{self._web_settings.elsewhere()}")
        return super().run()

    def _close(self) -> None:
        self._web.stop()
        super()._close()

    def _web_ended(self, problem: str) -> None:
        log.error("the page's server is done: %s; ending, to be started afresh", problem)
        self._loop.stop(Exit.FAILED)

    # --- what comes in, on the loop ----------------------------------------------------------

    def post(self, call: Callable[[], None]) -> None:
        """See :class:`~.app.Service`."""
        self._loop.post(call)

    def on_link(self, online: bool, broker: str = "") -> None:
        """See :class:`~.link.LinkEvents`."""
        super().on_link(online, broker)
        self._page.link(online)
        if online:
            # Anew on each connection: who is there as before is not told by itself.
            with contextlib.suppress(ClientClosed):  # its end is on the way
                for peer in self._web_settings.peers:
                    self._link.client.watch(peer)

    def _is_quiet(self) -> bool:
        return not self._page.disturb or super()._is_quiet()

    def _received(self, invitation: RemoteInvitation) -> None:
        super()._received(invitation)
        at = self._unix()
        if invitation.state is RemoteInvitationState.INVITATION_RECEIVED:
            call, caller, content = invitation.call_id, invitation.caller_id, invitation.content
            self._page.ringing(call, caller, content, at, silent=self._is_quiet())
        else:  # the panel has turned it away: quiet hours, or busy
            self._page.missed(invitation.caller_id, invitation.content, at)

    def _over(self, invitation: RemoteInvitation, end: CallEnd) -> None:
        super()._over(invitation, end)
        if end is not CallEnd.ACCEPTED or invitation._talk is None:
            self._page.ended(invitation.call_id, end, self._unix())

    def _who(self, call_id: str) -> str:
        return self._page.by(call_id) or super()._who(call_id)

    def _missed_call(self, missed: MissedCall) -> None:
        super()._missed_call(missed)
        told = missed.time
        at = told if told is not None and is_plausible(told) else self._unix()
        self._page.missed(missed.caller_id, missed.content, at)

    def _call_started(self, call: Call) -> None:
        super()._call_started(call)
        effects = self._page.started(call.call_id, call.peer, self._unix(), self._loop.now())
        for effect in effects:
            self._perform_page(effect)

    def _call_message(self, call: Call, message: Any) -> None:
        super()._call_message(call, message)
        self._page.message(call.call_id, message, self._unix())

    def _call_ended(self, call: Call, reason: EndReason) -> None:
        super()._call_ended(call, reason)
        self._page.over(call.call_id, str(reason), self._unix())

    def _deadline(self) -> float | None:
        due = [each for each in (super()._deadline(), self._page.deadline) if each is not None]
        return min(due, default=None)

    def _tick(self) -> None:
        self._page.tick(self._loop.now())
        super()._tick()

    def _show(self) -> None:
        super()._show()
        if self._published != self._page.version:
            self._published = self._page.version
            self._hub.put(json.dumps(self._page.shown(), ensure_ascii=False).encode())

    # --- what a browser asks, on the loop ----------------------------------------------------

    def ask(self, action: str, call: str, asker: Asker, data: dict[str, Any]) -> PageVerdict:
        """See :class:`~.app.Service`."""
        verdict = self._judged(action, call, asker, data)
        for effect in verdict.effects:
            problem = self._perform_page(effect)
            if problem is not None:
                self._page.undone(effect.call)
                return PageVerdict(problem=problem)
        return verdict

    def _judged(self, action: str, call: str, asker: Asker, data: dict[str, Any]) -> PageVerdict:
        sdp = data.get("sdp")
        if sdp is not None and not (isinstance(sdp, str) and sdp.isascii() and len(sdp) <= MAX_SDP):
            return PageVerdict(problem=Problem.UNFIT)
        if action == "answer":
            return self._page.answer(call, asker, sdp)
        if action == "refuse":
            return self._page.refuse(call, asker)
        if action == "open":
            return self._page.open(call, asker, self._loop.now(), sdp)
        if action == "hang-up":
            return self._page.hang_up(call)
        if action == "signal":
            signal: dict[str, Any] = {key: data[key] for key in _SIGNAL if key in data}
            return self._page.signal(call, asker, signal)
        if action == "seen":
            self._page.seen()
            self.panel.missed = 0  # the light goes out with it
        elif action == "disturb":
            self._page.set_disturb(data.get("on") is not False)
            self._kept.set_disturb(self._page.disturb)
        return PageVerdict()

    def _perform_page(self, effect: PageEffect) -> Problem | None:
        """Do it, or say why it cannot be done."""
        manager = self._link.client.call_manager
        try:
            if isinstance(effect, AcceptCall):
                response = self._response(effect.response)
                manager.accept_remote_invitation(self._calls[effect.call], response)
            elif isinstance(effect, RefuseCall):
                manager.refuse_remote_invitation(self._calls[effect.call])
            elif isinstance(effect, SayInCall):
                return Problem.OVER if self._talks.send(effect.call, effect.message) else None
            elif isinstance(effect, EndCall):
                self._talks.hang_up(effect.call)
        except InvitationApiCallError as error:
            if error.code is InvitationApiCallErrorCode.ALREADY_ACCEPT:
                return Problem.ANSWERED
            unfit = error.code is InvitationApiCallErrorCode.INVALID_ARGUMENT
            return Problem.UNFIT if unfit else Problem.OVER
        except (KeyError, ClientClosed):
            return Problem.OVER
        return None

    def _response(self, media: Any) -> Any:
        """The panel's own response, with the browser's side of the talk in it, if there is one."""
        own = self._settings.response
        if media is None:
            return own
        if isinstance(own, dict):
            return {**own, **media}
        return media if own is None else {"text": own, **media}

    # --- on the listener's thread: hand over -------------------------------------------------

    def on_presence_changed(self, peer: str, online: bool | None) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._page.presence(peer, online))
