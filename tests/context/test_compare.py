"""One model under every method, as a user compares them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.cli.main import main
from headwater.context import measure as module
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "validation"
    folder.mkdir()
    texts = {"en": "The river runs south past the old mill. Number {n} is painted on its door. " * 30,
             "zh": "河水流过古老的磨坊。门上写着{n}号。" * 60}
    rows = [{"text": text.replace("{n}", str(number)), "language": language}
            for language, text in texts.items() for number in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "part.parquet")
    return folder.parent


def arguments(small_model, corpus, out, *more):
    return ["context", "compare", str(small_model), "--out", str(out), f"corpus={corpus}", "lengths=[64,192,256]",
            "each=1", "depths=[0,1]", "texts=4", "last=16", 'tasks=["passkey"]', *more]


def test_every_method_is_measured_on_the_same_text(small_model, corpus, tmp_path, capsys):
    methods = "methods=[none,linear,ntk,dynamic,yarn,llama3,base]"
    assert main(arguments(small_model, corpus, tmp_path, methods, "base=50000", "lengths=[128,256]")) == 0
    told = capsys.readouterr()
    assert "an oracle answers 100%" in told.out
    assert "yarn x 4" in told.err
    found = json.loads((tmp_path / "compare.json").read_text())
    assert set(found["measured"]) == {"none", "linear", "ntk", "dynamic", "yarn", "llama3", "base"}
    assert found["controls"] == {"oracle": 1.0, "guesser": 0.0}
    at = {method: one["loss"]["256"]["mean"] for method, one in found["measured"].items()}
    assert len(set(at.values())) == len(at)  # every method reads in its own way
    assert (tmp_path / "perplexity.svg").exists()
    assert (tmp_path / "passkey.zh.svg").exists()


def test_what_cannot_be_compared_is_refused_before_any_work(small_model, corpus, tmp_path, capsys):
    for more, words in ((["lengths=[64,4096]"], "pieces of 4,096 tokens"), (["base=9"], "if and only if"),
                        (["methods=[yarn]", "lengths=[64,192]", "languages=[fr]"], "'en' or 'zh'"),
                        (["methods=[yarm]"], "did you mean 'yarn'")):
        assert main(arguments(small_model, corpus, tmp_path / "out", *more)) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_test_that_cannot_be_passed_stops_the_comparison(small_model, corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "oracle", lambda tokenizer: lambda asked: ["0"] * len(asked))
    assert main(arguments(small_model, corpus, tmp_path, "lengths=[128,256]")) == 1
    assert "the oracle answers 0.0%" in capsys.readouterr().err


def test_a_model_without_rotary_positions_is_read_as_it_is(trained, corpus, tmp_path, capsys):
    config = ModelConfig(vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=64, position="alibi")
    save_model(initialise(Decoder(config), 0), tmp_path / "model")
    (tmp_path / "model" / "tokenizer.model").write_bytes(trained.to_bytes())
    (tmp_path / "model" / "tokenizer_config.json").write_text("{}")
    assert main(arguments(tmp_path / "model", corpus, tmp_path / "out", "lengths=[128,256]")) == 0
    assert set(json.loads((tmp_path / "out" / "compare.json").read_text())["measured"]) == {"none"}
    assert "positions 'alibi'" in capsys.readouterr().err
