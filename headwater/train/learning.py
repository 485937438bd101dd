"""What of a model learns: all of it, some of its blocks, or what is put beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import torch

from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig
from headwater.model.adapters import LoraSettings, attach, attach_prefix, save_adapter
from headwater.model.checkpoint import load_model, require_floats, save_model
from headwater.model.extension import KeptContext
from headwater.model.packed import Base
from headwater.model.prefix import PrefixSettings
from headwater.plan import Trained
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.fitting import record_template
from headwater.train.gathering import on_leader
from headwater.train.machine import products
from headwater.train.memory import Frozen
from headwater.train.processes import ranks
from headwater.train.settings import TrainerSettings

Method = Literal["full", "lora", "prefix"]
Learned = Method | Literal["head"]
"""head: nothing of the model, but a head on it."""


class Learning(Protocol):
    """The settings that say it."""

    @property
    def model(self) -> Path: ...
    @property
    def method(self) -> Learned: ...
    @property
    def lora(self) -> LoraSettings: ...
    @property
    def prefix(self) -> PrefixSettings: ...
    @property
    def base(self) -> Base | None: ...
    @property
    def frozen_blocks(self) -> int: ...
    @property
    def context(self) -> KeptContext: ...
    @property
    def seed(self) -> int: ...
    @property
    def trainer(self) -> TrainerSettings: ...


def check(settings: Learning) -> None:
    """Raises `ValueError` for what has no effect."""
    for name, default in (("lora", LoraSettings()), ("prefix", PrefixSettings())):
        if getattr(settings, name) != default and settings.method != name:
            raise ValueError(f"{name} has no effect with method {settings.method}")
    if settings.base and settings.method == "full":
        raise ValueError("base has no effect with method full: packed matrices do not learn")
    if settings.frozen_blocks and settings.method != "full":
        raise ValueError(f"frozen_blocks has no effect with method {settings.method}: all blocks are frozen")
    if settings.trainer.parallel.tensor > 1 and (settings.method != "full" or settings.frozen_blocks):
        raise ValueError("trainer.parallel.tensor splits matrices that learn; what is frozen is spread by "
                         "trainer.parallel.zero=3")


def prepared(settings: Learning, config: ModelConfig) -> Decoder:
    """The model with what is to be learned in float32; the rest frozen, in the type of the products or packed."""
    if settings.method != "full":
        return _beside(settings, config)
    model = on_leader(lambda: load_model(settings.model, context=settings.context), config)
    if settings.frozen_blocks >= config.num_hidden_layers:
        raise InputError(f"frozen_blocks {settings.frozen_blocks} leaves none of {config.num_hidden_layers} blocks to "
                         "learn", where="frozen_blocks", fix="freeze fewer")
    if settings.frozen_blocks:
        for frozen in (model.embedding, model.positions, *model.blocks[: settings.frozen_blocks]):
            frozen.requires_grad_(False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _beside(settings: Learning, config: ModelConfig) -> Decoder:
    dtype = getattr(torch, products(settings.trainer))

    def load() -> Decoder:
        return load_model(settings.model, context=settings.context, dtype=dtype, base=settings.base)

    model = on_leader(load, config)
    if settings.method == "head":
        return model.requires_grad_(False)
    if settings.method == "prefix":
        return attach_prefix(model, settings.prefix, settings.seed)
    return attach(model, settings.lora, settings.seed)


def write_learned(settings: Learning, model: Decoder, tokenizer: Tokenizer, folder: Path) -> None:
    """The model's folder with the chat template that it was tuned in, or an adapter's."""
    if settings.method == "full":
        save_model(model, folder, tokenizer_from=settings.model)
        record_template(tokenizer, folder)
    else:
        save_adapter(model, folder, settings.model, context=settings.context)


def frozen_by(settings: Learning) -> Frozen | None:
    """For the prediction of memory; None where the model itself learns."""
    if settings.method == "full":
        return None
    learns = {"lora": Trained(rank=settings.lora.rank), "prefix": Trained(prefix=settings.prefix.length),
              "head": Trained()}
    return Frozen(settings.base, learns[settings.method])


def require_trainable(settings: Learning) -> None:
    """Raises `InputError` where packed matrices are to learn, and for those of several processes."""
    if settings.method == "full":
        require_floats(settings.model, "trained", "give the float model, or set method=lora")
    if settings.base and ranks() > 1:
        raise InputError("packed matrices are not spread over several processes", where="base",
                         fix="leave base out, and spread the floats by trainer.parallel.zero=3; or start one process")
