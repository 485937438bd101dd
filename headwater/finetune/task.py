"""The task stage: a model learns to classify texts, to rate them, or to tag their words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from headwater.errors import InputError
from headwater.finetune.examples import Columns, Example, Reader, read_examples
from headwater.model import Decoder
from headwater.model.adapters import LoraSettings, attach, require_no_prefix, save_adapter
from headwater.model.checkpoint import load_model, read_config, require_floats, save_model
from headwater.model.task_head import Kind, TaskHead, require_no_head
from headwater.plan import Trained
from headwater.progress import say, track
from headwater.settings import InputPath, Seed, Settings
from headwater.tokenizer import Tokenizer
from headwater.train.batches import IGNORE, Batch
from headwater.train.gathering import on_leader
from headwater.train.memory import Frozen, require_memory
from headwater.train.objective import Outcome, scores
from headwater.train.packing import PackedBatches, PrefixSample
from headwater.train.processes import is_leader, ranks
from headwater.train.settings import TrainerSettings
from headwater.train.trainer import Trainer


class TaskSettings(Settings):
    """What is told of which texts, and how it is learned."""

    model: InputPath = Path("${pretrain}")
    kind: Kind = "classification"
    """classification: one of the labels that the examples have. regression: a number. tokens: a label for each word."""
    examples: list[InputPath] = Field(min_length=1)
    """JSON lines, JSON arrays, or CSV with a header."""
    validation: list[InputPath] = []
    """Examples that are not trained on."""
    columns: Columns = Columns()
    method: Literal["full", "lora", "head"] = "full"
    """Beside the head, which always learns: all of the model, low-rank matrices beside it, or nothing."""
    lora: LoraSettings = LoraSettings()
    seed: Seed = 0
    trainer: TrainerSettings = Field(default={})  # type: ignore[assignment]  # refused in its own words

    @model_validator(mode="after")
    def _used(self) -> TaskSettings:
        if self.lora != LoraSettings() and self.method != "lora":
            raise ValueError(f"lora has no effect with method {self.method}")
        if self.trainer.parallel.tensor > 1 and self.method != "full":
            raise ValueError("trainer.parallel.tensor splits matrices that learn; leave it at 1")
        return self


class Answers(nn.Module):
    """The objective: the head's loss at the targets, in nats, or squared in spreads for regression.

    values: [N, outputs], what a regression's targets number.
    """

    def __init__(self, head: TaskHead, values: Tensor | None = None) -> None:
        super().__init__()
        self.head = head
        self.values: Tensor | None
        self.register_buffer("values", values)

    def forward(self, model: Decoder, batch: Batch, divisor: float) -> Outcome:
        found = scores(model, self.head, batch)
        targets = batch.targets[batch.targets != IGNORE]
        if self.values is None:
            each = F.cross_entropy(found, targets, reduction="none")
            right = (found.argmax(-1) == targets).sum()
            return Outcome(each.sum() / divisor, {"accuracy": right.float()})
        wanted = (self.values[targets] - self.head.mean) / self.head.spread
        each = (found - wanted).square().mean(-1)
        return Outcome(each.sum() / divisor, {"squared_error": each.detach().sum()})


def run(settings: TaskSettings, out: Path) -> dict[str, float]:
    """Write the head and, where more has learned, the model's folder or an adapter's. Figures: loss, throughput, and of
    unseen examples the accuracy, the commonest label's share, and the mean F1 over labels; or the error of a
    regression beside that of the mean."""
    require_no_prefix(settings.model, "given a head")
    require_no_head(settings.model)
    if settings.method == "full":
        require_floats(settings.model, "trained", "give the float model, or set method=lora or head")
    tokenizer, trainer = Tokenizer.load(settings.model), settings.trainer
    config = read_config(settings.model)[0]
    frozen = None if settings.method == "full" else Frozen(None, Trained(rank=settings.lora.rank * (
        settings.method == "lora")))
    require_memory(config, trainer, frozen)
    reader = Reader(tokenizer, config, settings.kind, trainer.sequence_length)
    examples = read_examples(settings.examples, settings.columns, settings.kind)
    unseen = read_examples(settings.validation, settings.columns, settings.kind) if settings.validation else []
    head = _head(settings, examples, config.hidden_size)
    model = on_leader(lambda: load_model(settings.model), config)
    if settings.method == "full":
        model.float()
    elif settings.method == "lora":
        attach(model, settings.lora, settings.seed)
    else:
        model.requires_grad_(False)
    options: dict[str, Any] = {"length": trainer.sequence_length, "pad": tokenizer.pad, "axes": config.position_axes}
    batches = PackedBatches(_samples(reader, head, examples), rows=trainer.rows, seed=settings.seed, **options)
    objective = Answers(head, _numbers(examples)[:, None] if head.kind == "regression" else None)
    held_back = PackedBatches(_samples(reader, head, unseen), rows=trainer.rows_at_once(ranks()), seed=0,
                              **options) if unseen else None

    def validate(model: Decoder) -> dict[str, float]:
        return {} if held_back is None else judged(model, objective.head, held_back, unseen)

    def save(model: Decoder, folder: Path) -> None:
        if settings.method == "lora":
            save_adapter(model, folder, settings.model)
        elif settings.method == "full":
            save_model(model, folder, tokenizer_from=settings.model)
        objective.head.save(folder, settings.model if settings.method == "head" else folder,
                            reader.length)

    figures = Trainer(model, objective, batches, trainer, validate, save, frozen).fit(out)
    if is_leader():
        save(model, out)
    return {**figures, "examples": float(len(examples)), "labels": float(len(head.labels))}


def _head(settings: TaskSettings, examples: list[Example], width: int) -> TaskHead:
    if settings.kind == "regression":
        head = TaskHead(settings.kind, width, [settings.columns.label])
        values = _numbers(examples)
        head.mean[:], head.spread[:] = values.mean(), values.std(correction=0).clamp_min(1e-6)
        return head.draw(settings.seed)
    counts = Counter(label for one in examples for label in _labels(one))
    if len(counts) < 2:
        raise InputError(f"all examples have the label {next(iter(counts))!r}", where="examples",
                         fix="give examples of another label too")
    say("labels: " + ", ".join(f"{name} {number:,}" for name, number in counts.most_common(20)))
    return TaskHead(settings.kind, width, sorted(counts)).draw(settings.seed)


def _numbers(examples: list[Example]) -> Tensor:
    """A regression's labels [N]."""
    return torch.tensor([one.label for one in examples], dtype=torch.float32)


