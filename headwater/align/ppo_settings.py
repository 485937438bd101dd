"""How PPO is done, as its user says it, and what two reports say of how they did it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from headwater.align.rewards import RewardSettings
from headwater.model.adapters import LoraSettings
from headwater.settings import InputPath, OwnDefaults, Seed, Settings, laid_over
from headwater.train.settings import TrainerSettings

Preset = Literal["baichuan2", "llama2"]
PRESETS: dict[str, dict[str, Any]] = {
    "baichuan2": {
        "iterations": 350, "clip": 0.1, "critic_warmup": 20, "kl": {"start": 0.2, "end": 0.005},
        "trainer": {"optimizer": {"learning_rate": 5e-6, "schedule": "constant", "warmup_steps": 0, "clip": 0.5}}},
    "llama2": {
        "iterations": 400, "answers": 512, "minibatches": 8, "passes": 1, "clip": 0.2, "whiten": "standard",
        "kl": {"start": 0.01},
        "trainer": {"optimizer": {"learning_rate": 1e-6, "schedule": "constant", "warmup_steps": 0, "clip": 1.0,
                                  "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-5, "weight_decay": 0.1}}},
}
"""What the reports say, and no more: Baichuan 2 (2309.10305, section 3.3), LLaMA 2 of 7B and 13B (2307.09288, section
3.2.3; 200 to 400 iterations)."""


IDLE = ("micro_rows", "validate_every", "snapshot_tokens")
"""Settings of the trainer that have no effect on PPO."""
OURS = OwnDefaults({"log_every": 1, "compile": "off", "record_places": False,
                    "optimizer": {"learning_rate": 5e-6, "schedule": "constant", "warmup_steps": 0}},
                   without=("steps", "epochs", "compile", *IDLE))
"""Of the trainer: a step is long, the answers' rows have many shapes, their places are of one iteration, and the rate
is that of Baichuan 2's report. How many steps there are follows from the iterations."""


class KlSettings(Settings):
    """What it costs to leave the reference: beta times the log-ratio of every token."""

    start: float = Field(default=0.05, ge=0)
    end: float | None = Field(default=None, ge=0)
    """At the last iteration; the same as at the first when not set."""
    schedule: Literal["linear", "exponential"] = "linear"

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.schedule != "linear" and self.end is None:
            raise ValueError("schedule has no effect without an end")
        if self.schedule == "exponential" and not (self.start and self.end):
            raise ValueError("an exponential schedule never comes to 0, nor from there: give both ends above it")
        return self

    def at(self, iteration: int, iterations: int) -> float:
        """beta of an iteration, 0-based."""
        end = self.start if self.end is None else self.end
        share = iteration / max(1, iterations - 1)
        if self.schedule == "exponential":
            return float(self.start * (end / self.start) ** share)
        return self.start + share * (end - self.start)


class PpoMethod(Settings):
    """The method: how many answers, how they are judged, how far a step may go."""

    preset: Preset | None = None
    """What is not given is as in the report of that model, as far as it says."""
    iterations: int = Field(default=100, gt=0)
    """Times that the policy is sampled and learns from its answers."""
    answers: int = Field(default=64, gt=0)
    """Of an iteration, each to a prompt of its own as far as there are so many."""
    minibatches: int = Field(default=4, gt=0)
    """Steps in which an iteration's answers are read once."""
    passes: int = Field(default=1, gt=0)
    """Times that they are read."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the sampling, and of the policy that learns: it is the one that is sampled."""
    max_tokens: int = Field(default=64, gt=0)
    """Of an answer. One that has not ended by then is left out."""
    clip: float = Field(default=0.2, gt=0, lt=1)
    """Of the ratio between the policy and the one that gave the answers."""
    value_clip: float = Field(default=0.2, gt=0)
    """Of the way that the critic may go from what it said of the answers."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    """Of generalised advantage estimation: 1 the whole return, 0 one step alone."""
    kl: KlSettings = KlSettings()
    critic_warmup: int = Field(default=0, ge=0)
    """First steps, in which the critic alone learns."""
    whiten: Literal["no", "scale", "standard"] = "no"
    """Bring an iteration's scores to a spread of 1 (scale), and their mean to 0 (standard, as LLaMA 2)."""
    entropy_bonus: float = Field(default=0.0, ge=0)
    """Times the entropy of every prediction, added to what is maximised."""

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("preset") not in PRESETS:
            return values
        published = {name: one for name, one in PRESETS[values["preset"]].items() if name in cls.model_fields}
        return laid_over(published, {name: one for name, one in values.items() if one is not None})

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.minibatches > self.answers:
            raise ValueError(f"{self.answers} answers are not enough for {self.minibatches} minibatches")
        if self.critic_warmup >= self.iterations * self.steps_each:
            raise ValueError(f"critic_warmup {self.critic_warmup} leaves the policy none of the "
                             f"{self.iterations * self.steps_each} steps")
        return self

    @property
    def steps_each(self) -> int:
        """Optimizer steps of an iteration."""
        return self.minibatches * self.passes


