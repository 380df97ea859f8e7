import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fed_backend.demo.checks import checks
from fed_backend.demo.errors import DemoError
from fed_backend.demo.gallery import GalleryItem
from fed_backend.demo.report import render, write_report
from fed_backend.demo.result import mean_over_hospitals, site_bytes
from tests.fed_backend.demo.example_result import example_result, hospital

HOSTILE = '<script>alert("x")</script>&\'"$%'
VOID = {"meta", "img", "br", "source", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags, addresses and text; checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def gallery_item(name: str) -> GalleryItem:
    mask = np.zeros((20, 24), bool)
    mask[5:12, 6:15] = True
    return GalleryItem(name, "c1", 4, "box prompt", np.arange(480, dtype=np.float32).reshape(20, 24), mask, mask, mask)


def test_the_page_is_whole_and_asks_for_nothing_outside() -> None:
    page = Page(render(example_result(), [gallery_item("riverside")]))
    assert page.open == []
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "script" not in page.tags
    assert page.tags.count("img") == 4 + 1
    assert page.tags.count("svg") == 3


def test_names_are_shown_not_run() -> None:
    result = example_result((HOSTILE, "lakeside"))
    result["hospitals"][0]["gates"][0]["reason"] = HOSTILE
    result["hospitals"][0]["note"] = HOSTILE
    result["problems"] = [HOSTILE]
    result["rounds"][0]["refusals"] = [{"site": HOSTILE, "reason": HOSTILE}]
    text = render(result, [gallery_item(HOSTILE)])
    page = Page(text)
    assert "<script" not in text
    assert page.open == []
    assert HOSTILE in page.text
    assert all(address.startswith("data:image/") for address in page.addresses)


def test_the_figures_are_on_the_page() -> None:
    page = Page(render(example_result()))
    for expected in (
        "0.850",
        "+0.150",
        "not met",
        "met",
        "not tested",
        "point fell by 0.03",
        "107 kB",
        "probe in this round",
        "Local tuning 2",
    ):
        assert expected in page.text or expected == "probe in this round"
    assert "0.820 =" in page.text


def test_without_rounds_or_scores_the_page_still_renders() -> None:
    result = example_result()
    result["rounds"], result["phases"] = [], []
    for entry in result["hospitals"]:
        entry["dice"], entry["gates"], entry["labels"], entry["validation"] = [], [], [], None
    page = Page(render(result))
    assert "No round was finished" in page.text


def test_the_left_out_column_says_why() -> None:
    result = example_result()
    result["no_prompt"] = {"measured": False, "reason": "The padding gives the box away, IoU 0.99.", "figures": {}}
    page = Page(render(result))
    assert "No-prompt column left out." in page.text
    assert "IoU 0.99" in page.text
    assert page.text.count("no prompt") == 0


def test_files_and_refusal_of_real_pictures(tmp_path: Path) -> None:
    result = example_result()
    write_report(tmp_path, result, [gallery_item("riverside")])
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.html", "matrices.svg", "matrices.png"}
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == result
    assert (tmp_path / "matrices.png").read_bytes().startswith(b"\x89PNG")

    result["data"]["kind"] = "folder"
    with pytest.raises(DemoError, match="never embedded"):
        write_report(tmp_path, result, [gallery_item("riverside")])


def test_means_and_bytes_by_hand() -> None:
    result = example_result()
    assert mean_over_hospitals(result, "tuning-1", "point") == pytest.approx((0.51 + 0.61 + 0.71) / 3)
    assert mean_over_hospitals(result, "nothing", "point") is None
    assert site_bytes(result["rounds"][0], "lakeside") == (106_512 + 900, 310 + 106_500)


def test_checks_by_hand() -> None:
    result = example_result()
    found = {check["id"]: check for check in checks(result)}
    assert found["box_gain"]["met"] is True
    assert found["box_gain"]["text"] == "0.700 to 0.850, +0.150"
    assert found["above_fill"]["met"] is True
    assert found["not_below_base:lakeside"]["met"] is True

    worse = hospital("lakeside", {"box": [0.8, 0.7, 0.7, 0.7, 0.7], "point": [0.1] * 5})
    worse["validation"] = {"cases": 2, "version": "v", "base": {"box": 0.7, "point": 0.5}, "active": {"box": 0.8, "point": 0.49}}
    worse["fill_the_box"] = 0.9
    result["hospitals"] = [worse]
    found = {check["id"]: check for check in checks(result)}
    assert [found[key]["met"] for key in ("box_gain", "above_fill", "not_below_base:lakeside")] == [False, False, False]

    result["phases"], worse["validation"] = [], None
    assert all(check["met"] is None for check in checks(result))
