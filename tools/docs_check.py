"""``make docs``'s second half: the built pages ask no other host for anything, and no link is dead.

A link that a reader may follow to elsewhere is none that the browser follows by itself.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser loads of its own accord, by tag: the attributes that say from where.
LOADED = {
    "audio": ("src",), "embed": ("src",), "form": ("action",), "iframe": ("src",),
    "img": ("src", "srcset"), "input": ("src",), "link": ("href",), "object": ("data",),
    "script": ("src",), "source": ("src", "srcset"), "video": ("src", "poster"), "use": ("href",),
}  # fmt: skip
#: Links that are no request: who wrote it, where the one true copy is.
_SPOKEN = {"canonical", "author", "license"}
_CSS = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""")
#: What loads by script: fetch, import, workers. Names of formats (w3.org) are no addresses.
_SCRIPT = re.compile(
    r"""(?:fetch|import|importScripts|open|Worker|EventSource|WebSocket)\(\s*["'`](https?://[^"'`]+)"""
)
#: Hosts of which scripts are loaded wherever they are named.
_HOSTS = re.compile(
    r"https?://(?:[\w.-]*\.)?(?:unpkg|jsdelivr|cdnjs|googleapis|gstatic)\.\w+[^\"'`\s]*"
)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.anchors = {""}
        self.styles = ""
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See :class:`HTMLParser`."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.styles += values.get("style", "") + "\n"
        self._style = tag == "style"
        if tag == "a" and "href" in values:
            self.linked.append(values["href"])
        if tag == "link" and set(values.get("rel", "").split()) & _SPOKEN:
            return
        for name in LOADED.get(tag, ()):
            if value := values.get(name):
                self.loaded += [each.split()[0] for each in value.split(",") if each.strip()]

    def handle_data(self, data: str) -> None:
        """See :class:`HTMLParser`."""
        if self._style:
            self.styles += data

    def handle_endtag(self, tag: str) -> None:
        """See :class:`HTMLParser`."""
        if tag == "style":
            self._style = False


def _elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) and parts.scheme in ("", "http", "https", "ws", "wss")


def problems(site: Path) -> list[str]:
    """What is wrong with the site in that directory, each with its file."""
    found: list[str] = []
    pages: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        page = pages[path.resolve()] = _Page()
        page.feed(path.read_text("utf-8"))
        loads = [each for each in page.loaded if _elsewhere(each)] + _CSS.findall(page.styles)
        found += [f"{path.relative_to(site)}: loads {address}" for address in loads]
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.js")]):
        text = path.read_text("utf-8")
        loads = _CSS.findall(text) if path.suffix == ".css" else _SCRIPT.findall(text)
        loads += _HOSTS.findall(text)
        found += [f"{path.relative_to(site)}: loads {address}" for address in loads]
    for path, page in pages.items():
        for link in page.linked + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                found.append(f"{path.relative_to(site.resolve())}: {link}: there is no such file")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{path.relative_to(site.resolve())}: {link}: no such place in it")
    return found


def main() -> int:
    """Check the site that is named; the exit code."""
    site = Path(sys.argv[1])
    found = problems(site)
    for problem in found:
        print(problem, file=sys.stderr)
    pages = len(list(site.rglob("*.html")))
    print(f"{site}: {pages} pages, {len(found)} problem(s)")
    return 1 if found or pages < 10 else 0


if __name__ == "__main__":
    sys.exit(main())
