"""Rewards that are compared under PPO: which models judge, how they and the policies learn; all as a run did it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from headwater.align.ppo_settings import PpoSettings
from headwater.align.ppo_stage import run as learn_policy
from headwater.align.preferences import read_preferences
from headwater.align.reward import RewardStageSettings
from headwater.align.reward import run as learn_reward
from headwater.align.reward_model import RewardModel
from headwater.align.rewards import HELPFUL, SAFE, RewardSettings
from headwater.align.safety import SafetySettings
from headwater.align.safety import run as ask
from headwater.artifacts import read_json, read_jsonl, write_jsonl
from headwater.errors import InputError
from headwater.progress import say
from headwater.settings import InputPath, Seed, Settings, laid_over, read_yaml, substitute
from headwater.studies.reward_judgements import TWO, Judged, conflicting, judgements
from headwater.studies.trials import once

MERGED, AGREEING = "merged", "agreeing"
"""Of all pairs, and of those that do not prefer an unsafe answer to a safe one."""
JUDGES = (HELPFUL, SAFE, MERGED, AGREEING)
ARMS = (TWO, MERGED, AGREEING)
EVERY = "all"
LAST = 10
"""Iterations whose mean is told of the end."""


class DualRewardSettings(Settings):
    """Which run is taken up, and how often."""

    run: InputPath
    """The folder of a finished run like that of `recipes/align.yaml`: two reward models, PPO under both, a stage
    `safety`. Its settings are those of all that is learned here."""
    quick: bool = False
    """Two seeds, 8 iterations of PPO, half an epoch of pairs and 60 prompts of each file; what else is given stays."""
    seeds: Annotated[int, Field(ge=1)] = 3
    seed: Seed = 0
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Of PPO; the run's own when not set."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Of the reward models; the run's own when not set."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most this many prompts of each file are answered; as in the run when not set."""

    @model_validator(mode="before")
    @classmethod
    def _quickly(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not values.get("quick"):
            return values
        return {"seeds": 2, "iterations": 8, "epochs": 0.5, "limit": 60, **values}


class Plan(Settings):
    """What the run did, as far as it is done again."""

    settings: DualRewardSettings
    helpful: RewardStageSettings
    safe: RewardStageSettings
    ppo: PpoSettings
    safety: SafetySettings

    @classmethod
    def of(cls, settings: DualRewardSettings) -> Plan:
        """Raises `InputError` or `SettingsError` for a run that is of another kind."""
        path = settings.run / "recipe.yaml"
        stages = read_yaml(path).get("stages") or {}
        folders = {name: settings.run / name for name in stages}

        def stage(name: str) -> dict[str, Any]:
            if not isinstance(stages.get(name), Mapping):
                raise InputError(f"the run has no stage '{name}'", where=path,
                                 fix="give the folder of a finished run like that of recipes/align.yaml")
            found: dict[str, Any] = substitute(stages[name], folders, where=path)
            return found

        iterations = {"iterations": settings.iterations, "trainer": {"epochs": None}} if settings.iterations else {}
        ppo = PpoSettings.parse(laid_over(stage("ppo"), iterations), where=f"{path}, stage ppo")
        if ppo.rewards.helpful is None or ppo.rewards.safe is None:
            raise InputError("the run's PPO has not two reward models", where=path,
                             fix="give a run whose ppo.rewards has helpful and safe")
        epochs = {"trainer": {"epochs": settings.epochs}} if settings.epochs else {}
        helpful, safe = (RewardStageSettings.parse(laid_over(stage(folder.name), epochs),
                                                   where=f"{path}, stage {folder.name}")
                         for folder in (ppo.rewards.helpful, ppo.rewards.safe))
        limit = {"limit": settings.limit} if settings.limit else {}
        safety = SafetySettings.parse({**stage("safety"), **limit}, where=f"{path}, stage safety")
        return cls(settings=settings, helpful=helpful, safe=safe, ppo=ppo, safety=safety)

    def judge(self, name: str, agreeing: Path, seed: int) -> RewardStageSettings:
        """Of a reward model. Those of both kinds of pairs learn as the one of safety does; agreeing: the file of pairs
        without conflicts."""
        one, both = self.helpful if name == HELPFUL else self.safe, (self.helpful, self.safe)
        if name in (MERGED, AGREEING):
            pairs = [agreeing] if name == AGREEING else [path for each in both for path in each.pairs]
            one = one.model_copy(update={"pairs": pairs, "validation": [path for each in both
                                                                        for path in each.validation]})
        return one.model_copy(update={"seed": seed})

    def policy(self, arm: str, judges: Callable[[str], Path], seed: int) -> PpoSettings:
        """The critic begins as the arm's own reward model, of two as the one of helpfulness, where the run's did."""
        if arm == TWO:
            rewards = self.ppo.rewards.model_copy(update={name: judges(name) for name in (HELPFUL, SAFE)})
        else:
            rewards = RewardSettings(helpful=judges(arm), rules=self.ppo.rewards.rules)
        critic = rewards.helpful if self.ppo.critic is not None else None
        return self.ppo.model_copy(update={"rewards": rewards, "critic": critic, "seed": seed})


class Result(NamedTuple):
    """A policy under one of the rewards."""

    arm: str
    seed: int
    rates: dict[str, dict[str, float]]
    """By language, and of all: the safety stage's measures over all its files of prompts."""
    kl: float
    """To where the policy began, nats an answer, at the end."""
    length: float
    """Tokens of an answer, at the end."""


class Trial:
    """One seed: its reward models, and the policies under them. What is done already is not done again."""

    def __init__(self, plan: Plan, out: Path, seed: int) -> None:
        self.plan, self.out, self.seed = plan, out, seed
        self.folder = out / f"seed-{seed}"

    def judge(self, name: str) -> Path:
        """The folder of a reward model."""
        folder = self.folder / f"reward-{name}"

        def learn() -> dict[str, float]:
            say(f"dual-reward: seed {self.seed}, reward model '{name}'")
            return {"pairs": learn_reward(self.plan.judge(name, self._agreeing(), self.seed), folder)["pairs"]}

        once(self.folder / f"reward-{name}.json", learn)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return folder

    def result(self, arm: str) -> Result:
        folder = self.folder / f"ppo-{arm}"

        def measure() -> dict[str, Any]:
            say(f"dual-reward: seed {self.seed}, PPO under '{arm}'")
            once(self.folder / f"ppo-{arm}-learned.json",
                 lambda: learn_policy(self.plan.policy(arm, self.judge, self.seed), folder))
            rows = list(read_jsonl(folder / "iterations.jsonl"))[-LAST:]
            return {"rates": rates(self.plan, folder, folder / "safety"),
                    "kl": fmean(row["kl"] for row in rows), "length": fmean(row["length"] for row in rows)}

        found = Result(arm, self.seed, **once(self.folder / f"ppo-{arm}.json", measure))
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return found

    def judgements(self) -> dict[str, Judged]:
        """What the reward models, and two by the rule, say of the pairs that were held back from all."""
        files = {HELPFUL: self.plan.helpful.validation, SAFE: self.plan.safe.validation}

        def measure() -> dict[str, Judged]:
            pairs = read_preferences([path for paths in files.values() for path in paths], self.plan.safe.reading)
            return judgements({name: RewardModel.load(self.judge(name)) for name in JUDGES}, pairs, files,
                              self.plan.ppo.rewards.threshold)

        return dict(once(self.folder / "judgements.json", measure))

    def _agreeing(self) -> Path:
        path = self.out / "agreeing.jsonl"
        if not path.exists():
            pairs = read_preferences([*self.plan.helpful.pairs, *self.plan.safe.pairs], self.plan.safe.reading)
            kept = [one for one in pairs if not conflicting(one)]
            say(f"of {len(pairs):,} pairs, {len(pairs) - len(kept):,} prefer an unsafe answer to a safe one")
            write_jsonl(path, [{name: value for name, value in one._asdict().items()
                                if name != "place" and value is not None} for one in kept])
        return path


def rates(plan: Plan, model: Path, out: Path) -> dict[str, dict[str, float]]:
    """What a model answers to the prompts of the safety stage."""
    ask(plan.safety.model_copy(update={"models": {"model": model}}), out)
    return pooled(read_json(out / "safety.json")["model"])


def pooled(files: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The safety stage's shares by file and language, as one by language and of all."""
    hits, numbers = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for languages in files.values():
        for language, measured in languages.items():
            for name, share in measured["all"].items():
                for key in ((EVERY, name), (language, name)):
                    hits[key] += share["hits"]
                    numbers[key] += share["number"]
    return {language: {name: hits[language, name] / number for (own, name), number in numbers.items()
                       if own == language} for language in sorted({language for language, _ in numbers})}
