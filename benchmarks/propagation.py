"""How well propagation follows a structure from one slice to the others, for several rules; the numbers behind `sam_adapters.propagation`.

    python benchmarks/propagation.py --data <folder of sets> --json out.json

Each target (a label value of a case) is started on its largest slice along k: with the true mask (how well it is followed), and with the
answer to the box around the true mask (what a person gets who draws one box). Beside it: every slice prompted with its own true box (an
upper bound that needs a person on each slice), and filling that box (what a box alone is worth). Untuned base, 3-D Dice.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_adapters.dice import dice
from sam_adapters.embedding_cache import EmbeddingCache, SliceKey
from sam_adapters.images import MedicalImage, read_image, read_label
from sam_adapters.loading import load_segmenter
from sam_adapters.preprocess import mask_logits
from sam_adapters.prompts import SlicePrompts, tight_box
from sam_adapters.propagation import DEFAULT_RULE, Neighbour, PropagationRule, propagate
from sam_adapters.segmenter import Segmenter
from sam_adapters.settings import SiteSettings

TARGETS: tuple[tuple[str, str, int, str], ...] = (
    *(("hippocampus", f"hippocampus_{number}", 0, "hippocampus") for number in ("040", "056", "087")),
    ("spinalcord", "sct_t2", 1, "spinal cord"),
    *(("fedbca_t2", case, 1, "bladder tumour") for case in ("c1_003", "c2_32", "c4_02")),
    ("totalsegmentator_ct", "ts_ct", 5, "liver"),
    ("totalsegmentator_ct", "ts_ct", 1, "spleen"),
)
EVER = replace(DEFAULT_RULE, least_overlap=0.0, largest_growth=1e9)


def rules() -> dict[str, PropagationRule]:
    """The rules that are compared: first the prompt, then the box's margin, then when it ends."""
    found = {
        "box and mask": DEFAULT_RULE,
        "box": replace(DEFAULT_RULE, mask=False),
        "mask": replace(DEFAULT_RULE, box=False),
        "box, never ends": replace(EVER, mask=False),
    }
    for enlarge in (0.0, 0.1, 0.2):
        found[f"box, enlarged {enlarge:g}"] = replace(DEFAULT_RULE, mask=False, enlarge=enlarge, enlarge_pixels=2 * enlarge * 10)
    for overlap in (0.3, 0.7, 0.8):
        found[f"box, overlap {overlap:g}"] = replace(DEFAULT_RULE, mask=False, least_overlap=overlap)
    for iou in (0.5, 0.7, 0.8):
        found[f"box, expected IoU {iou:g}"] = replace(DEFAULT_RULE, mask=False, least_iou=iou)
    return found


def run(
    segmenter: Segmenter, image: MedicalImage, target: NDArray[np.bool_], start: int, known: Neighbour, rule: PropagationRule
) -> tuple[NDArray[np.bool_], int]:
    """The propagated volume, the start slice's own mask in it, and the number of slices filled beyond the structure."""
    mask = np.zeros(target.shape, bool)
    mask[start] = known.mask
    everywhere = range(target.shape[0])
    for index, decoded in propagate(
        segmenter, image.array, "k", start, known, everywhere, rule=rule, key_of=lambda index: SliceKey(image.content_hash, "k", index)
    ):
        mask[index] = decoded.mask
    beyond = mask.any(axis=(1, 2)) & ~target.any(axis=(1, 2))
    return mask, int(beyond.sum())


def measure(segmenter: Segmenter, image: MedicalImage, target: NDArray[np.bool_], chosen: dict[str, PropagationRule]) -> dict[str, Any]:
    """All rules on one target."""
    start = int(target.sum(axis=(1, 2)).argmax())
    slices = np.flatnonzero(target.any(axis=(1, 2)))
    embeddings = {int(k): segmenter.encode(image.array[k], key=SliceKey(image.content_hash, "k", int(k))) for k in slices}
    own, filled = np.zeros(target.shape, bool), np.zeros(target.shape, bool)
    for k in slices:
        box = tight_box(target[k])
        own[k] = segmenter.decode(embeddings[int(k)], SlicePrompts(box=box)).mask
        x0, y0, x1, y1 = (int(value) for value in box)
        filled[k, y0 : y1 + 1, x0 : x1 + 1] = True
    boxed = segmenter.decode(embeddings[start], SlicePrompts(box=tight_box(target[start])))
    true = Neighbour(target[start], mask_logits(target[start], segmenter.image_size, boxed.low_res.shape[0]))
    figures: dict[str, Any] = {
        "slices": len(slices),
        "own boxes": dice(own, target),
        "boxes filled": dice(filled, target),
        "start slice": dice(boxed.mask, target[start]),
        "rules": {},
    }
    for name, rule in chosen.items():
        row = {}
        for begin, known in (("true", true), ("box", Neighbour(boxed.mask, boxed.low_res))):
            mask, beyond = run(segmenter, image, target, start, known, rule)
            row[begin] = {"dice": dice(mask, target), "filled": int(mask.any(axis=(1, 2)).sum()), "beyond": beyond}
        figures["rules"][name] = row
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--image-size", type=int, default=256)
    options = parser.parse_args()
    settings = SiteSettings(image_size=options.image_size, device="cpu")
    segmenter = load_segmenter(settings, None, "base", EmbeddingCache(4 * 2**30))
    chosen, report = rules(), {}
    for folder, case, value, name in TARGETS:
        studies = options.data / folder / "studies"
        image = read_image(studies / f"{case}.nii.gz")
        label = read_label(studies / "labels" / "final" / f"{case}.nii.gz", image)
        figures = measure(segmenter, image, label > 0 if value == 0 else label == value, chosen)
        report[f"{name} {case}"] = figures
        print(f"{name} {case}: {figures['slices']} slices, own boxes {figures['own boxes']:.2f}, filled {figures['boxes filled']:.2f}")
        for rule, row in figures["rules"].items():
            print(
                f"  {rule:24} " + "  ".join(f"{b} {r['dice']:.2f} ({r['filled']}, {r['beyond']} beyond)" for b, r in row.items()),
                flush=True,
            )
    print("mean")
    for rule in chosen:
        means = [float(np.mean([figures["rules"][rule][begin]["dice"] for figures in report.values()])) for begin in ("true", "box")]
        print(f"  {rule:24} true {means[0]:.3f}  box {means[1]:.3f}")
    if options.json:
        options.json.write_text(json.dumps({"rules": {n: asdict(r) for n, r in chosen.items()}, "targets": report}, indent=1))


if __name__ == "__main__":
    main()
