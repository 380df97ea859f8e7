"""The gradient probe: which way a site's labelled cases would move the shared adapters from a common state. One thread.

Every site measures at the same shared B, so gradients of different sites can be compared. The gradients of single cases differ in norm
by more than an order of magnitude; each is scaled to norm 1, so that no outlier rules the average. Two halves with disjoint patients
tell the site's direction apart from chance: see `fed_backend.sgca.probe_statistics`.
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.case_loading import SkippedCase, load_cases
from sam_adapters.cases import LabelledCase, labelled_cases, split_cases
from sam_adapters.evaluation import largest_slices
from sam_adapters.loading import load_adapted
from sam_adapters.registry import Registry
from sam_adapters.schema import AdapterState
from sam_adapters.segmenter import resolve_device
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from sam_adapters.splits import hash_fraction
from sam_adapters.tuning_loss import fixed_prompt_loss
from sam_adapters.tuning_slices import TrainingSlice, training_slice

logger = logging.getLogger(__name__)

Project = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class ProbeHalves:
    """What a site answers to a probe.

    Attributes:
        a, b: projected mean unit-norm gradients of the two halves, (p,) float32.
        cases_a, cases_b: cases that went into each.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    cases_a: int
    cases_b: int


def patient_halves(cases: Sequence[LabelledCase], seed: int) -> tuple[list[LabelledCase], list[LabelledCase]]:
    """Split cases into two halves without a common patient.

    Patients are dealt out, those with most cases first and each to the half with fewer cases; a hash of seed and patient breaks ties. Each
    half is ordered by that hash, so that its first cases are an even draw.
    """

    def rank(patient: str) -> float:
        return hash_fraction(patient, salt=f"fedsca-probe-1-{seed}")

    by_patient: dict[str, list[LabelledCase]] = {}
    for case in cases:
        by_patient.setdefault(case.patient, []).append(case)
    halves: tuple[list[LabelledCase], list[LabelledCase]] = ([], [])
    for patient in sorted(by_patient, key=lambda patient: (-len(by_patient[patient]), rank(patient))):
        min(halves, key=len).extend(by_patient[patient])
    for half in halves:
        half.sort(key=lambda case: (rank(case.patient), case.case))
    return halves


def probe_halves(
    site: SiteDirectory,
    settings: SiteSettings,
    common: AdapterState,
    *,
    project: Project,
    max_cases_per_half: int = 16,
    seed: int = 0,
) -> ProbeHalves | None:
    """Measure the two halves at a common shared state, with the local adapters of the version that the site learns from.

    A case's gradient is that of `tuning_loss.fixed_prompt_loss` (tight box and deepest point) on its largest slice. A case that cannot be
    used is left out and logged, as is one whose gradient is zero or not finite.

    Args:
        common: the shared part at which everybody measures.
        project: the projection that all sites share, (n,) float64 to (p,).
        max_cases_per_half: bound on the work.
        seed: the server's, so that halves differ from probe to probe.

    Returns:
        None when there are not two patients with a usable case, one in each half.

    Raises:
        AdapterError: `common` has another layout than this site.
    """
    train = split_cases(labelled_cases(site, settings), site, settings).train
    halves = patient_halves(train, seed)
    if not all(halves):
        return None
    with Registry(site) as registry:
        version = registry.learnt_from()
        adapted = load_adapted(settings, registry.folder(version.id) if version else None)
    adapted.load_shared(common)
    device = resolve_device(settings.device)
    adapted.network.to(device)
    adapted.set_training(False)
    found = [_mean_direction(adapted, half, settings, max_cases_per_half, device) for half in halves]
    (mean_a, count_a), (mean_b, count_b) = found
    if not (count_a and count_b):
        return None
    return ProbeHalves(project(mean_a).astype(np.float32), project(mean_b).astype(np.float32), count_a, count_b)


def _mean_direction(
    adapted: AdaptedNetwork, cases: Sequence[LabelledCase], settings: SiteSettings, limit: int, device: torch.device
) -> tuple[NDArray[np.float64], int]:
    """Mean of the unit-norm gradients of the first `limit` usable cases, (n,), and their number."""
    total = np.zeros(adapted.schema.size)
    count = 0
    for _, gradient in itertools.islice(case_gradients(adapted, cases, settings, device), limit):
        total += gradient / np.linalg.norm(gradient)
        count += 1
    return (total / count if count else total), count


def case_gradients(
    adapted: AdaptedNetwork, cases: Sequence[LabelledCase], settings: SiteSettings, device: torch.device
) -> Iterator[tuple[LabelledCase, NDArray[np.float64]]]:
    """Each case that can be used, with the gradient of its largest slice, (n,), neither zero nor infinite. The others are logged."""
    for loaded in load_cases(cases, settings.label_value, settings.window):
        if isinstance(loaded, SkippedCase):
            logger.warning("Case %s is left out of the probe: %s", loaded.case, loaded.reason)
            continue
        largest = largest_slices(loaded.target, 1)
        if not largest:
            continue
        gradient = shared_gradient(adapted, training_slice(loaded, largest[0], adapted.network.image_size), device)
        norm = float(np.linalg.norm(gradient))
        if not (np.isfinite(norm) and norm > 0):
            logger.warning("Case %s is left out of the probe: the norm of its gradient is %s.", loaded.source.case, norm)
            continue
        yield loaded.source, gradient


def shared_gradient(adapted: AdaptedNetwork, one: TrainingSlice, device: torch.device) -> NDArray[np.float64]:
    """Gradient of the slice's fixed-prompt loss with respect to the shared B, in schema order, (schema.size,)."""
    parameters = list(adapted.shared_parameters().values())
    pixels = torch.from_numpy(np.ascontiguousarray(one.pixels))[None].to(device)
    loss = fixed_prompt_loss(adapted.network, adapted.network.encode(pixels), one)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    parts = [
        torch.zeros_like(parameter) if gradient is None else gradient for gradient, parameter in zip(gradients, parameters, strict=True)
    ]
    return np.concatenate([part.detach().double().cpu().numpy().ravel() for part in parts])
