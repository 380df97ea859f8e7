"""Sites that are late, missing, or back after weeks; a quorum that is not reached."""

import time
from itertools import pairwise

from fed_backend.server_state_file import STATE_FILE
from sam_adapters.registry import Registry
from tests.faults.fault import Seen, fault
from tests.faults.federation import Federation
from tests.faults.kill_server import TAKEN, UPDATE
from tests.faults.kill_site import at
from tests.fed_backend.site_fixture import add_version

AWAY = 4
SHORT = {"rounds": {"join_seconds": 15.0, "min_sites": 2, "expected_sites": 2}}
LATE = {"rounds": {"update_seconds": 30.0, "mixture_seconds": 30.0, "min_sites": 1}}
ALONE = {"rounds": {"join_seconds": 5.0, "min_sites": 1, "expected_sites": 1, "probe_every": 10_000}}


@fault("quorum missed: one of two sites is off", "late", options=SHORT)
def quorum_missed(federation: Federation) -> Seen:
    federation.kept["B"].off()
    report = federation.round("skipped")
    if "1 of at least 2" not in report["reason"]:  # the SuperLink has not noticed yet that it is gone
        assert "B" not in report["sites"], report
    reason = str(report["reason"])
    assert reason.startswith("1 of at least 2 sites took part"), reason
    federation.kept["B"].on()
    begun = time.monotonic()
    federation.whole_round()
    return Seen("The round was skipped with the reason; the next one had both.", time.monotonic() - begun, reason)


@fault("a site answers after the deadline", "late", options=LATE)
def late_update(federation: Federation) -> Seen:
    reached = federation.moments.hold(at(UPDATE, "A"))
    federation.ask()
    reached.wait()
    federation.finished()
    report = federation.report(federation.done)
    assert sorted(report["sites"]) == ["B"]
    before = (federation.state / STATE_FILE).read_bytes()
    reached.release()  # the late answer comes now
    begun = time.monotonic()
    assert (federation.state / STATE_FILE).read_bytes() == before
    federation.whole_round()
    return Seen("The round did not wait for it; its late answer changed nothing, and the next round had it.", time.monotonic() - begun)


@fault("a site's verdict comes after the deadline", "late", options=LATE)
def late_verdict(federation: Federation) -> Seen:
    reached = federation.moments.hold(at(TAKEN, "A"))
    federation.ask()
    reached.wait()
    federation.finished()
    report = federation.report(federation.done)
    assert "A" in report["sites"]
    assert "A" not in report["verdicts"]
    reached.release()
    begun = time.monotonic()
    federation.whole_round()
    return Seen("Its update counted, its verdict came too late for the report; the next round was whole.", time.monotonic() - begun)


@fault("a site is away for four rounds and comes back with two new versions", "late", sites=("P", "Q"), options=ALONE)
def back_after_weeks(federation: Federation) -> Seen:
    last_round = federation.done
    federation.kept["Q"].off()
    noises = []
    for _ in range(AWAY):
        report = federation.round()
        heard = sorted(report["sites"])
        assert heard == ["P"], heard
        noises.append(dict(zip(report["givers"], report["noise"], strict=True)))
    assert federation.server_state().sites["Q"].last_round == last_round
    ratios = [later["Q"] / earlier["Q"] for earlier, later in pairwise(noises)]
    assert all(abs(ratio - 1 / 0.9) < 1e-6 for ratio in ratios), ratios
    assert {noise["P"] for noise in noises} == {noises[0]["P"]}
    made = [add_version(federation.sites["Q"], federation.folder / f"made-{seed}", seed=seed).id for seed in (71, 72)]
    federation.write_configuration(expected_sites=2, join_seconds=120.0)
    federation.kept["server"].off()
    federation.kept["server"].on()
    federation.kept["Q"].on()
    begun = time.monotonic()
    report = federation.whole_round()
    assert report["sites"]["Q"]["version"] == made[-1]
    noise = dict(zip(report["givers"], report["noise"], strict=True))
    assert noise["Q"] < noises[0]["Q"]
    with Registry(federation.sites["Q"]) as registry:
        assert set(made) <= {version.id for version in registry.versions()}
    return Seen(
        f"Its weight fell with its age (noise {noises[-1]['Q'] / noise['Q']:.2f} times as large after {AWAY} rounds); its newest version "
        "counted once, at full weight again.",
        time.monotonic() - begun,
    )
