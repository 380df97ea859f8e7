"""What of a site's sentences and figures may leave it: no paths, no names of cases, which may be names of patients."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_adapters.cases import FINAL_TAG
from sam_adapters.site_directory import SiteDirectory

PUBLIC_FIGURES = ("cases", "kinds", "kinds_compared", "overall", "active", "round")


def public_figures(figures: Mapping[str, Any]) -> str:
    """What of the gate's figures may leave the site, as JSON: numbers and versions, no names of cases."""
    return json.dumps({key: figures[key] for key in PUBLIC_FIGURES if key in figures}, sort_keys=True)


def redacted(text: str, site: SiteDirectory) -> str:
    """A sentence that may leave the site: paths and names of cases, which may be names of patients, are taken out."""
    text = re.sub(r"(?<![\w:/])/[^\s'\"]+", "<path>", text.replace(str(site.root), "<site>").replace(str(site.studies), "<studies>"))
    for name in sorted(_case_names(site.studies), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<case>", text)
    return text


def _case_names(studies: Path) -> set[str]:
    """Names of everything in the datastore, with and without extensions."""
    folders = (studies, studies / "labels" / FINAL_TAG)
    names = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()} - {"labels"}
    return names | {name.split(".")[0] for name in names} - {""}
