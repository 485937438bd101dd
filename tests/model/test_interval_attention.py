import functools
import math
import tempfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from headwater import hardware
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.attention_blocks import attend, blocks_of
from headwater.model.attention_pieces import pieces_of
from headwater.model.interval_attention import Rotation, _attend, _attend_both, interval_attention
from headwater.model.intervals import Intervals
from headwater.model.native import build
from headwater.model.positions import alibi_slopes, rope_frequencies, rope_tables, rotate

WAYS = (pytest.param("native", marks=pytest.mark.skipif(not hardware.has_compiler(), reason="no C++ compiler")),
        "pieces")


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


def run(way, query, key, value, gradient, intervals, slopes, rotation=None):
    leaves = [x.detach().requires_grad_() for x in (query, key, value)]
    out = interval_attention(*leaves, intervals, slopes, rotation=rotation, way=way)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


def expected(query, key, value, gradient, intervals, slopes, rotation=None):
    query, key, value = leaves = [x.detach().double().requires_grad_() for x in (query, key, value)]
    if rotation is not None:
        query, key = (rotate(x, *rotation) for x in (query, key))
    out = reference(query, key, value, intervals, slopes)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient.double())]


def error_of(found, truth):
    """Largest error as a share of the tensor's own size: gradients of a whole row add up errors of all its entries."""
    return float((found.double() - truth).abs().max() / truth.abs().max().clamp_min(0.1))


def close(found, truth, relative):
    for name, one, two in zip(("out", "query", "key", "value", "prefix"), found, truth):
        assert error_of(one, two) < relative, (name, error_of(one, two))


def by_pytorch(query, key, value, gradient, intervals):
    leaves = [x.detach().requires_grad_() for x in (query, key, value)]
    out = scaled_dot_product_attention(*leaves, attn_mask=intervals.dense(), enable_gqa=query.shape[1] > key.shape[1])
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


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


@pytest.mark.skipif(not hardware.has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("alibi", [False, True])
@settings(max_examples=10, deadline=None)
@given(data=st.data(), length=st.integers(2, 300), share=st.floats(0, 1))
def test_queries_may_go_on_from_keys_before_them(alibi, data, length, share):
    intervals = data.draw(batches_of_intervals(length))
    slopes, before = alibi_slopes(4) if alibi else None, min(int(share * length), length - 1)
    query, key, value, _ = tensors(len(intervals.first), 4, 2, length, 32)
    wanted = interval_attention(query, key, value, intervals, slopes)[:, :, before:]
    later = Intervals(*(bound[:, before:] for bound in intervals))
    found = interval_attention(query[:, :, before:], key, value, later, slopes)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("length", "heads", "kv_heads", "width"), [(7, 2, 2, 16), (130, 4, 2, 64), (257, 2, 2, 80)])
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_bfloat16_is_as_close_as_bfloat16_can_be(way, length, heads, kv_heads, width, data):
    intervals = data.draw(batches_of_intervals(length))
    given_ = tensors(len(intervals.first), heads, kv_heads, length, width, torch.bfloat16)
    truth = expected(*given_, intervals, None)
    # Rarely PyTorch's own kernel is off by more: a gradient that is small beside what it is the difference of.
    theirs = max(map(error_of, by_pytorch(*given_, intervals), truth))
    close(run(way, *given_, intervals, None), truth, max(3e-2, 1.1 * theirs))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize(("rows", "turned", "threads"), [(1, 32, 1), (2, 24, 1), (2, 12, 3)])
