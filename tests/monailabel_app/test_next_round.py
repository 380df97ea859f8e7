"""When the next round is due, as the server's status tells it."""

from datetime import timedelta
from pathlib import Path

from monailabel_app.site_status import _next_round
from sam_adapters.federation_news import FederationNews
from sam_adapters.provenance import utc_now
from sam_adapters.site_directory import SiteDirectory


def test_a_round_that_is_still_to_come_is_told(tmp_path: Path) -> None:
    site = SiteDirectory.open(tmp_path / "site")
    assert _next_round(site) is None
    due = utc_now() + timedelta(hours=1)
    FederationNews("north", 1, utc_now().isoformat(), due.isoformat()).save(site)
    assert _next_round(site) == due.isoformat()
    FederationNews("north", 1, utc_now().isoformat(), (utc_now() - timedelta(hours=1)).isoformat()).save(site)
    assert _next_round(site) is None
