"""The two sides of `finetune.py`: headwater's trainer, and peft with transformers in a plain loop."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from _harness import installed
from _workers import Questions
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from headwater import hardware
from headwater.finetune.stage import FinetuneSettings
from headwater.model import interval_attention  # noqa: F401 (what it imports is a library's memory, not a step's)
from headwater.model.checkpoint import read_config
from headwater.model.prefix import Prefix, PrefixSettings
from headwater.train import Trainer, TrainerSettings
from headwater.train.batches import IGNORE, counted
from headwater.train.learning import prepared
from headwater.train.machine import Machine
from headwater.train.objective import next_token
from headwater.train.packing import PackedBatches, PrefixSample

LENGTH, PREFIX, RATE, SEED = 512, 128, 1e-4, 0
MULTIPLE = 8
"""The peer's rows are padded to the next one of it, as its collators are usually told."""
DIALOGUES_AT_ONCE = 4
"""Of the peer; it adds up their gradients over as many as ours packs into a batch."""


@dataclass(frozen=True)
class Tuning:
    """What is tuned, and how."""

    rows: Literal["full", "dialogues"] = "full"
    method: Literal["lora", "prefix"] = "lora"
    recompute: Literal["none", "full"] = "none"
    base: Literal["nf4"] | None = None
    by_length: bool = False
    """Whether the peer takes the dialogues in order of their lengths, so that it pads least."""


TUNINGS = {"LoRA": Tuning(), "LoRA, blocks computed again": Tuning(recompute="full"), "prefix": Tuning(method="prefix"),
           "LoRA, four bits": Tuning(base="nf4"), "LoRA, dialogues": Tuning(rows="dialogues"),
           "LoRA, dialogues, the peer's by length": Tuning(rows="dialogues", by_length=True)}


@dataclass(frozen=True)
class Setup:
    """What both sides are told."""

    tuning: Tuning
    folder: Path
    """`model`, `adapter`, and a JSON file of the sequences of each kind of rows."""
    rows: int
    threads: int
    compiled: bool

    def sequences(self) -> list[tuple[list[int], list[bool]]]:
        return [(ids, mask) for ids, mask in json.loads((self.folder / f"{self.tuning.rows}.json").read_text())]

    def questions(self, step: Callable[[], float], before: int) -> Questions:
        return {"step": step, "peak": lambda: hardware.peak_memory_bytes() - before}


def held() -> int:
    """Bytes that this process holds before it loads anything; the peak counts from here."""
    gc.collect()
    hardware.trim_heap()
    hardware.forget_peak_memory()
    return hardware.memory_bytes()


def ours(setup: Setup) -> Questions:
    tuning, model = setup.tuning, setup.folder / "model"
    trainer_settings = TrainerSettings(steps=1000, rows=setup.rows, sequence_length=LENGTH, precision="bfloat16",
                                       recompute=tuning.recompute, device="cpu")
    settings = FinetuneSettings(model=model, dialogues=[setup.folder], method=tuning.method, base=tuning.base,
                                seed=SEED, trainer=trainer_settings)
    shift = PREFIX if tuning.method == "prefix" else 0  # peft counts a text's positions from behind the prefix
    samples = [PrefixSample(ids, mask, positions=counted(len(ids), 1) + shift) for ids, mask in setup.sequences()]
    batch = PackedBatches(samples, rows=setup.rows, length=LENGTH, seed=SEED, pad=0).batch(0)
    before = held()
    trainer = Trainer(prepared(settings, read_config(model)[0]), next_token, [batch], trainer_settings)
    trainer.prepare(Machine("cpu", "bfloat16", setup.compiled, setup.threads, 1.0))
    parameters = [one for one in trainer.task.parameters() if one.requires_grad]

    def step() -> float:
        outcome = trainer.backward(batch, int((batch.targets != IGNORE).sum()))
        trainer.parallel.clip(parameters, trainer.parallel.gradient_norm(parameters), 0.5)
        trainer.optimizer.step(RATE)
        return float(outcome.loss)

    return setup.questions(step, before)


def theirs(setup: Setup) -> Questions | None:
    wanted = ("transformers", "peft", *(["bitsandbytes"] if setup.tuning.base else []))
    if None in map(installed, wanted):
        return None
    import peft  # noqa: F401
    from transformers import LlamaForCausalLM  # noqa: F401

    sequences, at_once = setup.sequences(), setup.rows if setup.tuning.rows == "full" else DIALOGUES_AT_ONCE
    if setup.tuning.by_length:
        sequences.sort(key=lambda one: len(one[0]))
    parts = _padded(sequences, at_once)
    prefix = None
    if setup.tuning.method == "prefix":
        prefix = Prefix(read_config(setup.folder / "model")[0], PrefixSettings(length=PREFIX), SEED).table().detach()
    before = held()
    model = _their_model(setup, prefix)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=RATE, betas=(0.9, 0.95),
                                  weight_decay=0.1, fused=True)
    forward = torch.compile(model) if setup.compiled else model
    targets = sum(_targets(part["labels"]) for part in parts)

    def step() -> float:
        total = 0.0
        for part in parts:
            with torch.autocast("cpu", torch.bfloat16):
                loss = forward(**part, use_cache=False).loss
            loss = loss * (_targets(part["labels"]) / targets)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return setup.questions(step, before)


def _their_model(setup: Setup, prefix: Tensor | None) -> nn.Module:
    from peft import PeftModel, PrefixTuningConfig, get_peft_model
    from transformers import BitsAndBytesConfig, LlamaForCausalLM

    packed: dict[str, Any] = {}
    if setup.tuning.base:
        packed["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    base = LlamaForCausalLM.from_pretrained(setup.folder / "model", dtype=torch.bfloat16, attn_implementation="sdpa",
                                            **packed).requires_grad_(False)
    if setup.tuning.recompute == "full":
        base.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    if prefix is None:
        return PeftModel.from_pretrained(base, str(setup.folder / "adapter"), is_trainable=True).train()
    model = get_peft_model(base, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=PREFIX))
    model.prompt_encoder["default"].embedding.weight.data.copy_(prefix)
    return model.train()


def _padded(sequences: list[tuple[list[int], list[bool]]], rows: int) -> list[dict[str, Tensor]]:
    """So many sequences at once, each padded to the longest of them."""
    parts = []
    for start in range(0, len(sequences), rows):
        some = sequences[start : start + rows]
        ids = [torch.tensor(one) for one, _ in some]
        labels = [torch.where(torch.tensor(mask), one, IGNORE) for one, (_, mask) in zip(ids, some, strict=True)]
        spare = -max(map(len, ids)) % MULTIPLE
        filled = {"input_ids": (ids, 0), "labels": (labels, IGNORE),
                  "attention_mask": ([torch.ones_like(one) for one in ids], 0)}
        parts.append({name: nn.functional.pad(pad_sequence(these, batch_first=True, padding_value=value), (0, spare),
                                              value=value) for name, (these, value) in filled.items()})
    return parts


def _targets(labels: Tensor) -> int:
    return int((labels[:, 1:] != IGNORE).sum())


SIDES: dict[str, Callable[[Setup], Questions | None]] = {"ours": ours, "peft": theirs}
