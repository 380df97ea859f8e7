"""Where the site directory lies when nobody names one. Imports nothing: `fedsca serve` asks before MONAI Label reads its settings."""

from pathlib import Path

HIDDEN_SITE = ".fedsca"


def default_site(studies: Path) -> Path:
    """The site directory that belongs to a studies folder when none is named."""
    return studies.parent if studies.name == "studies" else studies / HIDDEN_SITE
