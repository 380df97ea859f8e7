"""Sites and servers that have not met yet."""

import datetime
from pathlib import Path

from fed_backend.enrolment import membership
from fed_backend.enrolment.request import SiteRequest, read_request
from fed_backend.enrolment.server_identity import init_server
from sam_adapters.site_directory import SiteDirectory

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def new_server(state: Path, *hosts: str) -> str:
    """A state folder with an authority; returns its fingerprint."""
    _, authority = init_server(state, "north", hosts or ("fed.example",), 9443, NOW)
    return authority.fingerprint


def new_site(root: Path, name: str) -> tuple[SiteDirectory, SiteRequest]:
    """A site and its request, as the server reads it."""
    site = SiteDirectory.open(root)
    text, _ = membership.enrol(site, name)
    return site, read_request(text)
