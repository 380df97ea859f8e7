"""Every relative link of the documentation leads somewhere, to the heading that it names too."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """The project's own Markdown files; environments and caches lie in hidden folders."""
    found = (path for path in ROOT.rglob("*.md") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts))
    return sorted(found)


@cache
def text_of(path: Path) -> str:
    """A document without its code blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading: links are their text, marks go, letters become small, spaces become hyphens."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    """All anchors of a document; a heading that stands there again gets a number."""
    found: list[str] = []
    for heading in _HEADING.findall(text_of(path)):
        name = slug(heading)
        again = sum(1 for other in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", other))
        found.append(f"{name}-{again}" if again else name)
    return frozenset(found)


def broken(path: Path) -> list[str]:
    """The links of a document that lead nowhere."""
    wrong = []
    for target in _LINK.findall(text_of(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        if not place.exists() or (anchor and (place.suffix != ".md" or anchor not in anchors(place))):
            wrong.append(target)
    return wrong


def test_slugs_are_those_of_github() -> None:
    assert slug("Sharing everything (56 px, three seeds)") == "sharing-everything-56-px-three-seeds"
    assert slug("The `gate`, when [all](x.md) is shared") == "the-gate-when-all-is-shared"


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n# One\n[a](#one-1) [b](#two) [c](gone.md) [d](https://example.org/x)\n```\n[e](also-gone.md)\n```\n", encoding="utf-8"
    )
    assert broken(page) == ["#two", "gone.md"]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path: Path) -> None:
    assert broken(path) == []
