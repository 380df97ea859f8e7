"""What a person is told to do when SQLite refuses: a full disk is no reason to go back to a backup."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError

from sam_adapters.errors import RegistryError
from sam_adapters.registry import Registry
from sam_adapters.registry_schema import remedy
from sam_adapters.site_directory import SiteDirectory


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as made:
        yield made


def test_a_full_disk_asks_for_room(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE a (b BLOB)")
    connection.execute("PRAGMA max_page_count = 3")
    with pytest.raises(sqlite3.OperationalError, match="full") as caught:
        connection.execute("INSERT INTO a VALUES (zeroblob(100000))")
    told = remedy(DatabaseError("INSERT", None, caught.value))
    assert "make room" in told
    assert "backup" not in told


def test_a_damaged_file_asks_for_the_backup(tmp_path: Path) -> None:
    site = SiteDirectory.open(tmp_path / "site")
    site.registry_file.write_bytes(b"garbage" * 1000)
    with pytest.raises(RegistryError, match=r"not a database\): restore it from a backup\."):
        Registry(site)
