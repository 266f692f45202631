"""Every snippet of the README and of docs/*.md runs.

Fenced ``python`` and ``console`` (or ``sh``) blocks are executed, against a broker of their own
that stands in for ``mqtt://127.0.0.1:1883``. A block below ``<!-- not run: reason -->`` is exempt;
the reasons are pinned here, so that none slips in. ``toml`` blocks are read by the parser that
they are for; blocks of other languages are not code.

A Python block is a program, with an empty line as its standard input and, where it calls one, a
``kitchen`` that accepts. In a console block ``$ `` begins a command; commands that stay (listen,
watch, trace, ``bellwire-broker run``) run until the block's last command has ended, and
whatever stands there without ``$ `` must appear in the output, numbers aside.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from device_sdk import Call, CallEventListener, RemoteInvitation, SignalingClient, Tls
from device_sdk.cli.options import Options, add_options
from tests.servers import BundledBroker

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACEHOLDER = "mqtt://127.0.0.1:1883"
STAYING = re.compile(r"bellwire (listen(?!.*--count)|watch(?!.*--count)|trace)|bellwire-broker run")
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<exempt>[^\n]+?) -->\n+)?"
    r"^```(?P<language>python|console|sh)\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Snippet:
    """One fenced block; ``exempt`` is why it is not run."""

    document: str
    line: int
    language: str
    code: str
    exempt: str | None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def snippets(path: Path) -> list[Snippet]:
    """The blocks of a document."""
    text = path.read_text()
    return [
        Snippet(
            path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"],
            found["code"],
            found["exempt"],
        )
        for found in _BLOCK.finditer(text)
    ]


ALL = [snippet for path in DOCUMENTS for snippet in snippets(path)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A broker that has nobody else on it."""
    with BundledBroker() as broker:
        yield broker.url


class _Accepts(CallEventListener):
    def __init__(self, client: SignalingClient) -> None:
        self.client = client

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        """Answer the door."""
        self.client.call_manager.accept_remote_invitation(invitation, "come in")

    def on_call_message(self, call: Call, message: Any) -> None:
        """Say so, and hang up."""
        call.send(message)
        call.hang_up()


@pytest.mark.parametrize(
    "snippet", [s for s in ALL if s.language == "python" and not s.exempt], ids=str
)
def test_python(snippet: Snippet, url: str, tmp_path: Path) -> None:
    """It ends by itself, without an error, when somebody in the kitchen accepts."""
    script = tmp_path / "snippet.py"
    script.write_text(snippet.code.replace(PLACEHOLDER, url))
    with SignalingClient("kitchen", url, talk=True) as kitchen:
        kitchen.call_manager.add_event_listener(_Accepts(kitchen))
        done = subprocess.run(
            [sys.executable, script],
            input="\n",
            capture_output=True,
            text=True,
            timeout=30,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "snippet", [s for s in ALL if s.language != "python" and not s.exempt], ids=str
)
def test_console(snippet: Snippet, url: str, tmp_path: Path) -> None:
    """Each command succeeds, or stays until it is told to stop; the output shown is the output."""
    output = tmp_path / "output"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BELLWIRE_BROKER": url,
        "HOME": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
    }
    staying: list[subprocess.Popen[bytes]] = []
    shown: list[str] = []
    try:
        with output.open("wb") as out:
            # Nothing outside of this test's directory is touched.
            for line in snippet.code.replace(" /srv/", f" {tmp_path}/").splitlines():
                if not line.startswith("$ "):
                    shown += [line] if line.strip() else []
                    continue
                command = line[2:].replace("bellwire-broker run", "bellwire-broker run --port 0")
                words = shlex.split(command, comments=True)
                assert words[0] in ("bellwire", "bellwire-broker"), f"what is {words[0]}?"
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment,
                    cwd=tmp_path,
                )  # fmt: skip
                if STAYING.match(command):
                    staying.append(process)
                else:
                    assert process.wait(30) == 0, f"{command}: {output.read_text()}"
        missing = _missing(shown, output)
        assert not missing, f"not in the output: {missing}; {output.read_text()}"
        assert [p.args for p in staying if p.poll() is not None] == [], output.read_text()
    finally:
        for process in staying:
            process.terminate()
        for process in staying:
            process.wait(15)
    assert "Traceback" not in output.read_text()


