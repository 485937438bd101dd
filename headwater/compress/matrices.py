"""What rounding does to the matrices of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table
from torch import Tensor

from headwater.compress.inputs import Inputs
from headwater.model.packed import Form, PackedLinear, unpacked


class Matrix(NamedTuple):
    """What became of one matrix."""

    name: str
    base: str
    group: int
    weights: float
    """|W - W_q| / |W| in the Frobenius norm; awq: of the scaled matrix, gptq: of the one that makes up for others."""
    outputs: float | None
    """|x (W - W_q)^T| / |x W^T| over the calibration text, where one was read."""


def compared(name: str, form: Form, weight: Tensor, layer: PackedLinear, inputs: Inputs | None) -> Matrix:
    """A float matrix [O,I] and what it was packed into, `inputs` being what it is given."""
    lost = weight - unpacked(layer)
    outputs = None if inputs is None else (inputs.error(lost) / max(inputs.error(weight), 1e-30)) ** 0.5
    return Matrix(name, form.base, form.group, float(lost.norm() / weight.norm()), outputs)


def errors_table(matrices: Sequence[Matrix]) -> Table:
    """A row for every kind of matrix."""
    table = Table(title="relative errors", title_justify="left")
    read = any(one.outputs is not None for one in matrices)
    for name in ("matrix", "form", "of weights", "largest", *(("of outputs", "largest") if read else ())):
        table.add_column(name, justify="left" if name in ("matrix", "form") else "right")
    kinds: dict[tuple[str, str], list[Matrix]] = {}
    for one in matrices:
        kind = one.name.split(".", 2)[-1] if one.name.startswith("blocks.") else one.name
        kinds.setdefault((kind, f"{one.base}{f', {one.group}' if one.group else ''}"), []).append(one)
    for (kind, form), ones in kinds.items():
        outputs = [one.outputs for one in ones if one.outputs is not None]
        table.add_row(kind, form, *_mean_and_largest([one.weights for one in ones]),
                      *(_mean_and_largest(outputs) if read else ()))
    return table


def _mean_and_largest(values: Sequence[float]) -> tuple[str, str]:
    return (f"{sum(values) / len(values):.4f}", f"{max(values):.4f}") if values else ("", "")
