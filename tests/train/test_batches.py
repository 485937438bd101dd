import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.train.batches import IGNORE, Batch, Sample, counted, last_seen, lay, read_ahead


def sample(size, begin, prefix, axes):
    return Sample(np.arange(begin, begin + size), np.arange(begin + 1, begin + 1 + size), counted(size, axes),
                  last_seen(size, prefix), np.arange(begin, begin + size))


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), max_size=4), st.integers(1, 2))
def test_rows_hold_their_samples_apart(shapes, axes):
    """Every token sees its own sample as if that were alone, and no other; the rest is padding that sees itself."""
    row, begin = [], 1
    for size, prefix in shapes:
        row.append(sample(size, begin, min(prefix, size), axes))
        begin += size
    batch = lay([row, []], 24, pad=99, axes=axes)
    seen = batch.intervals.dense()[0, 0]
    wanted = torch.eye(24, dtype=torch.bool)
    begin = 0
    for one in row:
        here = slice(begin, begin + len(one.tokens))
        wanted[here, here] = torch.arange(len(one.tokens)) <= torch.from_numpy(one.last)[:, None]
        assert batch.positions.reshape(2, axes, 24)[0, :, here].tolist() == one.positions.tolist()
        begin = here.stop
    assert torch.equal(seen, wanted)
    assert batch.tokens[0].tolist() == [*range(1, 1 + begin), *[99] * (24 - begin)]
    assert batch.targets[0].tolist() == [*range(2, 2 + begin), *[IGNORE] * (24 - begin)]
    assert batch.places[0].tolist() == [*range(1, 1 + begin), *[-1] * (24 - begin)]
    assert batch.tokens[1].unique().tolist() == [99]


@pytest.mark.parametrize(("axes", "shape"), [(1, (2, 8)), (2, (2, 2, 8))])
def test_positions_have_an_axis_where_models_take_two_numbers(axes, shape):
    batch = lay([[sample(3, 0, 0, axes)], []], 8, pad=0, axes=axes)
    assert tuple(batch.positions.shape) == shape
    assert {part.dtype for part in batch} == {torch.int64}


def test_a_batch_moves_as_a_whole():
    batch = lay([[sample(3, 0, 0, 1)]], 4, pad=0)
    assert {part.device.type for part in batch.to("meta")} == {"meta"}
    assert isinstance(batch.to("meta"), Batch)


class Counting:
    """Batches that are their step; those from `broken` on cannot be read."""

    batches_per_epoch = 1.0

    def __init__(self, broken=99):
        self.broken, self.made = broken, []

    def batch(self, step, rank=0, ranks=1):
        self.made.append((step, rank, ranks))
        if step >= self.broken:
            raise InputError(f"step {step}")
        return step


def test_batches_are_made_ahead_in_their_order_and_no_further_than_asked():
    source = Counting()
    assert list(read_ahead(source, range(3, 7), 1, 2)) == [3, 4, 5, 6]
    assert source.made == [(step, 1, 2) for step in range(3, 7)]
    some = read_ahead(source := Counting(), range(100), 0, 1)
    assert next(some) == 0
    some.close()
    assert len(source.made) <= 2


def test_what_goes_wrong_ahead_is_told_at_its_step():
    read = read_ahead(Counting(broken=2), range(5), 0, 1)
    assert [next(read), next(read)] == [0, 1]
    with pytest.raises(InputError, match="step 2"):
        next(read)
