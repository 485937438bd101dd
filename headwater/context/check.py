"""`headwater context bound`: what length a base of RoPE supports, what base a length needs, and a model held to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field, model_validator
from rich.table import Table

from headwater.artifacts import make_folder, write_text
from headwater.context.bound import (
    Bound,
    Turning,
    last_failing_base,
    least_base,
    rounded_up,
    similarity,
    supported_length,
)
from headwater.errors import InputError
from headwater.generate.run_folder import find_model
from headwater.model.checkpoint import read_config
from headwater.model.config import ModelConfig
from headwater.model.positions import frequencies
from headwater.plots import Line, Panel, panels
from headwater.presets import preset
from headwater.progress import print_result
from headwater.settings import Settings

PAPER = {1: 4.3e3, 2: 1.6e4, 4: 2.7e4, 8: 8.4e4, 16: 3.1e5, 32: 6.4e5, 64: 2.1e6, 128: 7.8e6, 256: 3.6e7, 512: 6.4e7,
         1024: 5.1e8}
"""Table 2 of 2405.14591, by length in units of 1,024 tokens, for heads of 128 dimensions."""
_LONGEST = 1 << 22
_POINTS = 1200


class BoundSettings(Settings):
    """A length, a base or a model: at least one of them."""

    length: int | None = Field(default=None, gt=1, le=_LONGEST)
    """Tokens, of which the least base is wanted; of a model another length than it claims."""
    base: float | None = Field(default=None, gt=1)
    """RoPE's base, of which the supported length is wanted."""
    model: str | None = None
    """A model's or a run's folder, or an open model's official name."""
    head_dim: int = Field(default=128, ge=4, le=4096)
    rope_dims: int | None = Field(default=None, ge=4)
    """The dimensions of a head that are rotated; all when not set. ChatGLM2 rotates half of them."""
    grid: bool = True
    """Also look for the last base that fails: the bases that support a length are not all above the least."""
    plot: Path | None = None
    """Where B(m) is drawn, as SVG."""

    @model_validator(mode="after")
    def _asks_something(self) -> BoundSettings:
        rope_dims = self.head_dim if self.rope_dims is None else self.rope_dims
        if self.length is None and self.base is None and self.model is None:
            raise ValueError("nothing is asked: give length, base or model")
        if self.model is not None and {"base", "head_dim", "rope_dims"} & self.model_fields_set:
            raise ValueError("base, head_dim and rope_dims are the model's own")
        if self.head_dim % 2 or rope_dims % 2 or rope_dims > self.head_dim:
            raise ValueError("head_dim and rope_dims are even, and rope_dims is at most head_dim")
        return self

    @property
    def still(self) -> int:
        return 0 if self.rope_dims is None else (self.head_dim - self.rope_dims) // 2

    @property
    def turned(self) -> int:
        return self.rope_dims or self.head_dim


def show_bound(settings: BoundSettings) -> None:
    """Print what the bound says. Raises `InputError` for a model that cannot be found, or a plot that cannot be
    written."""
    if settings.plot is not None:
        if settings.plot.is_dir():
            raise InputError("a folder is here, and the plot is a file", where=settings.plot, fix="name the SVG file")
        make_folder(settings.plot.parent, fix="give another place for the plot")
    if settings.model is not None:
        _show_model(settings.model, settings)
        return
    table = _table(f"RoPE over {settings.turned} of {settings.head_dim} dimensions of a head")
    if settings.base is not None:
        found = supported_length(Turning.of_base(settings.base, settings.turned, settings.still))
        table.add_row(f"base {settings.base:,.6g} supports", _tokens(found))
    if settings.length is not None:
        least = least_base(settings.length, settings.turned, settings.still)
        _add_base(table, settings.length, least, settings.turned, settings.still, grid=settings.grid)
    print_result(table)
    base = settings.base
    if base is None and settings.length is not None:
        base = 10_000.0 if least is None else least.at
    assert base is not None
    _draw(Turning.of_base(base, settings.turned, settings.still), settings, f"base {base:,.6g}", settings.length)


