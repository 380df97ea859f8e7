"""What a round costs the server, from 4 to 1,000 sites, beside Flower's own FedAvg on the same payload.

    python -m benchmarks.round_cost [--sites 4 10 100 1000] [--repeats 3] [--out FILE.json]

In one process, with the default base's 52,992 values a site and a probe of 4,096 numbers a half; nothing travels. Of SGCA are timed: the
common state, the statistics of the probe, and weights with mixtures, as `fed_backend.server_state` runs them, once for sites that are all
alike (every mixture is made of everybody: the most work) and once for groups of eight. Beside it: Flower's `aggregate_arrayrecords`, which
makes one mean for everybody; the messages' decoding and encoding; saving the state. The best of the repeats counts. `cpu` is the
processor time
of all threads, the best too: what to go by where other work runs on the machine (`machine.load_before` says so). Memory is the
growth of the
process's peak while the statistics, weights and mixtures are made.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from benchmarks.machine import machine
from benchmarks.timing import elapsed
from fed_backend import server_state, server_state_file, wire
from fed_backend.server_state import ServerState
from sam_adapters.schema import AdapterSchema, AdapterState, TensorSpec

SIZES = (4, 10, 30, 100, 300, 1000)
SCHEMA = AdapterSchema("ab" * 32, rank=8, shared_depth=0.5, tensors=(TensorSpec("all.B", (6624, 8)),))
PROBE_SIZE = 4096
GROUP = 8
ROUND = 1


def federation(sites: int, seed: int = 0) -> ServerState:
    """A state in which `sites` sites have sent an update in this round."""
    rng = np.random.default_rng(seed)
    state = server_state.new_state(SCHEMA)
    records = {}
    for index in range(sites):
        values = rng.normal(0, 0.01, SCHEMA.size).astype(np.float32)
        name = f"site-{index:04d}"
        update = wire.UpdateMessage(name, ROUND, int(rng.integers(5, 200)), AdapterState.from_vector(SCHEMA, values))
        records |= server_state.with_update(state, update).sites
    return ServerState(state.federation, SCHEMA, records)


def probe_replies(state: ServerState, *, alike: bool, seed: int = 1) -> dict[str, wire.ProbeReply]:
    """Halves of one direction for all, or of one for every eight sites, with as much noise as measured on images."""
    rng = np.random.default_rng(seed)
    names = sorted(state.sites)
    directions = rng.normal(0, 0.3 / np.sqrt(PROBE_SIZE), (len(names) // GROUP + 1, PROBE_SIZE))
    replies = {}
    for index, name in enumerate(names):
        centre = directions[0 if alike else index // GROUP]
        a, b = (centre + rng.normal(0, 0.3 / np.sqrt(PROBE_SIZE), (2, PROBE_SIZE))).astype(np.float32)
        replies[name] = wire.ProbeReply(name, ROUND, 1, (8, 8), a, b)
    return replies


def sgca_seconds(state: ServerState, *, alike: bool, repeats: int) -> dict[str, float]:
    """Seconds of the parts of SGCA, and their sum."""
    replies, names = probe_replies(state, alike=alike), list(state.sites)
    probed = server_state.with_probe(state, ROUND, replies)
    actions = (
        lambda: server_state.common_state_of(state, ROUND),
        lambda: server_state.with_probe(state, ROUND, replies),
        lambda: server_state.plan_mixtures(probed, ROUND, names),
    )
    parts = {
        name: best(action, repeats) for name, action in zip(("common_state", "statistics", "weights_and_mixtures"), actions, strict=True)
    }
    return parts | {"total": round(sum(parts.values()), 4), "cpu": round(sum(processor_time(action, repeats) for action in actions), 4)}


def flower_seconds(state: ServerState, repeats: int) -> float:
    """Flower's own weighted mean of the same values."""
    records = [
        RecordDict(
            {
                "arrays": ArrayRecord({"all.B": Array(record.state.tensors["all.B"])}),
                "metrics": MetricRecord({"num-examples": float(record.cases)}),
            }
        )
        for record in state.sites.values()
    ]
    return best(lambda: aggregate_arrayrecords(records, "num-examples"), repeats)


def message_seconds(state: ServerState) -> dict[str, float]:
    """What decoding all updates and encoding all mixtures costs, from one of each."""
    record = next(iter(state.sites.values()))
    moved = AdapterState.from_vector(SCHEMA, record.state.to_vector() * 1.05)
    coding = wire.Coding("fp16", 110_000, record.state)
    update = wire.encode_update(wire.UpdateMessage(record.name, 2, record.cases, moved), coding)
    mixture = wire.Mixture(record.name, 2, moved, {record.name: 1.0}, acknowledged=wire.state_digest(record.state))
    count = len(state.sites)
    return {
        "decode_updates": round(best(lambda: wire.decode_update(update, SCHEMA, references=[record.state]), 3) * count, 4),
        "encode_mixtures": round(best(lambda: wire.encode_mixture(mixture, coding), 3) * count, 4),
    }


def save_seconds(state: ServerState, repeats: int) -> float:
    """Writing the state's file where there was one, as at the end of a round (a round saves three times)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.safetensors"
        server_state_file.save(state, path)
        return best(lambda: server_state_file.save(state, path), repeats)


def peak_mib() -> float:
    """The process's largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def best(action: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls."""
    return round(min(elapsed(action) for _ in range(repeats)) / 1e3, 5)


def processor_time(action: Callable[[], object], repeats: int) -> float:
    """Processor seconds of all threads, of the cheapest of `repeats` calls."""
    found = []
    for _ in range(repeats):
        begun = time.process_time()
        action()
        found.append(time.process_time() - begun)
    return min(found)


def cost(sites: int, repeats: int) -> dict[str, Any]:
    """All figures for one number of sites."""
    state = federation(sites)
    before = peak_mib()
    result: dict[str, Any] = {
        "sites": sites,
        "sgca_all_alike": sgca_seconds(state, alike=True, repeats=repeats),
        "sgca_groups_of_8": sgca_seconds(state, alike=False, repeats=repeats),
        "sgca_peak_growth_mib": round(peak_mib() - before, 1),
        "adapters_mib": round(sites * SCHEMA.size * 4 / 2**20, 1),
    }
    result["flower_fedavg"] = flower_seconds(state, repeats)
    result["messages"] = message_seconds(state)
    result["save"] = save_seconds(state, 1)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures, and write them to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=SIZES, help=f"numbers of sites, ascending (default {SIZES})")
    parser.add_argument("--repeats", type=int, default=3, help="calls of each part; the fastest counts (default 3)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/round-cost.json"), help="JSON file to write")
    options = parser.parse_args(arguments)
    rows = []
    for sites in options.sites:
        rows.append(row := cost(sites, options.repeats))
        alike, groups = row["sgca_all_alike"]["total"], row["sgca_groups_of_8"]["total"]
        print(
            f"{sites:5d} sites: SGCA {alike:.3f} s (all alike), {groups:.3f} s (groups of 8), FedAvg {row['flower_fedavg']:.3f} s",
            flush=True,
        )
    result = {"values": SCHEMA.size, "probe": PROBE_SIZE, "repeats": options.repeats, "rows": rows, "machine": machine()}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
