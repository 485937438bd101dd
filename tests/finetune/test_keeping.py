import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from headwater.errors import SettingsError
from headwater.finetune.keeping import NearBase, Replayed, ReplaySettings
from headwater.finetune.stage import FinetuneSettings, run
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.adapters import LoraSettings, attach
from headwater.model.checkpoint import load_model
from headwater.train.batches import IGNORE
from headwater.train.loss import divergence
from headwater.train.objective import Reference, next_token
from headwater.train.packing import PackedBatches

CONFIG = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2)
TRAINER = {"rows": 4, "sequence_length": 48, "threads": 1, "precision": "float32", "compile": "off",
           "optimizer": {"learning_rate": 1e-2, "warmup_steps": 2}}


def counting(first, rows):
    sequences = [([(first + number + step) % 64 for step in range(12)], [True] * 12) for number in range(20)]
    return PackedBatches(sequences, rows=rows, length=16, seed=0, pad=0)


def test_divergence_is_that_of_the_formula():
    torch.manual_seed(0)
    hidden, weight = torch.randn(700, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    near, near_weight = torch.randn(700, 8), torch.randn(50, 8)
    p, q = (hidden @ weight.t()).softmax(-1), (near @ near_weight.t()).softmax(-1)
    wished = (q * (q / p).log()).sum() / 7
    found = divergence(hidden, weight, near, near_weight, 7)
    torch.testing.assert_close(found, wished, rtol=1e-4, atol=1e-4)
    inputs = [hidden, weight]
    torch.testing.assert_close(torch.autograd.grad(found, inputs), torch.autograd.grad(wished, inputs), rtol=1e-3,
                               atol=1e-4)
    assert float(divergence(near, near_weight, near, near_weight, 1)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("adapter", [True, False])
def test_a_model_is_no_way_from_itself_and_some_way_once_it_has_changed(adapter):
    model, base = initialise(Decoder(CONFIG), 0), None
    if adapter:
        attach(model, LoraSettings(), seed=0)
    else:
        base = initialise(Decoder(CONFIG), 0).requires_grad_(False)
    batch, objective = counting(0, 4).batch(0), NearBase(2.0, Reference(base))
    outcome, plain = objective(model, batch, 10), next_token(model, batch, 10)
    assert outcome.loss.item() == pytest.approx(plain.loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        if name.endswith((".b", "feedforward.down.weight")):
            parameter.data.add_(0.1)
    outcome, plain = objective(model, batch, 10), next_token(model, batch, 10)
    apart = float(outcome.sums["divergence"]) / 10
    assert apart > 0.001
    assert outcome.loss.item() == pytest.approx(plain.loss.item() + 2 * apart, rel=1e-4)
    outcome.loss.backward()
    assert all(one.grad is not None for one in model.parameters() if one.requires_grad)


def test_rows_of_text_stand_behind_those_of_dialogues_for_every_reader():
    both = Replayed(counting(0, 3), counting(32, 1), 4, tokens=1000)
    whole = both.batch(2)
    assert torch.equal(whole.tokens[:3], counting(0, 3).batch(2).tokens)
    assert torch.equal(whole.tokens[3:], counting(32, 1).batch(2).tokens)
    assert int(whole.places[3].max()) >= 1000
    for rank in range(2):
        assert all(torch.equal(part, own[rank::2]) for part, own in zip(both.batch(2, rank, 2), whole))
    assert (whole.targets[3] != IGNORE).any()


@pytest.mark.parametrize(("values", "words"), [
    ({"share": 0.5}, "needs both a corpus and a share"), ({"corpus": "x"}, "needs both a corpus and a share")])
def test_half_a_replay_is_refused(values, words):
    with pytest.raises(SettingsError, match=words):
        ReplaySettings.parse(values)


def test_a_share_of_no_row_is_refused():
    with pytest.raises(SettingsError, match=r"0\.1 of 4 rows is 0"):
        FinetuneSettings.parse({"dialogues": ["d"], "replay": {"corpus": "x", "share": 0.1}, "trainer": {
            "steps": 1, "rows": 4}})


@pytest.fixture
def corpus(tmp_path):
    """General text of two languages."""
    for split in ("train", "validation"):
        rows = [{"text": text * 5, "language": language} for text, language in
                (("The river Velna is 482 km long. ", "en"), ("维尔纳河全长482公里。", "zh"))] * 4
        (tmp_path / "corpus" / split).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "corpus" / split / "part.parquet")
    return tmp_path / "corpus"


def test_what_tuning_costs_is_told_and_replay_lessens_it(small_model, corpus, tmp_path, capsys):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "城市?"},
                                             {"role": "assistant", "content": "12345"}]}))
    values = {"model": small_model, "dialogues": [path], "general": {"corpus": corpus},
              "trainer": {**TRAINER, "steps": 20}}
    forgets = run(FinetuneSettings.parse(values), tmp_path / "forgets")
    keeps = run(FinetuneSettings.parse({**values, "replay": {"corpus": corpus, "share": 0.5}}), tmp_path / "keeps")
    near = run(FinetuneSettings.parse({**values, "near_base": 3.0}), tmp_path / "near")
    key = "text.en.bits_per_byte"
    assert forgets[f"before.{key}"] == keeps[f"before.{key}"]
    assert keeps[f"after.{key}"] < forgets[f"before.{key}"]
    assert near[f"after.{key}"] < forgets[f"after.{key}"]
    found = json.loads((tmp_path / "keeps" / "finetune.json").read_text())
    assert found["after"][key] == keeps[f"after.{key}"]
    assert "What tuning changed" in capsys.readouterr().out
    assert load_model(tmp_path / "keeps").config == load_model(small_model).config
