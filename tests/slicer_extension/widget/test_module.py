"""The module is set up, shown and taken down in the stand-in, without any server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import slicer

from .desk import Desk, desk

EXTENSION = Path(__file__).parents[3] / "slicer_extension" / "FedSCA"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, EXTENSION) as made:
        yield made


def test_setup_shows_what_to_do_first_and_asks_no_server(bench: Desk) -> None:
    assert bench.state.connection == "off"
    assert bench.ui.siteLabel.text == "Not connected"
    assert "press Connect" in bench.ui.noticeText.text
    assert bench.ui.connectionCard.visible
    assert not bench.ui.submitButton.enabled
    assert not bench.ui.pointTool.enabled
    assert not bench.ui.nextButton.enabled
    assert bench.widget.logic.jobs.idle()


def test_slicer_is_told_title_and_that_nothing_is_sent_before_connect(bench: Desk) -> None:
    assert bench.parent.title == "FedSCA Label"
    assert "No information is sent anywhere until you press Connect" in bench.parent.helpText
    assert not bench.parent.icon.isNull()


def test_an_address_that_cannot_be_one_is_answered_with_a_sentence(bench: Desk) -> None:
    bench.ui.addressEdit.setText("ftp://label-server")
    bench.press("connectButton")
    assert bench.state.connection == "off"
    assert "ftp" in bench.ui.noticeText.text


def test_a_server_that_does_not_answer_leaves_every_button_alive(bench: Desk) -> None:
    bench.ui.addressEdit.setText("127.0.0.1:1")
    bench.press("connectButton")
    bench.until(lambda: bench.state.connection == "off" and bench.state.notice, "the refusal")
    assert bench.state.address == "http://127.0.0.1:1", "http:// was added"
    assert bench.ui.noticeAction.visible
    assert bench.ui.connectButton.enabled
    assert bench.ui.testButton.enabled


def test_the_modules_own_test_passes(bench: Desk) -> None:
    bench.module.FedSCATest().test_masks_and_undo()


def test_leaving_the_module_gives_the_keys_back(bench: Desk) -> None:
    bench.key("T")
    assert bench.state.polarity is False
    bench.widget.exit()
    bench.key("T")
    assert bench.state.polarity is False
    bench.widget.enter()
    bench.key("T")
    assert bench.state.polarity is True


def test_cleanup_leaves_no_node_of_ours_that_would_be_saved(bench: Desk) -> None:
    bench.widget.cleanup()
    names = [slicer.mrmlScene.GetNthNode(number).GetName() for number in range(slicer.mrmlScene.GetNumberOfNodes())]
    assert not [name for name in names if name and name.startswith("Prompt")]
