"""What `fedsca doctor` finds out: is everything here that a hospital or a server needs, and if not, how to get it.

Checks that need the heavy packages run in a process of their own (`doctor_probe`), so that a broken package is reported, not suffered; this
process imports no torch.
"""

from collections.abc import Sequence
from pathlib import Path

from fed_backend import doctor_machine, doctor_packages, doctor_probe
from fed_backend.doctor_check import Check
from sam_adapters.settings import SiteSettings


def examine(*, base: str, site: Path | None = None, studies: Path | None = None, speed: SiteSettings | None = None) -> list[Check]:
    """Every check, in the order of the table.

    Args:
        base: base network to look for.
        site: a site directory to look at as well.
        studies: its MONAI Label datastore, where it is not <site>/studies.
        speed: measure how long a click takes with these settings; None does not.
    """
    probe = doctor_probe.run(base)
    checks = [
        doctor_machine.python_check(),
        *doctor_packages.package_checks(),
        doctor_packages.torchvision_check(),
        doctor_packages.telemetry_check(),
        *doctor_packages.import_checks(probe),
        *doctor_machine.command_checks(),
        doctor_machine.sqlite_check(),
        doctor_machine.device_check(probe),
        doctor_machine.base_check(base, probe),
        doctor_machine.memory_check(),
        doctor_machine.disk_check(site or Path.cwd()),
    ]
    if speed is not None and not something_missing(checks):
        from fed_backend import doctor_speed

        checks.append(doctor_speed.speed_check(speed))
    if site is not None:
        from fed_backend import doctor_site  # needs packages that the rest does without

        checks += doctor_site.site_checks(site, studies, probe)
    return checks


def something_missing(checks: Sequence[Check]) -> bool:
    """Whether anything needed is missing."""
    return any(check.status == "missing" for check in checks)
