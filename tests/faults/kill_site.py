"""kill -9 of what runs at a hospital: SuperNode, ClientApp and tuning, each at several moments."""

import signal
import subprocess
import sys
import time

from sam_adapters.registry import Registry
from sam_adapters.settings import SiteSettings
from tests.faults.fault import Seen, fault, recovered
from tests.faults.federation import WAIT_SECONDS, Federation
from tests.faults.kill_server import JUDGED, LARGE, PROBE, SMALL, UPDATE
from tests.faults.moments import CLIENT_APP, Moment, of_site

MEMORY = Moment(CLIENT_APP, "os.rename", r"-> .*/sent\.safetensors$")
PUBLISH = Moment(CLIENT_APP, "os.rename", r"-> .*/adapters/[0-9a-f]{16,}$")
PATIENCE = {"rounds": {"update_seconds": 45.0, "probe_seconds": 60.0, "mixture_seconds": 60.0, "min_sites": 1}}
"""How long the server waits for a site that was hit; one site is a quorum, so the others go on without it."""
MOMENTS = {
    "before the update": (UPDATE, SMALL),
    "while its memory of the update is written": (MEMORY, SMALL),
    "while the mixture is judged": (JUDGED, LARGE),
    "while the mixture becomes a version": (PUBLISH, LARGE),
    "in the probe": (PROBE, LARGE),
}


def at(moment: Moment, name: str) -> Moment:
    """The moment at one site."""
    return Moment(moment.process, moment.event, moment.matching, of_site(name), moment.skip)


def client_app_killed(federation: Federation, moment: Moment) -> Seen:
    """The round ends without the site's answer, or with it; in the next round it takes part again."""
    hit = federation.names[0]
    reached = federation.moments.kill(at(moment, hit))
    federation.ask()
    reached.wait_fired()
    begun = time.monotonic()
    return _goes_on(federation, hit, begun)


def super_node_killed(federation: Federation, moment: Moment) -> Seen:
    """Likewise; the SuperNode is started again as systemd would."""
    hit = federation.names[0]
    reached = federation.moments.hold(at(moment, hit))
    federation.ask()
    reached.wait()
    federation.kept[hit].kill()
    begun = time.monotonic()
    reached.release()
    return _goes_on(federation, hit, begun)


def _goes_on(federation: Federation, hit: str, begun: float) -> Seen:
    federation.finished()
    report = federation.report(federation.done)
    others = [name for name in federation.names if name != hit]
    assert set(others) <= set(report["verdicts"]), f"{report['refusals']}\n{federation.logs()}"
    if hit in report["verdicts"]:
        return Seen("The round went on with the site.", time.monotonic() - begun)
    reason = federation.reason(hit)
    federation.whole_round()
    return Seen(f"The round ended without the site ({reason.rstrip('.')}); the next one had it again.", time.monotonic() - begun)


def _register() -> None:
    for when, (moment, names) in MOMENTS.items():

        def app(federation: Federation, moment: Moment = moment) -> Seen:
            return client_app_killed(federation, moment)

        def node(federation: Federation, moment: Moment = moment) -> Seen:
            return super_node_killed(federation, moment)

        fault(f"kill -9 of a ClientApp {when}", "kill", sites=names, options=PATIENCE)(app)
        if moment in (UPDATE, JUDGED, PROBE):
            fault(f"kill -9 of a SuperNode {when}", "kill", sites=names, options=PATIENCE)(node)


_register()

TUNING = "from pathlib import Path\nimport sys\nfrom sam_adapters.local_tuning import run_local_tuning\n"
TUNING += "from sam_adapters.settings import SiteSettings\nfrom sam_adapters.site_directory import SiteDirectory\n"
TUNING += "site = SiteDirectory.open(Path(sys.argv[1]))\nrun_local_tuning(site, SiteSettings.load(site.settings_file))\n"
TUNING_MOMENTS = {
    "while it reads the labels": Moment("local_tuning", "os.rename", r"-> .*/work/tuning\.json$"),
    "while its checkpoint is written": Moment("local_tuning", "os.rename", r"-> .*/work/tuning\.safetensors$"),
    "while its version is written": Moment("local_tuning", "os.rename", r"-> .*/adapters/[0-9a-f]{16,}$"),
    "in its gate": Moment("local_tuning", "open", r"/work/gate\.lock$"),
}


def tune(federation: Federation, name: str) -> int:
    """A tuning process from beginning to end; its exit code."""
    site = federation.sites[name]
    with (federation.folder / "tuning.log").open("ab") as log:
        argv = [sys.executable, "-c", TUNING, str(site.root)]
        return subprocess.run(
            argv, env=federation.moments.environment(), stdout=log, stderr=log, timeout=WAIT_SECONDS, check=False
        ).returncode


def another_tuning(federation: Federation, name: str) -> None:
    """The next tuning makes another version than the last, which the registry has already and would not write again."""
    file = federation.sites[name].settings_file
    settings = SiteSettings.load(file)
    settings.override({"seed": str(settings.seed + 1)}).save(file)


def tuning_killed(federation: Federation, moment: Moment) -> Seen:
    """The next tuning ends well, and the next round sends what it made."""
    hit = federation.names[0]
    another_tuning(federation, hit)
    reached = federation.moments.kill(moment)
    assert tune(federation, hit) == -signal.SIGKILL, federation.logs()
    assert reached.fired
    before = federation.versions(hit)
    begun = time.monotonic()
    assert tune(federation, hit) == 0, federation.logs()
    tuned = time.monotonic() - begun
    assert before <= federation.versions(hit)
    with Registry(federation.sites[hit]) as registry:
        active = registry.active()
        last = registry.last_tuning()
    assert active is not None
    assert last is not None
    assert last.status == "finished"
    federation.ask()
    recovered(federation, begun)
    return Seen(f"The next tuning made its version in {tuned:.0f} s, and the next round was whole.", time.monotonic() - begun)


def _register_tuning() -> None:
    for when, moment in TUNING_MOMENTS.items():

        def scenario(federation: Federation, moment: Moment = moment) -> Seen:
            return tuning_killed(federation, moment)

        fault(f"kill -9 of a tuning process {when}", "kill", sites=LARGE)(scenario)


_register_tuning()
