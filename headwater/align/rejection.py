"""Rejection sampling: a model answers every prompt many times, the best answers are what a model is tuned on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from rich.table import Table

from headwater.align.answers import Tally, sample_answers, tell, usable
from headwater.align.best_of import Curves, curves
from headwater.align.candidates import (
    ANSWERS,
    Candidate,
    SamplingSettings,
    best_of,
    earlier,
    sampled,
    with_usable,
)
from headwater.align.rewards import RewardSettings, Scorer, scorer
from headwater.align.rules import require_judged
from headwater.align.tuning import TUNED, Tuning, TuningSettings, last_answer
from headwater.artifacts import read_json, write_json, write_jsonl
from headwater.dialogues.reading import Dialogue, render_each
from headwater.errors import InputError
from headwater.model import Decoder
from headwater.model.checkpoint import load_model
from headwater.model.task_head import require_no_head
from headwater.progress import print_result, say
from headwater.settings import InputPath
from headwater.tokenizer import Tokenizer
from headwater.train.learning import check
from headwater.train.objective import next_token
from headwater.train.settings import TrainerSettings

BEST, BEFORE, FOUND, SCALES = "best.jsonl", "before.json", "rejection.json", "scales.json"
VALIDATION_ANSWERS = 4
"""To each prompt whose rewards are compared before and after."""


class RejectionSettings(SamplingSettings, TuningSettings):
    """Who answers what how often, how the answers are judged, and what is tuned on the best of them."""

    sampler: InputPath | None = None
    """The model that answers: a larger one, of which the tuned one learns. The tuned one itself when not set."""
    validation: list[InputPath] = []
    """Prompts that are not learned from: mean rewards before and after."""
    earlier: list[InputPath] = []
    """`best.jsonl` of earlier rounds: their answers compete with the new ones, by the present rewards."""
    rewards: RewardSettings = Field(default={})  # type: ignore[assignment]  # refused in its own words
    least_reward: float | None = None
    """A prompt whose best answer is worth less teaches nothing. 0 is the mean of the first answers, in their spread."""
    tune: bool = True
    """Whether a model is tuned on the best answers; else they are written alone."""
    trainer: Annotated[TrainerSettings | None, TUNED] = None

    @model_validator(mode="after")
    def _goes_together(self) -> RejectionSettings:
        if self.tune:
            if self.trainer is None:
                raise ValueError("setting 'trainer' is required: give trainer.epochs or trainer.steps, or tune=false")
            check(self)  # type: ignore[arg-type]
        elif wrong := sorted(self.model_fields_set & {"method", "lora", "trainer", "validation"}):
            raise ValueError(f"{wrong[0]} has no effect with tune=false")
        return self

    @property
    def device(self) -> str:
        if self.trainer is not None:
            return self.trainer.training_device()
        return "cuda" if torch.cuda.is_available() else "cpu"


def run(settings: RejectionSettings, out: Path) -> dict[str, float]:
    """Write `answers.jsonl`, all with their rewards; `best.jsonl`, dialogues to be tuned on; `rejection.json`; and the
    tuned model. Figures: rewards of all and of the best, curves' ends, mean rewards before and after."""
    tuning = Tuning(settings) if settings.tune else None  # type: ignore[arg-type]
    score = scorer(settings.rewards, settings.device, kept=out / SCALES)
    best, facts = _best(settings, score, out)
    figures = {key: float(value) for key, value in facts.items() if isinstance(value, int | float)}
    figures |= {f"{name}_reward": facts["curves"][name][-1] for name in ("max", "mean", "median")}
    if tuning is not None:
        trained, measured = _tune(settings, tuning, score, best, out)
        facts |= measured
        figures |= trained | {f"{when}.{name}": value for when, values in measured.items()
                              for name, value in values.items()}
    write_json(out / FOUND, facts)
    return figures


