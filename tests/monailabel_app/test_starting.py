"""A server that cannot start says why, in a sentence, and ends."""

from pathlib import Path

from tests.monailabel_app.server_process import start_process, stop


def test_a_setting_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    process = start_process(tmp_path, tmp_path / "studies", 0, {"image_size": "100"})
    try:
        assert process.wait(240) == 3
    finally:
        stop(process)
    log = (tmp_path / "server.log").read_text(encoding="utf-8")
    assert "Cannot start: Setting image_size is 100, expected a multiple of 8 from 56 to 1024." in log
    assert "Traceback" not in log
    assert not (tmp_path / "site.json").exists()
