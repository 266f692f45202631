"""A real Home Assistant, headless, in a Debian that has the Python that it wants (root, network).

Made once, in a cache outside the clone; each run has a configuration of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers import free_port
from tools.pythons import CACHE, chroot, inside

VERSION = "2026.11.0"
PYTHON = "3.14"
#: Beside what `homeassistant` itself requires: of the integrations that are used here.
MORE = (
    "PyQRCode==1.2.1", "pyotp==2.10.0", "paho-mqtt==2.1.0", "Pillow==13.0.0", "PyNaCl==1.6.2",
    "home-assistant-frontend==20261028.4", "home-assistant-intents==2026.10.27", "hassil==3.12.1",
    "numpy==2.3.2", "PyTurboJPEG==1.8.3", "ha-ffmpeg==3.2.2", "mutagen==1.48.1",
    "aiohasupervisor==0.8.1", "gazetteer-matcher==1.1.0", "infrared-protocols==10.5.0",
    "rf-protocols==4.3.0",
)  # fmt: skip
CONFIG = """\
homeassistant:
api:
auth:
onboarding:
config:
websocket_api:
logger:
  default: warning
shell_command:
  note: sh /root/ha-config/note.sh {{ what }} {{ call_id }}
script:
  phone:
    mode: queued
    sequence:
      - action: shell_command.note
        data:
          what: >-
            {{ 'cleared' if message == 'clear_notification' else 'phone' }}
          call_id: "{{ data.tag }}"
automation: !include automations.yaml
"""
AUTOMATIONS = """\
- id: blueprint
  alias: blueprint
  use_blueprint: &inputs
    path: bellwire/doorbell.yaml
    input: {doorbell: event.front_door_doorbell, call: sensor.front_door_call, phone: script.phone}
- id: older
  alias: older
  use_blueprint:
    path: bellwire/doorbell-before-2026.7.yaml
    input: {doorbell: event.front_door_doorbell, call: sensor.front_door_call, phone: script.other}
- id: naive
  alias: naive
  mode: queued
  triggers:
    - {trigger: state, entity_id: event.front_door_doorbell, not_from: [unavailable]}
  actions:
    - action: shell_command.note
      data:
        what: "{{ state_attr('event.front_door_doorbell', 'event_type') }}"
        call_id: "{{ state_attr('event.front_door_doorbell', 'call_id') }}"
