"""All faults."""

from tests.faults import kill_server, kill_site
from tests.faults.fault import FAULTS

__all__ = ["FAULTS", "kill_server", "kill_site"]