def _show_model(name: str, settings: BoundSettings) -> None:
    there = "/" in name or Path(name).exists()
    config = read_config(find_model(Path(name)))[0] if there else preset(name)
    claimed = settings.length or config.longest
    length = config.seen(claimed)
    turning = turning_of(config, length)
    scaling = "" if config.rope_scaling is None else f", {config.rope_scaling.kind} x {config.rope_scaling.factor:g}"
    table = _table(f"{name}: RoPE over {config.rope_dims} of {config.head_dim} dimensions of a head, base "
                   f"{config.rope_theta:,.6g}{scaling}")
    table.add_row("length", f"{claimed:,}")
    if length < claimed:
        table.add_row("window and sinks", f"{length:,}")
    found = supported_length(turning, length)
    table.add_row("its base supports", "all of them" if found is None else f"{found:,} of them")
    if turning.still < len(turning.frequencies):
        least = least_base(length, config.rope_dims, turning.still)
        _add_base(table, length, least, config.rope_dims, turning.still, grid=settings.grid)
    else:
        table.add_row("bound", "none: what stands still outweighs what turns")
    print_result(table)
    print_result(verdict(config, length))
    _draw(turning, settings, name, length)


def turning_of(config: ModelConfig, length: int) -> Turning:
    """How a model's heads turn at a length, scalings included. Raises `InputError` for positions other than RoPE's."""
    if config.position != "rope":
        raise InputError(f"the bound is on RoPE's base, and this model's positions are '{config.position}'",
                         fix="give a model with rotary positions")
    turned = frequencies(config, length).double().numpy()
    return Turning(np.asarray(turned), (config.head_dim - config.rope_dims) // 2)


def verdict(config: ModelConfig, length: int | None = None) -> str:
    """Whether a model's base supports a length, the one that it claims when not given, in a sentence. Raises
    `InputError` for positions other than RoPE's."""
    length = config.seen(config.longest if length is None else length)
    found = supported_length(turning_of(config, length), length)
    if found is None:
        return f"RoPE's bound holds: the base supports {length:,} tokens"
    return (f"RoPE's bound is violated: from a distance of {found:,} on B_m < 0, so the base supports {found:,} of "
            f"{length:,} tokens; beyond, a low perplexity does not mean that anything is found again")


def described(config: ModelConfig, length: int) -> str:
    """How far a model sees, how its positions lie, what multiplies its scores, and whether RoPE's base supports the
    length."""
    found = "" if not config.sliding_window else f"a window of {config.sliding_window:,}" + (
        f" and {config.attention_sinks} sinks, " if config.attention_sinks else ", ")
    rotary, scaling = config.position == "rope", config.rope_scaling
    found += f"base {config.rope_theta:,.6g}" if rotary else f"positions '{config.position}'"
    found += "" if scaling is None else f", {scaling.kind} x {scaling.factor:.4g}"
    found += f", log-n beyond {config.log_n_length:,}" if config.log_n_length else ""
    found += "" if config.score_scale == 1 else f", scores x {config.score_scale:.4g}"
    return f"{found}; {verdict(config, length)}" if rotary else found


def _add_base(table: Table, length: int, least: Bound | None, dims: int, still: int, *, grid: bool) -> None:
    if least is None:
        table.add_row(f"{length:,} tokens need a base of", "any: what stands still outweighs what turns")
        return
    table.add_row(f"{length:,} tokens need a base of", f"{rounded_up(least, length, dims, still):,}")
    if grid:
        last = last_failing_base(length, least, dims, still)
        table.add_row("last larger one that fails", "none" if last <= least.at else f"{last:,.0f}")
    if (dims, still) == (128, 0) and length % 1024 == 0 and length // 1024 in PAPER:
        table.add_row("as published (2405.14591)", f"{PAPER[length // 1024]:,.0f}")


def _tokens(found: int | None) -> str:
    return "any length that was tried" if found is None else f"{found:,} tokens"


def _table(title: str) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    return table


def _draw(turning: Turning, settings: BoundSettings, name: str, length: int | None) -> None:
    """B(m): its least and largest over stretches that look alike on a logarithmic axis."""
    if settings.plot is None:
        return
    end = max(2 * (length or supported_length(turning) or 1 << 16), 256)
    values = similarity(turning, end)
    cuts = np.unique(np.geomspace(1, end, _POINTS).astype(int))
    low, high = np.minimum.reduceat(values, cuts[:-1]), np.maximum.reduceat(values, cuts[:-1])
    lines = [Line("least B(m)", list(cuts[:-1]), list(low), points=False),
             Line("zero", [1, end], [0, 0], points=False)]
    if length is not None:
        lines.append(Line(f"{length:,} tokens", [length, length], [float(values.min()), float(values.max())],
                          points=False))
    write_text(settings.plot, panels([Panel(lines, "distance m, tokens", "B(m)", name, log_x=True,
                                            band=(list(cuts[:-1]), list(low), list(high)))]))
