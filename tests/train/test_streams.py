from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.documents import corpus_files
from headwater.errors import InputError
from headwater.tokenizer.shards import Loaded, Shards, write_shards
from headwater.train.batches import IGNORE
from headwater.train.blanks import BlankInfilling, GlmIds, GlmSettings
from headwater.train.layouts import Causal, Prefix
from headwater.train.sentences import SentenceEnds
from headwater.train.streams import StreamBatches


def shard_of(sizes):
    """Documents whose tokens all differ: document d is 1000 d, 1000 d + 1, ..."""
    tokens = np.concatenate([1000 * d + np.arange(size) for d, size in enumerate(sizes, 1)]).astype("<u4")
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Loaded(tokens, offsets, ["en"] * len(sizes), np.array(sizes))


def blanks(**given):
    ends = np.arange(500_000) % 7 == 0
    never = np.zeros_like(ends)
    return BlankInfilling(GlmSettings(**given), GlmIds(1, 2, 3, 4, 5), axes=2,
                          sentences=SentenceEnds(ends, never, never))


LAYOUTS = {"causal": Causal(), "prefix": Prefix(), "blanks": blanks(), "GLM-130B": blanks(
    token_share=0.3, sentence_share=0, document_share=0.7, window=32), "one kind": blanks(
    token_share=0, sentence_share=1, document_share=0)}
SIZES = st.lists(st.integers(1, 90), min_size=3, max_size=20).filter(lambda sizes: sum(sizes) >= 64)


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=30)
@given(st.data())
def test_an_epoch_reads_every_token_once_by_any_number_of_readers(name, data):
    """Proved from `places`, though the number of readers changes at every step; only what is left at the end, less than
    a row, is not read."""
    shards, rows = shard_of(data.draw(SIZES)), data.draw(st.integers(1, 4))
    batches = StreamBatches(shards, rows=rows, length=64, seed=data.draw(st.integers(0, 9)), layout=LAYOUTS[name])
    steps, read = -(-batches.rows_per_epoch // rows), []
    for step in range(steps):
        ranks = data.draw(st.integers(1, rows))
        parts = [batches.batch(step, rank, ranks) for rank in range(ranks)]
        for row in range(rows):
            part = parts[row % ranks]
            if step * rows + row < batches.rows_per_epoch:
                tokens, places = part.tokens[row // ranks].numpy(), part.places[row // ranks].numpy()
                assert (shards.ids[places[places >= 0]] == tokens[places >= 0]).all()
                read += places[places >= 0].tolist()
    assert len(set(read)) == len(read)
    assert shards.total - len(read) < 64


@pytest.mark.parametrize("name", LAYOUTS)
def test_later_epochs_read_every_token_once_too(name):
    shards = shard_of([40, 90, 3, 1, 70, 200])
    batches = StreamBatches(shards, rows=1, length=64, seed=1, layout=LAYOUTS[name])
    read = [Counter(batches.batch(epoch * batches.rows_per_epoch + row).places.ravel().tolist())
            for epoch in range(3) for row in range(batches.rows_per_epoch)]
    for epoch in range(3):
        counts = sum(read[epoch * batches.rows_per_epoch:(epoch + 1) * batches.rows_per_epoch], Counter())
        counts.pop(-1, None)
        assert set(counts.values()) == {1}
        assert shards.total - len(counts) < 64


@settings(max_examples=60)
@given(SIZES, st.integers(0, 9), st.integers(0, 30))
def test_causal_targets_never_cross_a_document(sizes, seed, step):
    batch = StreamBatches(shard_of(sizes), rows=2, length=16, seed=seed).batch(step)
    assert (batch.last == torch.arange(16)).all()
    for tokens, targets, positions, first in zip(*(part.tolist() for part in batch[:4])):
        for place in range(16):
            if targets[place] != IGNORE:
                assert targets[place] == tokens[place] + 1
            else:
                assert tokens[place] % 1000 == sizes[tokens[place] // 1000 - 1] - 1
            if first[place] != place:
                assert first[place] == first[place - 1]
                assert tokens[place] == tokens[place - 1] + 1
                assert positions[place] == positions[place - 1] + 1
            else:
                assert positions[place] == 0


@settings(max_examples=60)
@given(SIZES, st.integers(0, 9), st.integers(0, 30))
def test_prefixes_are_read_both_ways_and_the_rest_is_asked_for(sizes, seed, step):
    """Every text of two tokens or more has a prefix of one or more and a rest that carries the loss."""
    batch = StreamBatches(shard_of(sizes), rows=2, length=32, seed=seed, layout=Prefix()).batch(step)
    for tokens, targets, positions, first, last, _ in zip(*(part.tolist() for part in batch)):
        for begin in sorted(set(first)):
            size, prefix = first.count(begin), last[begin] - begin + 1
            assert 1 <= prefix <= max(1, size - 1)
            assert positions[begin:begin + size] == list(range(size))
            for place in range(begin, begin + size):
                assert last[place] == max(place, begin + prefix - 1)
                asks = place >= begin + prefix - 1 and tokens[place] % 1000 < sizes[tokens[place] // 1000 - 1] - 1
                assert targets[place] == (tokens[place] + 1 if asks else IGNORE)


def test_prefix_lengths_are_uniform():
    batches = StreamBatches(shard_of([16] * 4000), rows=2000, length=16, seed=0, layout=Prefix())
    counts = np.bincount(batches.batch(0).last[:, 0] + 1, minlength=16)
    expected = 2000 / 15
    assert counts[0] == 0
    assert ((counts[1:] - expected) ** 2 / expected).sum() < 36.1  # chi-square, 14 degrees of freedom, p = 0.001


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_batch_is_a_function_of_the_step(name):
    one, two = (StreamBatches(shard_of([9, 300, 17]), rows=2, length=64, seed=5, layout=LAYOUTS[name])
                for _ in range(2))
    wanted = [one.batch(step) for step in range(8)]
    for step in (7, 3, 0):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(two.batch(step), wanted[step]))
    other = StreamBatches(shard_of([9, 300, 17]), rows=2, length=64, seed=6, layout=LAYOUTS[name]).batch(0)
    assert other.tokens.tolist() != wanted[0].tokens.tolist()


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"causal"}))
def test_every_epoch_blanks_out_other_tokens(name):
    """A text of one row is asked for other tokens when it is read again."""
    batches = StreamBatches(shard_of([64]), rows=1, length=64, seed=0, layout=LAYOUTS[name])
    assert batches.rows_per_epoch == 1
    assert len({tuple(batches.batch(epoch).targets[0].tolist()) for epoch in range(8)}) >= 7


