"""Plots as SVG text: panels of lines, bars, nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from headwater.errors import MissingExtraError

COLOURS = ("#2a6f9e", "#c4553b", "#4b8f6b", "#8a6bb0", "#b98a2f", "#5a5a5a", "#d98cab", "#7fb6d8", "#97c06f", "#a5784f")
LANGUAGES = {"en": "English", "zh": "Chinese"}
"""By code, as plots and tables name them."""
MANY = 4
"""Lines from which on their names stand beside the panel: inside they would hide some."""
FEW_DECADES = 200.0
"""The ratio of its ends below which an axis has few."""


@dataclass(frozen=True)
class Line:
    """Points joined by a line, with what they may be off by."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    errors: Sequence[float] | None = None
    points: bool = True
    """Whether the points are marked."""
    joined: bool = True
    x_errors: Sequence[float] | None = None
    cloud: Sequence[tuple[float, float]] = ()
    """(x, y) of what the points are means of: pale, behind them."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    lines: Sequence[Line]
    x: str
    y: str
    title: str
    log_x: bool = False
    log_y: bool = False
    band: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None
    """(x, from, to): an area behind the lines."""
    ticks: Sequence[float] | None = field(default=None)
    limits: tuple[float, float] | None = None
    """Of y."""


def panels(chosen: Sequence[Panel], columns: int | None = None) -> str:
    """The panels side by side, or so many in a row; the same values give the same bytes. Raises `MissingExtraError`."""
    with _figure(len(chosen), columns=columns) as (axes, write):
        for one, panel in zip(axes, chosen):
            _draw(one, panel)
    return write()


def bars(groups: Mapping[str, Mapping[str, tuple[float, float]]], *, title: str, width: float = 2.9) -> str:
    """A panel for each quantity, with a bar of (height, error) for each name. Raises `MissingExtraError`."""
    with _figure(len(groups), width) as (axes, write):
        for one, (quantity, heights) in zip(axes, groups.items()):
            for place, ((height, error), colour) in enumerate(zip(heights.values(), cycle(COLOURS))):
                one.bar(place, height, 0.62, yerr=error or None, color=colour, capsize=3, linewidth=0)
            one.set_xticks(range(len(heights)), list(heights), fontsize=9)
            one.set_title(quantity, fontsize=10)
        axes[0].figure.suptitle(title, fontsize=11)
    return write()


def lines_with_errors(series: Mapping[str, Sequence[tuple[float, float]]], at: Sequence[int], *, x: str, y: str,
                      title: str) -> str:
    """A line for every series of (share, error) over the same places. Raises `MissingExtraError`."""
    lines = [Line(name, list(at), [mean for mean, _ in values], [error for _, error in values])
             for name, values in series.items()]
    return panels([Panel(lines, x, y, title, ticks=list(at), limits=(-0.03, 1.03))])


def heat_maps(maps: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str], rows: Sequence[str], *, x: str,
              y: str, title: str) -> str:
    """A panel of shares from 0 to 1 for each name, rows downwards. Raises `MissingExtraError`."""
    with _figure(len(maps), 1.2 + 0.7 * len(columns)) as (axes, write):
        for number, (one, (name, values)) in enumerate(zip(axes, maps.items())):
            one.imshow(values, cmap="YlGn", vmin=0, vmax=1, aspect="auto")
            for row, found in enumerate(values):
                for column, value in enumerate(found):
                    one.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=8,
                             color="white" if value > 0.6 else "black")
            one.set_xticks(range(len(columns)), columns, fontsize=8)
            one.set_yticks(range(len(rows)), rows, fontsize=8)
            one.set_title(name, fontsize=10)
            one.set_xlabel(x, fontsize=9)
            if not number:
                one.set_ylabel(y, fontsize=9)
        axes[0].figure.suptitle(title, fontsize=11)
    return write()


@contextmanager
def _figure(count: int, width: float = 5.6, columns: int | None = None) -> Iterator[tuple[list[Any], Any]]:
    """The axes of so many panels, and a function that gives the drawing."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("the plot needs matplotlib", fix="pip install 'headwater[report]'") from None
    across = columns or max(1, count)
    down = max(1, -(-count // across))
    figure = Figure(figsize=(width * across, 3.4 * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)

    def write() -> str:
        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "headwater"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return buffer.getvalue()

    yield axes, write
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)


def _draw(axes: Any, panel: Panel) -> None:
    if panel.band is not None:
        axes.fill_between(*panel.band, color=COLOURS[0], alpha=0.15, linewidth=0)
    for line, colour in zip(panel.lines, cycle(COLOURS)):
        axes.errorbar(list(line.x), list(line.y), line.errors, line.x_errors, label=line.name, color=colour, capsize=3,
                      linewidth=1.6, marker="o" if line.points else "", markersize=4,
                      linestyle="-" if line.joined else "")
        if line.cloud:
            axes.scatter(*zip(*line.cloud), color=colour, alpha=0.5, s=24, linewidths=0)
    if panel.log_x:
        axes.set_xscale("log")
        _ticks(axes.xaxis, *axes.get_xlim())
    if panel.log_y:
        axes.set_yscale("log")
        _ticks(axes.yaxis, *axes.get_ylim())
    if panel.ticks is not None:
        axes.set_xticks(list(panel.ticks))
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.set_title(panel.title, fontsize=11)
    if len(panel.lines) >= MANY:
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    elif panel.lines:
        axes.legend(frameon=False, fontsize=9)


def _ticks(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis of few decades is labelled at 1, 2 and 5 of each, in thousands, millions and so on; one of
    less than a decade at a few round numbers, and what is below a thousand plainly."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

    if high < FEW_DECADES * low:
        axis.set_major_locator(MaxNLocator(4) if high < 10 * low else LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(EngFormatter(sep=" ") if high >= 1000 else "{x:g}")
    axis.set_minor_formatter(NullFormatter())
