"""The interactive path: a click in, the changed box of a mask out; results to refer to, prefetching and jobs.

Threads: called from worker threads. It has no lock of its own; results, prefetcher and jobs each have one, none taken inside another.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monailabel_app.app_errors import RequestError
from monailabel_app.engine import Engine
from monailabel_app.image_sources import ImageSource
from monailabel_app.infer_parameters import checked_label, wanted_version
from monailabel_app.prefetcher import Prefetcher
from monailabel_app.result_store import Result, ResultOrigin, ResultStore
from monailabel_app.segment_models import PrefetchBody, PropagateBody, SegmentBody, VolumeBody
from monailabel_app.segment_request import SegmentPlan, edited_mask, first_slice, learns_from_masks, segment_plan, slice_range
from monailabel_app.slice_jobs import SliceJobs
from monailabel_app.slice_work import described, propagation_work, volume_work
from sam_adapters.embedding_cache import Embedding, SliceKey
from sam_adapters.images import MedicalImage
from sam_adapters.preprocess import mask_logits
from sam_adapters.priority_lock import Priority
from sam_adapters.prompts import Axis, SlicePrompts, slice_count, take_slice
from sam_adapters.propagation import Neighbour
from sam_adapters.segmenter import Segmenter

CLICK_NEIGHBOURS = 9
"""Slices that are encoded ahead after a click: the clicked one and four on either side."""
STOP_SECONDS = 10.0


class FastPath:
    """See the module; `owner` is always the name of the user who asks.

    Attributes:
        results: masks that can be referred to.
        prefetcher: encodes ahead.
        jobs: propagations and volumes.
    """

    def __init__(self, engine: Engine, *, results_bytes: int, prefetch: bool) -> None:
        self._engine = engine
        self.results = ResultStore(results_bytes)
        self.prefetcher = Prefetcher(engine, enabled=prefetch)
        self.jobs = SliceJobs()

    def start(self) -> None:
        """Start the background threads; in the server process only."""
        self.prefetcher.start()
        self.jobs.start()

    def stop(self) -> None:
        """End the background threads, waiting for each at most `STOP_SECONDS`."""
        self.prefetcher.stop(STOP_SECONDS)
        self.jobs.stop(STOP_SECONDS)

    @property
    def busy(self) -> bool:
        """Whether slices are being encoded ahead, or jobs worked on."""
        return self.prefetcher.busy or self.jobs.busy

    # --- clicks -----------------------------------------------------------------------------------------------------------------------

    def segment(self, source: ImageSource, body: SegmentBody, owner: str) -> dict[str, Any]:
        """Segment one slice; returns what `SegmentReply` holds.

        Raises:
            PromptError, RequestError: as `segment_request`. NotFoundError: the previous result is not there.
            ImageError, and what `Engine.segmenter` raises.
        """
        with self._engine.request():
            clock = _Clock()
            image = self._engine.images.read(source.path)
            previous = None if body.previous is None else self.results.get(body.previous, owner)
            plan = segment_plan(
                body,
                shape_kji=image.array.shape[:3],
                content_hash=image.content_hash,
                previous=previous,
                label_name=self._engine.settings.label_name,
            )
            segmenter = self._engine.segmenter(self._engine.resolve(wanted_version(body.version)))
            clock.lap("read")
            key = SliceKey(image.content_hash, plan.axis, plan.index)
            cached = segmenter.cached(key)
            with segmenter.turns.click():
                embedding = segmenter.encode(take_slice(image.array, plan.axis, plan.index), key=key, priority=Priority.CLICK)
                clock.lap("encode")
                settings = self._engine.settings
                known = previous if learns_from_masks(settings.base, segmenter.version, settings.tune_kinds) else None
                decoded = segmenter.decode(embedding, _with_previous(plan, known, embedding, segmenter), priority=Priority.CLICK)
            clock.lap("decode")
            result = self._origin(source, image, plan.axis, plan.label, segmenter, owner).result(plan.index, decoded)
            reply = self._reply(self.results.put(result), result, body.previous, previous)
            clock.lap("pack")
        if source.kind == "image":
            self._engine.remember_served(source.name, result.version)
        self.clicked(source.path, plan.axis, plan.index, owner)
        return {**reply, "embedding": "cached" if cached else "computed", "seconds": clock.seconds}

    def clicked(self, path: Path, axis: Axis, index: int, owner: str) -> None:
        """Somebody clicked on a slice: leave the network to the next click for a moment, then encode the neighbours."""
        self.prefetcher.clicked()
        self.prefetcher.show(f"click {owner}", path, axis, index, limit=CLICK_NEIGHBOURS)

    def result(self, name: str, since: str | None, owner: str) -> dict[str, Any]:
        """An earlier result again, as the change against another one or an empty mask; what `SegmentReply` holds.

        Raises:
            NotFoundError: one of them is not there. RequestError: they are not of the same slice and label.
        """
        result = self.results.get(name, owner)
        against = None if since is None else self.results.get(since, owner)
        if against is not None:
            for field in ("content_hash", "axis", "index", "label"):
                if getattr(result, field) != getattr(against, field):
                    raise RequestError(f"The two results differ in {field.replace('content_hash', 'image')}: ask without since.")
        return self._reply(name, result, since, against)

    # --- ahead of clicks --------------------------------------------------------------------------------------------------------------

    def prefetch(self, source: ImageSource, body: PrefetchBody, owner: str) -> dict[str, int]:
        """A viewer shows a slice. Reads the image, so that what is wrong with it is said now.

        Raises:
            PromptError: there is no such slice. ImageError, and what `Engine.segmenter` raises.
        """
        image = self._engine.images.read(source.path)
        index = first_slice(body.index, body.axis, image.array.shape)
        segmenter = self._engine.segmenter(self._engine.active_version())
        self.prefetcher.show(_viewer(body.viewer, owner), source.path, body.axis, index)
        count = slice_count(image.array.shape, body.axis)
        ready = sum(segmenter.cached(SliceKey(image.content_hash, body.axis, number)) for number in range(count))
        return {"queued": min(self.prefetcher.room(segmenter.cache), count - ready), "ready": ready}

    def drop_prefetch(self, viewer: str, owner: str) -> bool:
        """Forget what a viewer has queued; whether there was something."""
        return self.prefetcher.drop(_viewer(viewer, owner))

    # --- jobs -------------------------------------------------------------------------------------------------------------------------

    def propagate(self, body: PropagateBody, owner: str, reopen: Callable[[ImageSource], ImageSource]) -> str:
        """Begin a propagation; returns the job's id.

        Args:
            reopen: looks the result's image up again (it may have been removed meanwhile).

        Raises:
            NotFoundError: the result is not there. RequestError: it is empty, or of an image that has changed. PromptError: no such slices.
            BusyError: too many jobs.
        """
        previous = self.results.get(body.previous, owner)
        source = reopen(previous.source)
        image = self._engine.images.read(source.path)
        if image.content_hash != previous.content_hash:
            raise RequestError("The result is for another image: the image has changed since. Send the prompts again.")
        within = slice_range(body.first, body.last, start=previous.index, axis=previous.axis, shape_kji=image.array.shape)
        known = self._known(body, previous)
        origin = ResultOrigin(
            owner, source, image.content_hash, previous.axis, previous.label, self._engine.resolve(previous.version), previous.engine
        )
        work = propagation_work(self._engine, self.results, origin, image, previous.index, known, within)
        return self.jobs.begin(owner, "propagate", _about(origin), len(within) - 1, work)

    def volume(self, source: ImageSource, body: VolumeBody, owner: str) -> str:
        """Begin segmenting every slice without prompts; returns the job's id.

        Raises:
            PromptError: no such slice. RequestError: a label or version that cannot be one. BusyError: too many jobs.
        """
        image = self._engine.images.read(source.path)
        start = first_slice(body.index, body.axis, image.array.shape)
        label = checked_label(body.label, self._engine.settings.label_name)
        segmenter = self._engine.segmenter(self._engine.resolve(wanted_version(body.version)))
        origin = self._origin(source, image, body.axis, label, segmenter, owner)
        count = slice_count(image.array.shape, body.axis)
        return self.jobs.begin(owner, "volume", _about(origin), count, volume_work(self._engine, self.results, origin, image, start))

    # ----------------------------------------------------------------------------------------------------------------------------------

    def _known(self, body: PropagateBody, previous: Result) -> Neighbour:
        """The mask to start from: the person's own, if the request has one, else the result's."""
        edited = edited_mask(body.mask, previous.size)
        mask = previous.mask if edited is None else edited
        if not mask.any():
            raise RequestError("The mask to start from is empty: there is nothing to carry on to other slices.")
        side = previous.low_res.shape[0]
        return Neighbour(mask, previous.logits if edited is None else mask_logits(edited, self._engine.settings.image_size, side))

    def _origin(self, source: ImageSource, image: MedicalImage, axis: Axis, label: str, segmenter: Segmenter, owner: str) -> ResultOrigin:
        return ResultOrigin(owner, source, image.content_hash, axis, label, segmenter.version, segmenter.engine_name)

    def _reply(self, name: str, result: Result, since: str | None, against: Result | None) -> dict[str, Any]:
        return {
            **result.source.reference,
            "axis": result.axis,
            "label": result.label,
            "version": result.version,
            "base": self._engine.base_sha256,
            "engine": result.engine,
            "size": result.size,
            "against": since,
            **described(name, result, against),
        }


def _with_previous(plan: SegmentPlan, previous: Result | None, embedding: Embedding, segmenter: Segmenter) -> SlicePrompts:
    """The prompts with the previous mask: the person's own, if there is one, else the previous result's."""
    mask = None if previous is None else previous.logits
    if plan.edited is not None:
        mask = mask_logits(plan.edited, segmenter.image_size, 4 * int(embedding.features.shape[-1]))
    return SlicePrompts(points=plan.prompts.points, box=plan.prompts.box, mask=mask)


def _about(origin: ResultOrigin) -> dict[str, Any]:
    return {**origin.source.reference, "axis": origin.axis, "label": origin.label, "version": origin.version}


def _viewer(viewer: str, owner: str) -> str:
    """One person's viewers never meet another's, nor the queues that clicks start."""
    return f"viewer {owner}: {viewer}"


class _Clock:
    """Seconds by part of a request, and in all."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"total": 0.0}
        self._started = self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """End a part."""
        now = time.perf_counter()
        self.seconds[part] = round(now - self._last, 4)
        self.seconds["total"] = round(now - self._started, 4)
        self._last = now
