"""One model under every method, as a user compares them."""

import json

from headwater.cli.main import main
from headwater.context import measure as module
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model


def arguments(small_model, corpus, out, *more):
    return ["context", "compare", str(small_model), "--out", str(out), f"corpus={corpus}", "lengths=[64,192,256]",
            "each=1", "depths=[0,1]", "texts=4", "last=16", 'tasks=["passkey"]', *more]


def test_every_method_is_measured_on_the_same_text(small_model, corpus, tmp_path, capsys):
    more = ["contexts.abf.length=256", "contexts.abf.method=base", "contexts.abf.base=50000", "lengths=[128,256]",
            "contexts.streaming.window=60", "contexts.streaming.sinks=4"]
    assert main(arguments(small_model, corpus, tmp_path, *more)) == 0
    told = capsys.readouterr()
    assert "an oracle answers 100%" in told.out
    assert "yarn x 4" in told.err
    assert "streaming: a window of 60 and 4 sinks, base 10,000" in told.err
    found = json.loads((tmp_path / "compare.json").read_text())
    assert set(found["measured"]) == {"none", "linear", "ntk", "dynamic", "yarn", "llama3", "abf",
                                  "streaming"}
    assert found["controls"] == {"oracle": 1.0, "guesser": 0.0}
    at = {method: one["loss"]["256"]["mean"] for method, one in found["measured"].items()}
    assert len(set(at.values())) == len(at)  # every method reads in its own way
    assert (tmp_path / "perplexity.svg").exists()
    assert (tmp_path / "passkey.zh.svg").exists()


def test_what_cannot_be_compared_is_refused_before_any_work(small_model, corpus, tmp_path, capsys):
    for more, words in ((["lengths=[64,4096]"], "no sentence beside the question of task 'passkey' in 'en'"),
                        (["contexts.wide.window=640"], "reach further than the 64"),
                        (["methods=[yarn]", "lengths=[64,192]", "languages=[fr]"], "'en' or 'zh'"),
                        (["contexts.yarn.window=9"], "which is one of methods"),
                        (["methods=[yarm]"], "did you mean 'yarn'"), (["lengths=[]"], "length"),
                        (["last=64", "lengths=[64]"], "the last 64 tokens of texts"),
                        (["methods=[window]"], "methods, window: method window is for models without positions"),
                        (["contexts.w.length=512", "contexts.w.method=window"], "give contexts.w.method=yarn")):
        assert main(arguments(small_model, corpus, tmp_path / "out", *more)) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_what_was_measured_is_kept_and_nothing_else_taken_for_it(small_model, corpus, tmp_path, capsys, monkeypatch):
    more = ["lengths=[128,256]", "methods=[none,yarn]"]
    assert main(arguments(small_model, corpus, tmp_path, *more)) == 0
    first = (tmp_path / "compare.json").read_text()
    (tmp_path / "ways" / "yarn.json").unlink()
    taken = []
    plain = module.Measure.take
    monkeypatch.setattr(module.Measure, "take", lambda self, engine: (taken.append(engine), plain(self, engine))[1])
    assert main(arguments(small_model, corpus, tmp_path, *more)) == 0
    assert len(taken) == 1
    assert (tmp_path / "compare.json").read_text() == first
    assert main(arguments(small_model, corpus, tmp_path, "lengths=[128,192]")) == 2
    assert "another comparison" in capsys.readouterr().err


def test_a_test_that_cannot_be_passed_stops_the_comparison(small_model, corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "oracle", lambda tokenizer: lambda asked: ["0"] * len(asked))
    assert main(arguments(small_model, corpus, tmp_path, "lengths=[128,256]")) == 1
    assert "the oracle answers 0.0%" in capsys.readouterr().err


def without_rotary(trained, folder, **changes):
    config = ModelConfig.parse({"vocab_size": 512, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                                "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
                                **changes})
    save_model(initialise(Decoder(config), 0), folder)
    (folder / "tokenizer.model").write_bytes(trained.to_bytes())
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def losses(out):
    measured = json.loads((out / "compare.json").read_text())["measured"]
    return {method: one["loss"] for method, one in measured.items()}


def test_a_model_with_alibi_is_read_as_it_is(trained, corpus, tmp_path, capsys):
    model = without_rotary(trained, tmp_path / "model", position="alibi")
    assert main(arguments(model, corpus, tmp_path / "out", "lengths=[128,256]")) == 0
    assert set(losses(tmp_path / "out")) == {"none"}
    assert "positions 'alibi'" in capsys.readouterr().err


def test_a_model_without_positions_is_read_with_its_vectors_replaced(trained, corpus, tmp_path, capsys):
    model = without_rotary(trained, tmp_path / "model", position="none")
    assert main(["context", "positions", str(model), "--out", str(tmp_path / "positions"), f"corpus={corpus}",
                 "length=256", "texts=4"]) == 0
    replaced = ["contexts.replaced.length=256", "contexts.replaced.method=vectors", "contexts.replaced.layer=1",
                f"contexts.replaced.vectors={tmp_path / 'positions' / 'vectors.safetensors'}"]
    assert main(arguments(model, corpus, tmp_path / "out", "lengths=[128,256]", *replaced)) == 0
    found = losses(tmp_path / "out")
    assert found["none"]["256"] != found["replaced"]["256"]
    assert main(arguments(model, corpus, tmp_path / "longer", "lengths=[128,300]", *replaced)) == 2
    assert "256 tokens, and texts of 300 are read" in capsys.readouterr().err


def test_a_window_is_widened(trained, corpus, tmp_path, capsys):
    model = without_rotary(trained, tmp_path / "model", position="none", sliding_window=16)
    assert main(arguments(model, corpus, tmp_path / "out", "lengths=[128,256]")) == 0
    found = losses(tmp_path / "out")
    assert set(found) == {"none", "window"}
    assert found["none"]["256"] != found["window"]["256"]
    assert "window: a window of 64, positions 'none'" in capsys.readouterr().err
