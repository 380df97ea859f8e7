"""Which case is labelled next. Cases kept for testing are never offered; no case left is an empty answer, not an error."""

import random
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.tasks.strategy import Strategy

from monailabel_app.case_roles import CaseRoles
from monailabel_app.engine import Engine
from monailabel_app.guarded_datastore import GuardedDatastore
from monailabel_app.uncertainty_scores import UncertaintyScores


class FirstStrategy(Strategy):  # type: ignore[misc]  # monailabel is not typed
    """The first case by name."""

    def __init__(self, roles: CaseRoles) -> None:
        super().__init__("The first unlabelled case by name")
        self._roles = roles

    def __call__(self, request: Mapping[str, Any], datastore: GuardedDatastore) -> dict[str, Any] | None:
        """{"id": case}, or None when no case is left."""
        cases = self._roles.offered(datastore)
        return {"id": cases[0]} if cases else None


class RandomStrategy(Strategy):  # type: ignore[misc]
    """Any case; the same one for the same `seed` of the request and the same unlabelled cases."""

    def __init__(self, roles: CaseRoles) -> None:
        super().__init__("Any unlabelled case; a seed in the request makes it repeatable")
        self._roles = roles

    def __call__(self, request: Mapping[str, Any], datastore: GuardedDatastore) -> dict[str, Any] | None:
        """{"id": case}, or None when no case is left."""
        cases = self._roles.offered(datastore)
        seed = request.get("seed")
        generator = random.Random(None if seed is None else str(seed))
        return {"id": generator.choice(cases)} if cases else None


class LeastCertainStrategy(Strategy):  # type: ignore[misc]
    """The case that the active version is least sure of, by scores made in the background. The request only reads them."""

    def __init__(self, roles: CaseRoles, engine: Engine, scores: UncertaintyScores) -> None:
        super().__init__("The case that the active version is least sure of")
        self._roles = roles
        self._engine = engine
        self._scores = scores

    def __call__(self, request: Mapping[str, Any], datastore: GuardedDatastore) -> dict[str, Any] | None:
        """{"id": case, "uncertainty": score or None, "reason": a sentence}, or None when no case is left."""
        cases = self._roles.offered(datastore)
        if not cases:
            return None
        version = self._engine.active_version()
        scores = self._scores.of(version)
        scored = [case for case in cases if case in scores]
        if not scored:
            return {"id": cases[0], "uncertainty": None, "reason": f"No case is scored by version {version} yet: the first by name."}
        case = max(scored, key=lambda name: scores[name])
        reason = f"The highest of {len(scored)} scores ({len(cases)} cases are unlabelled) by version {version}."
        return {"id": case, "uncertainty": scores[case], "reason": reason}
