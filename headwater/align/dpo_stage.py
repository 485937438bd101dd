"""The DPO stage: a chat model is tuned on preferences, held to what it was by how likely it found the answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, model_validator
from rich.table import Table
from torch import Tensor

from headwater.align.agreement import accuracies, accuracy_table
from headwater.align.dpo import DirectPreference, spoken
from headwater.align.pairs import ReadPair, measured, packed, read_pairs
from headwater.align.preferences import PairSettings, read_sides
from headwater.align.tuning import Tuning, TuningSettings, last_answer
from headwater.artifacts import write_json
from headwater.model import Decoder
from headwater.model.adapters import without_adapters
from headwater.model.tensors import read_tensors, write_tensors
from headwater.progress import print_result, say, track
from headwater.settings import OwnDefaults
from headwater.tokenizer import Tokenizer
from headwater.train.learning import check
from headwater.train.machine import products
from headwater.train.packing import PackedBatches
from headwater.train.settings import TrainerSettings

REFERENCE, FOUND = "reference.safetensors", "dpo.json"
OURS = OwnDefaults({"optimizer": {"learning_rate": 1e-6}})
"""Of the trainer: the paper's rate (2305.18290, appendix B)."""
NOTABLE = 0.01
"""The share of their log-probability by which answers are to become less likely before it is spoken of."""


class DpoSettings(PairSettings, TuningSettings):
    """What is tuned, on which pairs, and how strictly it is held to what it was."""

    beta: float = Field(default=0.1, gt=0)
    """Of the KL that the reference is held with: the smaller, the farther the model may go."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """The share of pairs that are taken to be labelled the wrong way round (conservative DPO)."""
    sft_weight: float = Field(default=0.0, ge=0)
    """Of the chosen answers' cross-entropy: above 0 they do not become less likely while the rejected ones do."""
    trainer: Annotated[TrainerSettings, OURS] = Field(default={})  # type: ignore[assignment]  # refused in its own words

    @model_validator(mode="after")
    def _used(self) -> DpoSettings:
        check(self)
        return self


def run(settings: DpoSettings, out: Path) -> dict[str, float]:
    """Write a model's folder or an adapter's, and `dpo.json`. Figures: loss, throughput; of the pairs that were held
    back, accuracy of the implied rewards, their margin, and how likely both answers became."""
    tuning = Tuning(settings)
    trainer, tokenizer = settings.trainer, tuning.tokenizer
    pairs, unseen = (read_pairs(side, tokenizer, longest=tuning.config.longest, together=trainer.sequence_length,
                                on_bad_row=settings.reading.on_bad_row) for side in read_sides(settings, settings.seed))
    model = tuning.load()
    pack = partial(packed, tokenizer=tokenizer, config=tuning.config, length=trainer.sequence_length)
    batches = pack(pairs, rows=trainer.rows, seed=settings.seed)
    held_back = pack(unseen, rows=trainer.rows_at_once(1), seed=0) if unseen else None
    answers, others = answer_tokens(pairs, tokenizer), answer_tokens(unseen, tokenizer)
    read = Likelihoods(trainer)
    reference = _reference(model, {"train": (batches, answers), "validation": (held_back, others)}, read, out)
    objective = DirectPreference(answers, reference["train"], settings.beta, settings.label_smoothing,
                                 settings.sft_weight)
    asked = DirectPreference(others, reference["validation"], settings.beta)

    def validate(model: Decoder) -> dict[str, float]:
        return {} if held_back is None else measured(model, asked, held_back)

    figures = tuning.fit(model, objective, batches, out, validate)
    found = {}
    if held_back is not None:
        after = read(model, held_back, others)
        found = _found(unseen, reference["validation"], after, settings.beta)
        if told := both_less_likely(found["log_probability"], settings.sft_weight):
            say(told)
        print_result(accuracy_table(found["accuracy"], "Which answer is better: implied rewards of unseen pairs"))
        print_result(_likelihoods_told(found["log_probability"]))
    write_json(out / FOUND, {"pairs": len(pairs), "held_back": len(unseen), **found})
    return {**figures, "pairs": float(len(pairs)), "held_back": float(len(unseen))}


def answer_tokens(pairs: Sequence[ReadPair], tokenizer: Tokenizer) -> Tensor:
    """Bool over the tokens of all dialogues, chosen and rejected in turn: true for those of the last answer."""
    found: list[bool] = []
    for pair in pairs:
        for messages, ids in ((pair.preference.chosen, pair.chosen), (pair.preference.rejected, pair.rejected)):
            found += last_answer(tokenizer.chat.render(messages))[: len(ids)]
    return torch.tensor(found, dtype=torch.bool)


class Likelihoods:
    """How likely answers are to a model, in the precision of its training."""

    def __init__(self, trainer: TrainerSettings) -> None:
        self.device, self.rows = trainer.training_device(), trainer.rows_at_once(1)
        self.half = products(trainer) == "bfloat16"

    @torch.no_grad()
    def __call__(self, model: Decoder, batches: PackedBatches, answers: Tensor) -> Tensor:
        """Log-probabilities of all answers by their numbers, float32 [2N]."""
        found, answers = torch.empty(len(batches.sequences)), answers.to(self.device)
        model.to(self.device).eval()
        for step in track(range(batches.batches_per_epoch), "log-probabilities"):
            for part in batches.batch(step).split(self.rows):
                with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                    said = spoken(model, part.to(self.device), answers)
                found[said.numbers.cpu()] = said.log_probability.cpu()
        return found


def _reference(model: Decoder, sides: dict[str, tuple[PackedBatches | None, Tensor]], read: Likelihoods, out: Path
               ) -> dict[str, Tensor]:
    """Log-probabilities before anything is learned; computed once and kept, so that no second model is held."""
    if not (out / REFERENCE).exists():
        with without_adapters(model):
            write_tensors(out / REFERENCE, {name: torch.empty(0) if batches is None else read(model, batches, answers)
                                            for name, (batches, answers) in sides.items()})
    return read_tensors(out / REFERENCE)


def _found(pairs: Sequence[ReadPair], before: Tensor, after: Tensor, beta: float) -> dict[str, dict]:
    rewards = beta * (after - before)
    likely = {name: {"before": float(before[start::2].mean()), "after": float(after[start::2].mean())}
              for start, name in enumerate(("chosen", "rejected"))}
    return {"accuracy": accuracies([pair.preference for pair in pairs], rewards[::2] - rewards[1::2]),
            "log_probability": likely}


def both_less_likely(found: dict[str, dict[str, float]], sft_weight: float) -> str:
    """What is said where the better answers lost too, a known failure of DPO; empty where they did not, or hardly."""
    chosen, rejected = found["chosen"], found["rejected"]
    if chosen["before"] - chosen["after"] < NOTABLE * -chosen["before"] or rejected["after"] >= rejected["before"]:
        return ""
    remedy = f"an sft_weight above {sft_weight:g}" if sft_weight else "sft_weight=0.5"
    return (f"the chosen answers have become less likely, as the rejected ones have (their log-probability: "
            f"{chosen['before']:.2f} before, {chosen['after']:.2f} after), so that answers in no pair have gained: "
            f"read some. To keep the chosen ones likely: {remedy}, a lower learning rate or a larger beta")


def _likelihoods_told(found: dict[str, dict[str, float]]) -> Table:
    table = Table(title="Log-probability of the answers to unseen questions")
    for heading in ("answer", "before", "after"):
        table.add_column(heading, justify="left" if heading == "answer" else "right")
    for name, values in found.items():
        table.add_row(name, f"{values['before']:.2f}", f"{values['after']:.2f}")
    return table
