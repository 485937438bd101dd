"""One model under every method, as a user compares them."""

import json
import shutil

import pytest
import torch

from headwater.cli.main import main
from headwater.context import measure as module
from headwater.context.check import described
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.extension import ContextSettings, extended

SMALL = {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2}


def arguments(small_model, corpus, out, *more):
    return ["context", "compare", str(small_model), "--out", str(out), f"corpus={corpus}", "lengths=[64,192,256]",
            "each=1", "depths=[0,1]", "texts=4", "last=16", 'tasks=["passkey"]', *more]


def test_every_method_is_measured_on_the_same_text(small_model, corpus, tmp_path, capsys):
    more = ["contexts.abf.length=256", "contexts.abf.method=base", "contexts.abf.base=50000", "lengths=[128,256]",
            "contexts.streaming.window=60", "contexts.streaming.sinks=4"]
    sharp = load_model(small_model, mmap=False)
    for block in sharp.blocks:  # attention that tells positions apart by more than rounding
        block.attention.qkv.weight.data *= 8
    save_model(sharp, tmp_path / "sharp", tokenizer_from=small_model)
    assert main(arguments(tmp_path / "sharp", corpus, tmp_path, *more)) == 0
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
                        (["contexts.w.length=512", "contexts.w.method=window"], "give contexts.w.method=yarn"),
                        (["contexts.w.window=60", "contexts.w.sinks=4", "lengths=[64]"], "leave nothing of 64 out"),
                        (["contexts={../out: {window: 9}}"], "a way '../out', and files are called by it"),
                        (["contexts={'': {window: 9}}"], "a way '', and files are called by it"),
                        (["lengths=[128,64,128]"], "128 is given twice"), (["depths=[0,0.5,0.0]"], "is given twice"),
                        (["tasks=[lines,lines]"], "'lines' is given twice"),
                        (["languages=[zh,zh]"], "'zh' is given twice"),
                        (["methods=[yarn,yarn]"], "'yarn' is given twice")):
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
    assert "another comparison, of other settings" in capsys.readouterr().err


def test_a_comparison_is_of_what_its_files_held(small_model, corpus, tmp_path, capsys):
    model, texts, out = tmp_path / "model", tmp_path / "corpus", tmp_path / "out"
    shutil.copytree(small_model, model)
    shutil.copytree(corpus, texts)
    more = ["lengths=[128]", "methods=[none]"]
    assert main(arguments(model, texts, out, *more)) == 0
    decoder = load_model(model)
    tuned = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    tuned["blocks.0.feedforward.down.weight"] += 1  # as after a tuning that leaves the embedding
    decoder.load_state_dict(tuned)
    save_model(decoder, model, tokenizer_from=small_model)
    (texts / "validation" / "more.parquet").write_bytes((texts / "validation" / "part.parquet").read_bytes())
    assert main(arguments(model, texts, out, *more)) == 2
    assert "of other weights, corpus" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("name", "text"), [("ways/none.json", "{}"), ("ways/none.json", '{"none": {"loss": {'),
                                            ("ways/none.json", '{"none": {"loss": {}, "found": []}}'),
                                            ("settings.json", "[]"), ("settings.json", '{"model')])
def test_a_damaged_file_of_a_comparison_is_told(small_model, corpus, tmp_path, capsys, name, text):
    more = ["lengths=[128]", "methods=[none]", "tasks=[]"]
    assert main(arguments(small_model, corpus, tmp_path, *more)) == 0
    (tmp_path / name).write_text(text)
    assert main(arguments(small_model, corpus, tmp_path, *more)) == 2
    told = capsys.readouterr().err
    assert f"{name}: damaged" in told
    assert "delete" in told


def test_an_output_that_is_not_finite_is_no_figure(small_model, corpus, tmp_path, capsys):
    decoder = load_model(small_model)
    with torch.no_grad():
        decoder.blocks[1].feedforward.down.weight.mul_(float("inf"))
    save_model(decoder, tmp_path / "model", tokenizer_from=small_model)
    for command, *more in (("compare", "last=16"), ("perplexity", "last=16"), ("positions",), ("ablate",)):
        assert main(["context", command, str(tmp_path / "model"), "--out", str(tmp_path / command),
                     f"corpus={corpus}", "texts=4", *more]) == 2
        assert "not finite" in capsys.readouterr().err
        assert not list((tmp_path / command).glob(f"{command}.json"))


def test_tasks_that_the_lengths_do_not_hold_are_left_out_unless_asked_for(small_model, corpus, tmp_path, capsys):
    words = arguments(small_model, corpus, tmp_path, "methods=[none]", "lengths=[128]")
    assert main([word for word in words if not word.startswith("tasks=")]) == 0
    assert "128 tokens hold no sentence beside the question of task 'several'" in capsys.readouterr().err
    found = json.loads((tmp_path / "compare.json").read_text())["measured"]["none"]["found"]
    assert "passkey" in {one["task"] for one in found}
    assert "several" not in {one["task"] for one in found if one["language"] == "en"}


def test_a_stretched_model_is_compared_as_it_is(small_model, corpus, tmp_path, capsys):
    assert main(["convert", str(small_model), str(tmp_path / "long"), "context.length=128",
                 "context.method=dynamic"]) == 0
    words = ["context", "compare", str(tmp_path / "long"), "--out", str(tmp_path / "out"), f"corpus={corpus}",
             "texts=4", "tasks=[]", "contexts.l.length=512", "contexts.l.log_n=true"]
    assert main(words) == 2
    assert "before it was stretched" in capsys.readouterr().err
    assert main(words[:-2]) == 0
    assert {name: set(found) for name, found in losses(tmp_path / "out").items()} == {"none": {"128", "256", "512"}}


def test_a_test_that_cannot_be_passed_stops_the_comparison(small_model, corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "oracle", lambda tokenizer: lambda asked: ["0"] * len(asked))
    assert main(arguments(small_model, corpus, tmp_path, "lengths=[128,256]")) == 1
    assert "the oracle answers 0.0%" in capsys.readouterr().err


def without_rotary(trained, folder, **changes):
    config = ModelConfig.parse({**SMALL, **changes})
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
    assert "replaced: positions 'none', vectors behind block 1 replaced by those stretched 4 times, times 1" in (
        capsys.readouterr().err)
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


def test_what_multiplies_scores_is_told():
    plain = ModelConfig.parse({**SMALL, "position": "none"})
    sharper = extended(plain, ContextSettings(length=256, log_n=True))
    assert described(sharper, 256) == "positions 'none', log-n beyond 64"
    windowed = ModelConfig.parse({**SMALL, "position": "none", "sliding_window": 8})
    asked = ContextSettings(length=256, method="window", score_scale=1.2)
    assert described(extended(windowed, asked), 256) == "a window of 32, positions 'none', scores x 1.2"
    assert described(ModelConfig.parse({**SMALL, "rope_theta": 1e300}), 256).startswith("base 1e+300; ")
