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
#: Pins whose wire leaves by the gap above their row, the others' by that below. None is shared.
ABOVE = (9, 11, 13)
GROUND = "#24292f"
PITCH, LEFT, TOP, ROWS = 32, 60, 70, 13
WIDTH, HEIGHT, PARTS = 560, TOP + ROWS * PITCH, 250


def position(pin: int) -> tuple[int, int]:
    """The middle of a header pin; odd ones left, even ones right, pin 1 on top."""
    return LEFT + (0 if pin % 2 else PITCH), TOP + (pin - 1) // 2 * PITCH


def gap(pin: int) -> int:
    """Where its wire runs: between two rows, so over no pin and no number."""
    return position(pin)[1] + (-1 if pin in ABOVE else 1) * PITCH // 2


def draw() -> str:
    """The picture."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        '<text x="20" y="30" font-size="16">Raspberry Pi header, pins 1 to 26, from above</text>',
        f'<rect x="{LEFT - 18}" y="{TOP - 18}" width="{PITCH + 36}" height="{ROWS * PITCH + 4}" '
        'rx="6" fill="#b7c0c8"/>',
    ]
    for pin in range(1, 2 * ROWS + 1):
        x, y = position(pin)
        side, anchor = (-24, "end") if pin % 2 else (24, "start")
        parts.append(f'<circle cx="{x}" cy="{y}" r="7" fill="#fff3c4" stroke="#8c6d1f"/>')
        parts.append(
            f'<text x="{x + side}" y="{y + 4}" text-anchor="{anchor}" fill="#57606a" '
            f'font-size="10">{pin}</text>'
        )
    for name, colour, signal, bcm, ground, between in WIRES:
        ends = sorted((gap(signal), gap(ground)))
        top, height = ends[0] - 12, ends[1] - ends[0] + 24
        middle = top + height // 2
        parts.append(
            f'<rect x="{PARTS}" y="{top}" width="{WIDTH - PARTS - 20}" height="{height}" rx="8" '
            f'fill="#f6f8fa" stroke="{colour}" stroke-width="2"/>'
        )
        for offset, style, text in (
            (-12, 'font-weight="bold"', name),
            (4, "", f"pin {signal} (GPIO {bcm}) and pin {ground} (ground)"),
            (20, 'fill="#57606a"', f"between: {between}"),
        ):
            parts.append(f'<text x="{PARTS + 15}" y="{middle + offset}" {style}>{text}</text>')
        for pin, shade in ((signal, colour), (ground, GROUND)):
            x, y = position(pin)
            parts.append(
                f'<path d="M {x} {y} V {gap(pin)} H {PARTS}" fill="none" stroke="{shade}" '
                'stroke-width="2.5"/>'
            )
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{shade}"/>')
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
