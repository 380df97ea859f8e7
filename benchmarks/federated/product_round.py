"""One round of the product, with all of its own code: site directories, registry, gate, ClientApp, wire, probe, SGCA, strategy.

Only the transport is in process, and the tuning is the caller's, so that every method sees the same order of cases. Where the product's
gate asks a person (it leaves great gains with a small loss to one), the benchmark plays one who says yes. Without the gate a site has no
validation cases, so that the gate always asks.
"""

import dataclasses
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fed_backend import client_app, server_app
from fed_backend.in_process_grid import InProcessGrid, InProcessNode
from fed_backend.round_report import RoundReport
from fed_backend.run_config import FederationSettings
from fed_backend.strategy import SgcaStrategy
from sam_adapters.adapter_files import read_schema
from sam_adapters.gate import run_gate
from sam_adapters.provenance import Provenance
from sam_adapters.registry import Registry
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

BENCH = "benchmark"


@dataclass(frozen=True)
class ProductRound:
    """What a round did: bytes by site and direction, mixture weights, distances, verdicts, privacy spent, refusals."""

    bytes_up: dict[str, int]
    bytes_down: dict[str, int]
    weights: dict[str, dict[str, float]]
    distance: list[list[float | None]]
    noise: list[float | None]
    givers: list[str]
    verdicts: dict[str, dict[str, str]]
    seconds: dict[str, float]
    epsilon: dict[str, float | None]
    refusals: list[dict[str, str]]


def active_folder(site: SiteDirectory) -> Path | None:
    """The adapters that the site would serve; None for the base."""
    with Registry(site) as registry:
        active = registry.active()
        return registry.folder(active.id) if active else None


def learning_folder(site: SiteDirectory) -> Path | None:
    """The adapters that the site's next tuning starts from; None for the untuned ones."""
    with Registry(site) as registry:
        version = registry.learnt_from()
        return registry.folder(version.id) if version else None


def take_tuned(site: SiteDirectory, settings: SiteSettings, folder: Path, cases: int, *, gate: bool) -> str:
    """Put tuned adapters into the registry and let the gate, or the benchmark, decide. Returns the verdict; what waits is accepted."""
    with Registry(site) as registry:
        start, schema = registry.learnt_from(), read_schema(folder)
        parents = (start.id,) if start else ()
        version = registry.add(folder, Provenance("local", schema.base, schema.id, settings.name, parents=parents, cases=cases))
    verdict = run_gate(site, settings, version.id).verdict if gate else "accepted"
    if verdict in ("accepted", "waiting"):
        _accept(site, version.id)
    return verdict


def run_round(sites: Mapping[str, SiteDirectory], state: Path, federation: FederationSettings, *, gate: bool, seed: int) -> ProductRound:
    """One federated round over the sites. A site that is refused keeps what it has, as in the product; the refusals are told.

    `seed` names the federation. The halves and the projection of a probe are drawn by that name, so the round can be computed again.
    """
    state.mkdir(parents=True, exist_ok=True)
    known = server_app.open_state(state, federation)
    if known.round == 0:
        known = dataclasses.replace(known, federation=str(uuid.uuid5(uuid.NAMESPACE_OID, f"benchmark, seed {seed}")))
    nodes = [InProcessNode({"site": name, "site-directory": str(site.root)}, registered=name) for name, site in sites.items()]
    strategy = SgcaStrategy(known, federation, state, run=BENCH)
    report = strategy.run_round(InProcessGrid(client_app.app, nodes))
    for name, site in sites.items():
        if not gate or (name in report.verdicts and report.verdicts[name].verdict == "waiting"):
            _accept_mixture(site, report)
    return _summary(report)


def _accept_mixture(site: SiteDirectory, report: RoundReport) -> None:
    """Make the round's mixture active; under a privacy rule the site's registry alone knows its version."""
    with Registry(site) as registry:
        record = registry.find_round(report.federation, report.round)
    if record is not None and record.received_version:
        _accept(site, record.received_version)


def _accept(site: SiteDirectory, version: str) -> None:
    with Registry(site) as registry:
        registry.activate(version, reason="The benchmark says yes whenever a person is asked.", by=BENCH)


def _summary(report: RoundReport) -> ProductRound:
    value: dict[str, Any] = report.to_dict()
    traffic = value["bytes"]
    return ProductRound(
        bytes_up={site: one.get("update", 0) + one.get("probe_reply", 0) for site, one in traffic.items()},
        bytes_down={site: one.get("probe_request", 0) + one.get("mixture", 0) for site, one in traffic.items()},
        weights=value["weights"],
        distance=value["distance"],
        noise=value["noise"],
        givers=value["givers"],
        verdicts={site: {"mixture": verdict.verdict} for site, verdict in report.verdicts.items()},
        seconds=value["seconds"],
        epsilon={site: line.epsilon for site, line in report.sites.items()},
        refusals=[{"site": one.site, "phase": one.phase, "reason": one.reason} for one in report.refusals],
    )


def copy_federation(source: Path, target: Path) -> None:
    """Site directories and server state of the last finished round, for the next to go on from. Links stay links."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
