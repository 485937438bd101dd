"""The reward stage: from a chat model one that says how good an answer is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from headwater.align.agreement import judged, told
from headwater.align.pairs import ReadPair, measured, packed, read_pairs
from headwater.align.preferences import PairSettings, Preference, read_sides
from headwater.align.ranking import Margins, Ranking, safety
from headwater.align.reward_model import REPORT, REWARD, RewardModel
from headwater.artifacts import write_json
from headwater.errors import InputError
from headwater.model import Decoder
from headwater.model.adapters import LoraSettings, require_no_prefix
from headwater.model.checkpoint import read_config
from headwater.model.extension import KeptContext
from headwater.model.packed import Base
from headwater.model.prefix import PrefixSettings
from headwater.model.task_head import TaskHead, require_no_head
from headwater.progress import print_result, say
from headwater.settings import InputPath, OwnDefaults, Seed
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.fitting import require_template
from headwater.train.learning import check, frozen_by, prepared, require_trainable, write_learned
from headwater.train.memory import require_memory
from headwater.train.packing import PackedBatches
from headwater.train.processes import is_leader, ranks
from headwater.train.settings import TrainerSettings
from headwater.train.trainer import Trainer

OURS = OwnDefaults({"optimizer": {"learning_rate": 1e-5}})
"""Of the trainer: LLaMA 2's rate (2307.09288, section 3.2.2; of 70B half of it)."""


class RewardStageSettings(PairSettings):
    """Whose judgement is learned, from which pairs, and how."""

    model: InputPath = Path("${finetune}")
    """A chat model's folder."""
    margins: Margins = "none"
    """By how much the better answer's reward is to be higher, by its rating (LLaMA 2): nothing; 1, 2/3, 1/3 and 0
    (small); 3, 2, 1 and 0 (large)."""
    safety_weight: float = Field(default=0.0, ge=0)
    """Above 0: sigmoid(reward) learns, with this weight, whether an answer is safe, from those of which it is known."""
    method: Literal["full", "lora", "head"] = "full"
    """Beside the head, which always learns: all of the model, low-rank matrices beside it, or nothing."""
    lora: LoraSettings = LoraSettings()
    base: Base | None = None
    """lora, head: the form into which the model's matrices are packed meanwhile; as floats when not set."""
    frozen_blocks: int = Field(default=0, ge=0)
    """full: the first so many blocks stay as they are, and the embedding with them."""
    seed: Seed = 0
    trainer: Annotated[TrainerSettings, OURS] = Field(default={})  # type: ignore[assignment]  # refused in its own words

    @property
    def prefix(self) -> PrefixSettings:
        return PrefixSettings()

    @property
    def context(self) -> KeptContext:
        return KeptContext()

    @model_validator(mode="after")
    def _used(self) -> RewardStageSettings:
        check(self)
        return self


def run(settings: RewardStageSettings, out: Path) -> dict[str, float]:
    """Write the head and, where more has learned, the model's folder or an adapter's; and `reward.json`, how far it
    agrees with the pairs that were held back. Figures: loss, throughput, and of these pairs the accuracy with its 95 %
    interval, the calibration error, the safety's AUC."""
    require_no_prefix(settings.model, "given a head")
    require_no_head(settings.model)
    require_trainable(settings)
    tokenizer, trainer = Tokenizer.load(settings.model), settings.trainer
    require_template(tokenizer, settings.model)
    config, frozen = read_config(settings.model)[0], frozen_by(settings)
    require_memory(config, trainer, frozen)
    sides = read_sides(settings, settings.seed)
    _require_labels(settings, sides.train)
    train, unseen = (read_pairs(side, tokenizer, longest=config.longest, together=trainer.sequence_length,
                                on_bad_row=settings.reading.on_bad_row) for side in sides)
    head = TaskHead("regression", config.hidden_size, [REWARD]).draw(settings.seed)
    objective = Ranking(head, [one.preference for one in train], settings.margins, settings.safety_weight)
    model = prepared(settings, config)

    def batches(pairs: Sequence[ReadPair], rows: int, seed: int) -> PackedBatches:
        return packed(pairs, tokenizer, config, rows=rows, length=trainer.sequence_length, seed=seed)

    held_back = batches(unseen, trainer.rows_at_once(ranks()), 0) if unseen else None
    asked = Ranking(head, [one.preference for one in unseen])

    def validate(model: Decoder) -> dict[str, float]:
        return {} if held_back is None else measured(model, asked, held_back)

    def save(model: Decoder, folder: Path) -> None:
        if settings.method != "head":
            write_learned(settings, model, tokenizer, folder)
        objective.head.save(folder, settings.model if settings.method == "head" else folder, config.longest)

    figures = Trainer(model, objective, batches(train, trainer.rows, settings.seed), trainer, validate, save,
                      frozen).fit(out)
    if is_leader():
        judge = RewardModel(model, objective.head, tokenizer)
        found = judged(judge, unseen, absolute=settings.safety_weight > 0) if unseen else {}
        save(model, out)
        write_json(out / REPORT, {"margins": settings.margins, "safety_weight": settings.safety_weight,
                                  "method": settings.method, "pairs": len(train), "held_back": len(unseen), **found})
        if found:
            print_result(told(found))
            figures |= found["figures"]
        else:
            say("no pairs are held back: the rewards are not calibrated, and how far they agree with other pairs is "
                "not known; validation_share=0.1 would hold some back")
    return {**figures, "pairs": float(len(train)), "held_back": float(len(unseen))}


def _require_labels(settings: RewardStageSettings, pairs: Sequence[Preference]) -> None:
    """Raises `InputError` for what has no effect on these pairs."""
    if settings.margins != "none" and not any(pair.rating for pair in pairs):
        raise InputError(f"margins {settings.margins} have no effect: no pair has a rating", where="reward.margins",
                         fix="leave them out, or give rated pairs")
    labels = safety(pairs)
    kinds = labels[~labels.isnan()].unique().tolist()
    if settings.safety_weight and len(kinds) < 2:
        what = f"every answer with a label is {'safe' if kinds[0] else 'unsafe'}, and one kind teaches no difference" \
            if kinds else "safety_weight has no effect: of no answer it is known whether it is safe"
        raise InputError(what, where="reward.safety_weight",
                         fix="leave it out, or give pairs with chosen_safe and rejected_safe, of both kinds")
