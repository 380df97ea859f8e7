"""Rounds on a time line: how each ended, how long it took, who was heard. Pure: facts in, SVG out."""

from collections.abc import Sequence

from markupsafe import Markup

from fed_backend.page.round_facts import RoundFacts
from fed_backend.page.svg import LABELS, Pair, column_width, picture, tag, text, title
from fed_backend.page.wording import day, short, span, stamp

BARS, ROW, FOOT = 74, 24, 34
TALLEST = 50
MARKS = {"finished": "✓", "skipped": "–", "running": "…"}


def timeline(rounds: Sequence[RoundFacts], sites: Sequence[str]) -> Pair:
    """One column a round: a bar as tall as the round was long, and one mark for each site."""
    height = BARS + ROW * len(sites) + FOOT
    longest = max((one.seconds or 0.0 for one in rounds), default=0.0)
    names = [text(LABELS - 8, BARS + ROW * row + 16, short(site, 15), "name end") for row, site in enumerate(sites)]
    top = [text(LABELS - 8, 20, span(longest), "tick end"), text(LABELS - 8, BARS - 8, "duration", "tick end")] if longest else []
    column = column_width(len(rounds))
    width = column * max(len(rounds), 1) + 6
    rules = [tag("line", class_="rule", x1=0, x2=width, y1=BARS + ROW * row + 11, y2=BARS + ROW * row + 11) for row in range(len(sites))]
    columns = [_column(column, number, one, sites, longest, height) for number, one in enumerate(rounds)]
    days = _days(column, rounds, height)
    return Pair(
        picture(LABELS, height, "Sites", [*top, *names], "chart fixed"),
        picture(width, height, f"{len(rounds)} rounds: status, duration and sites heard", [*rules, *columns, *days]),
    )


def bar_height(seconds: float | None, longest: float) -> float:
    """Height of a round's bar: proportional to its duration, at least 3 so that it is seen."""
    return max(3.0, TALLEST * seconds / longest) if seconds and longest else 3.0


def presence(one: RoundFacts, site: str) -> str:
    """`heard`, `newcomer` (heard, not compared yet), `refused` or `silent`."""
    if site in one.heard:
        return "newcomer" if site in one.newcomers else "heard"
    return "refused" if any(refusal.site == site for refusal in one.refusals) else "silent"


def _column(width: float, number: int, one: RoundFacts, sites: Sequence[str], longest: float, height: int) -> Markup:
    x = width * (number + 0.5)
    tall = bar_height(one.seconds, longest)
    words = f"Round {one.number}, {one.status}, {stamp(one.started)}" + (f", {span(one.seconds)}" if one.seconds is not None else "")
    words += f". Heard: {', '.join(one.heard) or 'nobody'}." + (f" {one.reason}" if one.reason else "")
    parts = [
        title(words),
        tag("rect", class_="touch", x=x - width / 2, y=0, width=width, height=height),
        tag("rect", class_=f"bar {one.status}", x=x - 0.27 * width, y=BARS - 10 - tall, width=0.54 * width, height=tall, rx=2),
        text(x, BARS - 16 - tall, MARKS[one.status], f"status {one.status}", text_anchor="middle"),
        *(_mark(x, BARS + ROW * row + 11, presence(one, site), site) for row, site in enumerate(sites)),
        text(x, height - FOOT + 14, str(one.number), "tick", text_anchor="middle"),
    ]
    return tag("g", parts, class_="column")


def _mark(x: float, y: float, kind: str, site: str) -> Markup:
    told = {"heard": "heard", "newcomer": "heard, not compared yet", "refused": "refused or lost", "silent": "not there"}[kind]
    if kind == "refused":
        shape = tag(
            "path", [title(f"{site}: {told}")], class_="mark refused", d="M-5,-5L5,5M5,-5L-5,5", transform=f"translate({x:.1f},{y})"
        )
    else:
        shape = tag("circle", [title(f"{site}: {told}")], class_=f"mark {kind}", cx=x, cy=y, r=2 if kind == "silent" else 6)
    return shape


def _days(width: float, rounds: Sequence[RoundFacts], height: int) -> list[Markup]:
    """The date under the first round and wherever it changes, if there is room."""
    parts, last, free_from = [], "", -1.0
    for number, one in enumerate(rounds):
        words = day(one.started)
        x = width * number + 3.0
        if words and words != last and x >= free_from:
            parts.append(text(x, height - 6, words, "tick day"))
            free_from = x + 8.0 * len(words)
            last = words
    return parts