def _labels(example: Example) -> list[str]:
    return example.label if isinstance(example.label, list) else [str(example.label)]


def _samples(reader: Reader, head: TaskHead, examples: list[Example]) -> list[PrefixSample]:
    """Raises `InputError` for a label that no training example has."""
    numbers = {label: number for number, label in enumerate(head.labels)}
    found = []
    for place, one in enumerate(track(examples, "reading examples")):
        unknown = [label for label in _labels(one) if label not in numbers] if head.kind != "regression" else []
        if unknown:
            raise InputError(f"label {unknown[0]!r} is of no training example", where="validation",
                             fix=f"known: {', '.join(head.labels[:20])}")
        asked: int | list[int] = place
        if head.kind != "regression":
            asked = [numbers[label] for label in _labels(one)]
            asked = asked if head.kind == "tokens" else asked[0]
        sample = reader.sample(one.text, asked)
        if sample is not None:
            found.append(sample)
    if len(found) < len(examples):
        say(f"of {len(examples):,} texts, {len(examples) - len(found):,} are longer than {reader.length} tokens and "
            "left out")
    reader.tell_cut(len(examples))
    return found


@torch.no_grad()
def judged(model: Decoder, head: TaskHead, batches: PackedBatches, examples: list[Example]) -> dict[str, float]:
    """Figures over one epoch of the batches, which are of these examples."""
    found, targets = [], []
    for step in range(batches.batches_per_epoch):
        batch = batches.batch(step).to(model.device)
        found.append(scores(model, head, batch))
        targets.append(batch.targets[batch.targets != IGNORE])
    each, wanted = torch.cat(found), torch.cat(targets)
    if head.kind == "regression":
        values = _numbers(examples).to(each.device)[wanted]
        told = each[:, 0] * head.spread + head.mean
        return {"rmse": float((told - values).square().mean().sqrt()),
                "rmse_of_mean": float((head.mean - values).square().mean().sqrt())}
    chosen = each.argmax(-1)
    return {"loss": float(F.cross_entropy(each, wanted)), "accuracy": float((chosen == wanted).float().mean()),
            "commonest": float(wanted.bincount().max() / len(wanted)), "f1": _f1(chosen, wanted, len(head.labels))}


def _f1(chosen: Tensor, wanted: Tensor, labels: int) -> float:
    """The mean over those labels that occur."""
    each = []
    for label in range(labels):
        both = int(((chosen == label) & (wanted == label)).sum())
        either = int((chosen == label).sum() + (wanted == label).sum())
        if either:
            each.append(2 * both / either)
    return sum(each) / len(each)
