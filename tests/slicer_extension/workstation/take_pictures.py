"""Takes the screenshots of docs/workstation.md with virtual patients: `python -m tests.slicer_extension.workstation.take_pictures`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import requests
import SimpleITK as sitk

from fed_backend.demo.virtual_hospitals import draw_case, protocol
from tests.monailabel_app.server_process import running_server
from tests.slicer_extension.workstation.hands import Hands
from tests.slicer_extension.workstation.processes import ROOT, browser, pause, workstation

OUT = ROOT / "slicer_extension" / "Screenshots"
SIZE = (60, 288, 288)
SPACING = (1.2, 1.2, 5.0)
CONF = {
    "name": "riverside",
    "image_size": "128",
    "cpu_engine": "torch",
    "label_name": "lesion",
    "label_value": "1",
    "tune_after": "1",
    "tune_minimum": "1",
    "tune_steps": "6",
    "batch_size": "1",
    "tune_kinds": "box",
    "gate_kinds": "box",
    "gate_margin": "1",
    "gate_slices_per_case": "1",
    "uncertainty": "false",
}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fedsca-pictures-") as name:
        folder = Path(name)
        studies = folder / "studies"
        studies.mkdir()
        truths = [_draw(studies / f"patient{number}.nii.gz", number) for number in range(1, 5)]
        split = {"train": ["patient1", "patient2"], "val": ["patient3", "patient4"], "test": []}
        (folder / "split.json").write_text(json.dumps(split), encoding="utf-8")
        with running_server(folder, studies, CONF) as server:
            for number in (3, 4):  # the gate decides by at least two validation cases
                _label(server.address, f"patient{number}", truths[number - 1], folder)
            with workstation(folder / "workstation", "--server", server.address) as address, browser() as page:
                page.goto(address)
                page.wait_for_selector("[data-connection=on]")
                _pictures(page, truths[0])


def _draw(path: Path, number: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    case = draw_case(protocol(0, 0), np.random.default_rng([7, number]), SIZE)
    image = sitk.GetImageFromArray(case.image)
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(path))
    return case.truth


def _label(address: str, case: str, truth: np.ndarray[Any, np.dtype[np.bool_]], folder: Path) -> None:
    image = sitk.GetImageFromArray(truth.astype(np.uint8))
    image.SetSpacing(SPACING)
    path = folder / "truth.nii.gz"
    sitk.WriteImage(image, str(path))
    params = {"label_info": [{"name": "lesion", "idx": 1}]}
    with path.open("rb") as stream:
        files = {"params": (None, json.dumps(params), "application/json"), "label": ("label.nii.gz", stream)}
        requests.put(f"{address}/datastore/label", params={"image": case, "tag": "final"}, files=files, timeout=60).raise_for_status()


def _pictures(page: Any, truth: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    hands = Hands(page)
    hands.open("patient1")
    page.evaluate("fedsca.gesture('Red', 'preset', 1)")
    index = int(truth.sum(axis=(1, 2)).argmax())
    page.evaluate("(index) => fedsca.gesture('Red', 'slice', index)", index)
    hands.wait("(index) => fedsca.views.Red.meta.index === index", index)
    rows, columns = np.nonzero(truth[index])
    hands.tool("b", "box")
    hands.drag((columns.min() - 3, rows.min() - 3), (columns.max() + 3, rows.max() + 3))
    hands.wait_for_colour("n > 300")
    hands.tool("p", "point")
    hands.click(int(columns.mean()), int(rows.mean()))
    page.keyboard.press("t")
    hands.click(int(columns.min()) - 8, int(rows.mean()))
    hands.wait("() => fedsca.views.Red.shown()?.points.length === 2")
    page.keyboard.press("t")
    middle = [int(columns.mean()), int(rows.mean()), index]
    page.evaluate("(voxel) => fedsca.gesture('Red', 'jump', voxel)", middle)
    page.click("[data-do=propagate]:enabled")
    hands.notice("slices were filled")
    page.click("[data-notice] button.ghost")
    hands.wait_for_colour("n > 300")
    pause(1)
    page.screenshot(path=OUT / "workstation.png")
    page.keyboard.press("Control+Enter")
    hands.notice("Saved as")
    hands.notice("A new version serves")
    pause(1)
    page.screenshot(path=OUT / "workstation-new-version.png")
    page.click("[data-do=versions]")
    page.wait_for_selector(".dialog.versions li")
    pause(0.5)
    page.screenshot(path=OUT / "workstation-versions.png")


if __name__ == "__main__":
    main()
