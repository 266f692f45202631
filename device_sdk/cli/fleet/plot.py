"""One picture of a fleet's run: how long rings took, beside a bare ping-pong, as SVG by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 360, 64, 44
_RIGHT, _BOTTOM = _WIDTH - 150, _HEIGHT - 48
_PERCENTS = (50.0, 95.0, 99.0, 99.9)
_COLOURS = ("#1f5fa8", "#3d8f5f", "#888888", "#c8642b", "#8a4fb0", "#b03a48")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def draw(report: Mapping[str, Any]) -> str:
    """Milliseconds on a logarithmic axis over the percentiles."""
    rows = {
        "ring": report["ring_ms"],
        "receipt": report["receipt_ms"],
        "bare ping-pong": report["ping_pong_ms"],
        **{f"ring, {name}": each for name, each in report["ring_meanwhile_ms"].items()},
    }
    rows = {name: each for name, each in rows.items() if each["n"]}
    every = [each[f"p{p:g}"] for each in rows.values() for p in _PERCENTS] or [1.0]
    low = math.floor(math.log10(max(min(every), 1e-3)))
    high = max(low + 1, math.ceil(math.log10(max(every))))

    def x(index: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * index / (len(_PERCENTS) - 1)

    def y(value: float) -> float:
        part = (math.log10(max(value, 10**low)) - low) / (high - low)
        return _BOTTOM - (_BOTTOM - _TOP) * part

    asked = report["asked"]
    title = f"{asked['devices']:,} devices, {report['calls_per_second']:g} calls/s"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{_escape(title)}</text>',
        *_grid(low, high, x, y),
    ]
    for number, (name, each) in enumerate(rows.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x(i), y(each[f"p{p:g}"])) for i, p in enumerate(_PERCENTS)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(
            f'<text x="{_RIGHT + 10}" y="{_TOP + 12 + 18 * number}" fill="{colour}">'
            f"{_escape(name)}</text>"
        )
    return "\n".join([*out, "</svg>", ""])


def _grid(low: int, high: int, x: Any, y: Any) -> Iterable[str]:
    for power in range(low, high + 1):
        at = y(10.0**power)
        yield f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>'
    for index, percent in enumerate(_PERCENTS):
        yield (
            f'<text x="{x(index):.1f}" y="{_BOTTOM + 20}" text-anchor="middle">p{percent:g}</text>'
        )
