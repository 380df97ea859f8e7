"""The work folder of a run: where a trial lies in it, and what it was begun with. Studies of finished trials start here. No torch."""

import argparse
import json
from pathlib import Path

from benchmarks.federated.configuration import MAIN, Configuration, completed
from sam_adapters.errors import SettingError

CONFIGURATION_FILE = "configuration.json"


def trial_folder(work: Path, arm: str, seed: int, method: str) -> Path:
    """Where the rounds of one method with one seed in one arm are."""
    return work / arm.replace(" ", "-") / f"seed-{seed}" / method


def read_configuration(work: Path) -> Configuration:
    """The budget that a work folder was begun with.

    Raises:
        SettingError: it is no work folder.
    """
    try:
        told = json.loads((work / CONFIGURATION_FILE).read_text(encoding="utf-8"))["configuration"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"{work} is no work folder of `fedsca bench federated` ({error}).") from error
    return Configuration().changed({**completed(told), "kinds": tuple(told["kinds"])})


def study_options(description: str | None, seeds: str) -> argparse.ArgumentParser:
    """The command line of a study: `root`, `work`, `arm`, `seeds`, `out`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of hospitals")
    parser.add_argument("--work", type=Path, required=True, help="work folder of a run of `fedsca bench federated`")
    parser.add_argument("--arm", default=MAIN, help=f"arm whose trials are studied (default: {MAIN})")
    parser.add_argument("--seeds", default=seeds, help=f"comma-separated; those without a finished trial are left out (default: {seeds})")
    parser.add_argument("--out", type=Path, required=True, help="result file; what it has is not computed again")
    return parser
