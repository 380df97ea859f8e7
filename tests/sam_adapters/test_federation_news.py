"""What a site keeps of what its federation's server said."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sam_adapters.federation_news import NEWS_FILE, FederationNews, load_news
from sam_adapters.site_directory import SiteDirectory

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> SiteDirectory:
    return SiteDirectory.open(tmp_path / "site")


def test_what_is_written_is_read(site: SiteDirectory) -> None:
    assert load_news(site) is None
    news = FederationNews("north", 3, "2026-01-01T11:00:00+00:00", "2026-01-01T14:00:00+02:00")
    news.save(site)
    assert load_news(site) == FederationNews("north", 3, "2026-01-01T11:00:00+00:00", "2026-01-01T12:00:00+00:00")


@pytest.mark.parametrize(
    "planned", [None, "soon", "2026-01-01T14:00:00", "2026-01-01T14:00:00+00:00" + " " * 50, "9999-12-31T23:59:59-12:00"]
)
def test_a_next_round_that_is_no_time_is_left_out(site: SiteDirectory, planned: str | None) -> None:
    FederationNews("n" * 100, 1, "2026-01-01T11:00:00+00:00", planned).save(site)
    found = load_news(site)
    assert found is not None
    assert (found.next_round, found.name) == (None, "n" * 64)


def test_a_round_that_should_have_begun_is_not_upcoming() -> None:
    assert FederationNews("n", 1, "", "2026-01-01T12:00:01+00:00").upcoming(NOW) == "2026-01-01T12:00:01+00:00"
    assert FederationNews("n", 1, "", "2026-01-01T12:00:00+00:00").upcoming(NOW) is None
    assert FederationNews("n", 1, "", None).upcoming(NOW) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "name": "n"}', "[" * 100_000])
def test_a_file_that_cannot_be_read_is_none(site: SiteDirectory, text: str) -> None:
    (site.work / NEWS_FILE).write_text(text, encoding="utf-8")
    assert load_news(site) is None
