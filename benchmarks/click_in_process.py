"""Clicks without a server in between: the ways of answering one, side by side on the same slices, base and machine."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.clicks import Click, spread_clicks
from benchmarks.published_encoder import as_published
from benchmarks.timing import Timing, measure
from sam_adapters.bases.litemedsam import LiteMedSam
from sam_adapters.images import MedicalImage
from sam_adapters.loading import load_segmenter
from sam_adapters.openvino_runner import OpenVinoRunner, openvino_installed
from sam_adapters.prompts import put_slice, take_slice
from sam_adapters.segmenter import Segmenter
from sam_adapters.settings import SiteSettings

PLAIN = "plain eager torch"
"""The network as published."""
OWN = "the product's torch"
"""What answers where there is no OpenVINO: the same network, folded and channels last."""


def in_process(image: MedicalImage, settings: SiteSettings, *, cold: int, warm: int, whole: int) -> list[Timing]:
    """Time eager PyTorch (the network as published, and the product's own), the CPU engine, and MONAI Label's way.

    Args:
        cold: slices that are clicked on for the first time.
        warm: further clicks on one slice.
        whole: clicks answered with a whole volume.
    """
    segmenter = load_segmenter(replace(settings, device="auto"), None, "base")
    clicks = spread_clicks(image, max(cold, whole), seed=1)
    timings = []
    network = segmenter.adapted.network
    if isinstance(network, LiteMedSam) and segmenter.device.type == "cpu":
        with as_published(network.image_encoder):
            timings += _cold_and_warm(PLAIN, segmenter, image, clicks[:cold], warm)
    timings += _cold_and_warm(OWN, segmenter, image, clicks[:cold], warm)
    timings.append(
        measure(
            "MONAI Label's way, in process: re-encode, whole volume", clicks[:whole], lambda click: _whole_volume(segmenter, image, click)
        )
    )
    if segmenter.device.type == "cpu" and openvino_installed():
        segmenter.runner = OpenVinoRunner(segmenter.adapted.network, threads=settings.threads)
        timings += _cold_and_warm(segmenter.engine_name, segmenter, image, clicks[:cold], warm)
    return timings


def _cold_and_warm(name: str, segmenter: Segmenter, image: MedicalImage, clicks: list[Click], warm: int) -> list[Timing]:
    pixels = take_slice(image.array, "k", clicks[0].index)
    embedding = segmenter.encode(pixels)
    segmenter.decode(embedding, clicks[0].prompts)  # the first call of any engine is slower
    return [
        measure(f"{name}: cold slice", clicks, lambda click: segmenter.decode(segmenter.encode(_slice(image, click)), click.prompts)),
        measure(f"{name}: warm click", (clicks * warm)[:warm], lambda click: segmenter.decode(embedding, click.prompts)),
    ]


def _slice(image: MedicalImage, click: Click) -> np.ndarray:
    return take_slice(image.array, click.axis, click.index)


def _whole_volume(segmenter: Segmenter, image: MedicalImage, click: Click) -> bytes:
    """What MONAI Label's SAM task does for a click: encode the slice again, put its mask into a volume, write that with MONAI Label's
    own writer in the form that the official Slicer plug-in asks for (NRRD, uint16, not compressed), and read it for the reply."""
    from monailabel.transform.writer import Writer

    mask = np.zeros(image.array.shape[:3], np.uint8)
    put_slice(mask, click.axis, click.index, segmenter.decode(segmenter.encode(_slice(image, click)), click.prompts).mask)
    data = {
        "image": None,
        "pred": mask.transpose(),
        "image_path": "case.nii.gz",
        "result_extension": ".nrrd",
        "result_dtype": "uint16",
        "result_compress": False,
        "pred_meta_dict": {"affine": np.eye(4)},
    }
    name, _ = Writer(label="pred", ref_image="image")(data)
    path = Path(name)
    try:
        return path.read_bytes()
    finally:
        path.unlink()
