"""What the demo shows while it runs and at the end. In a terminal a live table, elsewhere one line per event.

Threads: `report` may be called from any thread (a dictionary entry is replaced); everything else from the main thread.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from fed_backend.demo.dice_chart import KIND_NAMES
from fed_backend.demo.result import DemoResult, RoundEntry, dice_of, kinds_of, mean_over_hospitals, scored_phases, site_bytes

QUIET_SECONDS = 20.0
"""Without a terminal, the state of all hospitals is printed this often."""

LOG_WIDTH = 150
"""Columns where the output goes to a file."""


class Display:
    """Progress on standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
        self._begun = time.monotonic()
        self._states: dict[str, str] = {}
        self._said = 0.0
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        self.console.print(f"[dim]{self._clock()}[/dim] {escape(text)}", highlight=False)

    def report(self, who: str, text: str) -> None:
        """What a hospital (or the server) is doing now."""
        self._states[who] = text

    @contextmanager
    def watching(self, names: Sequence[str]) -> Iterator[None]:
        """Show what `names` are doing while the block runs."""
        self._states = dict.fromkeys(names, "…")
        if not self.console.is_terminal:
            yield
            return
        with Live(self._table(), console=self.console, refresh_per_second=4, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def tick(self) -> None:
        """Refresh; called a few times a second from the main thread."""
        if self._live:
            self._live.update(self._table())
        elif time.monotonic() - self._said > QUIET_SECONDS and self._states:
            self._said = time.monotonic()
            self.say("; ".join(f"{who}: {text}" for who, text in self._states.items()))

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for who, text in list(self._states.items()):
            table.add_row(f"[dim]{self._clock()}[/dim]", f"[bold]{escape(who)}[/bold]", escape(text))
        return table

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._begun)
        return f"{seconds // 60:2d}:{seconds % 60:02d}"

    def results(self, result: DemoResult) -> None:
        """The tables at the end."""
        if scored_phases(result):
            self.console.print(dice_table(result))
        self.console.print(hospital_table(result))
        for entry in result["rounds"]:
            self.console.print(round_table(entry))
        self.console.print(gate_table(result))
        for check in result["checks"]:
            word, colour = {True: ("met", "green"), False: ("NOT MET", "red"), None: ("not tested", "yellow")}[check["met"]]
            self.console.print(f"[{colour}]{word:>10}[/{colour}]  {escape(check['title'])}: {escape(check['text'])}", highlight=False)
        for problem in result["problems"]:
            self.console.print(f"[red]   problem[/red]  {escape(problem)}", highlight=False)


def dice_table(result: DemoResult) -> Table:
    """Test Dice by hospital, prompt and phase; fill-the-box beside every box row."""
    phases = scored_phases(result)
    table = Table(title="Test Dice (mean over a hospital's test cases; = the same version as before)", title_justify="left")
    table.add_column("Hospital (test cases)", overflow="fold")
    table.add_column("Prompt", no_wrap=True)
    for phase in phases:
        table.add_column(phase["title"].replace("Local tuning", "Tuning"), justify="right", no_wrap=True)
    table.add_column("Fill the box", justify="right")
    for hospital in result["hospitals"]:
        for number, kind in enumerate(kinds_of(result)):
            row = [f"{escape(hospital['name'])} ({len(hospital['scored_test_cases'])})" if number == 0 else "", KIND_NAMES[kind]]
            for phase in phases:
                entry = dice_of(hospital, phase["id"], kind)
                row.append(_number(entry["mean"] if entry else None) + (" =" if entry and entry["reused"] else ""))
            table.add_row(*row, _number(hospital["fill_the_box"]) if kind == "box" else "")
        table.add_section()
    fills = [hospital["fill_the_box"] for hospital in result["hospitals"] if hospital["fill_the_box"] is not None]
    for number, kind in enumerate(kinds_of(result)):
        means = [_number(mean_over_hospitals(result, phase["id"], kind)) for phase in phases]
        fill = _number(sum(fills) / len(fills)) if kind == "box" and fills else ""
        table.add_row("Mean over hospitals" if number == 0 else "", KIND_NAMES[kind], *means, fill, style="bold")
    return table


def hospital_table(result: DemoResult) -> Table:
    """Cases, active version and validation Dice of every hospital."""
    table = Table(title="Hospitals", title_justify="left")
    for title in ("Hospital", "Cases train/val/test", "Labelled train/val", "Active version", "Validation Dice, base → active"):
        table.add_column(title)
    for hospital in result["hospitals"]:
        cases, scores = hospital["cases"], hospital["validation"]
        validation = "–"
        if scores and scores["base"]:
            validation = ", ".join(
                f"{KIND_NAMES[kind]} {_number(value)} → {_number(scores['active'][kind])}" for kind, value in scores["base"].items()
            )
        table.add_row(
            escape(hospital["name"]),
            f"{cases['train']}/{cases['val']}/{cases['test']}",
            f"{cases['labelled_train']}/{cases['labelled_val']}",
            hospital["active_version"],
            validation,
        )
    return table


def round_table(entry: RoundEntry) -> Table:
    """Bytes up and down by purpose, and each hospital's mixture."""
    table = Table(
        title=f"Round {entry['number']}: {entry['seconds']:.0f} s, bytes up (sent by the hospital) and down", title_justify="left"
    )
    table.add_column("Hospital")
    table.add_column("Up", justify="right")
    table.add_column("Down", justify="right")
    table.add_column("By purpose")
    table.add_column("Mixture")
    for number, site in enumerate(entry["sites"]):
        up, down = site_bytes(entry, site)
        parts = [f"{purpose.replace('_', ' ')} {count['up'] or count['down']}" for purpose, count in entry["bytes"].get(site, {}).items()]
        mixture = ", ".join(f"{escape(giver)} {weight:.2f}" for giver, weight in zip(entry["sites"], entry["weights"][number], strict=True))
        table.add_row(escape(site), str(up), str(down), ", ".join(parts), mixture)
    return table


def gate_table(result: DemoResult) -> Table:
    """Every decision with its reason."""
    table = Table(title="Gate decisions", title_justify="left")
    for title in ("Hospital", "After", "Version", "Verdict", "Reason"):
        table.add_column(title, no_wrap=title == "Version")
    for hospital in result["hospitals"]:
        for gate in hospital["gates"]:
            table.add_row(escape(hospital["name"]), gate["after"], gate["version"], gate["verdict"], escape(gate["reason"]))
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
