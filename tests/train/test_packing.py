import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.model.checkpoint import load_model
from headwater.train.batches import IGNORE
from headwater.train.packing import PackedBatches, PrefixSample, as_read, separate_turns, work

SEQUENCES = st.lists(st.integers(2, 16), min_size=1, max_size=30)


def numbered(sizes):
    """Sequences whose tokens all differ, the second half of each to be learned."""
    return [([100 * n + i for i in range(size)], [i >= size // 2 for i in range(size)])
            for n, size in enumerate(sizes, 1)]


@settings(max_examples=60)
@given(SEQUENCES, st.integers(0, 9), st.integers(1, 3))
def test_packing_keeps_every_sequence_whole_and_once(sizes, seed, rows):
    sequences = numbered(sizes)
    batches = PackedBatches(sequences, rows=rows, length=16, seed=seed, pad=0)
    found, places, learned = [], [], 0
    for step in range(batches.batches_per_epoch):
        batch = batches.batch(step)
        places += batch.places[batch.places >= 0].tolist()
        for tokens, targets, first in zip(batch.tokens.tolist(), batch.targets.tolist(), batch.first.tolist()):
            for begin in sorted({first[place] for place in range(16) if tokens[place]}):
                here = [place for place in range(16) if first[place] == begin]
                found.append([tokens[place] for place in here])
                learned += sum(targets[place] != IGNORE for place in here)
                assert all(targets[p] in (IGNORE, tokens[p] + 1) for p in here)
    assert sorted(found) == sorted(ids for ids, _ in sequences)
    assert learned == sum(sum(mask[1:]) for _, mask in sequences) == work(sequences).targets
    assert sorted(places) == list(range(sum(sizes)))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=20), st.integers(0, 9))
def test_neighbours_packed_together_share_a_row_in_their_order(pairs, seed):
    sequences = numbered([size for pair in pairs for size in pair])
    batches = PackedBatches(sequences, rows=2, length=16, seed=seed, pad=0, together=2)
    found = []
    for step in range(batches.batches_per_epoch):
        for tokens in batches.batch(step).tokens.tolist():
            begins = [token // 100 for token in tokens if token and token % 100 == 0]
            assert all(right == left + 1 and left % 2 for left, right in zip(begins[::2], begins[1::2], strict=True))
            found += begins
    assert sorted(found) == list(range(1, len(sequences) + 1))


def test_later_epochs_start_where_the_former_ended():
    sequences = [([n, n + 1, n + 2], [False, True, True]) for n in range(0, 90, 3)]
    batches = PackedBatches(sequences, rows=2, length=8, seed=1, pad=0)
    per_epoch = batches.batches_per_epoch
    again = PackedBatches(sequences, rows=2, length=8, seed=1, pad=0).batch(per_epoch + 2)
    wanted = [batches.batch(step) for step in range(per_epoch + 3)][-1]
    assert again.tokens.tolist() == wanted.tokens.tolist()


@settings(max_examples=40)
@given(st.data())
def test_readers_share_a_batch_and_their_number_may_change(data):
    """However many read at each step, together they get that step's rows, each row once."""
    rows, sizes = data.draw(st.integers(1, 9)), data.draw(SEQUENCES)
    batches = PackedBatches(numbered(sizes), rows=rows, length=16, seed=1, pad=0)
    for step in range(6):
        ranks = data.draw(st.integers(1, rows))
        whole = batches.batch(step)
        for rank in range(ranks):
            part = batches.batch(step, rank, ranks)
            assert all(torch.equal(own, all_[rank::ranks]) for own, all_ in zip(part, whole))


def test_padding_sees_itself_alone_and_is_not_asked_for():
    batch = PackedBatches([([7, 8, 9], [False, True, True])], rows=2, length=8, seed=0, pad=5).batch(0)
    assert batch.tokens.tolist() == [[7, 8, 9, 5, 5, 5, 5, 5], [5] * 8]
    assert batch.targets.tolist() == [[8, 9, *[IGNORE] * 6], [IGNORE] * 8]
    assert batch.places.tolist() == [[0, 1, 2, *[-1] * 5], [-1] * 8]
    seen = batch.intervals.dense()[:, 0]
    assert torch.equal(seen[1], torch.eye(8, dtype=torch.bool))
    assert torch.equal(seen[0, 3:], torch.eye(8, dtype=torch.bool)[3:])


TURNS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=6)


