from collections.abc import Iterator

import pytest

from tests.slicer_extension.lib.bench import Bench


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_behind() -> Iterator[None]:
    yield
    Bench.close_all()
