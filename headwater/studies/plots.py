"""Plots of studies, as SVG files of their own."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from headwater.errors import MissingExtraError

COLOURS = ("#2a6f9e", "#c4553b", "#4b8f6b", "#8a6bb0")


def lines_with_errors(series: Mapping[str, Sequence[tuple[float, float]]], at: Sequence[int], *, x: str, y: str,
                      title: str) -> str:
    """A line for every series of (mean, error); the same values give the same bytes. Raises `MissingExtraError`."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("the plot needs matplotlib", fix="pip install 'headwater[report]'") from None
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for (name, values), colour in zip(series.items(), COLOURS):
        axes.errorbar(list(at), [mean for mean, _ in values], [error for _, error in values], label=name, color=colour,
                      marker="o", markersize=4, capsize=3, linewidth=1.6)
    axes.set_xticks(list(at))
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "study"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
