"""What an accepted bundle changes in a site's own files: next to nothing. A site's settings and policy are the site's.

Settings are written only where there is no `site.json` yet; a policy only where there is none and the site asks for it. Else a sentence
says what differs.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fed_backend.enrolment.bundle import Bundle
from fed_backend.errors import EnrolmentError
from sam_adapters import atomic
from sam_adapters.settings import SiteSettings, as_once_meant
from sam_adapters.site_directory import SiteDirectory

POLICY_FILE, PROPOSAL_FILE = "policy.json", "policy-proposed.json"
AGREED: Mapping[str, type[Any]] = {"base": str, "rank": int, "shared_depth": float, "shared_decoder": bool}


def adopt_settings(root: Path, bundle: Bundle) -> list[str]:
    """Write `site.json` where there is none; else say what differs from the federation's agreement.

    Raises:
        EnrolmentError, SettingError: the agreement in the bundle cannot be used.
    """
    path = SiteDirectory(root).settings_file
    agreed = _agreed(bundle)
    if not path.exists():
        dataclasses.replace(SiteSettings(name=bundle.site), **agreed).save(path)
        return [f"{path} was written with the federation's settings."]
    own = SiteSettings.load(path)
    differing = [f"{key} {getattr(own, key)!r} (federation: {value!r})" for key, value in agreed.items() if getattr(own, key) != value]
    if not differing:
        return []
    return [f"{path} says {', '.join(differing)}: until they are equal the server takes no update of this site."]


def adopt_proposed_policy(root: Path, bundle: Bundle, *, wanted: bool) -> list[str]:
    """Keep the operator's proposal beside the site's own policy; make it the site's own if that is wanted and there is none."""
    if bundle.policy is None:
        return ["The operator proposes no policy."] if wanted else []
    own, proposal = root / POLICY_FILE, root / PROPOSAL_FILE
    atomic.write_json(proposal, bundle.policy)
    if wanted and not own.exists():
        atomic.write_json(own, bundle.policy)
        return [f"The operator's policy is in force: {own}."]
    if own.exists():
        return [f"The site's own policy {own} stays in force; the operator's proposal is in {proposal}."]
    return [f"The operator proposes a policy: read {proposal}, and accept again with --adopt-policy to put it in force."]


def _agreed(bundle: Bundle) -> dict[str, Any]:
    given, agreed = as_once_meant(bundle.settings), {}
    for key, kind in AGREED.items():
        value = given.get(key)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise EnrolmentError(f"The bundle's setting {key} is {value!r}, expected a {kind.__name__}: ask the operator for a new bundle.")
        agreed[key] = value
    return agreed
