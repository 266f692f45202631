"""For mkdocs: the files beside ``docs/`` that its pages name, and a theme that asks nobody else.

README, CONTRIBUTING and CHANGELOG become pages; what else of the repository is linked to is copied
to where the links find it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
#: Pages that are not in docs/, by their place in the repository.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "js_sdk/README.md": "javascript.md",
    "micro_sdk/README.md": "microcontrollers.md",
}
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#])")
#: What the theme would load if it were not there already.
_ELSEWHERE = re.compile(r"https://unpkg\.com/")


def _place(target: Path) -> str:
    """Where a file of the repository is on the site, from its top."""
    name = target.relative_to(ROOT).as_posix()
    if name in PAGES:
        return PAGES[name]
    return name.removeprefix("docs/") if name.startswith("docs/") else f"repository/{name}"


def _text(source: Path) -> tuple[str, set[Path]]:
    """A page's Markdown with its links as they are on the site, and the files that it names."""
    here, named = Path(_place(source)).parent, set[Path]()

    def there(link: re.Match[str]) -> str:
        target = (source.parent / link[1]).resolve()
        if target.is_dir():
            target = target / "README.md"
        if not target.is_file() or not target.is_relative_to(ROOT):
            return link[1]  # mkdocs says that there is none
        named.add(target)
        return os.path.relpath(_place(target), here)

    return _LINK.sub(there, source.read_text("utf-8")), named


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and the files from beside docs/."""
    named = set[Path]()
    sources = [ROOT / name for name in PAGES] + [
        Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path
    ]
    for source in sources:
        text, more = _text(source)
        named |= more
        page = PAGES.get(source.relative_to(ROOT).as_posix())
        if page is not None:
            files.append(File.generated(config, page, content=text))
    for target in sorted(named):
        place = _place(target)
        if place.startswith("repository/"):
            # As text, whatever it is: a browser shows it.
            files.append(File.generated(config, place, content=target.read_bytes()))
    return files


def on_page_read_source(page: Any, config: Any) -> str | None:  # noqa: ARG001 # mkdocs names them
    """Pages of docs/ with their links as they are on the site."""
    path = page.file.abs_src_path
    return _text(Path(path))[0] if path and Path(path).is_relative_to(ROOT / "docs") else None


def on_post_build(config: Any) -> None:
    """Take out of the theme what it would ask others for; source maps are for its makers."""
    scripts = Path(config.site_dir) / "assets" / "javascripts"
    for script in scripts.rglob("*.js"):
        text = script.read_text("utf-8")
        text = _ELSEWHERE.sub("assets/", text)
        script.write_text(re.sub(r"\n?//# sourceMappingURL=.*", "", text), "utf-8")
    for made in Path(config.site_dir).rglob("*.map"):
        made.unlink()
