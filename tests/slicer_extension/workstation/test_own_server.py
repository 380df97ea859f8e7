"""`--studies` starts a server for the workstation. A file of its own: a second browser cannot be driven while another test's is open."""

from pathlib import Path

import pytest
import requests

from tests.monailabel_app.server_process import wait_until, write_volume
from tests.slicer_extension.workstation.processes import browser, missing, workstation

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

CONF = {"image_size": "64", "tune": "false", "cpu_engine": "torch", "uncertainty": "false"}


def test_a_server_of_its_own_goes_with_the_workstation(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    write_volume(studies / "one.nii.gz")
    options = ["--studies", str(studies)]
    for key, value in {**CONF, "site": str(tmp_path / "site")}.items():
        options += ["--conf", key, value]
    with workstation(tmp_path, *options) as address, browser(900, 600) as page:
        page.goto(address)
        page.wait_for_selector("[data-connection=on]")
        server = page.inner_text(".server p.muted").split()[-1]
        assert requests.get(f"{server}/info/", timeout=60).ok

    def gone() -> bool:
        try:
            requests.get(f"{server}/info/", timeout=5)
        except requests.ConnectionError:
            return True
        return False

    wait_until(gone, 60, what="the server to end with the workstation")
