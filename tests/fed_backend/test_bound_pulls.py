"""A reply of which a part never comes does not hold the others up."""

import time
from collections.abc import Iterator

import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import http_grid

from fed_backend.server_app import bound_pulls, whole_seconds


@pytest.fixture
def pulls() -> Iterator[None]:
    before = http_grid.pull_objects
    yield
    http_grid.pull_objects = before


@pytest.mark.usefixtures("pulls")
def test_a_reply_that_is_not_whole_is_given_up() -> None:
    def never(object_id: str) -> bytes:
        raise ObjectUnavailableError(object_id)

    bound_pulls(9.0)
    bound_pulls(0.5)  # the last one counts
    begun = time.monotonic()
    with pytest.raises(ObjectPullError):
        http_grid.pull_objects(object_ids=["a"], pull_object_fn=never)
    assert time.monotonic() - begun < 60
    assert http_grid.pull_objects(object_ids=["a"], pull_object_fn=str.encode) == {"a": b"a"}


def test_larger_adapters_are_waited_for_longer() -> None:
    assert whole_seconds(100_685) == 15.0  # half of the encoder, fp16: eight seconds at 12.5 kB a second
    assert whole_seconds(333_670) == pytest.approx(40.04, abs=0.01)  # everything
