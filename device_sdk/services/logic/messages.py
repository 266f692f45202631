"""The messages in a call that doorbells and panels know (docs/media.md): made and read. Pure.

Whatever a peer says that is none of these is shown as text, or passed over.
"""

from __future__ import annotations

from typing import Any, NamedTuple

#: The longest text of a message that is read; the rest is left out.
MAX_TEXT = 500


class OpenResult(NamedTuple):
    """What became of a request: whether it was done, and if not, why."""

    ok: bool
    why: str = ""


def ask_to_open(door: str = "") -> dict[str, Any]:
    """Ask the other side to open its door; of several, the one with that name.

    >>> ask_to_open()
    {'do': 'open'}
    """
    return {"do": "open", "door": door} if door else {"do": "open"}


def asks_to_open(message: Any) -> str | None:
    """Which door a message asks to be opened, "" where it names none; None if it asks no such.

    >>> asks_to_open({"do": "open", "door": "gate"}), asks_to_open("open, please")
    ('gate', None)
    """
    if not isinstance(message, dict) or message.get("do") != "open":
        return None
    door = message.get("door", "")
    # What is no name is the name of no door.
    return door if isinstance(door, str) else repr(door)[:MAX_TEXT]


def opened(result: OpenResult) -> dict[str, Any]:
    """The answer to :func:`ask_to_open`.

    >>> opened(OpenResult(False, "who is that?"))
    {'done': 'open', 'ok': False, 'why': 'who is that?'}
    """
    told: dict[str, Any] = {"done": "open", "ok": result.ok}
    return told if result.ok else told | {"why": result.why}


def result_of_open(message: Any) -> OpenResult | None:
    """What a message says became of a request to open; None if it says nothing of that.

    >>> result_of_open({"done": "open", "ok": True})
    OpenResult(ok=True, why='')
    """
    if not isinstance(message, dict) or message.get("done") != "open":
        return None
    why = message.get("why")
    return OpenResult(message.get("ok") is True, why[:MAX_TEXT] if isinstance(why, str) else "")


def text_of(message: Any) -> str | None:
    """What a message has for people; None if it has nothing.

    >>> text_of({"text": "one moment"}), text_of("hello")
    ('one moment', 'hello')
    """
    text = message.get("text") if isinstance(message, dict) else message
    return text[:MAX_TEXT] if isinstance(text, str) and text else None


def text_or_all(content: Any) -> Any:
    """What a content has for people, else all of it.

    >>> text_or_all({"text": "parcel", "media": []}), text_or_all({"camera": 2})
    ('parcel', {'camera': 2})
    """
    text = text_of(content)
    return content if text is None else text
