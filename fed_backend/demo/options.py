"""What the demo is asked to do."""

from dataclasses import dataclass
from pathlib import Path

VIRTUAL_MINUTES = 6.0
REAL_MINUTES = 25.0
VIRTUAL_IMAGE_SIZE = 96  # the virtual studies have 96 x 96 pixels
REAL_IMAGE_SIZE = 128


@dataclass(frozen=True)
class DemoOptions:
    """The options of `fedsca demo`, checked.

    Attributes:
        out: folder of this run; must not hold an earlier one.
        data: folder of real data, None for virtual hospitals.
        rounds: federated rounds, each after a wave of labels.
        minutes: time to plan for, on this machine.
        hospitals: number of virtual hospitals.
        seed: of everything drawn.
        keep: leave servers and nodes running.
        strategy: how the servers choose the next case: first, random or least_certain.
        base: base network.
        image_size: side in pixels of what the network sees.
    """

    out: Path
    data: Path | None = None
    rounds: int = 2
    minutes: float = VIRTUAL_MINUTES
    hospitals: int = 3
    seed: int = 0
    keep: bool = False
    strategy: str = "first"
    base: str = "litemedsam"
    image_size: int = REAL_IMAGE_SIZE
