"""The PPO stage: a model learns from its own answers, which rewards judge, and is held to what it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.table import Table

from headwater import plan
from headwater.align.answers import tell, usable
from headwater.align.critic import CRITIC, POLICY, Critic, require_critic
from headwater.align.iterations import write_iterations
from headwater.align.ppo import Ppo
from headwater.align.ppo_settings import PpoMethod, PpoSettings
from headwater.align.prompts import Prompt, read_prompts
from headwater.align.rewards import Scorer, Source, scorer
from headwater.align.rollouts import SLOTS, Reading, Rollouts, sampled
from headwater.align.rules import require_judged
from headwater.align.tuning import check_machine
from headwater.artifacts import read_json, write_json
from headwater.model import Decoder, ModelConfig
from headwater.model.adapters import attach, require_no_prefix, save_adapter
from headwater.model.checkpoint import load_model, read_config, require_floats, save_model
from headwater.model.task_head import TaskHead, require_no_head
from headwater.progress import print_result
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.fitting import record_template, require_template
from headwater.train.machine import products
from headwater.train.memory import Beside, Frozen, require_memory
from headwater.train.objective import Reference
from headwater.train.trainer import Trainer

VALIDATION = 0x7FFF_FFFF
"""The seed of the answers to validation prompts, which no iteration has."""


def run(settings: PpoSettings, out: Path, others: Mapping[str, tuple[Source, float]] | None = None
        ) -> dict[str, float]:
    """Write a model's folder, or an adapter's, the critic's below it, and `iterations.jsonl`. others: sources of reward
    with their weights, beside those of the settings. Figures: of the last iterations reward, KL to the reference and
    length; mean rewards of validation prompts before and after."""
    check_machine(settings)
    require_no_prefix(settings.model, "aligned")
    require_no_head(settings.model)
    if settings.method == "full":
        require_floats(settings.model, "trained", "give the float model, or set method=lora")
    tokenizer, trainer = Tokenizer.load(settings.model), settings.trainer
    require_template(tokenizer, settings.model, force=settings.force_template)
    config = read_config(settings.model)[0]
    if settings.critic is not None:
        require_critic(settings.critic, tokenizer, config, trainer.sequence_length)
    frozen = None if settings.method == "full" else Frozen(None, plan.Trained(rank=2 * settings.lora.rank))
    beside = held_beside(settings, config)
    require_memory(config, trainer, frozen, beside)
    room = trainer.sequence_length - settings.max_tokens
    prompts, unseen = (read_prompts(paths, tokenizer, room) if paths else []
                       for paths in (settings.prompts, settings.validation))
    require_judged(settings.rewards.rules, prompts)
    judge = scorer(settings.rewards, trainer.training_device(), kept=out / "reward_scales.json", others=others)
    model, objective = _models(settings)
    reading = Reading(prompts, tokenizer, config, trainer.sequence_length, trainer.rows, settings.seed)
    before = _once(out / "before.json", lambda: judged(model, reading, unseen, settings, judge))
    figures = Trainer(model, objective, Rollouts(reading, judge, objective, out), trainer, frozen=frozen,
                      beside=beside).fit(out)
    _save(settings, model, objective, tokenizer, out)
    found = {"before": before, "after": judged(model, reading, unseen, settings, judge)}
    write_json(out / "ppo.json", found)
    if unseen:
        print_result(_table(found))
    last = write_iterations(out, settings.steps_each)[-1]
    return {**{name: value for name, value in figures.items() if name in ("steps", "parameters", "trained_parameters")},
            "reward": last["reward"]["total"]["mean"], "kl": last["kl"], "length": last["length"],
            "entropy": last["entropy"], "prompts": float(len(prompts)),
            **{f"{when}.{name}": value for when, values in found.items() for name, value in values.items()}}


def _models(settings: PpoSettings) -> tuple[Decoder, Ppo]:
    """The policy, and the objective with reference and critic."""
    if settings.method == "lora":
        base = load_model(settings.model, dtype=getattr(torch, products(settings.trainer)))
        model = attach(base, settings.lora, settings.seed, (POLICY, CRITIC))
        return model, Ppo(Critic.beside(model), Reference(None), settings)
    model = load_model(settings.model).float()
    reference = Reference(load_model(settings.model, dtype=torch.float32))
    return model, Ppo(Critic.load(settings.critic or settings.model), reference, settings)


def held_beside(settings: PpoSettings, config: ModelConfig) -> Beside:
    """What PPO holds beside the policy: the critic, the reference, what judges, and while answers are sampled the
    policy joined whole with the engine's cache."""
    def size(folder: Path) -> int:
        return 4 * plan.parameters(_trunk(folder))

    full, trainer = settings.method == "full", settings.trainer
    width = 4 if full or products(trainer) == "float32" else 2
    cache = min(SLOTS, settings.answers) * trainer.sequence_length * plan.cache_bytes_per_token(config, width)
    whole = width * plan.parameters(config)
    judges = sum(size(folder) for folder in (settings.rewards.helpful, settings.rewards.safe) if folder)
    learning = (_trunk(settings.critic or settings.model),) if full else ()
    return Beside(learning, cache + whole + judges + (whole if full else 0))


def _trunk(folder: Path) -> ModelConfig:
    """Of a model's folder, or of one with a head."""
    return read_config(TaskHead.load(folder)[1] if (folder / "task.json").is_file() else folder)[0]


def _save(settings: PpoSettings, model: Decoder, objective: Ppo, tokenizer: Tokenizer, out: Path) -> None:
    objective.critic.save(out / "critic", model, settings.model)
    if settings.method == "lora":
        save_adapter(model, out, settings.model, POLICY)
    else:
        save_model(model, out, tokenizer_from=settings.model)
        record_template(tokenizer, out)


def judged(model: Decoder, reading: Reading, prompts: list[Prompt], settings: PpoMethod, judge: Scorer
           ) -> dict[str, float]:
    """Mean rewards of answers to prompts, in all and by part, mean length and the share that none can be learned from.
    """
    if not prompts:
        return {}
    answers = sampled(model, reading, prompts, settings, VALIDATION)
    scored, left_out = judge(answers), Counter[str]()
    good = torch.tensor(usable(answers, scored.total, left_out))
    tell(left_out, len(answers))
    means = {f"reward.{name}": float(part[good].nanmean()) for name, part in
             {"total": scored.total, **scored.parts}.items() if good.any()}
    return {**means, "length": sum(len(one.ids) for one in answers) / len(answers),
            "left_out": 1 - float(good.float().mean())}


def _once(path: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Taken before the training, and not again by a run that goes on."""
    if not path.exists():
        write_json(path, measure())
    return dict(read_json(path))


def _table(found: dict[str, dict[str, float]]) -> Table:
    table = Table(title="Answers to validation prompts")
    for column in ("", "before", "after"):
        table.add_column(column, justify="right" if column else "left")
    for name in found["after"] | found["before"]:
        table.add_row(name, *(f"{found[when].get(name, float('nan')):.3f}" for when in ("before", "after")))
    return table
