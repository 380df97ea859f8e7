"""`python -m fed_backend.schedule.round_process --state DIR --target N`: run the federation's round N and end.

A process of its own, so that the supervisor never waits for a round and a round can be killed at any instant. Exit codes: 0 the round is
over (finished, or skipped for want of sites), 2 it is not: the reason is in <state>/last-run.json and on the error stream.
"""

import argparse
import sys
from pathlib import Path

from fed_backend.run_rounds import run_rounds
from fed_backend.schedule.round_outcome import write_problem
from sam_adapters.errors import FedscaError


def main(arguments: list[str]) -> int:
    """Run the round; returns the exit code."""
    parser = argparse.ArgumentParser(description="Run one round of a federation on its running server.")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--target", type=int, required=True)
    given = parser.parse_args(arguments)
    try:
        run_rounds(given.state, 1, until_round=given.target)
    except FedscaError as error:
        write_problem(given.state, given.target, str(error))
        sys.stderr.write(f"fedsca: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
