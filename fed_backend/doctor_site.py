"""The doctor's look at a site directory: settings, registry, label log, labelled cases. Changes nothing, except that opening a registry
clears up after writers that died.
"""

from pathlib import Path
from typing import Any

from fed_backend.doctor_check import Check, part
from sam_adapters.errors import FedscaError
from sam_adapters.label_log import LabelLog
from sam_adapters.registry import BASE, Registry
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

_RESTORE = "fedsca adapters rollback, if it is active; restore its folder from a backup"


def site_checks(root: Path, studies: Path | None, probe: dict[str, Any]) -> list[Check]:
    """Every check of one site."""
    site = SiteDirectory(root.resolve(), studies.resolve() if studies else None)
    if not site.root.is_dir():
        return [
            Check("site", f"{root} does not exist", "missing", "name the site directory of the MONAI Label server, or start that first")
        ]
    checks = [_folder_check(site)]
    settings: SiteSettings | None = None
    try:
        settings = SiteSettings.load(site.settings_file)
        checks.append(_settings_check(site, settings))
    except FedscaError as error:
        checks.append(Check("site settings", "cannot be used", "missing", str(error)))
    checks += _registry_checks(site, settings, probe)
    checks.append(_label_log_check(site))
    if settings is not None:
        checks.append(_cases_check(site, settings))
    return checks


def _folder_check(site: SiteDirectory) -> Check:
    mode = site.root.stat().st_mode & 0o777
    if mode & 0o077:
        return Check("site", f"{site.root}, others on this machine can enter it", "warning", f"chmod 700 {site.root}")
    return Check("site", str(site.root))


def _settings_check(site: SiteDirectory, settings: SiteSettings) -> Check:
    found = f"{settings.name}: {settings.base}, {settings.image_size} px, rank {settings.rank}"
    if not site.settings_file.exists():
        return Check(
            "site settings", f"no {site.settings_file.name}, defaults count ({found})", "warning", "start the MONAI Label server once"
        )
    return Check("site settings", found)


def _registry_checks(site: SiteDirectory, settings: SiteSettings | None, probe: dict[str, Any]) -> list[Check]:
    if not site.registry_file.is_file():
        return [Check("registry", f"no {site.registry_file.name}", "warning", "start the MONAI Label server once, it makes one")]
    try:
        with Registry(site) as registry:
            versions, active, tuning = registry.versions(), registry.active(), registry.last_tuning()
            problems = [problem for version in versions if (problem := registry.verify(version.id)) is not None]
    except FedscaError as error:
        return [Check("registry", "cannot be opened", "missing", str(error))]
    count = {0: "no versions yet", 1: "1 version"}.get(len(versions), f"{len(versions)} versions")
    checks = [Check("registry", f"{count}, active is {BASE if active is None else active.id}")]
    checks += [Check("damaged version", problem, "missing", _RESTORE) for problem in problems]
    base = part(probe, "base").get("sha256")
    if settings is not None and active is not None and base is not None and active.base != base:
        found = f"{active.id} was made for base {active.base[:16]}…, the site's is {base[:16]}…"
        checks.append(Check("active version", found, "missing", "fedsca adapters activate base, or set the base that it was made for"))
    if tuning is not None and tuning.status in ("failed", "interrupted"):
        checks.append(
            Check(
                "last tuning",
                f"number {tuning.id} {tuning.status}",
                "warning",
                "look at the MONAI Label server's log; the next one goes on",
            )
        )
    return checks


def _label_log_check(site: SiteDirectory) -> Check:
    try:
        log = LabelLog(site.label_log_file)
        entries, cases = log.entries(), log.latest()
    except FedscaError as error:
        return Check("label log", "cannot be read", "missing", str(error))
    about = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} about {len(cases)} {'case' if len(cases) == 1 else 'cases'}"
    return Check("label log", about)


def _cases_check(site: SiteDirectory, settings: SiteSettings) -> Check:
    from sam_adapters.cases import labelled_cases, split_cases

    if not site.studies.is_dir():
        return Check("labelled cases", f"no datastore at {site.studies}", "warning", "name it with --studies, if it is elsewhere")
    try:
        cases = labelled_cases(site, settings)
        split = split_cases(cases, site, settings)
    except FedscaError as error:
        return Check("labelled cases", "cannot be counted", "missing", str(error))
    test = len(cases) - len(split.train) - len(split.validation)
    found = f"{len(cases)}: {len(split.train)} to train on, {len(split.validation)} to validate on, {test} for tests"
    if cases and len(split.validation) < 2:
        return Check(
            "labelled cases", found, "warning", "label more cases: with fewer than 2 to validate on, every candidate waits for a person"
        )
    return Check("labelled cases", found)
