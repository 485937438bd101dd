"""Breaks when snapshots are taken out of order or twice, or figures of another corpus are shown for these."""

from __future__ import annotations

import json

import pytest

from headwater.cli.main import main
from headwater.errors import InputError
from headwater.model import Decoder, initialise
from headwater.model.checkpoint import save_model
from headwater.studies.dynamics import DynamicsSettings, plot, run, snapshots, verdicts
from headwater.studies.learners import ShapedSettings
from headwater.studies.trials import Estimate


@pytest.fixture
def pretrained(tmp_path, small):
    """A run with two snapshots, the later one made first."""
    settings = ShapedSettings(**small)
    for tokens in (3072, 256):
        model = initialise(Decoder(settings.shaped(1024)), tokens)
        save_model(model, tmp_path / "run" / "pretrain" / "snapshots" / f"tokens-{tokens:014d}",
                   tokenizer_from=small["tokenizer"])
    (tmp_path / "run" / "corpus").symlink_to(small["corpus"])
    return tmp_path / "run"


def test_every_snapshot_is_evaluated_once_on_the_runs_own_corpus(pretrained, tmp_path, capsys):
    assert main(["study", "dynamics", str(pretrained), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "dynamics.json").read_text())["results"]
    assert list(found) == ["256", "3072"]
    assert all(set(row) == {"text.en.bits_per_byte", "text.zh.bits_per_byte"} for row in found.values())
    assert "<svg" in (tmp_path / "out" / "dynamics.svg").read_text()
    kept = tmp_path / "out" / "tokens-00000000000256.json"
    kept.write_text(json.dumps({key: [77.0, 0.0, 1] for key in found["256"]}))
    run(pretrained, tmp_path / "out", DynamicsSettings())
    assert "77.000" in capsys.readouterr().out


def test_the_pretrain_folder_itself_will_do(pretrained):
    assert [one.tokens for one in snapshots(pretrained / "pretrain")] == [256, 3072]


def test_shares_of_questions_have_the_standard_error_of_so_many(pretrained, tmp_path):
    questions = tmp_path / "choice" / "test"
    questions.mkdir(parents=True)
    for subject in ("rivers", "rivers_rephrased"):
        rows = [f"How long is river {number}?,1 km,2 km,3 km,4 km,{'ABCD'[number % 4]}" for number in range(8)]
        (questions / f"{subject}_test.csv").write_text("\n".join(rows) + "\n")
    run(pretrained, tmp_path / "out", DynamicsSettings(choice={"rivers": {"en": tmp_path / "choice"}}))
    found = json.loads((tmp_path / "out" / "tokens-00000000000256.json").read_text())
    for name, count in (("accuracy", 16), ("rephrased_accuracy", 8)):
        share, error, asked = found[f"rivers.en.{name}"]
        assert asked == count
        assert error == pytest.approx((share * (1 - share) / count) ** 0.5)


def test_a_run_without_snapshots_or_without_a_corpus_says_what_to_do(pretrained, tmp_path):
    with pytest.raises(InputError, match="no snapshots"):
        run(tmp_path, tmp_path / "out", DynamicsSettings())
    (pretrained / "corpus").unlink()
    with pytest.raises(InputError, match="no corpus folder"):
        run(pretrained, tmp_path / "out", DynamicsSettings())
    assert not (tmp_path / "out").exists()


def test_losses_that_fall_early_and_accuracies_that_rise_are_as_expected():
    def row(bits, accuracy=0.3):
        return {"text.en.bits_per_byte": Estimate(bits, 0.0), "mmlu.en.accuracy": Estimate(accuracy, 0.03, 200)}

    figures = {100: row(4.0, 0.25), 200: row(2.0, 0.25), 800: row(1.0, 0.5)}
    told = verdicts(figures)
    assert [one.word for one in told] == ["shown"] * 3
    assert "by 175 tokens" in told[1].claim
    late = verdicts({100: row(4.0), 700: row(3.9), 800: row(1.0, 0.35)})
    assert [one.word for one in late] == ["shown", "refuted", "neither shown nor refuted"]
    assert "accuracy" in plot(figures)