"""


def install() -> tuple[Path, float]:
    """The Debian with Home Assistant in it, and how long it took to make, if it was made now."""
    began = time.monotonic()
    root = CACHE / "homeassistant"
    program = root / "opt/ha/bin/hass"
    if not program.exists():
        if not root.exists():
            # Not shutil: it would read the devices in there, without end.
            subprocess.run(["cp", "-a", chroot("forky"), root], check=True)
        script = (
            "export SKIP_CYTHON=1; python3 -m venv /opt/ha;"
            f" /opt/ha/bin/pip install -q homeassistant=={VERSION} {' '.join(MORE)}"
        )
        command, environment = inside(root, script)
        subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL)
    return root, time.monotonic() - began


def add(root: Path, *packages: str) -> None:
    """Have more in it."""
    command, environment = inside(root, f"/opt/ha/bin/pip install -q {' '.join(packages)}")
    subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL)


class HomeAssistant:
    """One installation's life; :meth:`start` and :meth:`stop` as often as one likes."""

    def __init__(self, root: Path, blueprints: Path, more: str = "") -> None:
        self.root, self.port, self.token = root, free_port(), ""
        #: What its login was answered with.
        self.tokens: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.config = root / "root/ha-config"
        shutil.rmtree(self.config, ignore_errors=True)
        (self.config / "blueprints/automation").mkdir(parents=True)
        shutil.copytree(blueprints, self.config / "blueprints/automation/bellwire")
        (self.config / "configuration.yaml").write_text(CONFIG + more)
        (self.config / "automations.yaml").write_text(AUTOMATIONS)
        (self.config / "note.sh").write_text('echo "$1 $2" >>/root/ha-config/notes\n')
        (self.config / ".storage").mkdir()
        # In the YAML it would be a trial, which ends after five minutes.
        http = {
            "stable": {
                "server_port": self.port, "server_host": ["127.0.0.1"],
                "cors_allowed_origins": [], "login_attempts_threshold": -1, "ip_ban_enabled": False,
                "ssl_profile": "intermediate_v6", "use_x_frame_options": True,
                "created_at": "2026-01-01T00:00:00+00:00", "error": None, "error_message": None,
            },
            "pending": None, "yaml_migration_done": True,
        }  # fmt: skip
        facts = {"version": 3, "minor_version": 1, "key": "http", "data": http}
        (self.config / ".storage/http").write_text(json.dumps(facts))

    def start(self) -> float:
        """Start it; how long it took until it was there."""
        began = time.monotonic()
        (self.config / ".ha_run.lock").unlink(missing_ok=True)
        command, environment = inside(
            self.root, "exec /opt/ha/bin/hass --skip-pip -c /root/ha-config"
        )
        log = (self.config / "log").open("ab")
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self.until(self._there, "Home Assistant", 180)
        return time.monotonic() - began

    def _there(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.config / "log").read_text()[-3000:]
        try:
            if not self.token:
                return bool(self.call("GET", "/api/onboarding"))
            return bool(self.call("GET", "/api/config")["state"] == "RUNNING")
        except (OSError, ValueError):
            return False

    def stop(self) -> None:
        """Stop it as a restart does: with its goodbye."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            self.call("POST", "/api/services/homeassistant/stop", {})
        try:
            process.wait(60 if self.token else 0.1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Its HTTP API."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 # loopback
                said = answer.read()
                return json.loads(said or b"null") if path != "/api/template" else said.decode()
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode(errors="replace")[:500])
            raise

    def onboard(self, broker_port: int) -> None:
        """Make its owner, and add MQTT as a person would."""
        here = f"http://127.0.0.1:{self.port}/"
        user = {"client_id": here, "name": "a", "username": "a", "password": "abcabcabc",
                "language": "en"}  # fmt: skip
        code = self.call("POST", "/api/onboarding/users", user)["auth_code"]
        form = f"grant_type=authorization_code&code={code}&client_id={here}".encode()
        with urllib.request.urlopen(f"{here}auth/token", form, timeout=30) as answer:  # noqa: S310 # too
            self.tokens = json.loads(answer.read())
        self.token = self.tokens["access_token"]
        flow = self.call("POST", "/api/config/config_entries/flow", {"handler": "mqtt"})
        other = {"set_client_cert": False, "set_ca_cert": "off"}
        wanted = {"broker": "127.0.0.1", "port": broker_port, "other_settings": other}
        done = self.call("POST", f"/api/config/config_entries/flow/{flow['flow_id']}", wanted)
        assert done["type"] == "create_entry", done

    def finish_onboarding(self) -> None:
        """Be done with what its pages ask of a new owner."""
        here = f"http://127.0.0.1:{self.port}/"
        self.call("POST", "/api/onboarding/core_config", {})
        self.call("POST", "/api/onboarding/analytics", {})
        asked = {"client_id": here, "redirect_uri": here}
        self.call("POST", "/api/onboarding/integration", asked)

    def state(self, entity: str) -> dict[str, Any]:
        """An entity; ``{}`` while there is none."""
        try:
            found: dict[str, Any] = self.call("GET", f"/api/states/{entity}")
        except urllib.error.HTTPError:
            return {}
        return found

    def press(self, entity: str) -> None:
        """Press one of its buttons."""
        self.call("POST", "/api/services/button/press", {"entity_id": entity})

    def notes(self, what: str, call_id: str) -> int:
        """How often its automations noted that of a call."""
        path = self.config / "notes"
        text = path.read_text() if path.exists() else ""
        return len(re.findall(rf"(?m)^{re.escape(what)} {re.escape(call_id)}$", text))

    def until(self, true: Any, what: str, seconds: float = 60) -> Any:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < deadline, f"no {what} within {seconds:.0f} s"
            time.sleep(0.2)
        return found
