"""For mkdocstrings: the roles and literal blocks of our docstrings, as Markdown has them."""

from __future__ import annotations

import re
from typing import Any

import griffe


def as_markdown(text: str) -> str:
    """Roles become code, ``::`` before a block a colon, or nothing where it stands alone."""
    text = re.sub(r":(?:class|meth|attr|data|exc|func|mod):`[~.]*([^`]+)`", r"``\1``", text)
    text = re.sub(r"(?m)^(\s*)::$", r"\1", text)
    return re.sub(r"(?m)::$", ":", text)


class Roles(griffe.Extension):
    """Rewrites each docstring as it is collected."""

    def on_instance(self, *, obj: griffe.Object, **_more: Any) -> None:
        """See :class:`griffe.Extension`."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