@given(TURNS)
def test_each_turn_becomes_a_sample_with_its_history_as_prefix(turns):
    """A history that was cut, or a turn that is learned twice or not at all, would change what is found here."""
    loss_mask = [spoken for asked, said in turns for spoken in (*[False] * asked, *[True] * said)]
    ids = list(range(len(loss_mask)))
    samples = separate_turns([(ids, loss_mask)])
    ends = np.cumsum([asked + said for asked, said in turns]).tolist()
    assert [list(sample.ids) for sample in samples] == [ids[:end] for end in ends]
    assert [sample.prefix for sample in samples] == [end - said for end, (_, said) in zip(ends, turns)]
    learned = sorted(place for sample in samples for place, spoken in enumerate(sample.loss_mask) if spoken)
    assert learned == [place for place, spoken in enumerate(loss_mask) if spoken]
    joined, separate = work([(ids, loss_mask)]), work(samples)
    assert joined.targets == separate.targets
    assert (joined.tokens, separate.tokens) == (len(ids), sum(ends))


def test_of_equal_turns_separate_samples_process_half_as_many_tokens_again_per_turn():
    """k turns: (k + 1) / 2 times the tokens for the same supervision."""
    dialogue = ([1] * 80, ([False] * 5 + [True] * 5) * 8)
    assert work(separate_turns([dialogue])).tokens / work([dialogue]).tokens == 4.5


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=12))
def test_packed_prefixes_are_read_both_ways(parts):
    sequences = [PrefixSample([100 * n + i for i in range(asked + said)], [False] * asked + [True] * said, asked)
                 for n, (asked, said) in enumerate(parts, 1)]
    batches = PackedBatches(sequences, rows=4, length=16, seed=0, pad=0)
    for step in range(batches.batches_per_epoch):
        for tokens, targets, _, first, last, _ in zip(*(part.tolist() for part in batches.batch(step))):
            for place in range(16):
                if tokens[place] == 0:
                    continue
                (asked, said), inside = parts[tokens[place] // 100 - 1], tokens[place] % 100
                assert first[place] == place - inside
                assert last[place] - first[place] == max(inside, asked - 1)
                asks = asked - 1 <= inside < asked + said - 1
                assert targets[place] == (tokens[place] + 1 if asks else IGNORE)


def test_unusable_data_is_refused():
    with pytest.raises(InputError, match="more than a row of 8"):
        PackedBatches([([1] * 9, [True] * 9)], rows=1, length=8, seed=0, pad=0)
    with pytest.raises(InputError, match="no sequences"):
        PackedBatches([], rows=1, length=8, seed=0, pad=0)
    with pytest.raises(InputError, match="token of a prefix"):
        PackedBatches([PrefixSample([1, 2, 3], [False, True, True], 2)], rows=1, length=8, seed=0, pad=0)


@torch.no_grad()
def test_chatglms_answers_are_read_as_its_official_code_reads_them(shared):
    model = load_model(shared / "vectors" / "chatglm_6b", dtype=torch.float32)
    gmask, _, start = model.config.prefix_ids
    ids = [5, 9, 7, gmask, start, 11, 12, 2]
    batches = PackedBatches([as_read((ids, [False] * 5 + [True] * 3), model.config)] * 2, rows=1, length=16, seed=0,
                            pad=3, axes=2)
    batch = batches.batch(0)
    found = model.hidden(batch.tokens, batch.intervals, batch.positions)
    wished = model.hidden(torch.tensor([ids]))
    torch.testing.assert_close(found[:, :8], wished, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[:, 8:], wished, atol=1e-4, rtol=1e-4)  # a second one in the row sees itself alone
    assert batch.targets[0, :8].tolist() == [IGNORE] * 4 + [11, 12, 2, IGNORE]