def _missing(shown: list[str], output: Path) -> list[str]:
    """The lines that do not come within ten seconds; a second where there are none to wait for."""
    end = time.monotonic() + (10 if shown else 1)
    while True:
        text = output.read_text()
        patterns = {line: re.sub(r"\d+", r"\\d+", re.escape(line)) for line in shown}
        missing = [line for line, pattern in patterns.items() if not re.search(pattern, text)]
        if time.monotonic() > end or (shown and not missing):
            return missing
        time.sleep(0.05)


def test_the_readme_has_both_faces_and_the_commands() -> None:
    """The snippets are found at all."""
    languages = [s.language for s in ALL if s.document == "README.md"]
    assert languages.count("python") >= 2
    assert "console" in languages


def settings(path: Path) -> list[str]:
    """The ``toml`` blocks of a document."""
    return re.findall(r"^```toml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def test_the_settings_in_the_readme_are_accepted(tmp_path: Path) -> None:
    """Where the README says they are; files are found beside them, and nothing is warned of."""
    (block,) = settings(ROOT / "README.md")
    folder = tmp_path / ".config"
    folder.mkdir()
    (folder / "bellwire.toml").write_text(block)
    (folder / "front-door.secret").write_text("correct horse\n")
    parser = argparse.ArgumentParser()
    add_options(parser)
    found = Options(parser.parse_args([]), {"HOME": str(tmp_path)})
    (url,), _ = found.checked()
    assert (found.peer, str(url)) == ("front-door", "mqtts://broker.lan:8883")
    assert found.tls() == Tls(ca_file=str(folder / "ca.pem"))
    assert found.password() == "correct horse"
    assert found.warning == ""


def test_the_brokers_in_the_documents_are_accepted(tmp_path: Path) -> None:
    """A list in a file, and a domain, as the page on brokers has them."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    brokers = []
    for block in settings(ROOT / "docs" / "brokers.md"):
        (tmp_path / "settings.toml").write_text(block)
        found = Options(parser.parse_args(["--settings", str(tmp_path / "settings.toml")]), {})
        brokers.append([str(url) for url in found.checked()[0]])
    nodes = [f"mqtts://{node}.example:8883" for node in "abc"]
    assert brokers == [nodes, ["mqtts+srv://bell.example"]]


def test_which_documents_have_settings() -> None:
    """Those of the README are read above, the others by tests of their own in this folder."""
    found = {path.name: len(blocks) for path in DOCUMENTS if (blocks := settings(path))}
    assert found == {
        "README.md": 1,
        "brokers.md": 2,
        "history.md": 1,
        "home-assistant.md": 2,
        "media.md": 2,
        "metrics.md": 1,
        "notify.md": 1,
        "raspberry-pi.md": 2,
        "web.md": 1,
    }


def test_which_snippets_are_not_run() -> None:
    """Each with its reason; a new one is to be argued for here."""
    exempt = {str(s.exempt) for s in ALL if s.exempt}
    assert exempt <= EXEMPT


EXEMPT = {
    "make test-web does it in a real browser",
    "it is typed into two terminals, as tests/integration/test_cli_talk.py does",
    "it takes minutes, and mosquitto and NATS",
    "it is a part of the suite",
    "it takes three minutes, and TIMES=10 takes 20",
    "it needs a registered site; tests/integration/test_fleet.py runs it on one",
    "tests/packaging installs the wheel into an empty environment",
    "it serves the real ports; tests of the broker run it on free ones",
    "tests/integration/test_broker_guide.py runs the steps together, on free ports",
}


def test_the_reader_of_documents_reads_them(tmp_path: Path) -> None:
    """Languages, exemptions and line numbers."""
    document = tmp_path / "x.md"
    document.write_text(
        "a\n```python\nx = 1\n```\n<!-- not run: why -->\n```console\n$ y\n```\n```toml\nz\n```\n"
    )
    assert snippets(document) == [
        Snippet("x.md", 2, "python", "x = 1\n", None),
        Snippet("x.md", 6, "console", "$ y\n", "why"),
    ]
