"""Tuning shared by real processes, over gloo on the CPU, against the same of one."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from headwater.model.tensors import read_tensors
from tests.finetune.sharing import run
from tests.train.test_sharing import together

TRAINER = {"steps": 3, "log_every": 1, "rows": 4, "sequence_length": 48, "threads": 1, "precision": "float32",
           "compile": "off", "optimizer": {"learning_rate": 1e-2, "warmup_steps": 2}}


@pytest.fixture
def cases(small_model, tmp_path):
    """Settings by the name of what they share."""
    examples = [{"text": f"{name} is long.", "label": name[0]} for name in ("Oslo", "Rome", "Omsk", "Riga")]
    talks = [{"messages": [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": "482 km."}]}
             for number in range(8)]
    for name, rows in (("e.jsonl", examples), ("d.jsonl", talks)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "corpus" / "train").mkdir(parents=True)
    pages = [{"text": f"The river {name} is long. " * 5, "language": "en"} for name in ("Rhine", "Nile", "Volga", "Po")]
    pq.write_table(pa.Table.from_pylist(pages), tmp_path / "corpus" / "train" / "part.parquet")
    told = {"model": str(small_model), "examples": [str(tmp_path / "e.jsonl")], "trainer": TRAINER}
    tuned = {"model": str(small_model), "dialogues": [str(tmp_path / "d.jsonl")], "trainer": TRAINER}
    replay = {"corpus": str(tmp_path / "corpus"), "share": 0.5}
    return {"head": {**told, "method": "head"}, "head and model": told,
            "replay": {**tuned, "replay": replay, "near_base": 0.5},
            "adapter": {**tuned, "near_base": 0.5, "method": "lora"}}


@pytest.mark.slow
def test_however_tuning_is_shared_it_is_that_of_one_process(cases, tmp_path):
    together(2, tmp_path / "two", cases, script=Path(__file__).with_name("sharing.py"))
    run(tmp_path / "one", cases)
    for name in cases:
        wanted = [pytest.approx(row, rel=1e-5, abs=1e-6) for row in losses(tmp_path / "one" / name)]
        assert losses(tmp_path / "two" / name) == wanted, name
        shared, alone = weights(tmp_path / "two" / name), weights(tmp_path / "one" / name)
        assert shared.keys() == alone.keys()
        for key, one in alone.items():
            torch.testing.assert_close(shared[key], one, rtol=0, atol=2e-5, msg=f"{name}: {key}")


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [[row["loss"], row["grad_norm"], row.get("divergence", 0.0)] for row in rows]


def weights(folder):
    return {f"{path.name}: {key}": one for path in sorted(folder.glob("*.safetensors"))
            for key, one in read_tensors(path).items()}