def test_rotation_on_the_way_in_is_rotation_before(way, layout, rows, turned, threads):
    """Also of a part of the head, with positions of their own in each row, and where gradients have several owners."""
    given_ = tensors(2, 4, 1, 90, 32)
    positions = torch.stack([torch.arange(90), torch.arange(90) * 3 % 50])[:rows, None]
    rotation = Rotation(*rope_tables(positions, rope_frequencies(turned, 100.0), layout=layout, scale=1.2), layout)
    intervals = Intervals.causal((torch.arange(90) // 40).expand(2, -1))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = run(way, *given_, intervals, None, rotation)
    finally:
        torch.set_num_threads(before)
    close(found, expected(*given_, intervals, None, rotation), 1e-4)


def test_half_precision_without_a_kernel_of_its_own_is_attended_in_pieces():
    given_ = tensors(1, 2, 2, 40, 24, torch.float16)
    intervals = Intervals.causal(torch.zeros(1, 40, dtype=torch.int64))
    close(run("auto", *given_, intervals, None), expected(*given_, intervals, None), 3e-3)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runs_agree_bit_for_bit_whatever_the_strides(way, dtype):
    given_ = tensors(2, 4, 2, 150, 32, dtype)
    intervals = Intervals.causal((torch.arange(150) // 60).expand(2, -1))
    first = run(way, *given_, intervals, None)
    padded = [torch.nn.functional.pad(x, (0, 5, 0, 3))[:, :, :-3, :-5] for x in given_]
    for other in (run(way, *given_, intervals, None), run(way, *padded, intervals, None),
                  run(way, *(x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in given_), intervals, None)):
        assert all(torch.equal(one, two) for one, two in zip(first, other))


@pytest.mark.skipif(not hardware.has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_few_heads_on_many_threads_are_shared_out(kv_heads):
    before, given_ = torch.get_num_threads(), tensors(1, 2, kv_heads, 515, 32)
    intervals = Intervals.causal((torch.arange(515) // 300)[None])
    try:
        torch.set_num_threads(3)
        found, again = (run("native", *given_, intervals, None) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(found, again))
    close(found, expected(*given_, intervals, None), 1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_keys_outside_of_the_interval_change_no_bit(way, dtype, data):
    length = 90
    intervals = data.draw(batches_of_intervals(length))
    query, key, value, gradient = tensors(len(intervals.first), 2, 1, length, 16, dtype)
    watched = data.draw(st.integers(0, length - 1))
    seen = intervals.dense()[:, 0, watched]  # [B,T]
    key_too, value_too = (torch.where(seen[:, None, :, None], x, 7.0 - x) for x in (key, value))
    only = torch.zeros_like(gradient)
    only[:, :, watched] = gradient[:, :, watched]
    out, _, *grads = run(way, query, key, value, only, intervals, None)
    other, _, *others = run(way, query, key_too, value_too, only, intervals, None)
    assert torch.equal(out[:, :, watched], other[:, :, watched])
    for found in (*grads, *others):
        assert not found.abs().amax((1, 3))[~seen].any()


def test_a_value_that_is_not_finite_is_seen_only_where_it_may_be():
    """Whoever sees a NaN has one: a broken model must not look sound."""
    query, key, value, _ = tensors(1, 1, 1, 64, 16)
    key = key.clone()
    key[0, 0, 20] = math.nan
    out = interval_attention(query, key, value, Intervals.causal((torch.arange(64) // 32)[None]))
    assert torch.equal(out.isnan().any(-1)[0, 0], (torch.arange(64) >= 20) & (torch.arange(64) < 32))


def test_one_compilation_serves_all_intervals():
    torch._dynamo.reset()
    query, key, value, gradient = (x.requires_grad_() for x in tensors(2, 2, 2, 40, 16))

    @torch.compile(dynamic=False, fullgraph=True, backend="aot_eager")
    def compiled(query, key, value, intervals):
        return interval_attention(query * 1.0, key, value, intervals) + 0.0

    with torch._dynamo.config.patch(error_on_recompile=True):
        for size in (40, 13, 5):
            intervals = Intervals.causal((torch.arange(40) // size).expand(2, -1).contiguous())
            found = torch.autograd.grad(compiled(query, key, value, intervals), (query, key, value), gradient.detach())
            close([None, *found][1:], expected(query, key, value, gradient.detach(), intervals, None)[1:], 1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_the_operator_keeps_its_promises_to_the_compiler(way):
    """Its stated shapes, strides and gradients are the real ones, or compiled code reads memory wrongly."""
    query, key, value, _ = (x.requires_grad_() for x in tensors(1, 4, 2, 12, 16))
    intervals = Intervals.causal(torch.zeros(1, 12, dtype=torch.int64))
    torch.library.opcheck(_attend, (query, key, value, *intervals, alibi_slopes(4), None, None, "half", way))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("length", [7, 129, 300])
@pytest.mark.parametrize("alibi", [False, True])
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_blocks_for_a_gpu_show_what_the_intervals_show(length, alibi, data):
    """The same mask, bias and block lists as on a GPU, run by FlexAttention's plain form."""
    intervals = data.draw(batches_of_intervals(length))
    slopes = alibi_slopes(4) if alibi else None
    query, key, value, _ = tensors(len(intervals.first), 4, 2, length, 16)
    blocks = blocks_of(intervals)
    found = attend(query, key, value, blocks, slopes)
    close([found], [reference(query, key, value, intervals, slopes)], 1e-5)
    # FlexAttention's plain form reads the mask alone; a GPU skips blocks that are not listed and trusts whole ones.
    dense, size = intervals.dense()[:, 0].float(), blocks.BLOCK_SIZE[0]
    touched, whole = (sign * torch.nn.functional.max_pool2d(sign * dense, size, ceil_mode=True) for sign in (1, -1))
    assert bool((blocks.to_dense()[:, 0] >= touched).all())
    for count, order, among in zip(blocks.full_kv_num_blocks[:, 0], blocks.full_kv_indices[:, 0], whole):
        assert all(bool(among[at, order[at, :many].long()].all()) for at, many in enumerate(count.tolist()))


def test_blocks_for_a_gpu_are_part_of_what_is_compiled():
    """As a decoder on a GPU has it: made from new intervals every step, without a break or a second compilation."""
    torch._dynamo.reset()
    query, key, value, _ = tensors(2, 2, 2, 150, 16)

    @torch.compile(dynamic=False, fullgraph=True, backend="eager")
    def compiled(intervals):
        return attend(query, key, value, blocks_of(intervals), alibi_slopes(2))

    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        for size in (150, 20):
            intervals = Intervals.causal((torch.arange(150) // size).expand(2, -1).contiguous())
            close([compiled(intervals)], [reference(query, key, value, intervals, alibi_slopes(2))], 1e-5)


def with_prefix(query, key, value, prefix, intervals, slopes):
    """The formula with the prefix's keys first, dense and in float64."""
    rows, heads, length, width = query.shape
    keys, values = (torch.cat((one.double().expand(rows, -1, -1, -1), own.double()), 2).repeat_interleave(
        heads // own.shape[1], 1) for one, own in zip(prefix, (key, value)))
    scores, count = query.double() @ keys.transpose(-1, -2) / math.sqrt(width), prefix.shape[2]
    if slopes is not None:
        distance = (torch.arange(length)[:, None] - torch.arange(length)).abs()
        scores = scores - slopes.double()[:, None, None] * torch.nn.functional.pad(distance, (count, 0))
    seen = torch.nn.functional.pad(intervals.dense(), (count, 0), value=True)
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ values


def prefix_of(count, heads, width, dtype=torch.float32):
    """Laid out as a decoder's prefix has it, so that some strides are not those of a new tensor."""
    drawn = torch.randn(count, 2, heads, width, generator=torch.Generator().manual_seed(9)).to(dtype)
    return drawn.permute(1, 2, 0, 3)


PREFIXED = pytest.mark.parametrize(("length", "heads", "kv_heads", "width", "count"), [
    (1, 2, 2, 16, 1), (7, 4, 2, 32, 200), (129, 4, 1, 80, 3), (200, 3, 3, 64, 128)])


@pytest.mark.parametrize("way", WAYS)
@PREFIXED
@pytest.mark.parametrize("alibi", [False, True])
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_a_prefix_is_keys_that_every_query_sees(way, length, heads, kv_heads, width, count, alibi, data):
    intervals, slopes = data.draw(batches_of_intervals(length)), alibi_slopes(heads) if alibi else None
    *given_, gradient = tensors(len(intervals.first), heads, kv_heads, length, width)
    leaves = [x.detach().requires_grad_() for x in (*given_, prefix_of(count, kv_heads, width))]
    out = interval_attention(*leaves[:3], intervals, slopes, prefix=leaves[3], way=way)
    truth = with_prefix(*leaves, intervals, slopes)
    close([out.detach(), *torch.autograd.grad(out, leaves, gradient)],
          [truth.detach(), *torch.autograd.grad(truth, leaves, gradient.double())], 1e-4)


@PREFIXED
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_a_prefix_is_the_same_in_the_form_of_a_gpu(length, heads, kv_heads, width, count, data):
    intervals, prefix = data.draw(batches_of_intervals(length)), prefix_of(count, kv_heads, width)
    query, key, value, _ = tensors(len(intervals.first), heads, kv_heads, length, width)
    found = attend(query, key, value, blocks_of(intervals), alibi_slopes(heads), prefix)
    close([found], [with_prefix(query, key, value, prefix, intervals, alibi_slopes(heads))], 1e-4)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_prefix_in_bfloat16_is_as_close_as_bfloat16_can_be(way, data):
    intervals = data.draw(batches_of_intervals(130))
    *given_, gradient = tensors(len(intervals.first), 4, 2, 130, 64, torch.bfloat16)
    leaves = [x.detach().requires_grad_() for x in (*given_, prefix_of(60, 2, 64, torch.bfloat16))]
    out = interval_attention(*leaves[:3], intervals, None, prefix=leaves[3], way=way)
    truth = with_prefix(*leaves, intervals, None)
    close([out.detach(), *torch.autograd.grad(out, leaves, gradient)],
          [truth.detach(), *torch.autograd.grad(truth, leaves, gradient.double())], 3e-2)


@pytest.mark.parametrize("way", WAYS)
def test_the_operator_with_a_prefix_keeps_its_promises_too(way):
    query, key, value, _ = (x.requires_grad_() for x in tensors(1, 4, 2, 12, 16))
    intervals = Intervals.causal(torch.zeros(1, 12, dtype=torch.int64))
    prefix = prefix_of(5, 2, 16).requires_grad_()
    torch.library.opcheck(_attend_both, (query, key, value, prefix, *intervals, alibi_slopes(4), way))


def test_pieces_are_few_for_what_models_are_trained_with():
    """A call costs as much as many queries: packed documents are one piece each, a prefix three."""
    packed = Intervals.causal((torch.arange(90) // 30)[None])
    assert [piece.kind for piece in pieces_of(*(bound[0].tolist() for bound in packed), biased=False)] == ["causal"] * 3
    places = list(range(90))
    prefix = pieces_of([0] * 90, [max(39, place) for place in places], biased=False)
    assert [piece.kind for piece in prefix] == ["rectangle", "rectangle", "causal"]
    window = pieces_of([max(0, place - 20) for place in places], places, biased=False)
    assert [piece.kind for piece in window] == ["causal", "dense"]


@pytest.mark.parametrize("changes", [
    {}, {"position": "alibi", "num_attention_heads": 3, "head_dim": 16, "num_key_value_heads": 1},
    {"position": "learned_2d"}, {"rope_layout": "interleaved", "num_key_value_heads": 1, "rope_dims": 8},
    {"position": "rope_2d"}])
def test_a_decoder_reads_intervals_as_it_reads_documents(changes):
    shape = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 2, "max_position_embeddings": 64, **changes}
    model = initialise(Decoder(ModelConfig(**shape)), 0)
    ids = torch.randint(50, (2, 37), generator=torch.Generator().manual_seed(0))
    documents = torch.stack([torch.arange(37) // 9, torch.arange(37) // 20])
    found = model.hidden(ids, Intervals.causal(documents))
    torch.testing.assert_close(found, model.hidden(ids, documents + 1), atol=1e-5, rtol=1e-5)


class Compiler:
    """A compiler of the test's making, first on the list."""

    def __init__(self, folder, monkeypatch, script):
        path = folder / "compiler"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        monkeypatch.setattr(build, "library", functools.cache(build.library.__wrapped__))


def test_a_broken_compiler_is_told_of_once_and_done_without(tmp_path, monkeypatch, capsys):
    Compiler(tmp_path, monkeypatch, 'test "$1" = --version || { echo no such flag >&2; exit 1; }')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.library("attention") is None
    assert build.library("attention") is None
    assert capsys.readouterr().err.count("no such flag") == 1
    assert not list((tmp_path / "headwater").iterdir())


@pytest.mark.skipif(not hardware.has_compiler(), reason="no C++ compiler")
def test_a_cache_that_cannot_be_written_costs_a_compilation_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file, where a folder should be")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(build, "FLAGS", tuple(flag for flag in build.FLAGS if flag != "-O3"))
    loaded = build.library.__wrapped__("attention")
    assert loaded is not None
    assert loaded.interval_attention_forward_float32 is not None
    assert not list((tmp_path / "temporary").iterdir())
