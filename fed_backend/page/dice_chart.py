"""One site's Dice over rounds: what was active after each, what was tried and not taken, and the untuned base. Pure."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from fed_backend.page.round_facts import RoundFacts, VerdictFacts
from fed_backend.page.svg import picture, tag, text, title

WIDTH, HEIGHT = 330, 170
LEFT, RIGHT, TOP, BOTTOM = 34, 46, 12, 24


def dice_chart(site: str, rounds: Sequence[RoundFacts]) -> Markup | None:
    """The site's chart; None if it told no Dice in these rounds."""
    told = [(number, one.number, one.verdicts[site]) for number, one in enumerate(rounds) if site in one.verdicts]
    told = [item for item in told if item[2].after is not None]
    if not told:
        return None
    low = floor_of(
        [value for _, _, verdict in told for value in (verdict.after, verdict.dice.base, verdict.dice.candidate) if value is not None]
    )
    places = Places(len(rounds), low)
    after = [(places.x(number), places.y(verdict.after or 0.0)) for number, _, verdict in told]
    base = [(places.x(number), places.y(verdict.dice.base)) for number, _, verdict in told if verdict.dice.base is not None]
    parts = [*places.grid(), _rounds(rounds, places)]
    if base:
        parts.append(tag("polyline", class_="line base", points=_points(base)))
    parts.append(tag("polyline", class_="line after", points=_points(after)))
    for number, round_number, verdict in told:
        parts += _marks(places, number, round_number, verdict)
    last = told[-1][2].after or 0.0
    parts.append(text(WIDTH - RIGHT + 6, places.y(last) + 4, f"{last:.3f}", "value after"))
    first = told[0][2].dice.before
    words = f"{site}: Dice {first:.3f} before round {told[0][1]}, " if first is not None else f"{site}: Dice "
    return picture(WIDTH, HEIGHT, f"{words}{last:.3f} after round {told[-1][1]}", parts, "chart wide")


def floor_of(values: Sequence[float]) -> float:
    """The axis begins at the tenth below the smallest value, at most at 0.9, so that small gains can be seen."""
    return min(0.9, max(0.0, math.floor(min(values) * 10 + 1e-9) / 10))


class Places:
    """Where a round and a Dice lie in the picture. The axis ends at 1."""

    def __init__(self, count: int, low: float) -> None:
        self._count, self._low = count, low

    def x(self, number: int) -> float:
        """Middle of the number-th round (from 0)."""
        inner = WIDTH - LEFT - RIGHT - 12
        return LEFT + 6 + (inner * number / (self._count - 1) if self._count > 1 else inner / 2)

    def y(self, value: float) -> float:
        """Height of a Dice."""
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - self._low) / (1 - self._low))

    def grid(self) -> list[Markup]:
        """Rules with their values."""
        steps = round((1 - self._low) * 10)
        tenths = range(round(self._low * 10), 11, 1 if steps <= 5 else 2)
        parts = []
        for tenth in tenths:
            y = self.y(tenth / 10)
            parts.append(tag("line", class_="rule", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
            parts.append(text(LEFT - 6, y + 4, f"{tenth / 10:.1f}", "tick end"))
        return parts


def _rounds(rounds: Sequence[RoundFacts], places: Places) -> Markup:
    first = text(places.x(0), HEIGHT - 6, f"round {rounds[0].number}", "tick")
    last = text(WIDTH - RIGHT, HEIGHT - 6, str(rounds[-1].number), "tick end") if len(rounds) > 1 else Markup("")
    return first + last


def _marks(places: Places, number: int, round_number: int, verdict: VerdictFacts) -> list[Markup]:
    x, parts = places.x(number), []
    words = f"Round {round_number}, {verdict.verdict}: {verdict.reason}"
    candidate = verdict.dice.candidate
    if candidate is not None and verdict.verdict != "promoted":
        shape = f"translate({x:.1f},{places.y(candidate):.1f})"
        parts.append(
            tag("path", [title(f"{words} Candidate {candidate:.3f}")], class_="mark tried", d="M0,-5L5,0L0,5L-5,0Z", transform=shape)
        )
    after = verdict.after or 0.0
    promoted = verdict.verdict == "promoted"
    parts.append(
        tag("circle", [title(f"{words} Dice {after:.3f}")], class_="mark after", cx=x, cy=places.y(after), r=4.5 if promoted else 2)
    )
    return parts


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
