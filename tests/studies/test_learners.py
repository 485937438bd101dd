"""Breaks when unseen text was seen, what is there is written again, or a loss is not the mean over its targets."""

from __future__ import annotations

import math

import pytest

from headwater.documents import corpus_files, read_texts
from headwater.model import Decoder, initialise
from headwater.studies.learners import ComparedSettings, ShapedSettings, TextSettings, losses, train, training_step


class Settings(ShapedSettings, ComparedSettings):
    """As a study has them."""


def test_the_invented_worlds_pages_are_of_both_languages_and_none_is_in_both_splits(small):
    seen, unseen = (list(read_texts(corpus_files(small["corpus"], split))) for split in ("train", "validation"))
    assert {language for _, language in seen} == {language for _, language in unseen} == {"en", "zh"}
    assert not {text for text, _ in seen} & {text for text, _ in unseen}


def test_a_text_is_written_once(tmp_path):
    settings = TextSettings(world="tiny", vocab_size=1024, threads=1)
    settings.text(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tokenizer").iterdir()}
    settings.text(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "tokenizer").iterdir()} == before


def test_an_untrained_model_is_as_good_as_chance_and_a_trained_one_better(small, tmp_path):
    settings = Settings(**{**small, "steps": 30, "learning_rate": 0.01})
    text = settings.text(tmp_path)
    config = settings.shaped(text.vocabulary)
    before = losses(initialise(Decoder(config), 0), settings.unseen(text), 8)
    assert before.cross_entropy == pytest.approx(math.log(text.vocabulary), rel=0.02)
    model = train(tmp_path / "model", config, settings.stream(text, 0), settings.trainer(), 0)
    after = losses(model, settings.unseen(text), 8)
    assert after.cross_entropy < before.cross_entropy - 0.5
    assert after.max_logit > before.max_logit
    again = train(tmp_path / "model", config, settings.stream(text, 0), settings.trainer(), 0)
    assert losses(again, settings.unseen(text), 8) == after


def test_a_timed_step_trains(small):
    settings = Settings(**small)
    model = initialise(Decoder(settings.shaped(1024)), 0)
    before = model.head.weight.detach().clone()
    training_step(model, settings)()
    assert not before.equal(model.head.weight)
