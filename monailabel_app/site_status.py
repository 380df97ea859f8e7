"""The body of `GET /fedsca/status`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sam_adapters.federation_news import load_news
from sam_adapters.provenance import utc_now
from sam_adapters.registry import Registry, RoundRecord, Tuning
from sam_adapters.site_directory import SiteDirectory

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp


def site_status(app: "FedSCALabelApp") -> dict[str, Any]:
    """The site's present state, JSON values; cheap enough to be asked every second."""
    engine, settings, registry = app.engine, app.configuration.settings, app.engine.registry
    datastore = app.datastore()
    counts = app.roles.label_counts(datastore)
    offered = app.roles.offered(datastore)
    version = engine.active_version()
    scores = app.scores.of(version)
    last = registry.last_tuning()
    # In this order: a tuning that begins between the two is then told twice for a moment, and not left out.
    waiting = app.tuning_queue.waiting
    running = app.tuning_queue.running
    return {
        "site": settings.name,
        "active": version,
        "generation": registry.generation(),
        "base": {"name": settings.base, "sha256": engine.base_sha256},
        "device": engine.device,
        "engine": engine.engine_name(),
        "embeddings": engine.embeddings.figures(),
        "image_size": settings.image_size,
        "queue": {"infer": engine.running_requests, "tuning": waiting},
        "prefetch": asdict(app.fast.prefetcher.counts()),
        "jobs": asdict(app.fast.jobs.counts()),
        "results": {"held": len(app.fast.results), "bytes": app.fast.results.nbytes},
        "tuning": {
            "running": running,
            "waiting": waiting,
            "automatic": app.tuning_queue.automatic and settings.tune_after > 0,
            "next": app.tuning_queue.decide(counts.train).reason,
            "progress": _progress(app.configuration.site, running=running or (last is not None and last.running)),
            "last": _tuning(last),
        },
        "labels": counts.to_dict(),
        "cases": {"total": len(datastore.list_images()), "offered": len(offered)},
        "uncertainty": {"version": version, "scored": sum(case in scores for case in offered), "cases": len(offered)},
        "last_round": _last_round(registry),
        "next_round": _next_round(app.configuration.site),
        "dicomweb": app.dicomweb_status(),
    }


def read_progress(site: SiteDirectory) -> dict[str, Any] | None:
    """What the running (or last) tuning says of itself; None when there was none."""
    try:
        value = json.loads(site.tuning_progress_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _progress(site: SiteDirectory, *, running: bool) -> dict[str, Any] | None:
    """The progress file; a tuning that was killed could not write there how it ended."""
    progress = read_progress(site)
    if progress is not None and progress.get("status") == "running" and not running:
        return {**progress, "status": "interrupted"}
    return progress


def _tuning(tuning: Tuning | None) -> dict[str, Any] | None:
    if tuning is None:
        return None
    finished = tuning.finished.isoformat() if tuning.finished else None
    return {**asdict(tuning), "started": tuning.started.isoformat(), "finished": finished}


def _last_round(registry: Registry) -> dict[str, Any] | None:
    rounds = registry.rounds()
    if not rounds:
        return None
    return round_to_dict(max(rounds, key=lambda record: (record.at.timestamp() if record.at else 0.0, record.round)))


def _next_round(site: SiteDirectory) -> str | None:
    """When the federation's server said that it would begin its next round; None if it did not, or that time has passed."""
    news = load_news(site)
    return None if news is None else news.upcoming(utc_now())


def round_to_dict(record: RoundRecord) -> dict[str, Any]:
    """JSON-ready dictionary of a round."""
    value = {key: dict(item) if hasattr(item, "items") else item for key, item in vars(record).items()}
    return {**value, "at": record.at.isoformat() if record.at else None}
