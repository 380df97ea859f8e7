"""The distance and weight matrices of every round as one picture (matplotlib, no display needed)."""

import io
from collections.abc import Sequence

from fed_backend.demo.result import RoundEntry

_INK = {"light": "#1f2933", "dark": "#e4e7eb"}
_MAX_NAME = 18


def matrix_picture(rounds: Sequence[RoundEntry], *, theme: str = "light", file_format: str = "svg") -> bytes:
    """Draw the matrices: one row a round, distance left, weights right; a transparent ground, text in the theme's colour.

    Args:
        rounds: at least one round.
        theme: `light` or `dark` (the colour of the page around it).
        file_format: `svg` or `png`.
    """
    import matplotlib

    with matplotlib.rc_context({"font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "fedsca", "text.color": _INK[theme]}):
        from matplotlib.figure import Figure

        sites = max(len(entry["sites"]) for entry in rounds)
        figure = Figure(figsize=(4.4 + 0.9 * sites, len(rounds) * (1.2 + 0.36 * sites)), layout="constrained")
        axes = figure.subplots(len(rounds), 2, squeeze=False)
        for row, entry in enumerate(rounds):
            title = f"Round {entry['number']}: distance D between hospitals"
            _matrix(axes[row][0], entry["distance"], entry["sites"], title, "Blues", theme)
            _matrix(
                axes[row][1],
                entry["weights"],
                entry["sites"],
                f"Round {entry['number']}: weight w in each mixture",
                "Oranges",
                theme,
                top=1.0,
            )
        stream = io.BytesIO()
        metadata = {"Date": None} if file_format == "svg" else None
        figure.savefig(stream, format=file_format, transparent=True, dpi=150, metadata=metadata)
    return stream.getvalue()


def _matrix(
    axes: object,
    values: Sequence[Sequence[float]] | None,
    sites: Sequence[str],
    title: str,
    colours: str,
    theme: str,
    top: float | None = None,
) -> None:
    import numpy as np
    from matplotlib.axes import Axes

    if not isinstance(axes, Axes):
        raise TypeError(f"Expected matplotlib axes, got {type(axes).__name__}.")
    ink = _INK[theme]
    names = [name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…" for name in sites]
    names = [name.replace("$", r"\$") for name in names]  # no mathematics in names
    axes.set_title(title, fontsize=9, color=ink)
    if values is None:
        axes.text(0.5, 0.5, "no probe in this round", ha="center", va="center", fontsize=9, color=ink, transform=axes.transAxes)
        axes.set_axis_off()
        return
    matrix = np.asarray(values, float)
    highest = top if top is not None else max(float(matrix.max()), 1e-9)
    axes.imshow(matrix, cmap=colours, vmin=0.0, vmax=highest)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8, color=ink)
    axes.set_yticks(range(len(names)), names, fontsize=8, color=ink)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (i, j), value in np.ndenumerate(matrix):
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if value > 0.6 * highest else "#1f2933")
