"""`report.json`, the matrix pictures, and the self-contained `report.html`, from one result dictionary."""

import base64
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fed_backend.demo.dice_chart import KIND_NAMES, dice_chart
from fed_backend.demo.errors import DemoError
from fed_backend.demo.gallery import GalleryItem, picture_of
from fed_backend.demo.matrix_picture import matrix_picture
from fed_backend.demo.result import DemoResult, HospitalEntry, dice_of, kinds_of, mean_over_hospitals, scored_phases, site_bytes
from sam_adapters import atomic

PURPOSES = ("update", "probe_request", "probe_reply", "mixture")

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""No script, no font, no request: the page shows what is in it and nothing else."""


def write_report(folder: Path, result: DemoResult, gallery: Sequence[GalleryItem] = ()) -> Path:
    """Write `report.json`, `matrices.svg`, `matrices.png` and `report.html` into `folder`; the path of the page.

    Raises:
        DemoError: pictures were handed in for data that are not virtual.
    """
    if gallery and result["data"].get("kind") != "virtual":
        raise DemoError("Pictures of real data are never embedded in a report: hand in no gallery.")
    atomic.write_json(folder / "report.json", result)
    if result["rounds"]:
        for suffix in ("svg", "png"):
            atomic.write_bytes(folder / f"matrices.{suffix}", matrix_picture(result["rounds"], file_format=suffix))
    page = folder / "report.html"
    atomic.write_bytes(page, render(result, gallery).encode())
    return page


def render(result: DemoResult, gallery: Sequence[GalleryItem] = ()) -> str:
    """The page as text. Everything that comes from data is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fed_backend.demo", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(dice=_dice, signed=_signed, instant=_instant, size=_size, seconds=_seconds)
    return environment.get_template("report_template.html.j2").render(
        result=result,
        policy=CONTENT_POLICY,
        kinds=kinds_of(result),
        kind_names=KIND_NAMES,
        phases=scored_phases(result),
        dice_of=dice_of,
        mean_of=mean_over_hospitals,
        site_bytes=site_bytes,
        tiles=_tiles(result),
        charts={hospital["name"]: _chart(result, hospital) for hospital in result["hospitals"]},
        matrices={theme: _data_uri(matrix_picture(result["rounds"], theme=theme)) for theme in ("light", "dark")}
        if result["rounds"]
        else {},
        purposes=_purposes(result),
        gallery=[picture_of(item) for item in gallery],
        timeline=_timeline(result),
    )


def _chart(result: DemoResult, hospital: HospitalEntry) -> str:
    phases = scored_phases(result)
    lines: dict[str, list[float | None]] = {kind: [_mean(hospital, phase["id"], kind) for phase in phases] for kind in kinds_of(result)}
    return dice_chart(
        f"Test Dice of {hospital['name']}",
        [phase["title"].replace("Local tuning", "Tuning") for phase in phases],
        lines,
        hospital["fill_the_box"],
    )


def _mean(hospital: HospitalEntry, phase: str, kind: str) -> float | None:
    entry = dice_of(hospital, phase, kind)
    return entry["mean"] if entry else None


def _tiles(result: DemoResult) -> list[dict[str, Any]]:
    """The figures at the top: per kind the mean over hospitals first and last, and what one hospital sends in a round."""
    phases = scored_phases(result)
    tiles: list[dict[str, Any]] = []
    for kind in kinds_of(result) if phases else []:
        first, last = (mean_over_hospitals(result, phase["id"], kind) for phase in (phases[0], phases[-1]))
        gain = last - first if first is not None and last is not None else None
        tiles.append({"title": f"Dice, {KIND_NAMES[kind]}", "kind": kind, "first": first, "last": last, "gain": gain})
    return tiles


def _purposes(result: DemoResult) -> list[str]:
    """What bytes were spent on in any round, in the order in which it is sent; unknown purposes last."""
    found = {purpose for entry in result["rounds"] for site in entry["bytes"].values() for purpose in site}
    return [purpose for purpose in PURPOSES if purpose in found] + sorted(found - set(PURPOSES))


def _timeline(result: DemoResult) -> list[dict[str, Any]]:
    """Phases with their place and width in percent of the whole run."""
    total = max(result["seconds"], 1e-9)
    return [
        {
            "title": f"Measuring: {phase['title']}" if phase["scored"] else phase["title"],
            "left": 100 * phase["started"] / total,
            "width": 100 * phase["seconds"] / total,
            "seconds": phase["seconds"],
        }
        for phase in result["phases"]
    ]


def _data_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _dice(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def _size(count: int | None) -> str:
    """Bytes for people: 950 B, 106 kB, 1.2 MB."""
    if count is None:
        return "–"
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def _instant(text: str) -> str:
    """An ISO 8601 instant in UTC for people: 1 January 2030, 00:00 UTC."""
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _seconds(value: float) -> str:
    """Seconds for people: 42 s, 3 min 05 s."""
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
