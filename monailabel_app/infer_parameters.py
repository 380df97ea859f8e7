"""What an infer request may ask for, from MONAI Label's loose dictionary to checked values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from monailabel_app.app_errors import RequestError
from sam_adapters.errors import PromptError
from sam_adapters.prompts import AXES, Axis, SlicePrompts, checked_axis, prompts_by_slice, slice_count, slice_size
from sam_adapters.provenance import BASE, VERSION_ID_PATTERN

VOLUME_FORMATS = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha")
RESULT_TYPES = ("uint8", "uint16")
MAX_LABEL_NAME = 200
MAX_POINTS = 10_000
"""Points (and entries of `slices`) in one request: nobody clicks more, and each costs memory in the network."""
MAX_COORDINATE = 1e9

_SLICE_KEYS = {"index", "box", "foreground", "background"}


@dataclass(frozen=True)
class InferParameters:
    """A checked request.

    Attributes:
        version: `active`, `base` or a version id.
        axis: what the slices are perpendicular to.
        prompts: by slice index along `axis`; None: every slice, without prompts.
        label: name of the segment that is asked for.
        extension: ending, and so format, of the result file.
        dtype: type of number in the result file.
    """

    version: str
    axis: Axis
    prompts: dict[int, SlicePrompts] | None
    label: str
    extension: str
    dtype: str


def parse_parameters(
    request: Mapping[str, Any], *, shape_kji: Sequence[int], picture: bool, automatic: bool, label_name: str
) -> InferParameters:
    """Check a request against the image it is about.

    Args:
        request: MONAI Label's request; keys that mean nothing here are ignored.
        shape_kji: size of the image.
        picture: the image is a picture (PNG, JPEG): its masks are PNG unless something else is asked for.
        automatic: a request without prompts means every slice; otherwise it is refused.
        label_name: name of the segment when the request names none.

    Raises:
        PromptError: a prompt lies outside the image or is malformed, or there is none and `automatic` is off.
        RequestError: another parameter cannot be used.
    """
    axis = checked_axis(request.get("axis") or "k")
    extension, dtype = _result_format(request, picture)
    return InferParameters(
        version=wanted_version(request.get("version")),
        axis=axis,
        prompts=_prompts(request, axis, shape_kji, automatic),
        label=checked_label(request.get("label"), label_name),
        extension=extension,
        dtype=dtype,
    )


def checked_version(value: object) -> str:
    """`base` or a version id, else RequestError."""
    if not isinstance(value, str) or not (value == BASE or VERSION_ID_PATTERN.fullmatch(value)):
        raise RequestError(f"version is {str(value)[:80]!r}, expected 'base' or 16 hexadecimal digits (GET /fedsca/adapters lists them).")
    return value


def wanted_version(value: object) -> str:
    """`active` (also for nothing), `base` or a version id, else RequestError."""
    return "active" if value in (None, "", "active") else checked_version(value)


def checked_label(value: object, default: str) -> str:
    """A segment's name; `default` if there is none. Raises RequestError for what cannot be one."""
    if value is None or value == "":
        return default
    if not isinstance(value, str) or len(value) > MAX_LABEL_NAME or not value.isprintable():
        raise RequestError(f"label is {str(value)[:80]!r}, expected the segment's name of at most {MAX_LABEL_NAME} characters.")
    return value


def _result_format(request: Mapping[str, Any], picture: bool) -> tuple[str, str]:
    formats = (".png", *VOLUME_FORMATS) if picture else VOLUME_FORMATS
    extension = request.get("result_extension") or formats[0]
    if extension not in formats:
        raise RequestError(f"result_extension is {str(extension)[:40]!r}, expected one of {', '.join(formats)}.")
    dtype = request.get("result_dtype") or "uint8"
    if dtype not in RESULT_TYPES:
        raise RequestError(f"result_dtype is {str(dtype)[:40]!r}, expected {' or '.join(RESULT_TYPES)}.")
    return extension, dtype


def _prompts(request: Mapping[str, Any], axis: Axis, shape_kji: Sequence[int], automatic: bool) -> dict[int, SlicePrompts] | None:
    found = prompts_by_slice(
        foreground=_points(request, "foreground"),
        background=_points(request, "background"),
        roi=_ordered_roi(request.get("roi"), shape_kji),
        axis=axis,
        shape_kji=shape_kji,
    )
    for entry in _list(request, "slices"):
        index, prompts = _slice_entry(entry, axis, shape_kji)
        found[index] = _merged(found[index], prompts, index) if index in found else prompts
    if not found:
        if automatic:
            return None
        raise PromptError(
            "No prompt: give a point (foreground), a box (roi) or prompts by slice (slices). For a mask without prompts ask model sam_auto."
        )
    bare = [index for index, prompts in found.items() if prompts.empty]
    if bare and not automatic:
        raise PromptError(f"Slice {bare[0]} has no prompt: give it a box or a point, or ask model sam_auto.")
    return dict(sorted(found.items()))


