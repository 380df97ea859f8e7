"""`fedsca demo`. Light at import: everything heavy is imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fed_backend.demo.display import Display


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder of real data: <site>/studies, <site>/split.json. Without it: virtual hospitals.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of this run; default demo-runs/<time>.")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Federated rounds, each after a wave of labels.")] = 2,
    minutes: Annotated[float | None, typer.Option(min=1, help="Time to plan for; default 6 for virtual, 25 for real data.")] = None,
    hospitals: Annotated[int, typer.Option(min=2, max=8, help="Number of virtual hospitals.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything drawn.")] = 0,
    strategy: Annotated[str, typer.Option(help="How servers choose the next case: first, random or least_certain.")] = "first",
    base: Annotated[str, typer.Option(help="Base network: litemedsam or sam:<folder or hub id>.")] = "litemedsam",
    image_size: Annotated[
        int | None, typer.Option(help="Side in pixels of what the network sees; default 96 for virtual, 128 for real data.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave servers and nodes running at the end and print their addresses.")] = False,
    stop: Annotated[
        Path | None, typer.Option(help="Stop what an earlier --keep left running; names its run folder. Nothing else is done.")
    ] = None,
) -> None:
    """Run the whole loop on this machine with real processes: annotate, tune, exchange, pull, serve; then report.

    The exit code is 0 when the loop ran: labels were tuned on, rounds happened, versions were decided. Whether the figures are good is
    another matter: the report says for every claim whether it was met.
    """
    from fed_backend.demo.display import Display
    from fed_backend.demo.options import REAL_IMAGE_SIZE, REAL_MINUTES, VIRTUAL_IMAGE_SIZE, VIRTUAL_MINUTES, DemoOptions
    from fed_backend.demo.run import run_demo

    display = Display()
    if stop is not None:
        _stop(stop, display)
        return
    options = DemoOptions(
        out=_run_folder(out),
        data=data.expanduser().resolve() if data else None,
        rounds=rounds,
        minutes=minutes or (REAL_MINUTES if data else VIRTUAL_MINUTES),
        hospitals=hospitals,
        seed=seed,
        keep=keep,
        strategy=strategy,
        base=base,
        image_size=image_size or (REAL_IMAGE_SIZE if data else VIRTUAL_IMAGE_SIZE),
    )
    try:
        result = run_demo(options, display)
    except KeyboardInterrupt:
        display.say("Interrupted: everything was stopped.")
        raise typer.Exit(130) from None
    if keep:
        for hospital in result["hospitals"]:
            display.say(f"{hospital['name']}: {hospital['address']} still serves {hospital['active_version']}")
        display.say(f"Stop everything with: fedsca demo --stop {options.out}")


def _run_folder(out: Path | None) -> Path:
    """The run's folder, absolute and without an earlier run in it."""
    from datetime import datetime

    from fed_backend.demo.errors import DemoError

    folder = (out or Path("demo-runs") / f"{datetime.now():%Y-%m-%d-%H%M%S}").expanduser().resolve()
    if folder.exists() and any(folder.iterdir()):
        raise DemoError(f"{folder} is not empty: name another folder with --out, or remove it.")
    return folder


def _stop(folder: Path, display: "Display") -> None:
    from fed_backend.demo.processes import stop_kept

    stopped = stop_kept(folder / "logs")
    display.say(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing of that run is running any more.")