def _best(settings: RejectionSettings, score: Scorer, out: Path) -> tuple[list[Candidate], dict[str, Any]]:
    """The best usable answer to every prompt, written to `best.jsonl`, and what sampling came to."""
    source, tally = settings.sampler or settings.model, Tally()
    require_no_head(source)
    engine, prompts = settings.engine(load_model(source, device=settings.device), Tokenizer.load(source),
                                      settings.prompts)
    require_judged(settings.rewards.rules, prompts)
    each = sampled(settings, engine, prompts, score, settings.seed, out)
    kept = [with_usable(own, tally) for own in each]
    tell(tally, sum(map(len, each)))
    before = earlier(settings.earlier, Tokenizer.load(settings.model), score)
    of_all = best_of([one for own in kept for one in own] + before)
    best = [one for one in of_all if settings.least_reward is None or one.reward >= settings.least_reward]
    if not any(kept):
        raise InputError("no prompt has an answer that can be learned from", where=out / ANSWERS,
                         fix="raise max_tokens, lower temperature, or ask a model that has learned to converse")
    if not best:
        raise InputError(f"no answer is worth {settings.least_reward:g}, the best one "
                         f"{max(one.reward for one in of_all):.3g}", where="least_reward", fix="give a lower one")
    write_jsonl(out / BEST, [_dialogue(one) for one in best])
    told = curves([[one.reward for one in own] for own in kept], settings.answers)
    print_result(_curve_table(told))
    facts = {"prompts": len(prompts), "answers": sum(map(len, each)), "left_out": dict(sorted(tally.items())),
             "without_usable_answer": sum(not own for own in kept), "best": len(best),
             "worth_less": len(of_all) - len(best), "earlier": len(before),
             "from_earlier_rounds": sum(one.earlier for one in best),
             "best_reward": sum(one.reward for one in best) / len(best)}
    _tell(facts)
    return best, {**facts, "curves": told._asdict()}


def _tell(facts: Mapping[str, Any]) -> None:
    if lacking := facts["without_usable_answer"]:
        say(f"of {facts['prompts']:,} prompts, {lacking:,} have no answer of this round that can be learned from")
    if facts["worth_less"]:
        say(f"of {facts['best'] + facts['worth_less']:,} best answers, {facts['worth_less']:,} are worth less than "
            "least_reward and are not learned from")
    if facts["earlier"]:
        say(f"{facts['earlier']:,} answers of earlier rounds competed, and {facts['from_earlier_rounds']:,} of the "
            f"{facts['best']:,} best are among them")


def _dialogue(one: Candidate) -> dict[str, Any]:
    """A row that `headwater finetune` reads, and that `earlier` does."""
    prompt = one.answer.prompt
    known = {key: getattr(prompt, key) for key in ("unsafe", "expected", "careless", "domain", "attack")}
    return {"messages": one.answer.messages, "language": prompt.language, "reward": one.reward,
            **{key: value for key, value in known.items() if value}}


def _tune(settings: RejectionSettings, tuning: Tuning, score: Scorer, best: list[Candidate], out: Path
          ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The trainer's figures, and rewards of answers to unseen prompts before and after."""
    dialogues = [Dialogue(one.answer.messages, one.answer.prompt.language, one.answer.prompt.place) for one in best]
    rendered = render_each(dialogues, tuning.tokenizer, tuning.trainer.sequence_length, cut=False)
    sequences = [(one.ids, last_answer(one)) for one in rendered if one is not None]
    batches = tuning.packed(sequences, tuning.trainer.rows)
    measured: dict[str, dict[str, float]] = {}
    if settings.validation:
        if not (out / BEFORE).exists():
            write_json(out / BEFORE, _measured(settings, load_model(settings.model, device=settings.device), score))
        measured["before"] = read_json(out / BEFORE)
    model = tuning.load()
    figures = tuning.fit(model, next_token, batches, out)
    if settings.validation:
        measured["after"] = _measured(settings, model.to(settings.device), score)
        print_result(_before_and_after(measured))
    return figures, measured


def _measured(settings: RejectionSettings, model: Decoder, score: Scorer) -> dict[str, float]:
    """Mean reward of usable answers to unseen prompts and what each source says of them; the share of the others."""
    engine, prompts = settings.engine(model, Tokenizer.load(settings.model), settings.validation)
    found = sample_answers(engine, prompts, VALIDATION_ANSWERS, settings.params, settings.seed)
    answers = [answer for own in found for answer in own]
    scored = score(answers)
    good = torch.tensor(usable(answers, scored.total, Counter()))
    each = {"reward": scored.total, **{f"reward.{name}": said for name, said in scored.parts.items()}}
    means = {name: float(values[good].mean()) for name, values in each.items()} if good.any() else {}
    return {**means, "left_out": 1 - float(good.float().mean())}


def _curve_table(told: Curves) -> Table:
    table = Table(title="Reward by the number of answers")
    for heading in ("answers", "best", "mean", "median"):
        table.add_column(heading, justify="right")
    for k in sorted({told.k[-1], *(2**power for power in range(told.k[-1].bit_length()))}):
        table.add_row(str(k), *(f"{values[k - 1]:.3f}" for values in (told.max, told.mean, told.median)))
    return table


def _before_and_after(measured: dict[str, dict[str, float]]) -> Table:
    table = Table(title="Unseen prompts")
    for heading in ("measure", *measured):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for name in dict.fromkeys(name for values in measured.values() for name in values):
        table.add_row(name.replace("_", " ").replace(".", ", "),
                      *(f"{values[name]:.3f}" if name in values else "" for values in measured.values()))
    return table
