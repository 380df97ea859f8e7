"""How unsure a version is of each unlabelled case: <site>/work/uncertainty.json, written by the background worker, read by requests.

Processes and threads: one writer (the server's worker thread); readers see the old file or the new one.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from sam_adapters import atomic

KEPT_VERSIONS = 2


class UncertaintyScores:
    """Scores by version and case, from 0 (certain) to 1."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, version: str) -> dict[str, float]:
        """Case -> score by one version. A missing or damaged file gives none: scores can be made again."""
        return self._read().get(version, {})

    def put(self, version: str, case: str, score: float) -> None:
        """Add a score. Only the versions that were scored last are kept."""
        everything = self._read()
        mine = everything.pop(version, {})
        mine[case] = score
        kept = [*list(everything.items())[-(KEPT_VERSIONS - 1) :], (version, mine)]
        # A list, because atomic.write_json sorts the keys of objects and the order of versions matters.
        atomic.write_json(self.path, [{"version": name, "scores": scores} for name, scores in kept])

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            value = json.loads(self.path.read_text(encoding="utf-8"))
            return {str(item["version"]): _numbers(item["scores"]) for item in value}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}


def _numbers(scores: Mapping[str, float]) -> dict[str, float]:
    return {str(case): float(score) for case, score in scores.items()}
