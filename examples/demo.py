"""A doorbell rings a kitchen, for real: broker, doorbell and panel are three processes on loopback.

This one is the fingers that press their buttons, and reads along on the wire: the ladder shows
what was really said, by whom, and when. Exit 0 if all three calls went as they should.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from device_sdk import BellwireError
from device_sdk.cli.ladder import Ladder
from device_sdk.cli.observer import Observer, Seen
from device_sdk.cli.say import Say
from device_sdk.client.link.url import BrokerUrl
from device_sdk.core.wire import codec, topics

HERE = Path(__file__).parent
BROKER = """
import sys
from broker_config.cli import main
sys.exit(main(["run", "--anonymous", "--port", "0"]))
"""
FINGER = 0.4  # seconds until somebody has pressed a button
PATIENCE = 15.0


class Failed(Exception):
    """The demo did not go as it should."""


class Stage:
    """The three processes, and the wire between them."""

    def __init__(self) -> None:
        self.say = Say(as_json=False)
        self.ladder = Ladder(
            width=min(shutil.get_terminal_size((100, 24)).columns, 100), style=self.say.style
        )
        self.processes: list[subprocess.Popen[str]] = []
        self.said: list[tuple[str, str]] = []  # (who, what) of the call at hand

    def set_up(self) -> None:
        broker = self.start("-c", BROKER)
        listening = next(lines(broker), "")
        if not listening.startswith("listening on "):
            raise Failed("the broker did not start; see above")
        url = f"mqtt://{listening.split()[-1]}"
        self.wire = Observer((BrokerUrl.parse(url),), (topics.everything("sig"),))
        self.wire.start()
        # The button is a key here, also where there are pins.
        env = {**os.environ, "BELLWIRE_BROKER": url, "GPIOZERO_PIN_FACTORY": "none"}
        self.say.raw(f"Three processes: the broker at {url}, front-door and kitchen.")
        self.door = self.start(HERE / "doorbell.py", env=env)
        self.until(("front-door", "ONLINE"))
        self.panel = self.start(HERE / "kitchen_panel.py", env=env)
        self.until(("kitchen", "ONLINE"))

    def start(
        self, *command: str | Path, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(  # noqa: S603 - the project's own commands
            [sys.executable, *command], env=env, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def until(self, *wanted: tuple[str, str], patience: float = PATIENCE) -> None:
        """Read along until everything wanted was said, or for ``patience`` seconds."""
        deadline = time.monotonic() + patience
        while not (wanted and all(each in self.said for each in wanted)):
            if (left := deadline - time.monotonic()) <= 0:
                if wanted:
                    raise Failed(f"waited {patience:.0f} s for {wanted}; heard {self.said}")
                return
            for seen in self.wire.wait(left):
                if isinstance(seen, Seen):
                    self.said.append(what(seen))
                    for line in self.ladder.feed(
                        seen.at, seen.topic, seen.payload, retained=seen.retained
                    ):
                        self.say.raw(line)

    def scene(self, title: str) -> None:
        self.said.clear()
        self.say.raw(f"\n{self.say.style('bold', title)}")

    def press(self, process: subprocess.Popen[str], who: str, what: str) -> None:
        """Somebody makes up their mind and presses: the button, a, r or Ctrl-C."""
        self.until(patience=FINGER)
        for line in self.ladder.note(time.monotonic(), who, f"[{what}]"):
            self.say.raw(line)
        if what == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        elif process.stdin is not None:
            process.stdin.write("\n" if what == "button" else f"{what[0]}\n")

    def over(self, process: subprocess.Popen[str], told: str) -> None:
        """Both have cleared their cells, and ``process`` says how it ended."""
        self.until(("front-door", "CLEARED"), ("kitchen", "CLEARED"))
        for line in lines(process):
            if line.strip() == told:
                return
        raise Failed(f"{told!r} was expected")

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.communicate(timeout=10)


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """What it prints from here on."""
    return iter(process.stdout or ())


def what(seen: Seen) -> tuple[str, str]:
    """Who says what in a message."""
    topic = topics.parse("sig", seen.topic)
    if isinstance(topic, topics.PresenceTopic):
        return topic.peer, "ONLINE" if codec.decode_presence(seen.payload).online else "OFFLINE"
    if topic is None:  # nobody is at the demo's broker but the demo
        raise Failed(f"who speaks at {seen.topic}?")
    decode = codec.decode_invite if topic.kind == "invite" else codec.decode_answer
    return topic.writer, decode(seen.payload).state.name if seen.payload else "CLEARED"


def play(stage: Stage) -> None:
    rings = ("kitchen", "RECEIVED")

    stage.scene("1. Somebody rings; the kitchen accepts, with a response.")
    stage.press(stage.door, "front-door", "button")
    stage.until(rings)
    stage.press(stage.panel, "kitchen", "accept")
    stage.over(stage.door, "accepted come in")

    stage.scene("2. Somebody rings again; the kitchen refuses.")
    stage.press(stage.door, "front-door", "button")
    stage.until(rings)
    stage.press(stage.panel, "kitchen", "refuse")
    stage.over(stage.door, "declined not now")

    stage.scene("3. Somebody rings, and thinks better of it.")
    stage.press(stage.door, "front-door", "button")
    stage.until(rings)
    stage.press(stage.door, "front-door", "Ctrl-C")
    stage.over(stage.panel, "front-door went away")


def main() -> int:
    def too_long(*_: object) -> None:
        raise Failed("it takes over a minute; something waits for ever")

    signal.signal(signal.SIGALRM, too_long)
    # A script's background commands ignore Ctrl-C, and so would the doorbell, which has to hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(60)
    stage = Stage()
    try:
        stage.set_up()
        play(stage)
    except (Failed, BellwireError, OSError) as error:
        print(f"demo: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.alarm(0)
        stage.close()
    stage.say.raw("\naccepted, refused, canceled: as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
