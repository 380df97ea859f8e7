"""Numbers, times and foreign texts as people read them. Pure."""

import unicodedata
from datetime import datetime

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def shown(text: str) -> str:
    """A foreign text without what a screen would obey instead of show: control characters and those that turn its direction become �."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter)[0] == "C" else letter for letter in text)


def short(text: str, length: int) -> str:
    """`shown`, cut to `length` characters with an ellipsis."""
    text = shown(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def span(seconds: float) -> str:
    """A length of time in its two largest units: 3725 -> `1 h 2 min`, 0.25 -> `0.2 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    words: list[str] = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count or words:
            words.append(f"{count} {unit}" if count else "")
        if len(words) == 2:
            break
    return " ".join(word for word in words if word)


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago, or in how long."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 60:
        return "just now"
    words = span(abs(seconds) - abs(seconds) % 60)
    return f"{words} ago" if seconds > 0 else f"in {words}"


def size(count: float) -> str:
    """Bytes in decimal units: 105984 -> `106 kB`."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            value = count / factor
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    return f"{count:.0f} B"


def figure(value: float) -> str:
    """A number in three significant digits, for a cell of a heat map."""
    if value == 0:
        return "0"
    if abs(value) >= 1000 or abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2f}" if abs(value) >= 0.01 else f"{value:.3f}"


def day(moment: datetime | None) -> str:
    """`5 Mar`."""
    return f"{moment.day} {moment:%b}" if moment is not None else ""


def stamp(moment: datetime | None) -> str:
    """`2026-03-05 14:02 UTC`; "" for None."""
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment is not None else ""
