"""All faults."""

from tests.faults import kill_server
from tests.faults.fault import FAULTS

__all__ = ["FAULTS", "kill_server"]
