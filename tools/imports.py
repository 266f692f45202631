"""What a module imports, read from its source: for the tests of floors, and the rooms' picture."""

from __future__ import annotations

import ast
from pathlib import Path


def imports(path: Path, package: Path) -> set[str]:
    """Every module or thing that a file of ``package`` imports, wherever it does, also for types.

    ``package`` is the folder of the outermost one; relative imports come with its name in front.
    """
    here = [package.name, *path.relative_to(package).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found
