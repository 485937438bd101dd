from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.context.long_rows import LongBatches, best_fit, long_pieces
from headwater.errors import InputError
from headwater.tokenizer.shards import Loaded
from headwater.train.batches import IGNORE

SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=20).filter(lambda sizes: max(sizes) > 16)


def shard_of(sizes):
    """Documents whose tokens all differ: document d is 1000 d, 1000 d + 1, ..."""
    tokens = np.concatenate([1000 * d + np.arange(size) for d, size in enumerate(sizes, 1)]).astype("<u4")
    return Loaded(tokens, np.concatenate([[0], np.cumsum(sizes)]), ["en"] * len(sizes), np.array(sizes))


def batches_of(sizes, **given):
    return LongBatches(shard_of(sizes), **{"rows": 1, "length": 64, "trained": 16, "replay": 0.0, "seed": 0, "pad": 0,
                                           **given})


def pieces_of(batch, row=0):
    """The row's texts as (document, first token, size)."""
    found = []
    for begin in sorted(set(batch.first[row].tolist())):
        inside = (batch.first[row] == begin) & (batch.places[row] >= 0)
        if inside.any():
            tokens = batch.tokens[row][inside]
            found.append((int(tokens[0]) // 1000, int(tokens[0]) % 1000, len(tokens)))
            assert torch.equal(tokens - tokens[0], torch.arange(len(tokens)))  # consecutive
            assert torch.equal(batch.positions[row][inside], torch.arange(len(tokens)))
    return found


@settings(max_examples=60)
@given(SIZES, st.integers(0, 9))
def test_an_epoch_reads_every_token_once_that_stands_in_a_long_piece(sizes, seed):
    batches = batches_of(sizes, seed=seed)
    found = [piece for row in range(batches.long_rows) for piece in pieces_of(batches.batch(row))]
    wanted = []
    for document, size in enumerate(sizes, 1):
        wanted += [(document, begin, 64) for begin in range(0, size - 63, 64)]
        if size % 64 > 16:
            wanted.append((document, size - size % 64, size % 64))
    assert sorted(found) == sorted(wanted)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60))
def test_no_row_is_overfull_and_at_most_one_half_empty(sizes):
    rows = best_fit(np.array(sizes), 100)
    text = np.bincount(rows, weights=sizes)
    assert text.max() <= 100
    assert (text > 0).all()
    assert (text <= 50).sum() <= 1


def test_a_piece_stands_where_it_fits_best():
    assert best_fit(np.array([2, 6, 4, 5, 3]), 10).tolist() == [1, 0, 0, 1, 1]


def test_a_document_is_cut_into_whole_rows_and_what_is_left_shares_one():
    pieces = long_pieces(np.array([150, 20, 16, 63]), 64, 16)
    assert [one.tolist() for one in pieces] == [[0, 0, 3, 0, 1], [0, 64, 0, 128, 0], [64, 64, 63, 22, 20],
                                                [0, 1, 2, 3, 5]]


@settings(max_examples=30)
@given(SIZES, st.integers(0, 9), st.integers(0, 40))
def test_targets_are_the_next_tokens_of_the_same_document(sizes, seed, step):
    batch = batches_of(sizes, replay=0.3, seed=seed).batch(step)
    for token, target, place in zip(*(part[0].tolist() for part in (batch.tokens, batch.targets, batch.places))):
        if place < 0 or token % 1000 == sizes[token // 1000 - 1] - 1:
            assert target == IGNORE
        else:
            assert target == token + 1


@pytest.mark.parametrize("replay", [0.1, 0.25, 0.6])
def test_replay_has_its_share_of_the_tokens_in_texts_of_the_trained_length(replay):
    batches = batches_of([500, 90, 40, 33, 9, 12] * 8, rows=4, replay=replay)
    tokens = Counter()
    for step in range(100):
        batch = batches.batch(step)
        for row in range(4):
            sizes = [size for _, _, size in pieces_of(batch, row)]
            tokens["replay" if max(sizes) <= 16 else "long"] += sum(sizes)
            assert max(sizes) <= 16 or min(sizes) > 16  # never both in one row
    assert tokens["replay"] / tokens.total() == pytest.approx(replay, abs=0.01)


def test_short_documents_are_read_in_replay():
    batches = batches_of([70, 12, 9], replay=0.5)
    read = {piece[0] for step in range(20) for piece in pieces_of(batches.batch(step))}
    assert read == {1, 2, 3}


def test_epochs_differ_in_order_alone():
    batches = batches_of([64 * 12])
    one, two = ([pieces_of(batches.batch(row)) for row in range(start, start + 12)] for start in (0, 12))
    assert one != two
    assert sorted(one) == sorted(two)
    assert batches.batches_per_epoch == 12


@settings(max_examples=30)
@given(SIZES, st.data())
def test_a_batch_is_a_function_of_the_step_however_many_read_it(sizes, data):
    whole, shared = (batches_of(sizes, rows=4, replay=0.4) for _ in range(2))
    for step in (7, 0, 3):
        ranks = data.draw(st.integers(1, 4))
        wanted = whole.batch(step)
        for rank in range(ranks):
            for mine, theirs in zip(shared.batch(step, rank, ranks), wanted):
                assert torch.equal(mine, theirs[rank::ranks])


def test_a_corpus_without_long_documents_is_refused():
    with pytest.raises(InputError, match=r"none of 2 documents is longer than the 16 tokens.*longest has 16"):
        batches_of([16, 9])
