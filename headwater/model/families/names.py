"""How official weight names become ours: renamed, or rows of several tensors stacked, or rows regrouped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from headwater.model.config import ModelConfig

KINDS = ("weight", "codes", "bias", "scale", "zero")
"""What a module may hold; scale: of packed weights; codes and zero: of INT4 ones."""


@dataclass(frozen=True)
class Entry:
    """One of our tensors and the official tensors whose rows it stacks, in order."""

    ours: str
    theirs: tuple[str, ...]
    rows: tuple[int, ...] = ()
    """Rows of each official tensor, where there are several."""
    heads: int = 0
    """Above 0: the official rows are grouped by head, [q_h | k_h | v_h] for each; ours are [q | k | v]."""

    def parts(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Views of our tensor, one per official tensor."""
        return tensor.split(self.rows) if self.rows else (tensor,)

    def from_official(self, rows: Tensor) -> Tensor:
        """The official tensor's rows in our order."""
        return rows.unflatten(0, (self.heads, 3, -1)).transpose(0, 1).flatten(0, 2) if self.heads else rows

    def to_official(self, rows: Tensor) -> Tensor:
        """Our rows in the official order."""
        return rows.unflatten(0, (3, self.heads, -1)).transpose(0, 1).flatten(0, 2) if self.heads else rows


_NOWHERE = {"log_n_length": 0, "sliding_window": 0, "attention_sinks": 0, "score_scale": 1.0}


def different(config: ModelConfig, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What `fixed` says of the fields of `config` that are not so; and of those that no official form can say."""
    return {name: value for name, value in {**fixed, **_NOWHERE}.items() if getattr(config, name) != value}


def differing(config: ModelConfig, fixed: Mapping[str, Any]) -> list[str]:
    """These fields in words."""
    return [f"{name} {getattr(config, name)!r} (here {value!r})" for name, value in different(config, fixed).items()]


def renamed(ours: str, theirs: str, *, heads: int = 0) -> Iterator[Entry]:
    """A module whose tensors only change their names, or their rows' grouping."""
    for kind in KINDS:
        yield Entry(f"{ours}.{kind}", (f"{theirs}.{kind}",), heads=heads)


def stacked(ours: str, theirs: list[str], rows: list[int]) -> Iterator[Entry]:
    """A module whose rows are those of several official modules."""
    for kind in KINDS:
        yield Entry(f"{ours}.{kind}", tuple(f"{one}.{kind}" for one in theirs), tuple(rows))
