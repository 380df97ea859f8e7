"""Bodies of requests and replies of the interactive path, as the server's OpenAPI description shows them. `docs/http.md` explains them.

Values are checked for type, number and range here; whether they fit the image is checked in `segment_request`. Unknown keys are refused.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sam_adapters.prompts import Axis

MAX_POINTS = 1000
"""Points of one sign in a request: a person gives a handful, and each makes the decoder slower."""
MAX_PACKED = 2_000_000
"""Characters of a packed mask: a 4096 × 4096 slice of noise needs less than 3 MB, anything drawn a few kB."""
MAX_VIEWER = 100
MAX_INDEX = 2**31 - 1

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Voxel = Annotated[list[Number], Field(min_length=3, max_length=3, description="voxel [i, j, k]")]
Integer = Annotated[int, Field(strict=True, ge=0, le=MAX_INDEX)]
BoxField = Annotated[list[Integer], Field(min_length=4, max_length=4, description="[x0, y0, x1, y1], inclusive; x = column, y = row")]
Packed = Annotated[str, Field(max_length=MAX_PACKED, description="base64(zlib(bits of the box, row by row, highest bit first))")]
Text = Annotated[str, Field(max_length=200)]
SliceIndex = Annotated[Integer, Field(description="slice along axis")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ImageBody(_Body):
    """Names the image: exactly one of the two."""

    image: Text | None = Field(None, description="a case of the datastore")
    session: Text | None = Field(None, description="a session id, as PUT /session/ gave it")


class ScribbleBody(_Body):
    """Strokes drawn on the slice, inside a box; either sign may be missing."""

    box: BoxField
    foreground: Packed | None = None
    background: Packed | None = None


class MaskBody(_Body):
    """A slice's mask as the person has it now; outside of the box it is empty."""

    box: BoxField
    data: Packed


class SegmentBody(ImageBody):
    """One slice, one label, and all prompts there are for it now."""

    axis: Axis = Field("k", description="what the slice is perpendicular to")
    index: SliceIndex | None = Field(None, description="the slice along axis; may be left out when prompts or `previous` tell it")
    foreground: list[Voxel] = Field([], max_length=MAX_POINTS, description="voxels on the target")
    background: list[Voxel] = Field([], max_length=MAX_POINTS, description="voxels beside the target")
    roi: list[Number] | None = Field(None, max_length=6, description="[i0, i1, j0, j1, k0, k1], inclusive")
    scribble: ScribbleBody | None = None
    mask: MaskBody | None = None
    previous: Text | None = Field(None, description="an earlier result for the same image, axis, slice and label")
    version: Text = Field("active", description="active, base or a version id")
    label: Text | None = Field(None, description="the segment's name; the site's own if left out")


class PrefetchBody(ImageBody):
    """The slice that a viewer shows now."""

    axis: Axis = "k"
    index: SliceIndex | None = Field(None, description="the slice in view; the middle if left out")
    viewer: Annotated[str, Field(min_length=1, max_length=MAX_VIEWER)] = Field("viewer", description="any text that names the viewer")


class PropagateBody(_Body):
    """Carries a result on to the slices before and after it."""

    previous: Text = Field(description="the result to start from")
    mask: MaskBody | None = Field(None, description="the slice's mask as the person has it now, in place of the result's")
    first: SliceIndex | None = Field(None, description="first slice that may be filled")
    last: SliceIndex | None = Field(None, description="last slice that may be filled")


class VolumeBody(ImageBody):
    """Every slice, without prompts."""

    axis: Axis = "k"
    index: SliceIndex | None = Field(None, description="where to begin; the middle if left out")
    version: Text = "active"
    label: Text | None = None


class ChangeReply(BaseModel):
    """The mask inside a box; outside of it nothing changed."""

    box: list[int] = Field(description="[x0, y0, x1, y1], inclusive")
    data: str = Field(description="packed bits of the box")


class SegmentReply(BaseModel):
    """A mask for one slice and one label. One of `image` and `session` is there."""

    result: str = Field(description="id to refer to: next click, undo, propagate")
    image: str | None = None
    session: str | None = None
    axis: Axis
    index: int
    label: str
    version: str
    base: str = Field(description="sha256 of the base's weights")
    engine: str
    size: list[int] = Field(description="rows and columns of the slice")
    area: int = Field(description="pixels of the mask")
    box: list[int] | None = Field(description="box of the whole mask; null for an empty one")
    iou: float = Field(description="the network's own estimate")
    against: str | None = Field(description="the result that `change` changes; null: an empty mask")
    change: ChangeReply | None = Field(description="null: nothing changed")
    embedding: Literal["cached", "computed"] | None = None
    seconds: dict[str, float] | None = None


class PrefetchReply(BaseModel):
    """Slices of this image and axis that wait to be encoded for this viewer, and that are encoded already."""

    queued: int
    ready: int


class JobBegun(BaseModel):
    """A job's id, for `GET /fedsca/jobs/{id}`."""

    job: str


class JobSlice(BaseModel):
    """One slice that a job has finished; `number` counts them in the order in which they were finished, from 1."""

    number: int
    index: int
    result: str
    iou: float
    area: int
    box: list[int] | None
    change: ChangeReply | None = Field(description="against an empty mask")


class JobReply(BaseModel):
    """How far a job is, and the slices after the number that was asked for."""

    job: str
    kind: Literal["propagate", "volume"]
    image: str | None = None
    session: str | None = None
    axis: Axis
    label: str
    version: str
    state: Literal["queued", "running", "done", "cancelled", "failed"]
    done: int
    total: int = Field(description="slices at most; a propagation that ends early lowers it")
    slices: list[JobSlice]
    detail: str | None


class Refusal(BaseModel):
    """Every refusal."""

    detail: str = Field(description="what was wrong, what was expected, what to do")


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer so."""
    return {status: {"model": Refusal} for status in statuses}