class PpoSettings(PpoMethod):
    """What is aligned, on which prompts, by what rewards, and how."""

    model: InputPath = Path("${finetune}")
    """Where the policy begins, and what it is held to."""
    critic: InputPath | None = None
    """full: where the critic begins, a reward model's folder or a model's; the policy when not set."""
    prompts: list[InputPath] = Field(min_length=1)
    """JSON lines or arrays of {"messages": [...]} that end with the user's, or of {"prompt": ...}."""
    validation: list[InputPath] = []
    """Prompts that are not learned from, answered before and after."""
    rewards: RewardSettings
    method: Literal["full", "lora"] = "full"
    """full: policy, critic and reference are three models. lora: one frozen model is all of them, without adapters the
    reference, with one the policy, with another the critic."""
    lora: LoraSettings = LoraSettings()
    force_template: bool = False
    """Use the tokenizer's chat template even where the checkpoint records another."""
    seed: Seed = 0
    trainer: Annotated[TrainerSettings, OURS] = Field(default={})  # type: ignore[assignment]  # refused in its own words
    """rows: of answers that are computed at once; a step has as many as its answers fill."""

    @model_validator(mode="before")
    @classmethod
    def _steps_follow(cls, values: Any) -> Any:
        """The trainer's epochs are iterations."""
        trainer = values.get("trainer") or {} if isinstance(values, Mapping) else None
        if not isinstance(trainer, Mapping):
            return values
        preset = PRESETS.get(values.get("preset") or "", {})
        iterations = values.get("iterations") or preset.get("iterations") or cls.model_fields["iterations"].default
        if trainer.get("steps") or trainer.get("epochs") not in (None, iterations):
            raise ValueError("the steps follow from iterations, passes and minibatches: leave out trainer.steps and "
                             "trainer.epochs")
        found = laid_over(preset.get("trainer", {}), trainer)
        return {**values, "trainer": {**found, "epochs": iterations}}

    @model_validator(mode="after")
    def _used(self) -> Self:
        trainer, given = self.trainer, self.trainer.model_fields_set
        for name in IDLE:
            if name in given and getattr(trainer, name):
                raise ValueError(f"trainer.{name} has no effect on PPO")
        if trainer.compile != "off":
            raise ValueError("answers fill rows of many shapes, each of which would be compiled for: leave out "
                             "trainer.compile")
        if self.max_tokens >= trainer.sequence_length:
            raise ValueError(f"max_tokens {self.max_tokens} leaves no room for a prompt in trainer.sequence_length "
                             f"{trainer.sequence_length}")
        if self.method == "full" and self.lora != LoraSettings():
            raise ValueError("lora has no effect with method full")
        if self.method == "lora" and self.critic is not None:
            raise ValueError("critic has no effect with method lora: it shares the policy's model")
        if self.method == "lora" and trainer.recompute != "none":
            raise ValueError("trainer.recompute would give the critic's blocks again with the policy's adapter: leave "
                             "it out with method lora")
        return self
