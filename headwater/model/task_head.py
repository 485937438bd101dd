"""What answers a question about a text instead of going on with it: a head on a decoder's last hidden states."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from headwater.artifacts import read_json, write_json
from headwater.errors import CheckpointError, InputError
from headwater.model.tensors import read_tensors, write_tensors

Kind = Literal["classification", "regression", "tokens"]
CONFIG, WEIGHTS = "task.json", "task.safetensors"


class TaskHead(nn.Module):
    """scores = W h, without bias, as the transformers library's heads are.

    classification: a score for each label, at a text's last token. tokens: the same at the first piece of every word.
    regression: one number for each of `labels`, at a text's last token; they are learned after their mean and spread
    over the training examples are taken out, and told with both put back.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, kind: Kind, width: int, labels: list[str]) -> None:
        super().__init__()
        self.kind, self.labels = kind, labels
        self.weight = nn.Parameter(torch.zeros(len(labels), width))
        self.register_buffer("mean", torch.zeros(len(labels)))
        self.register_buffer("spread", torch.ones(len(labels)))

    def draw(self, seed: int) -> TaskHead:
        """Uniform within 1/sqrt(D), as `nn.Linear` draws."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        self.weight.data.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
        return self

    def forward(self, hidden: Tensor) -> Tensor:
        """Scores [..,labels] of states [..,D], float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            return hidden.float() @ self.weight.float().t()

    def save(self, folder: Path, model: Path, length: int) -> None:
        """model: the folder of the model that it answers for, kept as the way from `folder` to it. length: of the
        longest text that it was trained on, in tokens."""
        write_json(folder / CONFIG, {"kind": self.kind, "labels": self.labels, "length": length,
                                     "model": os.path.relpath(model, folder)})
        # Not its `state_dict`, which is of the parts again where several processes have trained it.
        write_tensors(folder / WEIGHTS, {"weight": self.weight.detach(), "mean": self.mean, "spread": self.spread})

    @classmethod
    def load(cls, folder: Path, *, stage: str = "task") -> tuple[TaskHead, Path, int]:
        """The head, the folder of its model, and the length of its texts. stage: which one writes such heads. Raises
        `CheckpointError` for a folder without one, or a damaged one."""
        path, fix = Path(folder) / CONFIG, "copy the folder again"
        if not path.is_file():
            raise CheckpointError(f"no {stage} head here" if Path(folder).is_dir() else "no such folder", where=folder,
                                  fix=f"give a folder that 'headwater {stage}' wrote")
        values, tensors = read_json(path), read_tensors(Path(folder) / WEIGHTS)
        kind, labels, model, length = _said(values, path)
        weight = tensors.get("weight")
        head = cls(kind, weight.shape[1] if weight is not None and weight.dim() == 2 else 0, labels)
        if {name: one.shape for name, one in tensors.items()} != {
                name: one.shape for name, one in head.state_dict().items()}:
            raise CheckpointError("the head's tensors do not fit its labels", where=path, fix=fix)
        head.load_state_dict(tensors)
        return head.eval(), Path(os.path.normpath(Path(folder) / model)), length


def require_no_head(folder: Path) -> None:
    """Refuse a folder that answers about texts, where a model that goes on with them is asked for. Raises
    `InputError`."""
    if (Path(folder) / CONFIG).is_file():
        raise InputError("a head that answers about texts (a reward model's, a classifier's), and no model to talk to",
                         where=folder, fix="give the model that it was trained from; the head itself is asked with "
                         "'headwater reward judge' or 'headwater task predict'")


def _said(values: Any, path: Path) -> tuple[Kind, list[str], str, int]:
    """Kind, labels, model and length of a head's file. Raises `CheckpointError`."""
    if isinstance(values, dict) and values.get("kind") in get_args(Kind):
        labels, model, length = (values.get(key) for key in ("labels", "model", "length"))
        if isinstance(labels, list) and all(isinstance(one, str) for one in labels) and isinstance(model, str) \
                and isinstance(length, int) and length > 2:
            return values["kind"], labels, model, length
    raise CheckpointError("not the description of a task head: kind, labels, model and length", where=path,
                          fix="copy the folder again, or train the head again")
