"""What a round costs beyond the sites' own computing, with real processes on loopback.

    python -m benchmarks.round_overhead [--sites 3] [--rounds 4] [--encoding int8] [--out FILE.json]

Starts `fedsca server start` and one `fedsca site join` a site, and runs rounds by `fedsca server run-round`, one command each. The sites
are tiny (32 x 32 pixels at image size 128, two training cases) and have a version each, so that rounds are full: updates, probe, mixtures
and the gate.

For every round and phase: the server's wall time, and the longest of the sites' own times as they measured them inside the ClientApp. The
difference is what messages, Flower's polling and the start of processes cost. `command` is the time from calling the command to its end;
less the round's own time that is starting `flwr`, submitting the run, starting the ServerApp's process and noticing its end.
Beside it the payload bytes of a site, up and down, the most of any site.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from fed_backend import launch
from fed_backend.member import Member, site_schema
from fed_backend.round_report import read_round, round_files
from tests.fed_backend.site_fixture import add_version, make_site
from tests.integration.fedsca_processes import FEDSCA, ROUND_SECONDS, process, wait_until_up

WAIT = "300"
PHASES = ("join", "update", "probe", "mixture")


def prepare(folder: Path, count: int) -> list[Path]:
    """Site directories with a version each and their layout worked out."""
    roots = []
    for number in range(count):
        name = f"site-{number + 1}"
        site = make_site(folder / name, name, seed=number)
        add_version(site, folder / f"scratch-{number}", seed=number)
        site_schema(Member.open(site.root))
        roots.append(site.root)
    return roots


def one_round(state: Path) -> dict[str, Any]:
    """Run a round; its figures in seconds."""
    before = time.perf_counter()
    done = subprocess.run(
        [*FEDSCA, "server", "run-round", "--state", str(state)],
        capture_output=True,
        encoding="utf-8",
        timeout=ROUND_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    command = time.perf_counter() - before
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    report = read_round(round_files(state)[-1])
    if report["status"] != "finished" or report["refusals"]:
        raise RuntimeError(f"Round {report['round']}: {report['status']}, {report['refusals']}")
    own = {phase: max((line["seconds"].get(phase, 0.0) for line in report["sites"].values()), default=0.0) for phase in PHASES}
    server = {phase: report["seconds"].get(phase, 0.0) for phase in PHASES}
    return {
        "round": report["round"],
        "command": round(command, 2),
        "total": round(report["seconds"]["total"], 2),
        "before_and_after": round(command - report["seconds"]["total"], 2),
        "server": {key: round(value, 2) for key, value in server.items()},
        "slowest_site": {key: round(value, 2) for key, value in own.items()},
        "overhead": round(command - sum(own.values()), 2),
        "bytes_up": _most(report, ("update", "probe_reply")),
        "bytes_down": _most(report, ("probe_request", "mixture")),
    }


def _most(report: Mapping[str, Any], purposes: Sequence[str]) -> int:
    return max(sum(counted.get(purpose, 0) for purpose in purposes) for counted in report["bytes"].values())


def measure(count: int, rounds: int, encoding: str) -> list[dict[str, Any]]:
    """Figures of every round."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        roots = prepare(folder, count)
        state, port = folder / "server", launch.free_port()
        waits = [f"--{phase}-seconds" for phase in PHASES]
        start = ["server", "start", "--state", str(state), "--port", str(port), "--expected-sites", str(count)]
        start += ["--encoding", encoding]
        for wait in waits:
            start += [wait, WAIT]
        server = stack.enter_context(process(start, folder / "server.log"))
        wait_until_up(port, server, folder / "server.log")
        for root in roots:
            join = ["site", "join", "--site", str(root), "--superlink", f"127.0.0.1:{port}"]
            stack.enter_context(process(join, folder / f"{root.name}.log"))
        return [one_round(state) for _ in range(rounds)]


def table(rounds: Sequence[dict[str, Any]]) -> str:
    """Medians over the rounds after the first, which also waits for the nodes."""
    later = rounds[1:] or rounds
    lines = ["| phase | server, s | slowest site's own, s | overhead, s |", "|---|---|---|---|"]
    for phase in PHASES:
        server = statistics.median(one["server"][phase] for one in later)
        own = statistics.median(one["slowest_site"][phase] for one in later)
        lines.append(f"| {phase} | {server:.1f} | {own:.1f} | {server - own:.1f} |")
    around = statistics.median(one["before_and_after"] for one in later)
    lines.append(f"| start and end of the run | {around:.1f} | | {around:.1f} |")
    whole = statistics.median(one["command"] for one in later)
    overhead = statistics.median(one["overhead"] for one in later)
    lines.append(f"| whole command | {whole:.1f} | {whole - overhead:.1f} | {overhead:.1f} |")
    up, down = (max(one[key] for one in rounds) / 1000 for key in ("bytes_up", "bytes_down"))
    return "\n".join([*lines, "", f"At most {up:.1f} kB up and {down:.1f} kB down a site and round."])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=3, help="number of sites")
    parser.add_argument("--rounds", type=int, default=4, help="rounds; the first is left out of the table")
    parser.add_argument("--encoding", choices=("fp16", "int8"), default="fp16", help="of the payloads")
    parser.add_argument("--out", type=Path, help="write the figures here")
    options = parser.parse_args()
    where = machine()
    rounds = measure(options.sites, options.rounds, options.encoding)
    print(table(rounds))
    if options.out:
        document = {"machine": where, "sites": options.sites, "encoding": options.encoding, "rounds": rounds}
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
