"""``make test-homeassistant``: a real Home Assistant, its broker, the bridge, doorbells (root).

Prints a table, and with ``--write`` puts it into docs/home-assistant.md. Exit 1 if a row failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests import commands
from tests.homeassistant.doorbell import MemoryDoorbell
from tests.homeassistant.server import VERSION, HomeAssistant, install
from tests.integration.test_homeassistant import Setup
from tests.interop.scenarios import PROGRAMS
from tests.servers import BundledBroker
from tools.pythons import replaced

CLONE = Path(__file__).resolve().parents[2]
DOCUMENT = CLONE / "docs" / "home-assistant.md"
REALM = "sig"
commands.PATIENCE = 90.0


class Rows:
    """The rows of the table, each a scenario over one Home Assistant."""

    def __init__(self, ha: HomeAssistant, home: Setup) -> None:
        self.ha, self.home = ha, home
        #: The calls of the rows before: what is shown of one may still be on its way out.
        self.former: set[str] = set()

    def ringing(self) -> str:
        """The id of the new call that Home Assistant shows as ringing."""

        def found() -> str:
            state = self.ha.state("sensor.front_door_call")
            call = state.get("attributes", {}).get("call_id", "")
            return call if state.get("state") == "ringing" and call not in self.former else ""

        call = str(self.ha.until(found, "ringing"))
        self.former.add(call)
        return call

    def rang(self, call: str) -> str:
        """That it rang exactly once: for a naive automation, and on the phone, by the blueprint."""
        self.ha.until(lambda: self.ha.notes("phone", call), "notification")
        self.ha.until(lambda: self.ha.notes("ring", call), "ring")
        time.sleep(1.0)  # nothing more comes
        counts = self.ha.notes("ring", call), self.ha.notes("phone", call)
        assert counts == (1, 1), f"rang {counts[0]} times, {counts[1]} notifications"
        return "1"

    def end(self, caller: commands.Command, button: str, code: int, call: str) -> str:
        """Answer or refuse in Home Assistant; what the caller's exit code is."""
        self.press(button)
        assert caller.end() == code, (caller.lines, caller.errors)
        self.ha.until(lambda: self.ha.notes("cleared", call), "cleared notification")
        return f"exit {code}"

    def answer(self) -> str:
        """Answered in Home Assistant."""
        with self.home.caller() as caller:
            call = self.ringing()
            return f"{self.rang(call)}; {self.end(caller, 'answer', 0, call)}"

    def refuse(self) -> str:
        """Refused in Home Assistant."""
        with self.home.caller() as caller:
            call = self.ringing()
            return f"{self.rang(call)}; {self.end(caller, 'refuse', 10, call)}"

    def tapped(self) -> str:
        """Answered by a tap on the notification, a former one's tapped before."""
        old = self.ha.state("sensor.front_door_call")["attributes"]["call_id"]
        with self.home.caller() as caller:
            call = self.ringing()
            rang = self.rang(call)
            for tapped in (old, call):
                action = f"bellwire|answer|{tapped}|event.front_door_doorbell"
                self.ha.call("POST", "/api/events/mobile_app_notification_action",
                             {"action": action})  # fmt: skip
                if tapped == old:
                    self.ha.until(
                        lambda: "over" in self.ha.state("sensor.front_door_last_command")["state"],
                        "the stale tap's refusal",
                    )
                    assert caller.process.poll() is None
            assert caller.end() == 0
            return f"{rang}; exit 0"

    def restarted(self) -> str:
        """Home Assistant restarted while it rings."""
        with self.home.caller("--timeout", "170") as caller:
            call = self.ringing()
            self.rang(call)
            self.ha.stop()
            self.ha.start()
            self.ha.until(lambda: self.ha.notes("still_ringing", call), "still_ringing")
            return f"{self.rang(call)}; {self.end(caller, 'answer', 0, call)}"

    def down(self) -> str:
        """Pressed while Home Assistant is down."""
        self.ha.stop()
        with self.home.caller("--timeout", "170") as caller:
            self.home.hears.until(
                lambda: [c for c in self.home.hears.of("/call")[-1:] if c["state"] == "ringing"],
                "ringing",
            )
            self.ha.start()
            call = self.ringing()
            return f"{self.rang(call)}; {self.end(caller, 'refuse', 10, call)}"

    def broker(self) -> str:
        """Its broker restarted while it rings."""
        with self.home.caller("--timeout", "170") as caller:
            call = self.ringing()
            self.rang(call)
            self.home.broker.stop()
            self.home.broker.start()
            self.ha.until(lambda: self.ha.notes("still_ringing", call), "still_ringing")
            return f"{self.rang(call)}; {self.end(caller, 'answer', 0, call)}"

    def killed(self) -> str:
        """The bridge killed (SIGKILL) while it rings."""
        with self.home.caller("--timeout", "120") as caller:
            call = self.ringing()
            self.rang(call)
            self.home.kill()
            self.home.start()
            return f"{self.end(caller, 'answer', 0, call)}; {self.rang(call)}"

    def elsewhere(self) -> str:
        """Answered by a kitchen panel."""
        url = self.home.bell.url
        words = ("call", "home", "kitchen", "--peer", "front-door", "--broker", url)
        with (
            commands.CommandedPeer(url, "kitchen", REALM, program=PROGRAMS["Python"]) as kitchen,
            commands.Command(*words, "--realm", REALM) as caller,
        ):
            call = self.ringing()
            self.rang(call)
            kitchen.do("accept", callId=kitchen.told_of("ring")["callId"])
            assert caller.end() == 0
            self.ha.until(lambda: self.ha.notes("answered_elsewhere", call), "answered_elsewhere")
            return f"{self.rang(call)}; answered_elsewhere"

    def opened(self) -> str:
        """A doorbell's door opened in Home Assistant while it rings, then hung up."""
        with MemoryDoorbell(self.home.folder, self.home.bell.url, REALM) as bell:
            self.ha.until(lambda: bell.online, "doorbell")
            bell.press()
            call = self.ringing()
            rang = self.rang(call)
            self.press("open")
            self.ha.until(lambda: self.said("open", call), "the door's answer")
            self.press("hang_up")
            self.ha.until(lambda: self.said("hang_up", call), "the end of the call")
            self.ha.until(lambda: not bell.open, "door that is closed again")
            assert bell.opened() == 1, bell.opened()
            self.ha.press("button.front_door_open")  # of a call that is over
            self.ha.until(lambda: not self.there("open"), "unavailable button")
            assert bell.opened() == 1, bell.opened()
        self.ha.until(
            lambda: self.ha.state("sensor.front_door_call")["state"] == "ended", "call that ended"
        )
        return f"{rang}; opened once"

    def said(self, action: str, call: str) -> bool:
        """Whether Home Assistant shows that this was done, in that call."""
        shown = self.ha.state("sensor.front_door_last_command")
        facts = shown.get("attributes", {})
        if (facts.get("do"), facts.get("call_id")) != (action, call):
            return False
        assert shown["state"] == f"{action.replace('_', ' ')}: done", shown
        return True

    def there(self, button: str) -> bool:
        """Whether that button of the door can be pressed."""
        return bool(self.ha.state(f"button.front_door_{button}")["state"] != "unavailable")

    def press(self, button: str) -> None:
        """Press it, once it applies."""
        self.ha.until(lambda: self.there(button), f"{button} that applies")
        self.ha.press(f"button.front_door_{button}")

    def blueprints(self) -> str:
        """Both blueprints are loaded."""
        states = [self.ha.state(f"automation.{name}")["state"] for name in ("blueprint", "older")]
        assert states == ["on", "on"], states
        return "on"


