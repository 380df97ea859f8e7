"""What goes wrong on a long day, and must not stop the work: in headless Chromium, without a hospital's server."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slicer_extension.workstation.hands import Hands
from tests.slicer_extension.workstation.processes import browser, missing, workstation

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workstation")


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Any]:
    with workstation(folder) as address, browser(1000, 700) as opened:
        opened.goto(address)
        opened.wait_for_selector("[data-connection=off]")
        yield opened


def test_keys_are_the_tools_again_after_a_click_into_a_view(page: Any) -> None:
    page.click(".server input")
    page.keyboard.type("d")
    assert page.input_value(".server input").endswith("d"), "letters go into the field"
    page.click("[data-view=Red] .surface", position={"x": 200, "y": 200})
    Hands(page).tool("d", "paint")
    assert not page.input_value(".server input").endswith("dd")


def test_a_refused_file_is_told(page: Any) -> None:
    page.evaluate("fetch('own-image?name=letter.docx', { method: 'POST', body: 'text' })")
    assert "letter.docx" in Hands(page).notice("is no image")


def test_the_address_with_the_token_is_only_for_its_owner(page: Any, folder: Path) -> None:
    assert stat.S_IMODE((folder / "ready").stat().st_mode) == 0o600
