"""A tiny model that has learned to answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.tokenizer import Tokenizer
from headwater.train import Trainer, TrainerSettings
from headwater.train.objective import next_token
from headwater.train.packing import PackedBatches

TRAINER = {"sequence_length": 64, "rows": 8, "precision": "float32", "compile": "off", "threads": 1,
           "record_places": False, "checkpoint_seconds": 1000}


def taught(tokenizer: Tokenizer, answers: list[str], folder: Path, steps: int = 60) -> Path:
    """A model's folder: asked "Which?", it gives each of the answers as often as the others."""
    config = ModelConfig(vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=2, max_position_embeddings=64,
                         initializer_range=0.2)  # so that the head tells the words apart when it is frozen
    dialogues = [tokenizer.chat.render([{"role": "user", "content": "Which?"}, {"role": "assistant", "content": text}])
                 for text in answers]
    batches = PackedBatches([(one.ids, one.loss_mask) for one in dialogues] * 64, rows=8, length=64, seed=0,
                            pad=tokenizer.pad)
    settings = TrainerSettings.parse({**TRAINER, "steps": steps, "optimizer": {"learning_rate": 1e-2,
                                                                              "warmup_steps": 5}})
    model = initialise(Decoder(config), 0)
    Trainer(model, next_token, batches, settings).fit(folder / "training")
    (folder / "tokenizer.model").write_bytes(tokenizer.to_bytes())
    (folder / "tokenizer_config.json").write_text("{}")
    save_model(model, folder, tokenizer_from=folder)
    return folder


@pytest.fixture(scope="session")
def two_armed(trained, tmp_path_factory) -> Path:
    """Says "river" or "lake", one as likely as the other."""
    return taught(trained, ["river", "lake"], tmp_path_factory.mktemp("two-armed"))


@pytest.fixture(scope="session")
def asking(tmp_path_factory) -> Path:
    """A file with the one question that it knows."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Which?"}]}))
    return path


@pytest.fixture(scope="session")
def settled() -> Callable[..., dict]:
    """Settings of a short PPO of such a model."""
    def settings(model: Path, prompts: Path, **changes) -> dict:
        trainer = {**TRAINER, "optimizer": {"learning_rate": 1e-3, "schedule": "constant", "warmup_steps": 0,
                                             "weight_decay": 0.0},
                   **changes.pop("trainer", {})}
        return {"model": model, "prompts": [prompts], "rewards": {"rules": {"brevity": 1e-9}}, "iterations": 10,
                "answers": 32, "minibatches": 2, "max_tokens": 8, "kl": {"start": 0.0}, "trainer": trainer, **changes}

    return settings