def main() -> int:
    """Run the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    parser.add_argument("--only", action="append")
    asked = parser.parse_args()
    root, took = install()
    failed = 0
    print(f"installed in {took:.0f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder, BundledBroker() as bell:
        home = Setup(bell, Path(folder), REALM)
        ha = HomeAssistant(root, CLONE / "examples" / "homeassistant")
        lines = []
        try:
            home.start()
            print(f"started in {ha.start():.0f} s", flush=True)
            ha.onboard(home.broker.port)
            ha.until(lambda: ha.state("sensor.front_door_call").get("state") == "idle", "the door")
            ha.stop()  # automations are told of their entities at the start
            ha.start()
            rows = Rows(ha, home)
            every: tuple[Callable[[], str], ...] = (
                rows.blueprints, rows.answer, rows.refuse, rows.tapped, rows.restarted, rows.down,
                rows.broker, rows.killed, rows.elsewhere, rows.opened,
            )  # fmt: skip
            for row in every:
                if asked.only and row.__name__ not in asked.only:
                    continue
                began = time.monotonic()
                try:
                    outcome = row()
                except Exception as error:  # noqa: BLE001 - a row that failed is told as one
                    failed += 1
                    outcome = f"**failed**: {error}"
                what = (row.__doc__ or "").rstrip(".")
                lines.append(f"| {what} | {outcome} | {time.monotonic() - began:.0f} s |")
                print(lines[-1], flush=True)
        finally:
            ha.stop()
            home.close()
    if asked.write and not failed:
        head = [
            f"Last run {datetime.now(UTC).date()}, Home Assistant {VERSION}:", "",
            "| what | rang, and ended | took |", "|---|---|---:|",
        ]  # fmt: skip
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), "real", head + lines))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
