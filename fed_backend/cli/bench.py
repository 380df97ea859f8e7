"""`fedsca bench ...`: runs a module of `benchmarks`, which may import anything, in a process of its own."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable

import typer

MEASUREMENTS = {
    "click": ("benchmarks.click", "How long a click takes, in process and over HTTP, against PyTorch and MONAI Label's way."),
    "clicks-to-accept": ("benchmarks.clicks_to_accept", "Dice after a box and 1, 3, 5 corrective clicks, and clicks to Dice 0.85."),
    "federated": ("benchmarks.federated.command", "FedSCA against local tuning, pooling and published methods, on a folder of hospitals."),
    "merge": ("benchmarks.federated.merge", "Several results of `bench federated` in one: seeds that ran side by side."),
    "report": ("benchmarks.federated.report", "Tables and plots of what `bench federated` found."),
    "soak": ("benchmarks.soak", "Minutes of mixed traffic on a real server: errors, speed and memory over time."),
}
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

bench_app = typer.Typer(help="Measurements; each has its own --help.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def _runner(module: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        if importlib.util.find_spec("benchmarks") is None:
            typer.echo("The folder benchmarks is not here: run this in a checkout of the project, after `make setup`.", err=True)
            raise typer.Exit(2)
        raise typer.Exit(subprocess.run([sys.executable, "-m", module, *context.args], check=False).returncode)

    return run


for _name, (_module, _help) in MEASUREMENTS.items():
    bench_app.command(_name, help=_help, context_settings=PASS_ON)(_runner(_module))