def _points(request: Mapping[str, Any], key: str) -> list[Any]:
    points = _list(request, key)
    if not all(_numbers(point, 3) for point in points):
        raise PromptError(f"{key} is {str(points)[:80]}, expected a list of voxels [i, j, k], three numbers each.")
    return points


def _list(request: Mapping[str, Any], key: str) -> list[Any]:
    value = request.get(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise PromptError(f"{key} is {str(value)[:80]!r}, expected a list.")
    if len(value) > MAX_POINTS:
        raise PromptError(f"{key} holds {len(value):,} entries, at most {MAX_POINTS:,} are taken.")
    return list(value)


def _ordered_roi(roi: object, shape_kji: Sequence[int]) -> list[Any] | None:
    """The box with its ends in order and cut to the image; what is malformed or misses the image is left for `prompts_by_slice` to refuse.

    3D Slicer's box is drawn in patient space: where an axis of the image runs against the patient's, its ends arrive in reverse, and a box
    drawn generously sticks out of the image.
    """
    if roi is None or roi == []:
        return None
    if not _numbers(roi, 6):
        raise PromptError(f"roi is {str(roi)[:80]!r}, expected [i0, i1, j0, j1, k0, k1], six numbers.")
    values = list(cast(Sequence[float], roi))
    counts = [int(shape_kji[AXES.index(axis)]) for axis in ("i", "j", "k")]
    ordered: list[Any] = []
    for place, count in enumerate(counts):
        low, high = sorted(values[2 * place : 2 * place + 2])
        meets = high >= -0.5 and low <= count - 0.5
        ordered += [max(low, 0), min(high, count - 1)] if meets else [low, high]
    return ordered


def _slice_entry(entry: object, axis: Axis, shape_kji: Sequence[int]) -> tuple[int, SlicePrompts]:
    """One entry of `slices`: {"index": n, "box": [x0, y0, x1, y1], "foreground": [[x, y]], "background": [[x, y]]}."""
    if not isinstance(entry, dict) or not set(entry) <= _SLICE_KEYS or "index" not in entry:
        raise PromptError(f"slices holds {str(entry)[:80]}, expected objects with index and any of box, foreground, background.")
    index, count = entry["index"], slice_count(shape_kji, axis)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise PromptError(f"Slice index {str(index)[:40]} along {axis}, expected 0 to {count - 1}: it lies outside the image.")
    points = [(x, y, 1) for x, y in _pairs(entry, "foreground", index)] + [(x, y, 0) for x, y in _pairs(entry, "background", index)]
    prompts = SlicePrompts(points=tuple(points), box=_slice_box(entry.get("box"), index))
    try:
        prompts.check(slice_size(shape_kji, axis))
    except PromptError as error:
        raise PromptError(f"Slice {index} along {axis}: {error}") from error
    return index, prompts


def _pairs(entry: Mapping[str, Any], key: str, index: int) -> list[tuple[float, float]]:
    pairs = _list(entry, key)
    if not all(_numbers(pair, 2) for pair in pairs):
        raise PromptError(f"Slice {index}: {key} is {str(pairs)[:80]}, expected a list of [x, y].")
    return [(float(x), float(y)) for x, y in pairs]


def _slice_box(box: object, index: int) -> tuple[float, float, float, float] | None:
    if box is None or box == []:
        return None
    if not isinstance(box, list) or not _numbers(box, 4):
        raise PromptError(f"Slice {index}: box is {str(box)[:80]}, expected [x0, y0, x1, y1].")
    x0, y0, x1, y1 = (float(value) for value in box)
    return x0, y0, x1, y1


def _numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == count
        # Compared, not converted: an integer beyond a float's range would raise. What is not a number compares False.
        and all(isinstance(part, int | float) and not isinstance(part, bool) and abs(part) <= MAX_COORDINATE for part in value)
    )


def _merged(first: SlicePrompts, second: SlicePrompts, index: int) -> SlicePrompts:
    if first.box is not None and second.box is not None:
        raise PromptError(f"Slice {index} has two boxes (roi, or slices twice): give one.")
    return SlicePrompts(points=first.points + second.points, box=first.box if first.box is not None else second.box)
