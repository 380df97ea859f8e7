"""Both palettes can be read."""

import pytest
from FedSCALib.qt_style import DARK, LIGHT, sheet

from .test_module import EXTENSION

TEXT_ON_GROUND = [
    ("text", "card"),
    ("text", "window"),
    ("text", "field"),
    ("text", "button"),
    ("muted", "card"),
    ("muted", "window"),
    ("text", "accent_soft"),
    ("text", "bad_soft"),
    ("text", "warn_soft"),
    ("text", "info_soft"),
    ("accent_text", "accent"),
]


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", 0 to 1 (WCAG 2.1)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """1 to 21 (WCAG 2.1)."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_black_on_white_is_the_most_there_is() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT_ON_GROUND)
def test_text_stands_out_from_its_ground(colours: dict[str, str], text: str, ground: str) -> None:
    assert contrast(colours[text], colours[ground]) >= 4.5


@pytest.mark.parametrize("dark", [False, True])
def test_the_sheet_names_no_colour_or_icon_that_is_not_there(dark: bool) -> None:
    icons = EXTENSION / "Resources" / "Icons"
    text = sheet(dark, icons)
    assert "@" not in text
    pictures = [part.split('"')[0] for part in text.split('url("')[1:]]
    assert pictures
    assert [picture for picture in pictures if not (icons / picture.rsplit("/", 1)[1]).is_file()] == []
