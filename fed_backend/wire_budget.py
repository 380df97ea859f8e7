"""How many bytes each message may have, so that a site's round keeps its budget. Pure functions.

    encoding   budget, each way   up: update + probe reply   down: mixture alone   down in a probe round: common state + mixture
    fp16       361 kB             15.2 bits + 8.6 kB         16.4 bits             8.2 + 8.2 bits
    int8       130 kB             4.55 bits + 8.6 kB          5.9 bits             2.4 + 3.4 bits

Bits are per shared value; the budgets hold for everything of the default base (175,616 values, a projection to 4,096 numbers)
and shrink with what is shared (110 kB and 40 kB for half of its encoder, 52,992 values). The common state needs the fewest bits: every
site decodes the same one, which is where they are compared, so nothing is lost by its being coarse. Update and probe reply share one
direction whether a probe is due or not, as a site cannot know that beforehand.
"""

from fed_backend.payload_codec import Encoding

BUDGET: dict[Encoding, int] = {"fp16": 361_000, "int8": 130_000}  # bytes up, and bytes down, with everything of the default base
PROBE_REPLY_LARGEST = 20_000  # the probe's own bound; with 8 bits a value the reply takes less than half
SMALLEST_LIMIT = 4_096  # tiny layouts are not squeezed

_UPDATE_BITS: dict[Encoding, float] = {"fp16": 15.2, "int8": 4.55}
_MIXTURE_BITS: dict[Encoding, float] = {"fp16": 16.4, "int8": 5.9}
_PROBE_ROUND_BITS: dict[Encoding, tuple[float, float]] = {"fp16": (8.2, 8.2), "int8": (2.4, 3.4)}  # common state, mixture


def update_limit(encoding: Encoding, count: int) -> int:
    """Bytes of an update of `count` values."""
    return _limit(_UPDATE_BITS[encoding], count)


def probe_request_limit(encoding: Encoding, count: int) -> int:
    """Bytes of a probe request with a common state of `count` values."""
    return _limit(_PROBE_ROUND_BITS[encoding][0], count)


def mixture_limit(encoding: Encoding, count: int, *, probed: bool) -> int:
    """Bytes of a mixture of `count` values. `probed`: the site was sent a probe request in this round."""
    return _limit(_PROBE_ROUND_BITS[encoding][1] if probed else _MIXTURE_BITS[encoding], count)


def _limit(bits: float, count: int) -> int:
    return max(int(count * bits / 8), SMALLEST_LIMIT)
