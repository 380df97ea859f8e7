"""In place of the network at a site: what a probe measures and what the gate thinks, without torch.

All sites are hospitals of one kind: adapters and gradients have a direction in common and a part of their own, so that they really mix.
The gate lets every mixture wait in the first round, when sites still have adapters of their own to send, and takes every later one.
"""

import sys
import zlib
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulated_federation import GRADIENT_OWN, GRADIENT_REST, GRADIENT_SHARED, HALF_NOISE, unit

FloatArray = NDArray[np.float64]
SHARED, OWN = 0.8, 0.6
"""Parts of an adapter: two sites' have a cosine of 0.64."""


def common_direction(values: int) -> FloatArray:
    """Where all sites tune to, (values,), norm 1."""
    return unit(np.random.default_rng(1).normal(size=values))


def _of_site(name: str, values: int, what: int) -> FloatArray:
    return unit(np.random.default_rng((zlib.crc32(name.encode()), what)).normal(size=values))


def adapters(name: str, values: int) -> FloatArray:
    """A site's tuned adapters, (values,); norms from 1.2 to 1.5."""
    size = 1.2 + 0.3 * (zlib.crc32(name.encode()) % 100) / 100
    return size * (SHARED * common_direction(values) + OWN * _of_site(name, values, 0))


def gradient(name: str, values: int) -> FloatArray:
    """A site's mean gradient: it points away from where the site tunes to."""
    rest = unit(common_direction(values) + 0.5 * _of_site(name, values, 1))
    along = GRADIENT_SHARED * common_direction(values) + GRADIENT_OWN * _of_site(name, values, 0)
    return -along - GRADIENT_REST * 0.5 * rest


def probe_halves(site: Any, settings: Any, common: Any, *, project: Callable[[FloatArray], Any], seed: int = 0, **_: Any) -> Any:
    """As `sam_adapters.probe.probe_halves`."""
    values, rng = common.schema.size, np.random.default_rng((zlib.crc32(settings.name.encode()), seed))
    halves = [gradient(settings.name, values) * 0.6 + HALF_NOISE * unit(rng.normal(size=values)) for _ in range(2)]
    a, b = (project(half).astype(np.float32) for half in halves)
    return SimpleNamespace(a=a, b=b, cases_a=1, cases_b=1)


def run_gate(site: Any, settings: Any, version_id: str, *, round: int | None = None, **_: Any) -> Any:
    """As `sam_adapters.gate.run_gate`."""
    from sam_adapters.registry import Registry

    with Registry(site) as registry:
        if round == 1:
            return SimpleNamespace(verdict="waiting", reason="Waits for a person.", figures={})
        registry.activate(version_id, reason="Not worse.", by="gate")
        return SimpleNamespace(verdict="promoted", reason="Not worse.", figures={})


def install() -> None:
    """Take the places of the modules that would start torch."""
    for name, members in {"sam_adapters.probe": {"probe_halves": probe_halves}, "sam_adapters.gate": {"run_gate": run_gate}}.items():
        module = ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
