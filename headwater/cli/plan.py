"""`headwater plan`: what a model needs, computed from its shape and beside what this machine has."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from rich.console import Console
from rich.table import Table

from headwater import plan
from headwater.hardware import total_memory_bytes
from headwater.model.checkpoint import read_config
from headwater.model.config import ModelConfig
from headwater.presets import preset
from headwater.settings import Settings


class PlanSettings(Settings):
    """For how many sequences, how long."""

    rows: int = Field(default=1, gt=0)
    """Sequences answered at once, or rows of a training batch."""
    length: int | None = Field(default=None, gt=0)
    """Tokens of each; the trained length when not set."""


def find_shape(model: str) -> ModelConfig:
    """Of a model folder, or of an official model by name. Raises `InputError`."""
    return read_config(Path(model))[0] if Path(model).is_dir() else preset(model)


def show_plan(model: str, settings: PlanSettings) -> None:
    """Print the account of `plan.account` to standard output."""
    shape = find_shape(model)
    table = Table(title=model, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, value in plan.account(shape, settings.rows, settings.length or shape.max_position_embeddings).items():
        table.add_row(name, f"{value:.3g}" if "FLOPs" in name else f"{value:,}" if name == "parameters"
                      else _bytes(value))
    table.add_section()
    table.add_row("memory of this machine", _bytes(total_memory_bytes()))
    Console().print(table)


def _bytes(count: float) -> str:
    unit, scale = next(((unit, scale) for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
                        if count >= scale), ("B", 1))
    return f"{count / scale:,.1f} {unit}"
