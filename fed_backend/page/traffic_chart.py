"""Payload bytes of every site and round: sent upwards, received downwards. Pure."""

from collections.abc import Sequence

from markupsafe import Markup

from fed_backend.page.round_facts import RoundFacts
from fed_backend.page.svg import LABELS, Pair, column_width, picture, tag, text, title
from fed_backend.page.wording import short, size

ROW, HALF, FOOT = 64, 25, 20


def traffic_chart(rounds: Sequence[RoundFacts], sites: Sequence[str]) -> Pair:
    """One row a site, one column a round; all bars share one scale."""
    most = max((count for one in rounds for site in sites for count in one.bytes_of(site)), default=0)
    column = column_width(len(rounds))
    height, width = ROW * len(sites) + FOOT, column * max(len(rounds), 1) + 6
    labels, plot = [], []
    for row, site in enumerate(sites):
        middle = ROW * row + ROW / 2
        up, down = (sum(one.bytes_of(site)[way] for one in rounds) for way in (0, 1))
        labels.append(text(LABELS - 8, middle - 8, short(site, 15), "name end"))
        labels.append(text(LABELS - 8, middle + 8, f"↑ {size(up)}", "tick end up"))
        labels.append(text(LABELS - 8, middle + 22, f"↓ {size(down)}", "tick end down"))
        plot.append(tag("line", class_="rule", x1=0, x2=width, y1=middle, y2=middle))
        plot += [_bars(column, number, one, site, most, middle) for number, one in enumerate(rounds) if site in one.traffic]
    numbers = [
        text(column * (number + 0.5), height - 6, str(one.number), "tick", text_anchor="middle") for number, one in enumerate(rounds)
    ]
    return Pair(
        picture(LABELS, height, "Sites and their bytes over these rounds", labels, "chart fixed"),
        picture(width, height, f"Bytes of {len(sites)} sites in {len(rounds)} rounds, at most {size(most)}", [*plot, *numbers]),
    )


def bar_length(count: int, most: int) -> float:
    """Length of a bar: proportional, at least 1 where there is anything."""
    return max(1.0, HALF * count / most) if count and most else 0.0


def _bars(width: float, number: int, one: RoundFacts, site: str, most: int, middle: float) -> Markup:
    up, down = one.bytes_of(site)
    x, high, low = width * (number + 0.2), bar_length(up, most), bar_length(down, most)
    parts = [
        title(f"Round {one.number}, {site}: sent {size(up)}, received {size(down)}"),
        tag("rect", class_="touch", x=width * number, y=middle - HALF, width=width, height=2 * HALF),
        tag("rect", class_="up", x=x, y=middle - 1 - high, width=0.6 * width, height=high, rx=1),
        tag("rect", class_="down", x=x, y=middle + 1, width=0.6 * width, height=low, rx=1),
    ]
    return tag("g", parts, class_="column")
