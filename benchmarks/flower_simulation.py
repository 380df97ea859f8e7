"""A federation of 100 sites in Flower's simulation engine: whole rounds of SGCA beside Flower's own FedAvg on the same number of values.

    pip install ray==2.55.1      # what Flower's simulation engine runs on; the product does not need it
    python -m benchmarks.flower_simulation [--sites 100] [--rounds 3] [--out FILE.json]

Every site answers at once with made-up numbers of the default base's layout (52,992 values): three groups whose adapters and gradients are
alike. So the seconds are those of the federation itself: messages through Flower's engine, decoding, statistics, weights, mixtures, the
state file and the report. Every second round compares the sites. FedAvg is Flower's strategy with its default of whole float32 arrays; its
sites train (one message each) and are not evaluated, while ours are sent a mixture of their own and give a verdict. The simulation's
processes share the machine's cores.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import psutil
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from numpy.typing import NDArray

from benchmarks.machine import machine
from fed_backend import server_state_file, site_memory, wire
from fed_backend.exchange import fields_of, to_content
from fed_backend.run_config import FederationSettings
from fed_backend.server_state_file import STATE_FILE
from fed_backend.site_answer import Value
from fed_backend.strategy import SgcaStrategy
from sam_adapters.schema import AdapterSchema, AdapterState, TensorSpec

SCHEMA = AdapterSchema("ab" * 32, rank=8, shared_depth=0.5, tensors=(TensorSpec("all.B", (6624, 8)),))
GROUPS = 3
PROBE_EVERY = 2


def site_vector(number: int, round: int) -> NDArray[np.float32]:
    """A site's shared values in a round: its group's direction, grown with the rounds, and noise of its own."""
    group = np.random.default_rng(number % GROUPS).normal(0, 0.01, SCHEMA.size)
    own = np.random.default_rng([number, round]).normal(0, 0.003, SCHEMA.size)
    return np.asarray(group * min(round, 5) / 5 + own, np.float32)


def site_halves(number: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two gradient halves of norm below 1: the group's direction and noise."""
    group = np.random.default_rng(100 + number % GROUPS).normal(0, 0.5 / size**0.5, size)
    noise = np.random.default_rng([200, number]).normal(0, 0.2 / size**0.5, (2, size))
    return np.asarray(group + noise[0], np.float32), np.asarray(group + noise[1], np.float32)


def sgca_sites() -> ClientApp:
    """Sites that speak the project's wire format. What they remember is kept by Flower's engine, between messages."""
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        request, number = fields_of(message), int(context.node_config["partition-id"])
        name, round = f"site-{number:03d}", int(request["round"])
        fields: dict[str, Value] = {"site": name, "seconds": 0.0}
        if request["kind"] == "update":
            state = AdapterState.from_vector(SCHEMA, site_vector(number, round))
            memory = site_memory.empty(str(request["federation"]), SCHEMA)
            fields["payload"], memory = site_memory.encode(memory, wire.UpdateMessage(name, round, 20, state), "fp16")
            fields["version"] = "base"
        elif request["kind"] == "probe":
            probe = wire.decode_probe_request(bytes(request["payload"]), SCHEMA)  # type: ignore[arg-type]
            halves = site_halves(number, probe.size)
            reply = wire.ProbeReply(name, round, probe.seed, (10, 10), *halves)
            fields["payload"] = wire.encode_probe_reply(reply, wire.Coding("int8"))
        else:
            fields |= {"verdict": "promoted", "reason": "It is better."}
        return Message(to_content(fields), reply_to=message)

    app.train()(answer)
    app.query("probe")(answer)
    app.evaluate()(answer)
    return app


def sgca_server(folder: Path, rounds: int, sites: int, seen: dict[str, Any]) -> ServerApp:
    """The project's own strategy on a state folder."""
    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, context: Context) -> None:
        settings = FederationSettings(
            min_sites=sites,
            expected_sites=sites,
            join_seconds=120,
            update_seconds=300,
            probe_seconds=300,
            probe_every=PROBE_EVERY,
            encoding="fp16",  # as the sites answer
        )
        strategy = SgcaStrategy(server_state_file.load_or_new(folder / STATE_FILE, SCHEMA), settings, folder, run="simulation")
        for _round in range(rounds):
            before = time.perf_counter()
            report = strategy.run_round(grid)
            if report.status != "finished" or len(report.verdicts) != sites:
                raise RuntimeError(
                    f"Round {report.round}: {report.status}, {len(report.verdicts)} of {sites} verdicts, {report.refusals[:3]}"
                )
            traffic = [sum(one.values()) for one in report.traffic.values()]
            with_probe = report.probe is not None
            seen["rounds"].append(
                {
                    "seconds": round(time.perf_counter() - before, 2),
                    "phases": {key: round(value, 2) for key, value in report.seconds.items()},
                    "probe": with_probe,
                    "bytes_a_site": int(max(traffic)),
                    "weight_on_own_group": round(own_group(report.weights), 3),
                }
            )
            seen["memory_mib"] = peak_memory()

    return app


def own_group(weights: dict[str, dict[str, float]]) -> float:
    """Mean share of a site's weights that is on sites of its own group: 1/3 is blind, 1 is perfect."""
    shares = []
    for name, row in weights.items():
        group = int(name.rpartition("-")[2]) % GROUPS
        shares.append(sum(weight for other, weight in row.items() if int(other.rpartition("-")[2]) % GROUPS == group))
    return float(np.mean(shares))


def fedavg_sites() -> ClientApp:
    """Sites that answer Flower's FedAvg with as many float32 values."""
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        number, round = int(context.node_config["partition-id"]), int(message.content["config"]["server-round"])
        arrays = ArrayRecord([site_vector(number, round)])
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 20})})
        return Message(content, reply_to=message)

    return app


def fedavg_server(rounds: int, sites: int, seen: dict[str, Any]) -> ServerApp:
    """Flower's own strategy, one round at a time."""
    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
        for number in range(1, rounds + 1):
            before = time.perf_counter()
            messages = list(strategy.configure_train(number, ArrayRecord([site_vector(0, 0)]), ConfigRecord(), grid))
            replies = list(grid.send_and_receive(messages, timeout=300))
            aggregated_from = time.perf_counter()
            arrays, _metrics = strategy.aggregate_train(number, replies)
            if arrays is None or len(replies) != sites:
                raise RuntimeError(f"FedAvg's round {number} has {len(replies)} of {sites} replies.")
            now = time.perf_counter()
            seen["rounds"].append({"seconds": round(now - before, 2), "aggregation": round(now - aggregated_from, 3)})
        seen["memory_mib"] = peak_memory()

    return app


def peak_memory() -> int:
    """Resident memory of the server's own process, MiB."""
    return int(psutil.Process().memory_info().rss / 2**20)


def simulate(server: Callable[[dict[str, Any]], ServerApp], sites: ClientApp, count: int) -> dict[str, Any]:
    """What a run has seen."""
    seen: dict[str, Any] = {"rounds": []}
    before = time.perf_counter()
    run_simulation(server(seen), sites, num_supernodes=count, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})
    seen["whole_run_seconds"] = round(time.perf_counter() - before, 1)
    return seen


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=100, help="number of sites")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each strategy")
    parser.add_argument("--out", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours = simulate(lambda seen: sgca_server(Path(folder), options.rounds, options.sites, seen), sgca_sites(), options.sites)
    fedavg = simulate(lambda seen: fedavg_server(options.rounds, options.sites, seen), fedavg_sites(), options.sites)
    result = {"machine": machine(), "sites": options.sites, "values": SCHEMA.size, "sgca": ours, "fedavg": fedavg}
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
