"""The page in headless Chromium: nothing from outside, nothing in the console, nothing wider than a phone; the slider."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fed_backend.page.running_page import NAME, PHRASE, add_operator, running_page
from tests.fed_backend.page.virtual_federation import ROUNDS, VirtualSite, add_round, five_sites, make_state_folder
from tests.slicer_extension.workstation.processes import browser, chromium

pytestmark = pytest.mark.skipif(not chromium(), reason="no Chromium is installed (Debian: apt install chromium)")

LONG_NAME = "A-very-long-name-of-a-virtual-hospital_that.fills-all-of-64-char"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    sites = [*five_sites(), VirtualSite(LONG_NAME, (0.3, 0.3), 9, 0.5, 0.7)]
    state = make_state_folder(tmp_path_factory.mktemp("virtual") / "state", sites)
    add_operator(state)
    with running_page(state) as url:
        yield url


def signed_in(page: Any, address: str) -> None:
    page.goto(address)
    page.fill("[name=username]", NAME)
    page.fill("[name=password]", PHRASE)
    page.click("text=Log in")
    page.wait_for_selector("#matrices")


def assert_clean(page: Any, address: str) -> None:
    assert page.problems == []
    assert {urlsplit(url).netloc for url in page.requests} == {urlsplit(address).netloc}


def test_the_slider_shows_other_rounds(address: str) -> None:
    with browser() as page:
        signed_in(page, address)
        assert page.get_attribute("#matrices", "data-round") == str(ROUNDS)
        page.focus("#round")
        page.keyboard.press("Home")
        page.wait_for_selector("#matrices[data-round='1']")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#matrices[data-round='2']")
        assert page.inner_text(".slider output") == "2"
        page.click(".strip a >> nth=-1")
        page.wait_for_selector(f"#matrices[data-round='{ROUNDS}']")
        page.click("text=Weights as a table")
        assert page.is_visible("#matrices table")
        assert page.evaluate("document.cookie") == "", "scripts cannot see the login"
        assert_clean(page, address)
        page.click("text=Log out")
        page.wait_for_selector("[name=password]")


def test_news_appear_by_themselves_and_what_is_unfolded_stays(tmp_path: Path) -> None:
    state = make_state_folder(tmp_path / "state", rounds=3)
    add_operator(state)
    with running_page(state) as url, browser() as page:
        signed_in(page, url)
        page.click("text=Rounds as a table")
        page.focus("#round")
        page.keyboard.press("Home")
        page.wait_for_selector("#matrices[data-round='1']")
        page.evaluate("window.same = true")
        add_round(state, 4)
        page.wait_for_selector(".tile strong:has-text('4') .skipped")
        assert page.get_attribute("#matrices", "data-round") == "1", "the round that was chosen"
        assert page.is_visible("#rounds table")
        assert page.evaluate("window.same"), "without loading the page anew"
        assert_clean(page, url)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(address: str, scheme: str) -> None:
    with browser(360, 740) as page:
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        signed_in(page, address)
        for summary in page.query_selector_all("summary"):
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate("[...document.querySelectorAll('.card, .tile')].every(one => one.getBoundingClientRect().right <= 360)")
        newest = page.evaluate("(() => { const box = document.querySelector('.newest').getBoundingClientRect();"
                               " const last = [...document.querySelectorAll('#rounds .column')].at(-1).getBoundingClientRect();"
                               " return last.right <= box.right + 8 && last.left >= box.left; })()")  # fmt: skip
        assert newest, "the newest round is in sight"
        assert contrast(page) >= 4.5
        assert_clean(page, address)


def test_without_scripts_the_form_does_the_same(address: str) -> None:
    from playwright.sync_api import sync_playwright

    from tests.slicer_extension.workstation.processes import FLAGS

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = started.new_context(java_script_enabled=False).new_page()
        page.set_default_timeout(60_000)
        signed_in(page, address)
        page.click(".strip a >> nth=0")
        page.wait_for_selector("#matrices[data-round='1']")
        page.click(".slider button")
        page.wait_for_selector("#matrices[data-round='1']")
        started.close()


def contrast(page: Any) -> float:
    """The smallest contrast (WCAG 2) of the soft and the accent colour against the cards."""
    return float(
        page.evaluate("""() => {
      const style = getComputedStyle(document.documentElement);
      const light = (name) => {
        const hex = style.getPropertyValue(name).trim().slice(1);
        const parts = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
          .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
      };
      const ratio = (one, two) => (Math.max(light(one), light(two)) + 0.05) / (Math.min(light(one), light(two)) + 0.05);
      const cells = [0, 1, 2, 3, 4, 5].map((step) => ratio("--weak", "--h" + step))
        .concat([6, 7, 8, 9].map((step) => ratio("--strong", "--h" + step)));
      const words = ["--soft", "--accent", "--red", "--ink"].map((name) => ratio(name, "--card"));
      return Math.min(...words, ...cells);
    }""")
    )
