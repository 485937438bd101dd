"""What several processes do in the tests of sharing: `torchrun sharing.py OUT CASES`, a run for each case."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.adapters import LoraSettings, attach, attach_prefix
from headwater.model.checkpoint import save_model
from headwater.model.prefix import PrefixSettings
from headwater.tokenizer.shards import Loaded
from headwater.train import Trainer, TrainerSettings
from headwater.train.gathering import on_leader
from headwater.train.loss import Penalties
from headwater.train.objective import NextToken
from headwater.train.processes import is_leader, leave
from headwater.train.streams import StreamBatches

CONFIG = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2}
SETTINGS = {"steps": 6, "rows": 4, "sequence_length": 32, "precision": "float32", "compile": "off", "threads": 1,
            "log_every": 1, "checkpoint_seconds": 1000, "optimizer": {"learning_rate": 1e-2, "warmup_steps": 2}}


def shard(seed=0, documents=40, size=50):
    """Documents that count upwards: learnable at once."""
    starts = np.random.default_rng(seed).integers(0, 64, documents)
    tokens = ((starts[:, None] + np.arange(size)) % 64).astype("<u4").ravel()
    return Loaded(tokens, np.arange(documents + 1) * size, ["en"] * documents, np.full(documents, size))


def run(out, model=None, validate=None, lora=None, prefix=None, frozen=0, **settings):
    """Train into `out`; the trainer, the leader's model whole again. lora, prefix: settings of an
    adapter that learns alone. frozen: blocks that do not learn."""
    parsed = TrainerSettings.parse({**SETTINGS, **settings})
    config = ModelConfig(**{**CONFIG, **(model or {})})
    decoder = on_leader(lambda: initialise(Decoder(config), 0), config)
    if lora is not None:
        attach(decoder, LoraSettings(**lora), seed=0)
    if prefix is not None:
        attach_prefix(decoder, PrefixSettings(**prefix), seed=0)
    for block in decoder.blocks[:frozen]:
        block.requires_grad_(False)
    batches = StreamBatches(shard(), rows=parsed.rows, length=parsed.sequence_length, seed=0)
    trainer = Trainer(decoder, NextToken(Penalties(1e-3, 1e-3)), batches, parsed, validate, save_model)
    trainer.figures = trainer.fit(Path(out))
    return trainer


def losses(folder):
    rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [(row["loss"], row["grad_norm"], row["max_z"]) for row in rows]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, case in json.loads(sys.argv[2]).items():
        trained = run(folder / name, **case)
        if is_leader():
            torch.save(dict(trained.model.named_parameters()), folder / name / "weights.pt")
        else:  # no other process ever holds a whole model
            assert all(one.is_meta for one in trained.model.parameters())
    leave()
