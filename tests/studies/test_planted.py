"""Breaks when an answer can be seen, or a mark stands elsewhere than its depth says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.model import Decoder, ModelConfig, initialise
from headwater.studies.planted import IDS, KINDS, VALUES, Emphasised, PlantedBatches, found, plant
from headwater.train.batches import IGNORE, Batch
from headwater.train.objective import next_token

FIRST = 100


class Stream:
    """Rows of a text whose tokens count on."""

    rows, length, pad, batches_per_epoch = 4, 40, 0, 1.0

    def batch(self, step, rank=0, ranks=1):
        tokens = torch.arange(40).expand(4, 40)[rank::ranks] + step
        places = torch.arange(40).expand_as(tokens)
        return Batch(tokens, tokens + 1, places, torch.zeros_like(places), places, places)


@settings(deadline=None)
@given(st.integers(3 * KINDS + 3, 200), st.none() | st.floats(0, 1), st.integers(0, 9))
def test_every_kind_is_planted_once_and_asked_for_once(length, depth, seed):
    ids = np.arange(length) % FIRST
    tokens, marks, questions = plant(ids, FIRST, np.random.default_rng(seed), depth)
    assert len(tokens) == length
    kinds = (tokens[marks] - FIRST) // VALUES
    assert sorted(kinds) == list(range(KINDS))
    asked = tokens[questions] - FIRST - KINDS * VALUES
    assert sorted(asked) == list(range(KINDS))
    answers = dict(zip(asked, tokens[questions + 1]))
    assert answers == dict(zip(kinds, tokens[marks]))
    assert tokens[0] == ids[0]
    assert np.delete(tokens, marks)[: length - 3 * KINDS].tolist() == ids[: length - 3 * KINDS].tolist()
    if depth is not None:
        assert np.ptp(marks) == KINDS - 1
        assert marks[0] == max(1, int(depth * (length - 3 * KINDS)))


def test_the_last_rows_of_a_batch_ask_and_no_mark_is_a_target():
    batches = PlantedBatches(Stream(), planted=2, first=FIRST, seed=0)
    batch, plain = batches.batch(3), Stream().batch(3)
    assert torch.equal(batch.tokens[:2], plain.tokens[:2])
    for tokens, targets in zip(batch.tokens[2:], batch.targets[2:], strict=True):
        assert (tokens >= FIRST).sum() == 3 * KINDS
        follows = targets[:-1] != IGNORE
        assert torch.equal(targets[:-1][follows], tokens[1:][follows])
        marks = (tokens >= FIRST).nonzero()[:KINDS, 0]
        assert (targets[marks - 1] == IGNORE).all()
        assert (targets == IGNORE).sum() == KINDS + 1  # and behind the last token
    assert torch.equal(batches.batch(3).tokens, batch.tokens)
    assert not torch.equal(batches.batch(4).tokens[2:] - 1, batch.tokens[2:])


def test_processes_share_a_batch_without_overlap():
    batches = PlantedBatches(Stream(), planted=2, first=FIRST, seed=0)
    parts = [batches.batch(0, rank, 2) for rank in range(2)]
    assert [int((part.tokens >= FIRST).any(1).sum()) for part in parts] == [1, 1]


def test_an_answer_counts_as_often_as_asked():
    model = initialise(Decoder(ModelConfig(vocab_size=FIRST + IDS, hidden_size=32, intermediate_size=32,
                                           num_hidden_layers=1, num_attention_heads=2)), 0)
    batch = PlantedBatches(Stream(), planted=2, first=FIRST, seed=0).batch(0)
    asked = batch.tokens >= FIRST + KINDS * VALUES
    only = batch._replace(targets=batch.targets.masked_fill(~asked, IGNORE))
    whole, answers = (next_token(model, one, 10.0).loss.item() for one in (batch, only))
    outcome = Emphasised(FIRST, 5.0)(model, batch, 10.0)
    assert outcome.loss.item() == pytest.approx(whole + 4 * answers, rel=1e-5)
    assert outcome.sums["cross_entropy"].item() == pytest.approx(10 * whole, rel=1e-5)


class Looker:
    """Answers every question by looking it up: the test can be passed; `blind`, it says the same to all."""

    def __init__(self, *, blind=False):
        self.blind = blind

    def hidden(self, tokens, intervals):
        kinds = (tokens - FIRST - KINDS * VALUES).clamp(min=-1)
        hidden = torch.zeros(*tokens.shape, FIRST + IDS)
        for row, place in (kinds >= 0).nonzero().tolist():
            low = FIRST + int(kinds[row, place]) * VALUES
            own = tokens[row, :place]
            answer = own[(own >= low) & (own < low + VALUES)][0]
            hidden[row, place, low if self.blind else answer] = 1
        return hidden

    def head(self, hidden):
        return hidden


def test_who_looks_back_finds_all_and_who_does_not_finds_what_chance_gives():
    texts = torch.arange(60).expand(64, 60)
    assert found(Looker(), texts, FIRST, [0.0, 0.5, 0.9]) == [1.0, 1.0, 1.0]
    assert np.mean(found(Looker(blind=True), texts, FIRST, [0.0, 0.5, 0.9])) == pytest.approx(1 / VALUES, abs=0.04)
