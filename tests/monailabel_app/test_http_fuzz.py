"""The short form of `make fuzz`: the same examples every time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monailabel_app.http_fuzz import CONF, Deadline, fuzz_described, fuzz_uploads, make_studies
from tests.monailabel_app.server_process import Server, running_server

EXAMPLES = 4
SECONDS = 600.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hospital")
    with running_server(folder, make_studies(folder), CONF) as running:
        yield running


def test_damaged_files_are_no_servers_fault(server: Server, tmp_path: Path) -> None:
    assert fuzz_uploads(server, tmp_path, 25, 0, Deadline(SECONDS)) >= 25


def test_no_described_request_makes_the_server_fail(server: Server) -> None:
    assert fuzz_described(server, EXAMPLES, 0, Deadline(SECONDS)) > 100
