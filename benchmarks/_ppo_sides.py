"""The two sides of `ppo.py`: the stage's PPO, and TRL's RLOO trainer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore, Thread
from typing import Any

import torch
from _harness import installed
from _workers import Questions
from torch import Tensor

from headwater import hardware
from headwater.align.answers import Answer
from headwater.align.critic import Critic
from headwater.align.ppo import Ppo
from headwater.align.ppo_settings import PpoMethod
from headwater.align.prompts import read_prompts
from headwater.align.rewards import Scorer
from headwater.align.rollouts import Reading, Rollouts
from headwater.artifacts import read_json, read_jsonl
from headwater.model import interval_attention  # noqa: F401 (what it imports is a library's memory, not a step's)
from headwater.model.checkpoint import load_model
from headwater.tokenizer import Tokenizer
from headwater.train import Trainer, TrainerSettings
from headwater.train.batches import IGNORE
from headwater.train.machine import Machine
from headwater.train.objective import Reference

ANSWERS, MOST, LENGTH, RATE, BETA = 128, 64, 256, 1e-8, 0.05
"""Answers of a step, tokens of one, tokens of a row, and the settings that both have: a rate so low that the answers
of all steps are alike."""
WANTED = 40
"""Characters of the best answer."""


@dataclass(frozen=True)
class Setup:
    """What both sides are told."""

    folder: Path
    """`model`, and `prompts.jsonl`."""
    threads: int


def reward(text: str) -> float:
    return -abs(len(text) - WANTED) / WANTED


def ours(setup: Setup) -> Questions:
    path = setup.folder / "model"
    tokenizer, before = Tokenizer.load(path), held()
    model = load_model(path).float()
    method = PpoMethod(answers=ANSWERS, minibatches=1, max_tokens=MOST, kl={"start": BETA}, iterations=1000)
    objective = Ppo(Critic.load(path), Reference(load_model(path)), method)
    prompts = read_prompts([setup.folder / "prompts.jsonl"], tokenizer, LENGTH - MOST)
    settings = TrainerSettings(epochs=1000, rows=16, sequence_length=LENGTH, precision="float32", device="cpu")
    reading = Reading(prompts, tokenizer, model.config, LENGTH, settings.rows, seed=0)
    scorer = Scorer({"length": _judged}, {"length": 1.0})
    rollouts = Rollouts(reading, scorer, objective, Path(tempfile.mkdtemp(dir=setup.folder)))
    trainer = Trainer(model, objective, rollouts, settings)
    trainer.prepare(Machine("cpu", "float32", False, setup.threads, 1.0))
    rollouts.begin(trainer)
    parameters = [one for one in trainer.task.parameters() if one.requires_grad]
    facts: list[dict[str, Any]] = []
    done = 0

    def step() -> float:
        nonlocal done
        batch = rollouts.batch(done)
        done += 1
        outcome = trainer.backward(batch, int((batch.targets != IGNORE).sum()))
        trainer.parallel.clip(parameters, trainer.parallel.gradient_norm(parameters), 1.0)
        trainer.optimizer.step(RATE)
        facts.append(read_json(rollouts.folder / f"{done - 1:05d}.json"))
        return float(outcome.loss)

    return {"step": step, "peak": lambda: hardware.peak_memory_bytes() - before, "length": lambda: facts[-1]["length"],
            "answers": lambda: ANSWERS - sum(facts[-1]["left_out"].values())}


def _judged(answers: Sequence[Answer]) -> Tensor:
    return torch.tensor([reward(answer.text) for answer in answers])


def theirs(setup: Setup) -> Questions | None:
    if None in map(installed, ("trl", "transformers")):
        return None
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import RLOOConfig, RLOOTrainer

    path, before = str(setup.folder / "model"), held()
    tokenizer = AutoTokenizer.from_pretrained(path, eos_token="<|end|>")
    rows = [{"prompt": row["messages"]} for row in read_jsonl(setup.folder / "prompts.jsonl")]
    go, done, told = Semaphore(0), Semaphore(0), list[dict[str, float]]()

    class Turns(TrainerCallback):  # type: ignore[misc]
        """Stops before every step until it is asked for."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            go.acquire()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            told.append(logs)
            done.release()

    settings = RLOOConfig(
        output_dir=tempfile.mkdtemp(dir=setup.folder), per_device_train_batch_size=ANSWERS, num_generations=2,
        max_completion_length=MOST, beta=BETA, learning_rate=RATE, lr_scheduler_type="constant", max_grad_norm=1.0,
        max_steps=1000, logging_steps=1, report_to="none", use_cpu=True, bf16=False, save_strategy="no", seed=0,
        gradient_checkpointing=False, disable_tqdm=True)
    trainer = RLOOTrainer(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32),
                          [lambda completions, **_: [reward(one[0]["content"]) for one in completions]], settings,
                          Dataset.from_list(rows), processing_class=tokenizer, callbacks=[Turns()])
    torch.set_num_threads(setup.threads)
    Thread(target=trainer.train, daemon=True).start()

    def step() -> float:
        go.release()
        done.acquire()
        return float(told[-1]["loss"])

    return {"step": step, "peak": lambda: hardware.peak_memory_bytes() - before,
            "length": lambda: float(told[-1]["completions/mean_length"]), "answers": lambda: float(ANSWERS)}


def held() -> int:
    """Bytes that this process holds before it loads anything; the peak counts from here."""
    hardware.trim_heap()
    hardware.forget_peak_memory()
    return hardware.memory_bytes()


SIDES: dict[str, Callable[[Setup], Questions | None]] = {"ours": ours, "TRL": theirs}
