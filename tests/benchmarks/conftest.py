"""What a benchmark changes in its own process ends with each test."""

import pytest

from sam_adapters.bases.litemedsam import LiteMedSam


@pytest.fixture(autouse=True)
def _stems_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the network's own stem back after a test whose benchmark remembered stems."""
    monkeypatch.setattr(LiteMedSam, "encode_stem", LiteMedSam.encode_stem)
