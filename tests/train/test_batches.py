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
from headwater.train.batches import IGNORE, PackedBatches, StreamBatches


def shard_of(sizes):
    """Documents whose tokens all differ: document d is 1000 d, 1000 d + 1, ..."""
    tokens = np.concatenate([1000 * d + np.arange(size) for d, size in enumerate(sizes, 1)]).astype("<u4")
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Loaded(tokens, offsets, ["en"] * len(sizes), np.array(sizes))


SIZES = st.lists(st.integers(2, 40), min_size=3, max_size=20).filter(lambda sizes: sum(sizes) >= 16)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 9), st.integers(1, 4))
def test_an_epoch_reads_every_token_once(sizes, seed, rows):
    batches = StreamBatches(shard_of(sizes), rows=rows, length=16, seed=seed)
    wanted = batches.rows_per_epoch
    seen = np.concatenate([batches.batch(step).tokens.numpy() for step in range(-(-wanted // rows))])[:wanted].ravel()
    assert len(set(seen.tolist())) == len(seen) == 16 * wanted
    assert sum(sizes) - len(seen) < 16


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 9), st.integers(0, 30))
def test_targets_never_cross_a_document(sizes, seed, step):
    batch = StreamBatches(shard_of(sizes), rows=2, length=16, seed=seed).batch(step)
    for tokens, targets, positions, documents in zip(*(part.tolist() for part in batch)):
        for place in range(16):
            if targets[place] != IGNORE:
                assert targets[place] == tokens[place] + 1
            else:
                assert tokens[place] % 1000 == sizes[tokens[place] // 1000 - 1] - 1
            if place and documents[place] == documents[place - 1]:
                assert tokens[place] == tokens[place - 1] + 1
                assert positions[place] == positions[place - 1] + 1
            else:
                assert positions[place] == 0


def test_a_batch_is_a_function_of_the_step():
    one, two = (StreamBatches(shard_of([9, 30, 17]), rows=2, length=16, seed=5) for _ in range(2))
    wanted = [one.batch(step).tokens.tolist() for step in range(8)]
    assert [two.batch(step).tokens.tolist() for step in (7, 3, 0)] == [wanted[7], wanted[3], wanted[0]]
    assert wanted[0] != StreamBatches(shard_of([9, 30, 17]), rows=2, length=16, seed=6).batch(0).tokens.tolist()


def test_a_long_document_is_spread_over_the_epoch():
    batches = StreamBatches(shard_of([640, *[16] * 40]), rows=4, length=16, seed=0)
    reached = sum(bool((batches.batch(step).tokens < 2000).any()) for step in range(20))
    assert reached > 12  # laid in order its 40 rows would fill 10 or 11 batches and no other


SEQUENCES = st.lists(st.integers(2, 16), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(SEQUENCES, st.integers(0, 9), st.integers(1, 3))
def test_packing_keeps_every_sequence_whole_and_once(sizes, seed, rows):
    sequences = [([100 * n + i for i in range(size)], [i >= size // 2 for i in range(size)])
                 for n, size in enumerate(sizes, 1)]
    batches = PackedBatches(sequences, rows=rows, length=16, seed=seed, pad=0)
    found, learned = [], 0
    for step in range(batches.batches_per_epoch):
        batch = batches.batch(step)
        for tokens, targets, documents in zip(batch.tokens.tolist(), batch.targets.tolist(), batch.documents.tolist()):
            for document in sorted(set(documents) - {-1}):
                here = [place for place in range(16) if documents[place] == document]
                found.append([tokens[place] for place in here])
                learned += sum(targets[place] != IGNORE for place in here)
                assert all(targets[p] in (IGNORE, tokens[p] + 1) for p in here)
    assert sorted(found) == sorted(ids for ids, _ in sequences)
    assert learned == sum(sum(mask[1:]) for _, mask in sequences)


def test_later_epochs_start_where_the_former_ended():
    sequences = [([n, n + 1, n + 2], [False, True, True]) for n in range(0, 90, 3)]
    batches = PackedBatches(sequences, rows=2, length=8, seed=1, pad=0)
    per_epoch = batches.batches_per_epoch
    again = PackedBatches(sequences, rows=2, length=8, seed=1, pad=0).batch(per_epoch + 2)
    wanted = [batches.batch(step) for step in range(per_epoch + 3)][-1]
    assert again.tokens.tolist() == wanted.tokens.tolist()


def test_unusable_data_is_refused():
    with pytest.raises(InputError, match="fewer than one row"):
        StreamBatches(shard_of([5]), rows=1, length=16, seed=0)
    with pytest.raises(InputError, match="more than a row of 8"):
        PackedBatches([([1] * 9, [True] * 9)], rows=1, length=8, seed=0, pad=0)
    with pytest.raises(InputError, match="no sequences"):
        PackedBatches([], rows=1, length=8, seed=0, pad=0)


@pytest.mark.parametrize("packed", [False, True])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_readers_share_a_batch_and_their_number_may_change(packed, data):
    """However many read at each step, together they get that step's rows, each row once."""
    rows = data.draw(st.integers(1, 9))
    sizes = data.draw(SIZES)
    sequences = [(list(range(100 * n, 100 * n + min(size, 16))), [True] * min(size, 16))
                 for n, size in enumerate(sizes, 1)]
    batches = (PackedBatches(sequences, rows=rows, length=16, seed=1, pad=0) if packed
               else StreamBatches(shard_of(sizes), rows=rows, length=16, seed=1))
    for step in range(6):
        ranks = data.draw(st.integers(1, rows))
        whole = batches.batch(step)
        parts = [batches.batch(step, rank, ranks) for rank in range(ranks)]
        for rank, part in enumerate(parts):
            assert all(torch.equal(own, all_[rank::ranks]) for own, all_ in zip(part, whole))
        assert sum(len(part.tokens) for part in parts) == rows


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
