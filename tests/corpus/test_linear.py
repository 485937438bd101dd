"""Breaks when texts' n-grams mix within a batch, weights change on the way to disk, or a foreign file is accepted."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.classifying.linear import SHIPPED, Classifier, Model, cut
from headwater.corpus.classifying.ngrams import FeatureSettings, ngrams
from headwater.corpus.classifying.regression import auc, fit, sparse_rows
from headwater.errors import InputError

FEATURES = FeatureSettings(characters=3, words=2, bits=12)


def classifier(seed: int = 0, window: int = 0) -> Classifier:
    weights = np.random.default_rng(seed).normal(size=1 << FEATURES.bits)
    return Classifier.from_weights(Model(name="x", features=FEATURES, window=window, bias=0.25, scale=1.0,
                                         thresholds={"en": 0.7}), weights)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_a_text_scores_alike_alone_and_in_a_batch(texts):
    one = classifier()
    assert one.log_odds(texts) == pytest.approx([one.log_odds([text])[0] for text in texts], abs=1e-9)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5), st.integers(0, 5), st.integers(0, 3))
def test_every_text_owns_as_many_ngrams_as_it_has(texts, characters, words):
    if not characters and not words:
        return
    features = FeatureSettings(characters=characters, words=words, bits=10)
    for alone in texts:
        single = [set(gram.buckets[gram.starts[0]:gram.ends[0]]) for gram in ngrams([alone], features)]
        grouped = list(ngrams([*texts, alone], features))
        assert single == [set(gram.buckets[gram.starts[-1]:gram.ends[-1]]) for gram in grouped]


def test_scoring_agrees_with_the_rows_that_training_saw():
    texts = ["The river is long.", "河流很长，水很深。", "", "a  b 12"]
    one = classifier()
    decoded = np.sign(one.codes) * (one.codes / 127.0) ** 2 * one.model.scale
    assert one.log_odds(texts) == pytest.approx(sparse_rows(texts, FEATURES).times(decoded) + 0.25, abs=1e-3)


def test_digits_and_repeated_spaces_do_not_count():
    one = classifier()
    assert one.log_odds(["in 1987  there"])[0] == one.log_odds(["in 2041 there"])[0]


def test_a_saved_classifier_scores_the_same_bytes(tmp_path):
    one = classifier(window=50)
    one.save(tmp_path / "x.safetensors")
    texts = ["word " * 40, "河水" * 90]
    pickled = pickle.loads(pickle.dumps(one))
    for again in (Classifier.load(tmp_path / "x.safetensors"), Classifier.load(tmp_path), pickled):
        assert again.model == one.model
        assert (again.probability(texts) == one.probability(texts)).all()


@pytest.mark.parametrize("name", ["missing.safetensors", "machin"])
def test_a_classifier_that_is_not_there_is_an_input_error(name):
    with pytest.raises(InputError, match="no such classifier"):
        Classifier.load(name)


def test_foreign_and_damaged_files_are_refused(tmp_path):
    from safetensors.numpy import save_file

    (tmp_path / "noise.safetensors").write_bytes(b"not weights at all")
    save_file({"weight": np.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("noise", "other"):
        with pytest.raises(InputError):
            Classifier.load(tmp_path / f"{name}.safetensors")


@given(st.text(max_size=200), st.integers(0, 50))
def test_windows_join_to_the_text(text, characters):
    pieces = cut(text, characters)
    assert "".join(pieces) == text
    assert not characters or all(len(piece) <= characters for piece in pieces)


def test_the_fit_separates_what_can_be_separated():
    rng = random.Random(0)
    texts = [" ".join(rng.choices(["river", "water", "lake", "stone", "boat"], k=12)) + (" moon" if row % 2 else " sun")
             for row in range(200)]
    labels = np.arange(200) % 2 == 1
    rows = sparse_rows(texts, FEATURES)
    weights, bias = fit(rows, labels, np.ones(200), width=1 << FEATURES.bits, penalty=1e-4)
    assert auc(rows.times(weights) + bias, labels) == 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_chance_of_the_right_order(pairs):
    scores, labels = np.array([a for a, _ in pairs], float), np.array([b for _, b in pairs])
    if labels.all() or not labels.any():
        assert np.isnan(auc(scores, labels))
        return
    margin = scores[labels][:, None] - scores[~labels][None]
    assert auc(scores, labels) == pytest.approx(((margin > 0) + 0.5 * (margin == 0)).mean())


def test_shipped_weights_are_small_and_calibrated_in_both_languages():
    from importlib.resources import files

    folder = files("headwater.corpus.classifying") / "weights"
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) < 3_000_000
    for name in SHIPPED:
        assert set(Classifier.load(name).model.thresholds) == {"en", "zh"}
