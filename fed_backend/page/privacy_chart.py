"""Privacy spent by every site: ε over rounds as steps, one row a site. Pure."""

from collections.abc import Sequence

from fed_backend.page.round_facts import RoundFacts
from fed_backend.page.svg import LABELS, Pair, column_width, picture, tag, text, title
from fed_backend.page.wording import figure, short

ROW, HALF, FOOT = 54, 40, 20


def privacy_chart(rounds: Sequence[RoundFacts], sites: Sequence[str]) -> Pair | None:
    """One row a site; all rows share one scale from 0 to the largest ε. None where no round tells any."""
    sites = [site for site in sites if any(site in one.privacy for one in rounds)]
    if not sites:
        return None
    most = max(one.privacy[site][0] for one in rounds for site in sites if site in one.privacy) or 1.0
    column = column_width(len(rounds))
    height, width = ROW * len(sites) + FOOT, column * max(len(rounds), 1) + 6
    labels, plot = [], []
    for row, site in enumerate(sites):
        bottom = ROW * (row + 1) - 6
        spent = [one.privacy[site] for one in rounds if site in one.privacy][-1]
        labels.append(text(LABELS - 8, bottom - 20, short(site, 15), "name end"))
        labels.append(text(LABELS - 8, bottom - 4, f"ε {figure(spent[0])}", "tick end"))
        plot.append(tag("line", class_="rule", x1=0, x2=width, y1=bottom, y2=bottom))
        for number, one in enumerate(rounds):
            if site not in one.privacy:
                continue
            epsilon, delta = one.privacy[site]
            tall = HALF * epsilon / most
            words = f"Round {one.number}, {site}: ε {figure(epsilon)} at δ {figure(delta)} spent until then"
            plot.append(
                tag(
                    "rect",
                    [title(words)],
                    class_="spent",
                    x=column * (number + 0.2),
                    y=bottom - tall,
                    width=0.6 * column,
                    height=tall,
                    rx=1,
                )
            )
    plot += [text(column * (number + 0.5), height - 4, str(one.number), "tick", text_anchor="middle") for number, one in enumerate(rounds)]
    return Pair(
        picture(LABELS, height, "Sites and the ε they have spent", labels, "chart fixed"),
        picture(width, height, f"Privacy spent by {len(sites)} sites in {len(rounds)} rounds, at most ε {figure(most)}", plot),
    )
