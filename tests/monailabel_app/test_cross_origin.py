"""Which web pages and names are let in."""

import pytest

from monailabel_app.cross_origin import checked_origin, host_name, same_origin
from sam_adapters.errors import SettingError


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Viewer.hospital.example/", "https://viewer.hospital.example"),
        ("https://viewer.hospital.example:443", "https://viewer.hospital.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_origins_are_written_as_browsers_send_them(text: str, origin: str) -> None:
    assert checked_origin(text) == origin


@pytest.mark.parametrize(
    "text", ["*", "", "null", "https://*.example", "viewer.example", "file:///x", "https://a/b", "https://a b", "https://a@b"]
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="Origin"):
        checked_origin(text)


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("https://Server", "server:443", True),
        ("http://localhost:8001", "localhost:8000", False),
        ("http://evil.example", "localhost:8000", False),
        ("null", "", False),
        ("null", "null", False),
        ("", "", False),
    ],
)
def test_a_page_of_the_server_itself(origin: str, host: str, same: bool) -> None:
    assert same_origin(origin, host) is same


def test_names_without_ports() -> None:
    assert [host_name(host) for host in ("LocalHost:8000", "[::1]:8000", "[::1]", "a.b", "")] == ["localhost", "[::1]", "[::1]", "a.b", ""]
