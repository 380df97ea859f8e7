"""Virtual hospitals: small abdominal volumes drawn from formulas, so that the demo needs no patient's data.

Every case is a body with organs (liver, spleen, kidneys, spine, aorta, stomach) whose outlines are bent by a smooth random field, and
one lesion in the liver, which is the target. All hospitals share the anatomy and differ in the protocol: tissue contrast (in one the
liver is dark and the lesion bright, in another the reverse), noise, bias field, sharpness, spacing, direction of the axes and the size
of the lesions. Everything follows from the seed: the same seed gives the same voxels.

Nothing here is a model of a real scanner, and no figure measured on these volumes says anything about patients.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fed_backend.demo.errors import DemoError
from fed_backend.demo.hospital import CaseSplit, Hospital
from sam_adapters import atomic

Volume = NDArray[np.float32]

MAX_HOSPITALS = 8

TISSUES = ("air", "fat", "muscle", "bone", "liver", "spleen", "kidney", "vessel", "stomach", "lesion")


@dataclass(frozen=True)
class Protocol:
    """How a hospital's images look.

    Attributes:
        name: the hospital.
        note: one sentence for the report.
        tissue: mean grey value of each tissue, 0 (black) to 1 (white).
        noise: standard deviation of the noise, in the same unit.
        magnitude_noise: Rician noise as in magnitude MR images, else Gaussian.
        bias: strength of the smooth shading over the volume; 0.3 means about +-30 %.
        blur: standard deviation of the in-plane smoothing in voxels.
        texture: strength of the mottling inside organs.
        spacing: voxel size (i, j, k) in mm.
        direction: the 9 direction cosines, row by row.
        offset, scale: stored value = offset + scale * grey value, as int16.
        lesion_radius: smallest and largest in-plane radius of the lesion, as a fraction of half the picture's width.
        bright_rim: grey value added in a thin rim round the lesion.
    """

    name: str
    note: str
    tissue: Mapping[str, float]
    noise: float
    magnitude_noise: bool
    bias: float
    blur: float
    texture: float
    spacing: tuple[float, float, float]
    direction: tuple[float, ...]
    offset: float
    scale: float
    lesion_radius: tuple[float, float]
    bright_rim: float = 0.0


def _tissues(values: str) -> dict[str, float]:
    return dict(zip(TISSUES, map(float, values.split()), strict=True))


_LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
_TILT = math.radians(12)
_OBLIQUE = (1.0, 0.0, 0.0, 0.0, math.cos(_TILT), -math.sin(_TILT), 0.0, math.sin(_TILT), math.cos(_TILT))

# One line of grey values a protocol, in the order of TISSUES: air fat muscle bone liver spleen kidney vessel stomach lesion
PROTOCOLS = (
    Protocol(
        name="riverside",
        note="CT-like: bright liver, dark lesions, fine noise",
        tissue=_tissues("0.00 0.30 0.52 0.95 0.64 0.68 0.74 0.80 0.40 0.50"),
        noise=0.03,
        magnitude_noise=False,
        bias=0.0,
        blur=0.5,
        texture=0.02,
        spacing=(2.0, 2.0, 6.0),
        direction=_LPS,
        offset=-1000.0,
        scale=1600.0,
        lesion_radius=(0.18, 0.26),
    ),
    Protocol(
        name="lakeside",
        note="T2-like MR, nearly the reverse: dark liver, bright lesions and fat, strong shading",
        tissue=_tissues("0.02 0.80 0.26 0.14 0.32 0.50 0.62 0.06 0.74 0.56"),
        noise=0.045,
        magnitude_noise=True,
        bias=0.35,
        blur=0.6,
        texture=0.035,
        spacing=(1.7, 1.7, 7.0),
        direction=_RAS,
        offset=0.0,
        scale=900.0,
        lesion_radius=(0.17, 0.25),
    ),
    Protocol(
        name="hillside",
        note="T1-like MR on an oblique grid: blurred, coarse noise, dark lesions with a bright rim",
        tissue=_tissues("0.02 0.90 0.44 0.54 0.60 0.46 0.42 0.12 0.26 0.42"),
        noise=0.05,
        magnitude_noise=True,
        bias=0.2,
        blur=1.0,
        texture=0.04,
        spacing=(2.4, 2.4, 5.0),
        direction=_OBLIQUE,
        offset=20.0,
        scale=400.0,
        lesion_radius=(0.19, 0.29),
        bright_rim=0.10,
    ),
)


@dataclass(frozen=True)
class VirtualCase:
    """One drawn volume: `image` int16 (k, j, i) and `truth` bool (k, j, i)."""

    image: NDArray[np.int16]
    truth: NDArray[np.bool_]


def protocol(index: int, seed: int) -> Protocol:
    """The protocol of hospital `index`; beyond the fixed ones a seeded variation of one of them."""
    if index < len(PROTOCOLS):
        return PROTOCOLS[index]
    rng = np.random.default_rng([seed, index, 77])
    kin = PROTOCOLS[index % len(PROTOCOLS)]
    tissue = {name: float(np.clip(value + rng.uniform(-0.08, 0.08), 0, 1)) for name, value in kin.tissue.items()}
    if abs(tissue["lesion"] - tissue["liver"]) < 0.09:  # keep the target visible
        tissue["lesion"] = tissue["liver"] + math.copysign(0.11, kin.tissue["lesion"] - kin.tissue["liver"])
    return Protocol(
        name=f"virtual-{index + 1}",
        note=f"a variation of {kin.name}",
        tissue=tissue,
        noise=kin.noise * float(rng.uniform(0.8, 1.5)),
        magnitude_noise=kin.magnitude_noise,
        bias=kin.bias + float(rng.uniform(0, 0.15)),
        blur=kin.blur * float(rng.uniform(0.8, 1.3)),
        texture=kin.texture * float(rng.uniform(0.8, 1.5)),
        spacing=(kin.spacing[0] * float(rng.uniform(0.9, 1.2)),) * 2 + (kin.spacing[2],),
        direction=kin.direction,
        offset=kin.offset,
        scale=kin.scale * float(rng.uniform(0.7, 1.3)),
        lesion_radius=kin.lesion_radius,
        bright_rim=kin.bright_rim,
    )


def smooth_field(rng: np.random.Generator, shape: tuple[int, int, int], wavelength: tuple[float, float, float]) -> Volume:
    """Smooth random field (k, j, i) of zero mean and unit variance; `wavelength` (k, j, i) is the size of its bumps in voxels."""
    spectrum = np.fft.rfftn(rng.standard_normal(shape))
    frequencies = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2]), indexing="ij")
    exponent = sum((frequency * size) ** 2 for frequency, size in zip(frequencies, wavelength, strict=True))
    field = np.fft.irfftn(spectrum * np.exp(-2.0 * exponent), s=shape, axes=(0, 1, 2))
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-9), dtype=np.float32)


def draw_case(style: Protocol, rng: np.random.Generator, size: tuple[int, int, int]) -> VirtualCase:
    """Draw one case in the given style; `size` is (slices, rows, columns)."""
    z, y, x = _bent_grid(rng, size)
    soft = 0.35 * 2.0 / size[2]  # an edge is about one and a half voxels wide, as partial volume makes it
    layers = _anatomy(rng, z, y, x)
    lesion = _lesion_depth(style, rng, size)

    grey = np.full(size, style.tissue["air"], np.float32)
    texture = smooth_field(rng, size, (1.0, 4.0, 4.0))
    for tissue, depth in layers:
        inside = 1.0 / (1.0 + np.exp(-np.clip(depth / soft, -30, 30)))
        grey += inside * (style.tissue[tissue] + style.texture * texture - grey)
    if style.bright_rim:
        rim = np.exp(-((np.clip(lesion, -1, 1) / 0.035) ** 2))
        grey += style.bright_rim * rim.astype(np.float32)
    inside = 1.0 / (1.0 + np.exp(-np.clip(lesion / soft, -30, 30)))
    mottle = 2.0 * style.texture * smooth_field(rng, size, (1.0, 3.0, 3.0))
    grey += inside * (style.tissue["lesion"] + mottle - grey)

    grey = _acquire(style, rng, grey)
    stored = np.clip(np.rint(style.offset + style.scale * grey), -32768, 32767).astype(np.int16)
    return VirtualCase(stored, lesion > 0)


def _bent_grid(rng: np.random.Generator, size: tuple[int, int, int]) -> tuple[Volume, Volume, Volume]:
    """Coordinates in -1..1, bent by a smooth field and turned and scaled a little, so that no two patients are alike."""
    axes = [np.linspace(-1, 1, count, dtype=np.float32) for count in size]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    bumps = (4.0, size[1] / 3.0, size[2] / 3.0)
    x = x + 0.035 * smooth_field(rng, size, bumps)
    y = y + 0.035 * smooth_field(rng, size, bumps)
    angle, scale = rng.uniform(-0.08, 0.08), rng.uniform(0.94, 1.06)
    turned_x = scale * (math.cos(angle) * x - math.sin(angle) * y) + rng.uniform(-0.04, 0.04)
    turned_y = scale * (math.sin(angle) * x + math.cos(angle) * y) + rng.uniform(-0.04, 0.04)
    return z, turned_y.astype(np.float32), turned_x.astype(np.float32)


def _ellipsoid(z: Volume, y: Volume, x: Volume, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Volume:
    """Signed depth: positive inside, about the in-plane distance to the surface near it; centre and radii are (z, y, x)."""
    reach = np.sqrt(((z - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 + ((x - centre[2]) / radii[2]) ** 2)
    return np.asarray((1.0 - reach) * min(radii[1], radii[2]), dtype=np.float32)


def _anatomy(rng: np.random.Generator, z: Volume, y: Volume, x: Volume) -> list[tuple[str, Volume]]:
    """Tissues from the outside in; a later one covers an earlier one. Rows grow towards the back."""

    def near(value: float, spread: float = 0.03) -> float:
        return value + float(rng.uniform(-spread, spread))

    tall = 9.0  # organs that run through the whole slab
    return [
        ("fat", _ellipsoid(z, y, x, (0, 0, 0), (tall, near(0.70), near(0.90)))),
        ("muscle", _ellipsoid(z, y, x, (0, 0, 0), (tall, near(0.60, 0.02), near(0.79, 0.02)))),
        ("fat", _ellipsoid(z, y, x, (0, -0.04, 0), (tall, 0.51, 0.70))),
        ("liver", _ellipsoid(z, y, x, (near(0, 0.1), near(-0.08), near(-0.30)), (2.2, near(0.40), near(0.43)))),
        ("stomach", _ellipsoid(z, y, x, (near(-0.3, 0.3), near(-0.26), near(0.30)), (1.5, near(0.18), near(0.24)))),
        ("spleen", _ellipsoid(z, y, x, (near(0.2, 0.3), near(0.08), near(0.53)), (1.4, near(0.22), near(0.14)))),
        ("kidney", _ellipsoid(z, y, x, (near(0.5, 0.3), near(0.30), near(0.36)), (1.0, near(0.13, 0.02), near(0.10, 0.02)))),
        ("kidney", _ellipsoid(z, y, x, (near(0.6, 0.3), near(0.32), near(-0.33)), (1.0, near(0.13, 0.02), near(0.10, 0.02)))),
        ("bone", _ellipsoid(z, y, x, (0, near(0.40, 0.02), 0), (tall, 0.15, 0.16))),
        ("muscle", _ellipsoid(z, y, x, (0, near(0.44, 0.01), 0), (tall, 0.05, 0.055))),
        ("vessel", _ellipsoid(z, y, x, (0, near(0.19, 0.02), near(0.07, 0.02)), (tall, 0.065, 0.065))),
    ]


def _lesion_depth(style: Protocol, rng: np.random.Generator, size: tuple[int, int, int]) -> Volume:
    """Signed depth of the lesion, positive inside: a slanted, lumpy ellipsoid in the liver over about two thirds of the slices."""
    axes = [np.linspace(-1, 1, count, dtype=np.float32) for count in size]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    radius = float(rng.uniform(*style.lesion_radius))
    turn, distance = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0, 0.12))
    centre = (float(rng.uniform(-0.2, 0.2)), -0.08 + distance * math.sin(turn), -0.32 + distance * math.cos(turn))
    radii = (float(rng.uniform(0.5, 0.75)), radius * float(rng.uniform(0.55, 0.75)), radius * float(rng.uniform(1.05, 1.35)))
    slant = float(rng.uniform(0, math.pi))
    across = math.cos(slant) * (x - centre[2]) + math.sin(slant) * (y - centre[1])
    along = math.cos(slant) * (y - centre[1]) - math.sin(slant) * (x - centre[2])
    lumps = smooth_field(rng, size, (3.0, size[1] / 12.0, size[2] / 12.0))
    depth = np.asarray(_ellipsoid(z, along, across, (centre[0], 0.0, 0.0), radii) + 0.16 * radius * lumps, dtype=np.float32)
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray((depth > 0).astype(np.uint8))), sortByObjectSize=True)
    depth[sitk.GetArrayFromImage(parts) > 1] = -0.1  # one lesion, without satellites
    return depth


def _acquire(style: Protocol, rng: np.random.Generator, grey: Volume) -> Volume:
    """What the scanner adds: smoothing, shading, noise."""
    image = sitk.GetImageFromArray(grey)
    blurred = sitk.SmoothingRecursiveGaussian(image, [style.blur, style.blur, 0.35])
    seen = np.asarray(sitk.GetArrayFromImage(blurred), dtype=np.float32)
    if style.bias:
        shape = (grey.shape[0], grey.shape[1], grey.shape[2])
        seen = seen * np.exp(style.bias * 0.6 * smooth_field(rng, shape, (8.0, shape[1] / 1.5, shape[2] / 1.5)))
    first, second = (style.noise * rng.standard_normal(grey.shape).astype(np.float32) for _ in range(2))
    if style.magnitude_noise:
        return np.asarray(np.hypot(seen + first, second), dtype=np.float32)
    return np.asarray(seen + first, dtype=np.float32)


def virtual_hospital(
    run: Path,
    index: int,
    *,
    seed: int,
    train: int = 7,
    val: int = 2,
    test: int = 3,
    size: tuple[int, int, int] = (6, 96, 96),
) -> Hospital:
    """Draw hospital `index` into `run`: images to `run/sites/<name>/studies`, truth to `run/truth/<name>`.

    Args:
        run: folder of the demo's run.
        index: 0 to MAX_HOSPITALS - 1.
        seed: seed of everything drawn.
        train, val, test: cases of each part; every case is another patient.
        size: slices, rows, columns.
    """
    if not 0 <= index < MAX_HOSPITALS:
        raise DemoError(f"Virtual hospital {index} does not exist: expected 0 to {MAX_HOSPITALS - 1}.")
    style = protocol(index, seed)
    root, truth_folder = run / "sites" / style.name, run / "truth" / style.name
    (root / "studies").mkdir(parents=True, exist_ok=True)
    truth_folder.mkdir(parents=True, exist_ok=True)
    names = [f"{style.name[:1]}{index + 1}_{number:03d}" for number in range(1, train + val + test + 1)]
    images: dict[str, Path] = {}
    truths: dict[str, Path] = {}
    for number, name in enumerate(names):
        drawn = draw_case(style, np.random.default_rng([seed, index, number]), size)
        images[name], truths[name] = root / "studies" / f"{name}.nii.gz", truth_folder / f"{name}.nii.gz"
        _write(drawn.image, style, images[name])
        _write(drawn.truth.astype(np.uint8), style, truths[name])
    parts = [names[number] for number in np.random.default_rng([seed, index, 10_000]).permutation(len(names))]
    split = CaseSplit(tuple(sorted(parts[:train])), tuple(sorted(parts[train : train + val])), tuple(sorted(parts[train + val :])))
    patients = {name: f"P{number:03d}" for number, name in enumerate(names, start=1)}
    atomic.write_json(root / "split.json", split.to_dict())
    atomic.write_json(root / "patients.json", patients)
    return Hospital(style.name, root, images, truths, split, patients, style.note)


def _write(array: NDArray[np.int16] | NDArray[np.uint8], style: Protocol, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(style.spacing)
    image.SetDirection(style.direction)
    image.SetOrigin((-100.0, -80.0, 35.0))
    sitk.WriteImage(image, str(path), True)
