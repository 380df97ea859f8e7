"""Dice over phases as a small SVG: one line per kind of prompt, fill-the-box dashed. Colours come from the page's CSS variables."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 34, 122, 12, 46
KIND_NAMES = {"box": "box", "point": "one point", "none": "no prompt"}
_MARKS = {
    "box": "M-4,-4h8v8h-8z",
    "point": "M-4.4,0a4.4,4.4 0 1,0 8.8,0a4.4,4.4 0 1,0 -8.8,0",
    "none": "M0,-5l5,5l-5,5l-5,-5z",
}
_LABEL_GAP = 14.0


def dice_chart(title: str, phases: Sequence[str], lines: Mapping[str, Sequence[float | None]], fill: float | None) -> Markup:
    """Draw one hospital's chart.

    Args:
        title: what a screen reader says.
        phases: labels along the bottom, in order.
        lines: kind -> Dice per phase, None where it was not measured.
        fill: the fill-the-box Dice, None to leave the line out.
    """
    parts = [*_grid(), *(_phase_label(number, len(phases), label) for number, label in enumerate(phases))]
    ends: list[tuple[float, str, str]] = []
    if fill is not None:
        y = _y(fill)
        parts.append(f'<line class="fill" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        ends.append((y, "fill", f"fill {fill:.2f}"))
    for kind, values in lines.items():
        points = [(_x(number, len(phases)), _y(value), value) for number, value in enumerate(values) if value is not None]
        if not points:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        for x, y, value in points:
            parts.append(
                f'<path class="mark {kind}" transform="translate({x:.1f},{y:.1f})" d="{_MARKS[kind]}">'
                f"<title>{KIND_NAMES[kind]}: {value:.3f}</title></path>"
            )
        ends.append((points[-1][1], kind, f"{KIND_NAMES[kind]} {points[-1][2]:.2f}"))
    parts += _end_labels(ends)
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704 (the only foreign texts, title and labels, are escaped)


def _x(number: int, count: int) -> float:
    inner = WIDTH - LEFT - RIGHT - 24
    return LEFT + 12 + (inner * number / (count - 1) if count > 1 else inner / 2)


def _y(value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - min(max(value, 0.0), 1.0))


def _grid() -> list[str]:
    parts = []
    for tenths in range(0, 11, 2):
        y = _y(tenths / 10)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4.2:.1f}" text-anchor="end">{tenths / 10:.1f}</text>')
    return parts


def _phase_label(number: int, count: int, label: str) -> str:
    """A label in up to two lines: what stands before and after the last blank."""
    x = _x(number, count)
    first, _, second = label.rpartition(" ")
    words = [word for word in (first, second) if word]
    spans = "".join(f'<tspan x="{x:.1f}" dy="{0 if line == 0 else 14}">{escape(word)}</tspan>' for line, word in enumerate(words))
    return f'<text class="tick" text-anchor="middle" y="{HEIGHT - BOTTOM + 18}">{spans}</text>'


def _end_labels(ends: list[tuple[float, str, str]]) -> list[str]:
    """Labels at the right end of the lines, pushed apart where lines end close together."""
    ends = sorted(ends)
    places = [y for y, _, _ in ends]
    for number in range(1, len(places)):
        places[number] = max(places[number], places[number - 1] + _LABEL_GAP)
    floor = HEIGHT - BOTTOM + 4.0
    for number in range(len(places) - 1, -1, -1):
        limit = floor if number == len(places) - 1 else places[number + 1] - _LABEL_GAP
        places[number] = min(places[number], limit)
    x = WIDTH - RIGHT + 4
    return [f'<text class="end {kind}" x="{x}" y="{y + 4.2:.1f}">{text}</text>' for y, (_, kind, text) in zip(places, ends, strict=True)]
