"""Draws docs/raspberry-pi-wiring.svg: which pin of the header goes where.

``python tools/wiring_svg.py`` writes it, ``--check`` fails if it is not what is drawn here. The
pins are those of a card provisioned without ``--settings``.
"""

from __future__ import annotations

import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "docs" / "raspberry-pi-wiring.svg"
#: Part, colour, header pin of the signal, its BCM number, header pin of ground, what is between.
WIRES = (
    ("button", "#1f6feb", 11, 17, 9, "none: the Pi pulls up"),
    ("light (LED)", "#d29922", 13, 27, 14, "330 Ω in series"),
    ("chime (active buzzer)", "#cf222e", 15, 22, 20, "transistor over 16 mA"),
)
PITCH, LEFT, TOP, ROWS = 26, 60, 70, 13


def position(pin: int) -> tuple[int, int]:
    """The middle of a header pin; odd ones left, even ones right, pin 1 on top."""
    return LEFT + (0 if pin % 2 else PITCH), TOP + (pin - 1) // 2 * PITCH


def draw() -> str:
    """The picture."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="420" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="640" height="420" fill="#ffffff"/>',
        '<text x="20" y="30" font-size="16">Raspberry Pi header, pins 1 to 26, from above</text>',
        f'<rect x="{LEFT - 18}" y="{TOP - 18}" width="{PITCH + 36}" height="{ROWS * PITCH + 10}" '
        'rx="6" fill="#2d333b"/>',
    ]
    for pin in range(1, 2 * ROWS + 1):
        x, y = position(pin)
        side, anchor = (-24, "end") if pin % 2 else (24, "start")
        parts.append(f'<circle cx="{x}" cy="{y}" r="7" fill="#e6c35c"/>')
        parts.append(
            f'<text x="{x + side}" y="{y + 4}" text-anchor="{anchor}" fill="#57606a" '
            f'font-size="10">{pin}</text>'
        )
    for index, (name, colour, signal, bcm, ground, between) in enumerate(WIRES):
        y = 110 + index * 100
        parts.append(
            f'<rect x="330" y="{y - 26}" width="280" height="66" rx="8" fill="#f6f8fa" '
            f'stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<text x="345" y="{y - 6}" font-weight="bold">{name}</text>')
        parts.append(
            f'<text x="345" y="{y + 12}">pin {signal} (GPIO {bcm}) and pin {ground} (ground)</text>'
        )
        parts.append(f'<text x="345" y="{y + 30}" fill="#57606a">between: {between}</text>')
        for pin, end, shade in ((signal, y - 4, colour), (ground, y + 16, "#24292f")):
            x, top = position(pin)
            bend = 180 + index * 30 + (0 if pin == signal else 14)
            parts.append(
                f'<path d="M {x} {top} H {bend} V {end} H 330" fill="none" stroke="{shade}" '
                'stroke-width="2.5" stroke-opacity="0.85"/>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    """Write or check."""
    if "--check" in sys.argv[1:]:
        if TARGET.read_text(encoding="utf-8") == draw():
            return 0
        print(f"{TARGET.name} is not what tools/wiring_svg.py draws: run it", file=sys.stderr)
        return 1
    TARGET.write_text(draw(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
