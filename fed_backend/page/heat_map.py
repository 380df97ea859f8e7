"""Who helps whom: a matrix of sites as coloured cells with their numbers, large or as one of many small ones. Pure.

The colours are ten steps of one hue from light to dark (from dark to light in dark mode), which every kind of colour vision tells apart by
brightness; the numbers say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fed_backend.page.round_facts import RoundFacts
from fed_backend.page.svg import picture, tag, text, title
from fed_backend.page.wording import figure, short

STEPS = 10
STRONG_FROM = 6
"""The first colour on which numbers are written in the other ink (contrast of 4.5 and more on every one)."""
MOST_WITH_NUMBERS = 16
MOST_DRAWN = 60
NAME_LENGTH = 14
GUTTER = 104


@dataclass(frozen=True)
class SiteMatrix:
    """Rows and columns of sites; None where there is no value.

    Attributes:
        rows, columns: sites.
        cells: (rows, columns) values ≥ 0.
        top: the value of the darkest colour.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]
    top: float

    @property
    def cut(self) -> "SiteMatrix":
        """The part that is drawn: the first `MOST_DRAWN` rows and columns."""
        cells = tuple(row[:MOST_DRAWN] for row in self.cells[:MOST_DRAWN])
        return SiteMatrix(self.rows[:MOST_DRAWN], self.columns[:MOST_DRAWN], cells, self.top)


def weight_matrix(one: RoundFacts, order: Sequence[str]) -> SiteMatrix | None:
    """Receivers in rows, givers in columns, both exactly `order`, so that rounds can be compared; None in the row of a site that got no
    mixture, 0 for a weight that is not told. None if there are no weights.
    """
    if not one.weights or not order:
        return None
    rows = tuple(tuple(one.weights[site].get(giver, 0.0) if site in one.weights else None for giver in order) for site in order)
    return SiteMatrix(tuple(order), tuple(order), rows, 1.0)


def distance_matrix(one: RoundFacts, order: Sequence[str], top: float) -> SiteMatrix | None:
    """The distances, rows and columns exactly `order`; `top` has the darkest colour. None if there are none."""
    place = {site: index for index, site in enumerate(one.givers)}
    if not place or not one.distance or not order:
        return None
    known = [[place.get(site) for site in pair] for pair in ((row, column) for row in order for column in order)]
    values = [None if row is None or column is None else one.distance[row][column] for row, column in known]
    cells = tuple(tuple(values[start : start + len(order)]) for start in range(0, len(values), len(order)))
    return SiteMatrix(tuple(order), tuple(order), cells, top)


def largest_distance(rounds: Sequence[RoundFacts]) -> float:
    """The largest distance of all rounds, so that colours mean the same in each; 1 where there is none above 0."""
    return max((cell for one in rounds for row in one.distance for cell in row if cell is not None), default=0.0) or 1.0


def most_help(one: RoundFacts, count: int) -> list[tuple[str, str, float]]:
    """The largest weights that a site has from another: (giver, receiver, weight), largest first."""
    flows = [(giver, site, weight) for site, row in one.weights.items() for giver, weight in row.items() if giver != site and weight > 0]
    return sorted(flows, key=lambda flow: (-flow[2], flow[1], flow[0]))[:count]


def colour_scale(words: str) -> Markup:
    """The ten colours side by side."""
    parts = [tag("rect", class_=f"h h{step}", x=12 * step, y=0, width=12, height=10) for step in range(STEPS)]
    return picture(12 * STEPS, 10, words, parts, "chart scale")


def step_of(value: float, top: float) -> int:
    """Which of the colours 0 to 9 a value has."""
    return min(STEPS - 1, int(STEPS * max(0.0, value) / top)) if top > 0 else 0


def heat_map(words: str, matrix: SiteMatrix, cell_words: str) -> Markup:
    """The large picture.

    Args:
        words: what a screen reader says.
        matrix: what is drawn.
        cell_words: a cell's title, with {row}, {column} and {value}.
    """
    matrix = matrix.cut
    side = 46 if max(len(matrix.rows), len(matrix.columns)) <= 8 else 34 if len(matrix.columns) <= MOST_WITH_NUMBERS else 13
    head = 26 + 5.6 * max(len(short(site, NAME_LENGTH)) for site in matrix.columns)
    parts = [text(GUTTER - 8, head + side * (row + 0.5) + 4, short(site, NAME_LENGTH), "name end") for row, site in enumerate(matrix.rows)]
    for column, site in enumerate(matrix.columns):
        x = GUTTER + side * (column + 0.5) + 4
        parts.append(text(0, 0, short(site, NAME_LENGTH), "name", transform=f"translate({x:.1f},{head - 8:.1f}) rotate(-60)"))
    for row, site in enumerate(matrix.rows):
        for column, giver in enumerate(matrix.columns):
            value = matrix.cells[row][column]
            told = cell_words.format(row=site, column=giver, value="not known" if value is None else figure(value))
            parts.append(_cell(GUTTER + side * column, head + side * row, side, value, matrix.top, told, own=site == giver))
    width = GUTTER + side * len(matrix.columns) + 44
    return picture(width, head + side * len(matrix.rows) + 4, words, parts, "chart heat")


def small_map(words: str, matrix: SiteMatrix) -> Markup:
    """One of many: cells without numbers."""
    matrix = matrix.cut
    side = max(2.0, min(12.0, 72.0 / max(len(matrix.rows), len(matrix.columns))))
    squares: dict[str, list[str]] = {}
    for row, values in enumerate(matrix.cells):
        for column, value in enumerate(values):
            place = f"M{side * column:.1f},{side * row:.1f}h{side:.1f}v{side:.1f}h-{side:.1f}z"
            squares.setdefault(_shade(value, matrix.top), []).append(place)
    parts = [tag("path", class_=shade, d="".join(places)) for shade, places in squares.items()]
    return picture(side * len(matrix.columns), side * len(matrix.rows), words, parts, "chart small")


def _cell(x: float, y: float, side: float, value: float | None, top: float, words: str, *, own: bool) -> Markup:
    parts = [
        title(words),
        tag("rect", class_=_shade(value, top) + (" own" if own else ""), x=x + 1, y=y + 1, width=side - 2, height=side - 2, rx=2),
    ]
    if side >= 30:
        shade = "strong" if value is not None and step_of(value, top) >= STRONG_FROM else "weak"
        parts.append(text(x + side / 2, y + side / 2 + 4, "·" if value is None else figure(value), f"cell {shade}", text_anchor="middle"))
    return tag("g", parts)


def _shade(value: float | None, top: float) -> str:
    return "h none" if value is None else f"h h{step_of(value, top)}"
