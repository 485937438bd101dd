"""Perplexity on long texts, as a user asks for it."""

import json
import math

import pytest

from headwater.cli.main import main


def arguments(small_model, corpus, out, *more):
    return ["context", "perplexity", str(small_model), "--out", str(out), f"corpus={corpus}", "texts=4", "last=16",
            "length=160", *more]


def test_each_language_is_read_at_once_in_parts_and_in_a_window(small_model, corpus, tmp_path, capsys):
    assert main(arguments(small_model, corpus, tmp_path)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "window 64, stride 32" in told
    found = json.loads((tmp_path / "perplexity.json").read_text())
    assert found["bounds"] == [1, 16, 32, 64, 128, 160]
    assert found["lengths"] == [32, 64, 128, 160]
    assert list(found["loss"]) == ["en", "zh"]
    for own in found["loss"].values():
        parts = own["by_position"]
        sizes = {name: int(name.split("-")[1]) - int(name.split("-")[0]) for name in parts}
        assert sum(parts[name]["mean"] * size for name, size in sizes.items()) / 159 == pytest.approx(
            own["direct"]["mean"], rel=1e-5)
        assert own["direct"]["mean"] - own["window"]["mean"] == pytest.approx(own["gain"]["mean"], abs=1e-5)
        # as far as the first window reaches, both are one reading
        assert own["sliding"]["32-64"] == pytest.approx(parts["32-64"], rel=1e-5)
        assert own["sliding"]["128-160"]["mean"] != pytest.approx(parts["128-160"]["mean"], rel=1e-6)
        assert all(math.isfinite(one["error"]) for one in own["by_length"].values())
    assert "zh, window" in (tmp_path / "perplexity.svg").read_text()


def test_a_longer_context_is_read_with_its_method(small_model, corpus, tmp_path):
    longer = ["context.length=160", "context.method=linear"]
    for name, more in (("plain", []), ("linear", longer)):
        assert main(arguments(small_model, corpus, tmp_path / name, "languages=[zh]", *more)) == 0
    plain, linear = (json.loads((tmp_path / name / "perplexity.json").read_text()) for name in ("plain", "linear"))
    assert list(linear["loss"]) == ["zh"]
    assert linear["window"] == 64  # the trained length still
    assert linear["loss"]["zh"]["direct"] != plain["loss"]["zh"]["direct"]


def test_a_model_that_was_written_with_a_longer_context_is_given_that_length(small_model, corpus, tmp_path):
    assert main(["convert", str(small_model), str(tmp_path / "long"), "context.length=128",
                 "context.method=dynamic"]) == 0
    words = ["context", "perplexity", str(tmp_path / "long"), "--out", str(tmp_path / "out"), f"corpus={corpus}",
             "texts=4", "last=16", "context.length=128"]
    assert main(words) == 0
    found = json.loads((tmp_path / "out" / "perplexity.json").read_text())
    assert (found["length"], found["window"]) == (128, 64)


@pytest.mark.parametrize(("more", "words"), [
    (["window=160"], "a window of 160 in texts of 160 tokens"),
    (["stride=64"], "a stride 64 of a window of 64"),
    (["last=160"], "the last 160 tokens of texts of 160"),
    (["bounds=[64,200]"], "a bound at 200 in texts of 160 tokens"),
    (["bounds=[64,32]"], "bounds rise"),
    (["languages=[fr]"], "no text in 'fr'"),
    (["languages=[en,en]"], "'en' is given twice"),
    (["context.window=60", "context.sinks=4", "length=64"], "60 tokens and 4 sinks leave nothing of 64"),
    (["length=9000"], "0 pieces of 9,000 tokens"),
    (["context.method=yarn"], "needs a length")], ids=str)
def test_what_cannot_be_read_is_refused_before_any_work(small_model, corpus, tmp_path, capsys, more, words):
    assert main(arguments(small_model, corpus, tmp_path / "out", *more)) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
