"""The check of ``make docs`` finds what it is for; the site itself is built by CI."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tools.docs_check import problems

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("head", "found"),
    [
        ('<script src="https://unpkg.com/x.js"></script>', "loads https://unpkg.com/x.js"),
        ('<script src="//cdn.example/x.js"></script>', "loads //cdn.example/x.js"),
        ('<link rel="stylesheet" href="https://fonts.example/css">', "loads https://fonts.example"),
        ('<img srcset="a.png 1x, http://b.example/b.png 2x">', "loads http://b.example/b.png"),
        ("<style>@import 'https://c.example/c.css';</style>", "loads https://c.example/c.css"),
        ('<p style="background: url(https://d.example/d.png)">', "loads https://d.example/d.png"),
        ('<a href="none.html">', "none.html: there is no such file"),
        ('<a href="other.html#none">', "other.html#none: no such place"),
        ('<script src="none.js"></script>', "none.js: there is no such file"),
    ],
)
def test_what_asks_another_host_or_leads_nowhere_is_found(
    tmp_path: Path, head: str, found: str
) -> None:
    (tmp_path / "other.html").write_text('<p id="here">')
    (tmp_path / "index.html").write_text(head)
    assert any(found in problem for problem in problems(tmp_path)), problems(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [("x.css", "@font-face{src:url(https://e.example/f.woff2)}"),
     ("x.js", 'fetch("https://e.example/a.json")'),
     ("x.js", 'load("https://unpkg.com/mermaid@11/dist/mermaid.min.js")')],
)  # fmt: skip
def test_what_style_sheets_and_scripts_load_is_found(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert len(problems(tmp_path)) >= 1


def test_a_link_to_elsewhere_is_no_request(tmp_path: Path) -> None:
    """A reader may follow it; the browser does not by itself."""
    (tmp_path / "x.js").write_text('var xmlns = "http://www.w3.org/2000/svg"')
    (tmp_path / "index.html").write_text(
        '<link rel="canonical" href="https://x.example/"><a href="https://x.example/">x</a>'
        '<script src="x.js"></script><p id="a"><a href="#a">a</a><a href="index.html#a">a</a>'
    )
    assert problems(tmp_path) == []


def test_mermaid_is_the_one_that_the_dependencies_name() -> None:
    """The file of @mermaid-js/tiny 11.17.2, unchanged."""
    data = (ROOT / "docs" / "assets" / "mermaid.tiny.js").read_bytes()
    assert hashlib.sha256(data).hexdigest() == (
        "7a644017d37f93c8359790884e6b67fb1f747c78eb20475952404bd87190a3f8"
    )
    assert "11.17.2" in (ROOT / "docs" / "dependencies.md").read_text()


def test_the_make_targets_that_the_documents_name_are_there() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        named = set(re.findall(r"`make ([a-z-]+)", path.read_text()))
        assert named <= targets, path.name
