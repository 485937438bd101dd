"""The command line under `torchrun`: the first process leads, the others come in where a stage is shared."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.model.checkpoint import load_model
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

TEXTS = ["document 0123456789 "] * 20
MODEL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
TRAINER = {"steps": 5, "rows": 4, "sequence_length": 32, "threads": 1, "compile": "off", "precision": "float32",
           "log_every": 1}


@pytest.fixture
def inputs(tmp_path):
    words = count_words((text, "") for text in TEXTS).weighted()
    (tmp_path / "tokenizer").mkdir()
    train_bpe(words, tmp_path / "tokenizer" / "tokenizer.model", BpeSettings(vocab_size=292))
    for split, count in (("train", 60), ("validation", 5)):
        texts = [f"document {number} " * (3 + number % 7) for number in range(count)]
        (tmp_path / "corpus" / split).mkdir(parents=True)
        table = pa.table({"text": texts, "language": ["en"] * count})
        pq.write_table(table, tmp_path / "corpus" / split / "0.parquet")
    return [f"corpus={tmp_path / 'corpus'}", f"tokenizer={tmp_path / 'tokenizer'}", f"model={json.dumps(MODEL)}",
            *(f"trainer.{name}={value}" for name, value in TRAINER.items())]


def shared(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "headwater"]
    return subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_stage_is_shared_written_once_and_found_done(tmp_path, inputs):
    done = shared("pretrain", "--out", str(tmp_path / "pretrain"), *inputs)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes") == 1
    places = [path.read_text().splitlines() for path in (tmp_path / "pretrain" / "places").iterdir()]
    assert [len(lines) for lines in places] == [5, 5]
    assert load_model(tmp_path / "pretrain").config.hidden_size == 32
    again = shared("pretrain", "--out", str(tmp_path / "pretrain"), *inputs)
    assert "unchanged, skipped" in again.stderr
    assert again.returncode == 0


def test_a_mistake_is_told_once_and_ends_all(tmp_path, inputs):
    odd = ["trainer.rows=3" if one.startswith("trainer.rows=") else one for one in inputs]
    done = shared("pretrain", "--out", str(tmp_path / "pretrain"), *odd)
    assert done.returncode != 0
    assert done.stderr.count("3 rows cannot be shared by 2 processes") == 1
