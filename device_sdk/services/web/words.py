"""What the server says to people, in the languages of the page; and which one a browser wants."""

from __future__ import annotations

from .asked import Problem

LANGUAGES = ("en", "de")

_WORDS: dict[str, tuple[str, str]] = {
    Problem.ANSWERED: ("Somebody else has answered already.", "Es wurde schon angenommen."),
    f"{Problem.ANSWERED} by": ("{by} has answered already.", "{by} hat schon angenommen."),
    Problem.REFUSED: ("It was refused a moment ago.", "Es wurde gerade abgelehnt."),
    f"{Problem.REFUSED} by": ("{by} has refused it.", "{by} hat abgelehnt."),
    Problem.OVER: ("Too late: this call is over.", "Zu spät: Dieser Anruf ist vorbei."),
    Problem.NOT_UP: ("Nobody is in this call yet.", "Noch ist niemand im Gespräch."),
    Problem.ASKED: (
        "The door was asked a moment ago.",
        "Die Tür wurde gerade gefragt.",
    ),
    Problem.UNFIT: (
        "What the browser sends does not fit into a call.",
        "Was der Browser schickt, passt nicht in einen Anruf.",
    ),
    "wrong": ("That is not right.", "Das stimmt nicht."),
    "wait": (
        "Too many tries: try again in {seconds} s.",
        "Zu viele Versuche: in {seconds} s noch einmal.",
    ),
    "sign in": ("Sign in first.", "Bitte zuerst anmelden."),
    "busy": (
        "The panel does not answer; is it still running?",
        "Das Gerät antwortet nicht; läuft es noch?",
    ),
    "full": (
        "Too many pages are open at once: close some, and load this one again.",
        "Zu viele Seiten sind zugleich offen: einige schließen und diese neu laden.",
    ),
    "slow": (
        "That took too long to come: try again.",
        "Das kam zu langsam an: bitte noch einmal.",
    ),
    "host": (
        "This panel is not called {host}: add it to `names` in [web].",
        "Dieses Gerät heißt nicht {host}: in [web] unter `names` eintragen.",
    ),
    "origin": (
        "Only this panel's own page may ask that.",
        "Das darf nur die Seite dieses Geräts selbst.",
    ),
    "request": ("This is no request of the page.", "Das ist keine Anfrage der Seite."),
}


def sentence(code: str, language: str, **values: object) -> str:
    """What ``code`` is in words.

    >>> sentence("over", "de")
    'Zu spät: Dieser Anruf ist vorbei.'
    """
    if values.get("by") and f"{code} by" in _WORDS:
        code = f"{code} by"
    return _WORDS[code][LANGUAGES.index(language)].format(**values)


def language_of(accept_language: str) -> str:
    """The one of ours that a browser's ``Accept-Language`` likes best (RFC 9110, 12.5.4).

    >>> language_of("fr, de-AT;q=0.8, en;q=0.7"), language_of("")
    ('de', 'en')
    """
    best, liked = "en", 0.0
    for part in accept_language[:200].split(","):
        tag, _, weight = part.strip().partition(";")
        language = tag.strip().lower().partition("-")[0]
        try:
            quality = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        if language in LANGUAGES and quality > liked:
            best, liked = language, quality
    return best
