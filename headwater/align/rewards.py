"""What an answer is worth: reward models, LLaMA 2's way of joining two of them, rules, and any function of answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from headwater.align.answers import Answer
from headwater.align.reward_model import RewardModel, judged_ids, learned_safety
from headwater.align.rules import RULES, Rule, by_rule
from headwater.artifacts import read_json, write_json
from headwater.errors import CheckpointError, InputError
from headwater.progress import say
from headwater.settings import InputPath, Settings

Source = Callable[[Sequence[Answer]], Tensor]
"""Rewards of answers, float32 [N]; NaN for one that it cannot judge, which is then left out."""
HELPFUL, SAFE, COMBINED = "helpful", "safe", "combined"
THRESHOLD = 0.15
"""LLaMA 2's: of the answers below it 89 % are unsafe, and 55 % of the unsafe ones are below it."""


def combined(helpful: Tensor, safe: Tensor, unsafe_prompt: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """R_c = R_s where the prompt is marked unsafe or R_s < threshold, else R_h; then logit(R_c) (2307.09288, section
    3.2.3). helpful, safe: what the reward models say, float [N], with R their sigmoid; unsafe_prompt: bool [N].

    The logit takes the sigmoid back: the scores themselves are chosen among, and none is lost where R rounds to 1.
    """
    return torch.where(unsafe_prompt | (safe < safe.new_tensor(threshold).logit()) | safe.isnan(), safe, helpful)


def whitened(values: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Standard deviation 1 over the finite values [N], and mean 0; without `shift_mean` they keep their mean, as
    advantages do in some trainers and rewards in LLaMA 2 do not."""
    finite = values[values.isfinite()]
    mean, spread = finite.mean(), finite.std(correction=0).clamp_min(1e-8)
    return (values - mean) / spread + (0 if shift_mean else mean)


class RewardSettings(Settings):
    """What answers are judged by. Every source is brought to mean 0 and spread 1, then they are added up."""

    helpful: InputPath | None = None
    """A folder that `headwater reward` wrote. With `safe` beside it the two are joined by LLaMA 2's rule; a model alone
    judges every answer."""
    safe: InputPath | None = None
    """Another one, of safety."""
    threshold: float = Field(default=THRESHOLD, gt=0, lt=1)
    """Of the probability of being safe: where it is below, safety alone counts, as on prompts marked unsafe."""
    rules: dict[Rule, float] = {}
    """Rule -> weight, where that of the reward models is 1. right: says what is expected; language: that of the
    question; brevity: few tokens; distinct: no repetition; careful: does not do what is unsafe; willing: does not
    decline what is not."""

    @model_validator(mode="after")
    def _used(self) -> RewardSettings:
        if self.helpful is None and self.safe is None and not self.rules:
            raise ValueError("nothing judges the answers: give helpful, safe or rules")
        if self.threshold != THRESHOLD and (self.helpful is None or self.safe is None):
            raise ValueError("threshold has no effect unless both helpful and safe are given")
        for name, weight in self.rules.items():
            if weight == 0:
                raise ValueError(f"rules.{name} has no effect with weight 0: leave it out")
        return self


class Scored(NamedTuple):
    """Answers with their rewards."""

    total: Tensor
    """Float32 [N]; not finite where a source could not judge."""
    parts: dict[str, Tensor]
    """What each source said, as it said it, float32 [N]."""


class Scale(NamedTuple):
    """What a source's rewards are measured by."""

    mean: float
    spread: float


class Scorer:
    """Answers -> rewards: (source - mean) / spread of every source, times its weight, added up.

    Mean and spread are those of the first answers that are scored, the untuned model's, and stay (as in 1909.08593,
    section 2): rewards of all steps, rounds and portions can be compared, and a reward whose spread shrinks because the
    model has learned it is not blown up again, as it would be by the spread of every batch. Where `kept` names a file
    they are written there and read again, so that a run that goes on measures by the same.
    """

    def __init__(self, sources: Mapping[str, Source], weights: Mapping[str, float], *, threshold: float = THRESHOLD,
                 kept: Path | None = None) -> None:
        """weights: of what is added up, sources or `combined`."""
        self.sources, self.weights, self.threshold, self.kept = sources, weights, threshold, kept
        self.scales: dict[str, Scale] = {}
        if kept is not None and kept.exists():
            self.scales = {name: Scale(**values) for name, values in read_json(kept).items()}

    def __call__(self, answers: Sequence[Answer]) -> Scored:
        parts = self.parts(answers)
        return Scored(self.total(parts), parts)

    def parts(self, answers: Sequence[Answer]) -> dict[str, Tensor]:
        """What every source says, and what two reward models say together."""
        found = {name: source(answers).float().cpu() for name, source in self.sources.items()}
        if HELPFUL in found and SAFE in found:
            unsafe = torch.tensor([answer.prompt.unsafe for answer in answers], dtype=torch.bool)
            found[COMBINED] = combined(found[HELPFUL], found[SAFE], unsafe, self.threshold)
        return found

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Float32 [N] of the parts [N]; not finite where one of them is not."""
        if not self.scales:
            self._measure(parts)
        each = [weight * (parts[name] - self.scales[name].mean) / self.scales[name].spread
                for name, weight in self.weights.items()]
        return torch.stack(each).sum(0)

    def _measure(self, parts: Mapping[str, Tensor]) -> None:
        for name in self.weights:
            finite = parts[name][parts[name].isfinite()].double()
            if not len(finite):
                self.scales = {}
                raise InputError(f"'{name}' gives no answer a finite reward", where="rewards",
                                 fix="look at the first answers, and at what judges them")
            self.scales[name] = Scale(float(finite.mean()), float(finite.std(correction=0)) or 1.0)
        if self.kept is not None:
            write_json(self.kept, {name: scale._asdict() for name, scale in self.scales.items()})


def scorer(settings: RewardSettings, device: torch.device | str = "cpu", *, kept: Path | None = None,
           others: Mapping[str, tuple[Source, float]] | None = None) -> Scorer:
    """What the settings ask for, and others (source and weight by name): a checker, a test of code, anything that maps
    answers to numbers. Raises `InputError`."""
    if settings.helpful and settings.safe:
        _require_safety(settings.helpful, settings.safe, chosen="threshold" in settings.model_fields_set)
    sources: dict[str, Source] = {name: judge(_loaded(name, folder, device))
                                  for name, folder in ((HELPFUL, settings.helpful), (SAFE, settings.safe)) if folder}
    weights = {COMBINED: 1.0} if len(sources) == 2 else dict.fromkeys(sources, 1.0)
    for rule, weight in settings.rules.items():
        sources[rule], weights[rule] = by_rule(RULES[rule]), weight
    for name, (source, weight) in (others or {}).items():
        sources[name], weights[name] = source, weight
    return Scorer(sources, weights, threshold=settings.threshold, kept=kept)


def _loaded(name: str, folder: Path, device: torch.device | str) -> RewardModel:
    try:
        return RewardModel.load(folder, device=device)
    except CheckpointError as error:
        raise CheckpointError(error.what, where=f"rewards.{name}, {error.where}", fix=error.fix) from None


def _require_safety(helpful: Path, safe: Path, *, chosen: bool) -> None:
    """The threshold is of a probability of being safe, which a model of preferences alone does not tell. chosen: by
    hand, for the numbers that there are. Raises `InputError`."""
    if learned_safety(safe) is False and not chosen:
        exchanged = learned_safety(helpful)
        raise InputError("it has learned without safety_weight: its number is no probability of being safe, and means "
                         "nothing beside the threshold", where=f"rewards.safe, {safe}",
                         fix=f"exchange the two: {helpful} has learned with it" if exchanged else
                         "train it with safety_weight, on labelled pairs; or look at its numbers and set "
                         "rewards.threshold by hand, of their sigmoid")
    if learned_safety(safe) is not True:
        say(f"rewards.safe: {safe} {'has learned without' if chosen else 'does not say whether it has learned with'} "
            "safety_weight; the threshold holds only if the sigmoid of its number is a probability of being safe")
    if learned_safety(helpful):
        say(f"rewards.helpful: {helpful} has learned with safety_weight, and its number is of being safe too")


def judge(model: RewardModel) -> Source:
    """A reward model as a source. It reads what was said in its own chat format, so that it may be of another family
    than the model that spoke; an empty answer, or one behind which there is more than it reads, it cannot judge."""
    longest = model.model.config.longest

    def rewards(answers: Sequence[Answer]) -> Tensor:
        found = torch.full((len(answers),), float("nan"))
        said = {place: judged_ids(answer.messages, model.tokenizer)
                for place, answer in enumerate(answers) if answer.text.strip()}
        fitting = {place: ids for place, ids in said.items() if len(ids) <= longest}
        if len(fitting) < len(said):
            say(f"of {len(answers):,} answers, {len(said) - len(fitting):,} are longer than the {longest:,} tokens "
                "that the reward model reads")
        if fitting:
            found[list(fitting)] = model.scores(list(fitting.values()))
        return found

    return rewards