def test_every_epoch_gives_a_text_another_kind():
    """Else a long document would be blanked out in the same way for ever."""
    batches = StreamBatches(shard_of([64 * 30]), rows=1, length=64, seed=0, layout=blanks())
    rows = [batches.batch(row) for row in range(2 * batches.rows_per_epoch)]
    short = [{int(batch.places.max()) // 64 for batch in epoch if (batch.tokens == 1).any()}
             for epoch in (rows[: len(rows) // 2], rows[len(rows) // 2:])]
    assert short[0] != short[1]


def test_an_epoch_has_the_rows_of_each_kind_that_its_shares_say():
    batches = StreamBatches(shard_of([500] * 400), rows=1000, length=64, seed=0, layout=blanks())
    tokens = batches.batch(0).tokens[: batches.rows_per_epoch]
    shares = [float((tokens == mark).any(1).float().mean()) for mark in (1, 2, 3)]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.03)  # short pieces fall to the last kind


def test_rows_are_nearly_full():
    """A row that was given too little text would be padded, one that was given too much would lose its blanks."""
    batches = StreamBatches(shard_of(np.random.default_rng(0).integers(50, 900, 300).tolist()), rows=64, length=512,
                            seed=0, layout=blanks())
    batch = batches.batch(0)
    assert (batch.tokens == 0).float().mean() < 0.03
    assert (batch.targets != IGNORE).float().mean() > 0.2


def test_a_long_document_is_spread_over_the_epoch():
    batches = StreamBatches(shard_of([640, *[16] * 40]), rows=4, length=16, seed=0)
    reached = sum(bool((batches.batch(step).tokens < 2000).any()) for step in range(20))
    assert reached > 12  # laid in order its 40 rows would fill 10 or 11 batches and no other


def test_a_corpus_of_less_than_a_row_is_refused():
    with pytest.raises(InputError, match="fewer than one row"):
        StreamBatches(shard_of([5]), rows=1, length=16, seed=0)


def test_shards_read_by_changing_numbers_of_readers_give_every_token_once(trained, tmp_path):
    """An epoch of real files, read by 3, then 1, then 4, then 2 readers that each opened the shards themselves."""
    (tmp_path / "train").mkdir()
    texts = [f"document {number} " * (1 + number % 7) for number in range(60)]
    table = pa.table({"text": texts, "language": ["en"] * 60})
    pq.write_table(table, tmp_path / "train" / "0.parquet", row_group_size=9)
    write_shards(corpus_files(tmp_path, "train"), trained, tmp_path, tmp_path / "shards")
    readers = [StreamBatches(Shards(tmp_path / "shards"), rows=4, length=32, seed=3) for _ in range(4)]
    wanted = Counter(readers[0].shards.tokens(0, readers[0].shards.total).tolist())
    steps = readers[0].rows_per_epoch // 4
    seen: Counter[int] = Counter()
    for step in range(steps):
        ranks = (3, 1, 4, 2)[step * 4 // steps]
        for rank in range(ranks):
            seen.update(readers[rank].batch(step, rank, ranks).tokens.ravel().tolist())
    assert steps > 8
    assert not seen - wanted
    assert sum((wanted - seen).values()) == readers[0].shards.total - steps * 4 * 32 < 5 * 32


@pytest.mark.parametrize(("rank", "ranks"), [(0, 5), (2, 2), (-1, 2), (0, 0)])
def test_a_reader_without_a_row_is_refused(rank, ranks):
    batches = StreamBatches(shard_of([40, 40]), rows=4, length=16, seed=0)
    with pytest.raises(InputError, match="has no row"):
        batches.batch(0, rank, ranks)
