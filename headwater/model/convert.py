"""A model folder written again in its official form, or in another family's that can say all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import nn

from headwater.artifacts import atomic_folder, make_folder
from headwater.errors import InputError
from headwater.folders import is_adapter
from headwater.model.adapters import require_no_prefix
from headwater.model.checkpoint import load_model, load_weights, read_config, save_model
from headwater.model.decoder import Decoder
from headwater.model.extension import KeptContext, extended
from headwater.model.families import LAYOUTS
from headwater.model.folder import WeightFolder
from headwater.model.heads import NormHead, make_head
from headwater.settings import Settings


class ConvertSettings(Settings):
    layout: Literal["llama", "baichuan", "chatglm", "chatglm2", "glm", "glm4", "headwater"] | None = None
    """The family whose form is written; the model's own when left out."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Of the float weights; as they are stored when left out."""
    context: KeptContext = KeptContext()
    """A longer context than the model's own, written into its configuration."""


def convert(source: Path, target: Path, settings: ConvertSettings | None = None) -> Decoder:
    """Write the model of `source` to `target`; returns it.

    Untouched tensors keep their bytes, and tokenizer files come along. NormHead is folded into a plain head where
    the other form has none. The target appears whole or not at all. Raises `CheckpointError`, or `InputError` when the
    form cannot express the model or the target is in use.
    """
    settings = settings or ConvertSettings()
    target = Path(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError("the target is there already", where=target, fix="give a new or an empty folder")
    kind = getattr(torch, settings.dtype) if settings.dtype else None
    model = read_as_stored(Path(source), kind, settings.context)
    if settings.layout is not None:
        _relabel(model, settings.layout)
    make_folder(target.parent, fix="give another target")
    with atomic_folder(target) as staging:
        save_model(model, staging, tokenizer_from=source)
    return model


def read_as_stored(source: Path, kind: torch.dtype | None = None, context: KeptContext | None = None) -> Decoder:
    """The model with its tensors as they are stored; of an adapter's folder merged."""
    if is_adapter(source):
        require_no_prefix(source, "written as a plain model")
        return load_model(source, dtype=kind, context=context)
    config, values = read_config(source)
    config = config if context is None else extended(config, context)
    with WeightFolder(source) as weights:
        return load_weights(config, values, weights, kind, torch.device("cpu"), mmap=True)


def _relabel(model: Decoder, layout: str) -> None:
    config = model.config.model_copy(update={"layout": "" if layout == "llama" else layout})
    if isinstance(model.head, NormHead) and LAYOUTS[layout].unsaid(config):
        config = config.model_copy(update={"head": "linear"})
        weight = model.head.matrix(model.head.weight).detach()
        model.head = make_head(config)
        model.head.weight = nn.Parameter(weight)
    unsaid = LAYOUTS[layout].unsaid(config)
    if unsaid:
        raise InputError(f"the {layout} form cannot express this model: {', '.join(unsaid)}", where="layout",
                         fix="give another form, or leave layout out")
    model.config = config
