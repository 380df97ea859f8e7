"""How well propagation follows a structure from one slice to the others, by prompt and by rule for its end.

    python benchmarks/propagation.py --data <folder of sets> --image-size 256 --json out.json

Each target (a label value of a case) begins on its largest slice along k with the answer to the box around the true mask: what a person
gets who draws one box. For each kind of prompt the propagation is run to both ends of the volume once; what any rule for the end would have
kept is then counted from what was noted of each slice. Beside it: every slice prompted with its own true box (needs a person on each
slice), and those boxes filled (what the boxes alone are worth). Untuned base, 3-D Dice. It chose `sam_adapters.propagation.DEFAULT_RULE`.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_adapters.dice import Overlap, dice, overlap
from sam_adapters.embedding_cache import EmbeddingCache, SliceKey
from sam_adapters.images import MedicalImage, read_image, read_label
from sam_adapters.intensity_window import windowed
from sam_adapters.loading import load_segmenter
from sam_adapters.openvino_runner import OpenVinoRunner
from sam_adapters.prompts import SlicePrompts, tight_box
from sam_adapters.propagation import Neighbour, PropagationRule, propagate
from sam_adapters.segmenter import Segmenter
from sam_adapters.settings import SiteSettings

TARGETS: tuple[tuple[str, str, int, str], ...] = (
    ("totalsegmentator_ct", "ts_ct", 5, "liver"),
    ("totalsegmentator_ct", "ts_ct", 1, "spleen"),
    ("spinalcord", "sct_t2", 1, "spinal cord"),
    *(("fedbca_t2", case, 1, "bladder tumour") for case in ("c1_003", "c2_32", "c4_02")),
    *(("hippocampus", f"hippocampus_{number}", 0, "hippocampus") for number in ("040", "056")),
)
EVER = PropagationRule(least_overlap=0.0, least_iou=-1.0, largest_growth=1e9)
PROMPTS = {
    "box + 5 %, 1 px": replace(EVER, mask=False, enlarge=0.05, enlarge_pixels=1.0),
    "box + 0": replace(EVER, mask=False, enlarge=0.0, enlarge_pixels=0.0),
    "box + 10 %, 2 px": replace(EVER, mask=False, enlarge=0.1, enlarge_pixels=2.0),
    "box + 15 %, 3 px": replace(EVER, mask=False, enlarge=0.15, enlarge_pixels=3.0),
    "box + 10 %, 2 px and mask": replace(EVER, mask=True, enlarge=0.1, enlarge_pixels=2.0),
}
ENDS = {
    "at the volume's end": EVER,
    **{f"overlap {overlap:g}": replace(EVER, least_overlap=overlap, largest_growth=2.0) for overlap in (0.5, 0.7, 0.8)},
    **{f"expected IoU {iou:g}": replace(EVER, least_iou=iou, largest_growth=2.0) for iou in (0.6, 0.7, 0.75, 0.8, 0.85)},
    **{f"overlap 0.5, IoU {iou:g}": replace(EVER, least_overlap=0.5, least_iou=iou, largest_growth=2.0) for iou in (0.7, 0.75, 0.8)},
}


@dataclass(frozen=True)
class Noted:
    """One slice of a propagation: what the rules for the end look at, and how it agrees with the truth."""

    index: int
    overlap: float
    growth: float
    iou: float
    counts: Overlap


def follow(
    segmenter: Segmenter, image: MedicalImage, target: NDArray[np.bool_], start: int, known: Neighbour, rule: PropagationRule
) -> list[Noted]:
    """A propagation to both ends of the volume, nearest slices first."""
    before = {1: known.mask, -1: known.mask}
    noted = []
    walk = propagate(
        segmenter, image.array, "k", start, known, range(target.shape[0]), rule=rule, key_of=lambda k: SliceKey(image.content_hash, "k", k)
    )
    for index, decoded in walk:
        step = 1 if index > start else -1
        growth = decoded.mask.sum() / before[step].sum()
        noted.append(Noted(index, dice(decoded.mask, before[step]), growth, decoded.iou, overlap(decoded.mask, target[index])))
        before[step] = decoded.mask
    return noted


def kept(noted: list[Noted], start: int, rule: PropagationRule) -> list[Noted]:
    """The slices before the end that `rule` finds in each direction."""
    found = []
    for step in (1, -1):
        for item in (item for item in noted if (item.index - start) * step > 0):
            if item.overlap < rule.least_overlap or item.iou < rule.least_iou or item.growth > rule.largest_growth:
                break
            found.append(item)
    return found


def volume_dice(noted: list[Noted], first: Overlap, target: NDArray[np.bool_]) -> float:
    """3-D Dice of the slices in `noted` and the one it began with."""
    total = sum((item.counts for item in noted), first)
    return Overlap(total.both, total.predicted, int(target.sum())).dice


def measure(segmenter: Segmenter, image: MedicalImage, target: NDArray[np.bool_]) -> dict[str, Any]:
    """All prompts and ends on one target."""
    start = int(target.sum(axis=(1, 2)).argmax())
    slices = [int(k) for k in np.flatnonzero(target.any(axis=(1, 2)))]
    own, filled = Overlap(), Overlap()
    for k in slices:
        box = tight_box(target[k])
        embedding = segmenter.encode(image.array[k], key=SliceKey(image.content_hash, "k", k))
        decoded = segmenter.decode(embedding, SlicePrompts(box=box))
        own += overlap(decoded.mask, target[k])
        filled += overlap(box_mask(box, target[k].shape), target[k])
        if k == start:
            known = Neighbour(decoded.mask, decoded.low_res)
    first = overlap(known.mask, target[start])
    figures: dict[str, Any] = {"slices": len(slices), "own boxes": own.dice, "boxes filled": filled.dice, "first slice": first.dice}
    for prompt, rule in PROMPTS.items():
        noted = follow(segmenter, image, target, start, known, rule)
        figures[prompt] = {
            name: {
                "dice": volume_dice(kept(noted, start, end), first, target),
                "filled": 1 + len(kept(noted, start, end)),
                "beyond": sum(item.counts.target == 0 for item in kept(noted, start, end)),
            }
            for name, end in ENDS.items()
        }
    return figures


def box_mask(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A box, filled."""
    mask = np.zeros(shape, bool)
    x0, y0, x1, y1 = (int(value) for value in box)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description="Propagation by prompt and by rule for its end.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--openvino", action="store_true", help="compute with OpenVINO, as a server does on a CPU")
    options = parser.parse_args()
    settings = SiteSettings(image_size=options.image_size, device="cpu")
    segmenter = load_segmenter(settings, None, "base", EmbeddingCache(4 * 2**30))
    if options.openvino:
        segmenter.runner = OpenVinoRunner(segmenter.adapted.network)
    report = {}
    for folder, case, value, name in TARGETS:
        studies = options.data / folder / "studies"
        image = windowed(read_image(studies / f"{case}.nii.gz"), settings.window)
        label = read_label(studies / "labels" / "final" / f"{case}.nii.gz", image)
        report[f"{name} {case}"] = measure(segmenter, image, label > 0 if value == 0 else label == value)
        print(f"{name} {case}:", json.dumps(report[f"{name} {case}"]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print("mean over", len(report), "targets")
    for prompt in PROMPTS:
        for end in ENDS:
            rows = [figures[prompt][end] for figures in report.values()]
            print(f"  {prompt:26} {end:24} {np.mean([row['dice'] for row in rows]):.3f}  beyond {sum(row['beyond'] for row in rows)}")


if __name__ == "__main__":
    main()
