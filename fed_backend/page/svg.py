"""Pieces of SVG as escaped text. Colours are classes of the page's style sheet, so that they follow light and dark mode."""

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from fed_backend.page.wording import shown

NARROWEST, WIDEST, PLOT = 26.0, 38.0, 960.0
"""Width of a round's column in the charts over rounds; width of the plot that they share, while they are not too narrow."""
LABELS = 118
"""Width of the sites' names to the left of them."""


@dataclass(frozen=True)
class Pair:
    """A chart whose plot may be wider than the screen: the names at its left stay, the plot is scrolled."""

    labels: Markup
    plot: Markup


def column_width(rounds: int) -> float:
    """Width of a round's column: the plot's share, within bounds."""
    return min(WIDEST, max(NARROWEST, PLOT // max(rounds, 1)))


def tag(name: str, children: Iterable[Markup] = (), **attributes: object) -> Markup:
    """An element. Attributes: `_` stands for `-`, a trailing one is dropped (`class_`); numbers get one decimal, None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"' for key, value in attributes.items() if value is not None
    )
    # names and keys are this code's own, values are escaped, children are Markup already
    return Markup(f"<{name}{written}>{''.join(map(escape, children))}</{name}>")  # noqa: S704


def text(x: float, y: float, words: str, class_: str = "", **attributes: object) -> Markup:
    """A line of text at its baseline."""
    return tag("text", [escape(shown(words))], x=x, y=y, class_=class_ or None, **attributes)


def title(words: str) -> Markup:
    """What a pointer that rests on the parent shows, and what a screen reader says."""
    return tag("title", [escape(shown(words))])


def picture(width: float, height: float, words: str, parts: Iterable[Markup], class_: str = "chart") -> Markup:
    """The whole drawing; `words` is what a screen reader says."""
    return tag(
        "svg",
        parts,
        class_=class_,
        width=width,
        height=height,
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        role="img",
        aria_label=shown(words),
    )


def _plain(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return value
