import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.model.interval_attention import interval_attention
from headwater.model.intervals import Intervals
from headwater.model.positions import alibi_slopes

WAYS = ("native", "pieces")


def reference(query, key, value, intervals, slopes):
    """The formula, dense and in float64."""
    key, value = (x.double().repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    scores = query.double() @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if slopes is not None:
        places = torch.arange(query.shape[2])
        scores = scores - slopes.double()[:, None, None] * (places[:, None] - places).abs()
    return scores.masked_fill(~intervals.dense(), -math.inf).softmax(-1) @ value


def cuts(draw, length, most):
    """Runs of equal numbers that fill a row."""
    ends = sorted(draw(st.sets(st.integers(1, length), max_size=most)) | {length})
    return torch.bucketize(torch.arange(length), torch.tensor(ends), right=True)


@st.composite
def interval_rows(draw, length):
    """One row of a kind that a model is trained with: (first, last)."""
    kind = draw(st.sampled_from(("packed", "prefix", "infilling", "window", "padding")))
    places, documents = torch.arange(length), cuts(draw, length, 4)
    first = Intervals.causal(documents[None]).first[0]
    if kind == "prefix":  # each document's first part is read both ways
        share = draw(st.floats(0, 1))
        sizes = torch.bincount(documents)[documents]
        return first, torch.maximum(places, first + (sizes * share).long() - 1)
    if kind == "infilling":  # part A both ways, part B causally
        size = draw(st.integers(0, length))
        return torch.zeros_like(places), torch.where(places < size, size - 1, places)
    if kind == "window":
        return (places - draw(st.integers(0, length))).clamp_min(0), places
    if kind == "padding":
        documents = torch.where(places >= draw(st.integers(0, length)), -1, documents)
        return Intervals.causal(documents[None]).first[0], places
    return first, places


@st.composite
def batches_of_intervals(draw, length):
    rows = [draw(interval_rows(length)) for _ in range(draw(st.integers(1, 2)))]
    return Intervals(torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows]))


def tensors(rows, heads, kv_heads, length, width, dtype=torch.float32, seed=0):
    """Query, key, value and an upstream gradient, laid out as the decoder has them."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, length, many, width, generator=generator).to(dtype).transpose(1, 2)
                 for many in (heads, kv_heads, kv_heads, heads))


def run(way, query, key, value, gradient, intervals, slopes):
    leaves = [x.detach().requires_grad_() for x in (query, key, value)]
    out = interval_attention(*leaves, intervals, slopes, way=way)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


def expected(query, key, value, gradient, intervals, slopes):
    leaves = [x.detach().double().requires_grad_() for x in (query, key, value)]
    out = reference(*leaves, intervals, slopes)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient.double())]


def close(found, truth, relative):
    """Largest error as a share of the tensor's own size: gradients of a whole row add up errors of all its entries."""
    for name, one, two in zip(("out", "query", "key", "value"), found, truth):
        error = float((one.double() - two).abs().max() / two.abs().max().clamp_min(0.1))
        assert error < relative, (name, error)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("length", "heads", "kv_heads", "width"), [
    (1, 2, 2, 16), (7, 4, 2, 32), (129, 4, 1, 80), (200, 3, 3, 64), (515, 2, 1, 128)])
@pytest.mark.parametrize("alibi", [False, True])
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_equals_the_formula(way, length, heads, kv_heads, width, alibi, data):
    intervals = data.draw(batches_of_intervals(length))
    slopes = alibi_slopes(heads) if alibi else None
    given_ = tensors(len(intervals.first), heads, kv_heads, length, width)
    close(run(way, *given_, intervals, slopes), expected(*given_, intervals, slopes), 1e-4)
