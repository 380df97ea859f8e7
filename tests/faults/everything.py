"""All faults."""

from tests.faults import clocks, damaged, disk, kill_server, kill_site, late, network, skew
from tests.faults.fault import FAULTS

__all__ = ["FAULTS", "clocks", "damaged", "disk", "kill_server", "kill_site", "late", "network", "skew"]
