"""The whole story in the page, on real bladder MR. Needs a folder of volumes (`$FEDSCA_DATA/volumes`); skipped where there is none."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from fed_backend.demo.hospital import CaseSplit, Hospital
from tests.slicer_extension.widget.hospital import RunningHospital, box_around, largest_slice
from tests.slicer_extension.workstation.hands import LONG, Hands
from tests.slicer_extension.workstation.processes import browser, missing, workstation

BLADDERS = Path(os.environ.get("FEDSCA_DATA", Path(__file__).parents[4] / "shared" / "data")) / "volumes" / "fedbca_t2" / "studies"
TRAIN, VALIDATION = ("c1_003", "c1_001", "c4_02", "c4_04"), ("c2_32", "c4_03")
# With the fourth training case labelled a tuning begins, long enough to be better than the base with so few pixels.
CONF = {"tune_after": str(len(TRAIN)), "tune_steps": "16"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BLADDERS.is_dir(), reason=f"no real volumes in {BLADDERS} (set FEDSCA_DATA)"),
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHospital]:
    folder = tmp_path_factory.mktemp("hospital")
    root = folder / "site"
    (root / "studies").mkdir(parents=True)
    images, truths = {}, {}
    for case in TRAIN + VALIDATION:
        images[case] = root / "studies" / f"{case}.nii.gz"
        images[case].symlink_to(BLADDERS / images[case].name)
        truths[case] = BLADDERS / "labels" / "final" / images[case].name
    (root / "split.json").write_text(json.dumps({"train": TRAIN, "val": VALIDATION, "test": []}), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = RunningHospital(folder, Hospital("bladders", root, images, truths, CaseSplit(TRAIN, VALIDATION, ())), port, CONF)
    try:
        made.start()
        for case in VALIDATION + TRAIN[1:]:  # what colleagues did earlier
            made.save_truth(case)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def hands(hospital: RunningHospital, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    with workstation(tmp_path_factory.mktemp("workstation"), "--server", hospital.url) as address, browser() as page:
        page.goto(address)
        page.wait_for_selector("[data-connection=on]")
        yield Hands(page)


def test_a_tumour_from_the_click_to_the_rollback(hands: Hands, hospital: RunningHospital) -> None:
    page, case = hands.page, TRAIN[0]
    truth = hospital.truth(case)
    index = largest_slice(truth)
    low, high = box_around(truth, index)
    hands.open(case)
    hands.go_to(index)
    assert hands.coloured() == 0

    # Box and point: the mask is seen; undo takes the point back.
    hands.tool("b", "box")
    hands.drag((low[0], low[1]), (high[0], high[1]))
    boxed = hands.wait_for_colour("n > 100")
    hands.tool("p", "point")
    hands.click((low[0] + high[0]) // 2, (low[1] + high[1]) // 2)
    hands.wait("() => fedsca.views.Red.shown()?.points.length === 1")
    page.keyboard.press("Control+z")
    hands.wait("() => fedsca.views.Red.shown()?.points.length === 0")
    hands.wait_for_colour(f"Math.abs(n - {boxed}) <= {0.03 * boxed}")

    # Paint, far from the tumour: once to be kept, once to be taken back.
    hands.tool("d", "paint")
    hands.drag((20, 20), (40, 20))
    kept_stroke = hands.wait_for_colour(f"n > {boxed} + 50")
    hands.drag((20, 60), (40, 60))
    hands.wait_for_colour(f"n > {kept_stroke} + 50")
    page.keyboard.press("Control+z")
    hands.wait_for_colour(f"Math.abs(n - {kept_stroke}) <= {0.03 * kept_stroke}")

    # Submit: exactly that is kept; it is tuned on, and a version serves.
    page.keyboard.press("Control+Enter")
    hands.notice("Saved as")
    label = hospital.label(case)
    assert label.shape == truth.shape
    assert label[index, 20, 20:41].all()
    assert not label[index, 60, 20:41].any()
    assert label[index, low[1] : high[1] + 1, low[0] : high[0] + 1].any()
    assert np.count_nonzero(label[index]) == np.count_nonzero(label), "other slices are empty"
    hands.notice("A new version serves", 5 * LONG)
    active = requests.get(f"{hospital.url}/fedsca/status", timeout=60).json()["active"]
    assert active != "base"
    hands.wait("(id) => document.querySelector('.server dd[data-fact=version]').innerText.startsWith(id)", active[:8])

    # And back, from the list of versions.
    page.click("[data-do=versions]")
    page.click("[data-version=base] [data-do=activate]")
    hands.notice("serves now")
    assert requests.get(f"{hospital.url}/fedsca/status", timeout=60).json()["active"] == "base"
