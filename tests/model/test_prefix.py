"""P-Tuning v2: prefixes against keys and values put before a dense attention by hand, transformers, and files."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.nn import functional as F

from headwater.errors import CheckpointError, InputError
from headwater.model import Decoder, KVCache, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.intervals import Intervals
from headwater.model.prefix import Prefix, PrefixSettings, load_prefix, save_prefix
from headwater.model.tensors import read_tensors, write_tensors
from headwater.presets import preset
from headwater.train.recompute import recompute

SMALL = {"vocab_size": 67, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
         "num_attention_heads": 4, "head_dim": 16, "rope_dims": 0, "max_position_embeddings": 80,
         "initializer_range": 0.2}
CHANGES = {"Llama-2-70B": {"num_key_value_heads": 2}, "Baichuan2-13B": {},
           "ChatGLM2-6B": {"num_key_value_heads": 2, "rope_dims": 8},
           "GLM-4-9B-Chat": {"num_key_value_heads": 2, "rope_dims": 8},
           "GLM-4-9B-0414": {"num_key_value_heads": 2, "rope_dims": 8}, "Baichuan2-7B": {},
           "ChatGLM-6B": {"prefix_ids": (61, 60, 64)}, "GLM-10B": {"intermediate_size": 256}}
LENGTH, P = 40, 7
CAUSAL = [name for name in CHANGES if name != "ChatGLM-6B"]


def make(name, prefix=True, hidden=None, **changes):
    """A family's small model, frozen but for its prefix."""
    model = initialise(Decoder(preset(name, **{**SMALL, **CHANGES[name], **changes})), 0).requires_grad_(False)
    if prefix:
        model.prefix = Prefix(model.config, PrefixSettings(length=P, hidden=hidden), seed=1)
    return model


def tokens(name="", rows=2, length=LENGTH, context=(12, 21)):
    ids = torch.randint(5, 60, (rows, length), generator=torch.Generator().manual_seed(2))
    if name == "ChatGLM-6B":  # each row's context ends with a mask token and <sop>
        for row in range(rows):
            ids[row, context[row] - 1], ids[row, context[row]] = 61, 64
    return ids


def turned(x, places, config, width):
    """Rotary positions as complex numbers: pair i of the first `width` dimensions turns by place theta^(-2i/width)."""
    speeds = config.rope_theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    speeds = speeds.half().double() if config.rope_rounding == "float16" else speeds
    angles = places[:, None, :, None] * speeds
    part, rest = x[..., :width].double(), x[..., width:]
    pairs = part.unflatten(-1, (-1, 2)) if config.rope_layout == "interleaved" else part.unflatten(-1, (2, -1)).mT
    both = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angles), angles))
    both = both.flatten(-2) if config.rope_layout == "interleaved" else both.mT.flatten(-2)
    return torch.cat((both.float(), rest), -1)


def by_hand(model, table, ids, seen, positions):
    """Logits with each layer's attention written out: ChatGLM2's view of the table [P, L*2*K*d], its keys and values
    before the layer's own, neither rotated nor biased, and seen by all. seen: bool [B,T,T]; positions [B,A,T]."""
    config = model.config
    kept = table.view(len(table), config.num_hidden_layers * 2, config.num_key_value_heads, config.head_dim)
    kept = kept.permute(1, 2, 0, 3)  # [2L,K,P,d]
    rows, length = ids.shape
    allowed = torch.cat((torch.ones(rows, length, len(table), dtype=torch.bool), seen), -1)[:, None]
    bias = torch.zeros(1)
    if config.position == "alibi":  # four heads: slopes 1/4, 1/16 ...
        distance = (torch.arange(length)[:, None] - torch.arange(length)).float().abs()
        bias = -torch.tensor([4.0 ** -(h + 1) for h in range(4)])[:, None, None] * F.pad(distance, (len(table), 0))

    def attend(attention, x):
        split = [n * config.head_dim for n in (4, config.num_key_value_heads, config.num_key_value_heads)]
        query, key, value = (one.unflatten(-1, (-1, config.head_dim)).transpose(1, 2)
                             for one in attention.qkv(x).split(split, -1))
        if config.position == "rope":
            query, key = (turned(one, positions[:, 0], config, config.rope_dims) for one in (query, key))
        if config.position == "rope_2d":
            query, key = (torch.cat([turned(half, positions[:, axis], config, config.head_dim // 2) for axis, half in
                                     enumerate(one.chunk(2, -1))], -1) for one in (query, key))
        key, value = (torch.cat((kept[2 * attention.layer + which].expand(rows, -1, -1, -1), one), 2)
                      .repeat_interleave(4 // config.num_key_value_heads, 1) for which, one in enumerate((key, value)))
        scores = query @ key.mT / math.sqrt(config.head_dim) + bias
        mixed = scores.masked_fill(~allowed, -math.inf).softmax(-1) @ value
        return attention.out(mixed.transpose(1, 2).flatten(2))

    plain = [block.attention.forward for block in model.blocks]
    for block in model.blocks:
        block.attention.forward = lambda x, _, attention=block.attention: attend(attention, x)
    try:
        any_mask = None if config.attention_sinks else torch.ones(rows, 1, length, length, dtype=torch.bool)
        return model(ids, any_mask, positions)
    finally:
        for block, forward in zip(model.blocks, plain):
            block.attention.forward = forward


def case(name, way):
    """What the model is given, and by hand: who sees whom, and where tokens stand."""
    model, places = make(name), torch.arange(LENGTH).expand(2, -1)
    causal = places[..., None] >= places[:, None]
    if name == "ChatGLM-6B":
        lengths = torch.tensor([12, 21])[:, None]
        inside = (places - lengths + 1).clamp_min(0)
        positions = torch.stack((torch.where(inside > 0, lengths - 1, places), inside), 1)
        seen = causal | (places < lengths)[:, None]
        given = {"rows": {}, "mask": {"attention_mask": seen[:, None], "position_ids": positions}, "intervals": {
            "attention_mask": Intervals(torch.zeros_like(places), torch.maximum(places, lengths - 1)),
            "position_ids": positions}}
        return model, given[way], seen, positions
    axes = model.config.position_axes
    documents = torch.stack([torch.bucketize(places[0], torch.tensor(cuts), right=True) for cuts in ([15, 33], [4])])
    own = places - Intervals.causal(documents).first
    stacked = torch.stack((own, torch.zeros_like(own))[:axes], 1)
    packed = causal & (documents[..., None] == documents[:, None])
    if way == "rows":
        plain = torch.stack((places, torch.zeros_like(places))[:axes], 1)
        return model, {}, causal, plain
    mask = Intervals.causal(documents) if way == "intervals" else packed[:, None]
    alike = model.config.position == "alibi"  # whose masks go by positions, and intervals by places: the same here
    return model, {"attention_mask": mask, "position_ids": None if alike else stacked}, packed, stacked


def loss_of(logits, ids):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("way", ["rows", "intervals", "mask"])
def test_loss_and_gradients_are_those_of_keys_and_values_written_by_hand(name, way):
    model, given, seen, positions = case(name, way)
    ids = tokens(name)
    logits = model(ids, **given)
    loss_of(logits, ids).backward()
    prefix, model.prefix = model.prefix, None
    table = prefix.embedding.weight.detach().clone().requires_grad_()
    wanted = by_hand(model, table, ids, seen, positions)
    loss_of(wanted, ids).backward()
    torch.testing.assert_close(logits, wanted, rtol=1e-3, atol=1e-4)
    found = prefix.embedding.weight.grad
    assert (found - table.grad).abs().max() <= 1e-4 * table.grad.abs().max()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not torch.allclose(model(ids, **given), logits, atol=0.1)  # it does make a difference


def test_glm_reads_its_context_both_ways_behind_a_prefix():
    model, ids = make("GLM-10B"), tokens()
    lengths, places = torch.tensor([9, 30]), torch.arange(LENGTH).expand(2, -1)
    seen = (places[..., None] >= places[:, None]) | (places < lengths[:, None])[:, None]
    found = model(ids, lengths)
    table, model.prefix = model.prefix.table(), None
    wanted = by_hand(model, table, ids, seen, torch.stack((places, torch.zeros_like(places)), 1))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["Llama-2-70B", "Baichuan2-13B"])
@pytest.mark.parametrize("sinks", [0, 2])
def test_a_window_hides_no_prefix(name, sinks):
    """With sinks, of a model without positions: where they stand is told in test_windows."""
    changes = {"sliding_window": 6, "attention_sinks": sinks, **({"position": "none"} if sinks else {})}
    model, ids, places = make(name, **changes), tokens(), torch.arange(LENGTH)
    back = places[:, None] - places
    seen = ((back >= 0) & ((back < 6) | (places < sinks))).expand(2, -1, -1)
    found = model(ids)
    loss_of(found, ids).backward()
    prefix, model.prefix = model.prefix, None
    table = prefix.table().detach().clone().requires_grad_()
    wanted = by_hand(model, table, ids, seen, places.expand(2, 1, -1))
    loss_of(wanted, ids).backward()
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert (prefix.embedding.weight.grad - table.grad).abs().max() <= 1e-4 * table.grad.abs().max()


@pytest.mark.parametrize("name", CHANGES)
@torch.inference_mode()
def test_reading_on_from_a_cache_equals_reading_at_once(name):
    model = make(name).eval()
    ids = tokens(name, context=(9, 5))
    whole, cache = model(ids), model.cache(2, LENGTH)
    parts = [model(ids[:, at:to], cache=cache) for at, to in ((0, 12), (12, 13), (13, 20), (20, 21), (21, LENGTH))]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("position", ["rope", "alibi"])
@torch.inference_mode()
def test_many_tokens_and_one_at_a_time_are_read_alike(position):
    """By the kernel for runs of keys, by masks, and at slots of their own."""
    model = make("Llama-2-70B", position=position, rope_dims=16, max_position_embeddings=300).eval()
    ids = tokens(length=200)
    whole = model(ids)
    cache = model.cache(2, 200)
    parts = [model(ids[:, at:to], cache=cache) for at, to in ((0, 90), (90, 195))]
    for at in range(195, 200):
        slots = torch.full((2, 1), at)
        parts.append(model.head(model.hidden(ids[:, at : at + 1], cache=cache, slots=slots)))
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(("window", "sinks", "piece"), [(6, 0, 5), (6, 2, 1), (30, 3, 9)])
@torch.inference_mode()
def test_a_rolling_cache_keeps_the_prefix(window, sinks, piece):
    model = make("Llama-2-70B", sliding_window=window, attention_sinks=sinks).eval()
    ids = tokens()
    cache = model.cache(2, LENGTH, piece=piece)
    parts = [model(ids[:, at : at + piece], cache=cache) for at in range(0, LENGTH, piece)]
    torch.testing.assert_close(torch.cat(parts, 1), model(ids), rtol=1e-3, atol=2e-4)
    assert cache.slots == min(LENGTH, window + sinks + piece - 1)


@torch.inference_mode()
def test_rows_of_a_cache_move_with_their_prefix():
    model, ids = make("Llama-2-70B").eval(), tokens(rows=3)
    cache, whole = model.cache(3, LENGTH), model(ids)
    model.hidden(ids[:, :20], cache=cache)
    cache.move(2, 0, 20)
    found = model.head(model.hidden(ids[[2, 1], 20:21], cache=cache.rows(0, 2), slots=torch.full((2, 1), 20)))
    torch.testing.assert_close(found[:, 0], whole[[2, 1], 20], rtol=1e-3, atol=2e-4)


def with_prefixes(name, lengths, ids, **changes):
    """A model without one, and the logits of each row [1,T] behind a prefix of its own; 0: none."""
    model = make(name, prefix=False, **changes).eval()
    prefixes = [Prefix(model.config, PrefixSettings(length=one), seed=one) if one else None for one in lengths]
    wanted = []
    for row, model.prefix in enumerate(prefixes):
        wanted.append(model(ids[row : row + 1]))
    model.prefix = None
    return model, prefixes, torch.cat(wanted)


def begun(model, prefixes, length, **given):
    """A cache the rows of which had a longer prefix before."""
    cache, longest = model.cache(len(prefixes), length, front=P, **given), PrefixSettings(length=P)
    cache.begin(range(len(prefixes)), Prefix(model.config, longest, seed=5))
    for row, prefix in enumerate(prefixes):
        cache.begin(range(row, row + 1), prefix)
    return cache


@pytest.mark.parametrize("name", CHANGES)
@torch.inference_mode()
def test_every_row_of_a_cache_has_its_own_prefix(name):
    """Read from the start, on from there, one at a time, and at slots of their own."""
    ids = tokens(name, rows=3, context=(9, 5, 7))
    model, prefixes, whole = with_prefixes(name, (P, 3, 0), ids)
    cache = begun(model, prefixes, LENGTH)
    parts = [model(ids[:, at:to], cache=cache) for at, to in ((0, 12), (12, 13), (13, 20), (20, 38))]
    parts += [model.head(model.hidden(ids[:, at : at + 1], cache=cache, slots=torch.full((3, 1), at)))
              for at in (38, 39)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("position", ["rope", "alibi"])
@torch.inference_mode()
def test_long_rows_have_their_own_prefixes(position):
    """By the kernel for runs of keys where there is one."""
    ids = tokens(rows=2, length=200)
    model, prefixes, whole = with_prefixes("Llama-2-70B", (3, P), ids, position=position, rope_dims=16,
                                           max_position_embeddings=300)
    cache = begun(model, prefixes, 200)
    parts = [model(ids[:, at:to], cache=cache) for at, to in ((0, 90), (90, 200))]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(("window", "sinks", "piece"), [(6, 0, 5), (6, 2, 1), (30, 3, 9)])
@torch.inference_mode()
def test_rows_of_a_rolling_cache_have_their_own_prefixes(window, sinks, piece):
    ids = tokens(rows=3)
    model, prefixes, whole = with_prefixes("Llama-2-70B", (0, P, 3), ids, sliding_window=window, attention_sinks=sinks)
    cache = begun(model, prefixes, LENGTH, piece=piece)
    parts = [model(ids[:, at : at + piece], cache=cache) for at in range(0, LENGTH, piece)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-3, atol=2e-4)


@torch.inference_mode()
def test_rows_with_short_prefixes_have_no_more_in_front_and_move_with_them():
    ids = tokens(rows=3)
    model, prefixes, whole = with_prefixes("Llama-2-70B", (0, 3, P), ids)
    cache = begun(model, prefixes, LENGTH)
    model.hidden(ids[:, :20], cache=cache)
    assert [cache.rows(0, count).front for count in (1, 2, 3)] == [0, 3, P]
    cache.move(1, 0, 20)
    assert not cache.rows(0, 2).unequal
    found = model.head(model.hidden(ids[[1, 1], 20:21], cache=cache.rows(0, 2), slots=torch.full((2, 1), 20)))
    torch.testing.assert_close(found[:, 0], whole[[1, 1], 20], rtol=1e-3, atol=2e-4)
    cache.move(2, 0, 20)
    found = model.head(model.hidden(ids[[2, 1], 20:21], cache=cache.rows(0, 2), slots=torch.full((2, 1), 20)))
    torch.testing.assert_close(found[:, 0], whole[[2, 1], 20], rtol=1e-3, atol=2e-4)


def test_a_cache_without_the_prefix_is_refused():
    model = make("Llama-2-70B")
    with pytest.raises(InputError, match="a prefix of 0 keys for a model with one of 7"):
        model(tokens(), cache=KVCache(model.config, 2, LENGTH))


def test_transformers_reads_the_same_before_its_tokens(tmp_path):
    """Its cache of so many keys, and positions from 0 behind it."""
    transformers = pytest.importorskip("transformers", reason="transformers, the reference here, is not installed")
    config = transformers.LlamaConfig(
        vocab_size=67, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, initializer_range=0.2)
    torch.manual_seed(4)
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    model.prefix = Prefix(model.config, PrefixSettings(length=P), seed=3)
    past, ids = transformers.DynamicCache(), tokens()
    for layer, (key, value) in enumerate(model.prefix()):
        past.update(key.detach().expand(2, -1, -1, -1), value.detach().expand(2, -1, -1, -1), layer)
    with torch.no_grad():
        wanted = theirs(ids, past_key_values=past, position_ids=torch.arange(LENGTH).expand(2, -1)).logits
        found = model(ids)
    assert (wanted - found).abs().max() <= 1e-4 * wanted.std()


@pytest.mark.parametrize("what", ["selective", "full"])
@pytest.mark.parametrize("hidden", [None, 24])
def test_recomputed_and_split_batches_give_the_same_gradients(what, hidden):
    ids, documents = tokens(), (torch.arange(LENGTH) // 15).expand(2, -1)

    def gradients(model, parts):
        for rows in parts:
            loss = model(ids[rows], Intervals.causal(documents[rows])).logsumexp(-1).sum()
            loss.backward()
        return [parameter.grad for parameter in model.prefix.parameters()]

    plain, other = (make("Baichuan2-13B", hidden=hidden) for _ in range(2))
    recompute(other, what)
    for one, two in zip(gradients(plain, [slice(0, 2)]), gradients(other, [slice(0, 1), slice(1, 2)]), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5 * float(two.abs().max()))


@pytest.mark.parametrize("name", CHANGES)
def test_in_half_precision_the_gradients_are_near(name):
    model, given, *_ = case(name, "intervals")
    ids = tokens(name)
    (wanted,) = torch.autograd.grad(loss_of(model(ids, **given), ids), [model.prefix.embedding.weight])
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model(ids, **given).float(), ids)
    loss.backward()
    found = model.prefix.embedding.weight.grad
    assert found.dtype == torch.float32
    assert F.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.98


def test_a_decoder_with_a_prefix_can_be_compiled():
    torch._dynamo.reset()
    model, ids = make("Llama-2-70B"), tokens()
    intervals = Intervals.causal((torch.arange(LENGTH) // 15).expand(2, -1).contiguous())
    wanted = model.hidden(ids, intervals)
    found = torch.compile(model.hidden, dynamic=False, fullgraph=True, backend="aot_eager")(ids, intervals)
    grads = [torch.autograd.grad(one.square().sum(), model.prefix.embedding.weight)[0] for one in (wanted, found)]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)


def test_seeds_decide_and_the_callers_numbers_go_on():
    config = make("Llama-2-70B", prefix=False).config
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (Prefix(config, PrefixSettings(length=P, hidden=8), seed).table() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("hidden", [None, 24])
def test_a_saved_prefix_says_the_same(tmp_path, hidden):
    model, ids = make("ChatGLM2-6B", hidden=hidden), tokens()
    save_prefix(model.prefix, tmp_path)
    again = make("ChatGLM2-6B", prefix=False)
    again.prefix = load_prefix(tmp_path, again.config)
    assert again.prefix.trans is None
    assert again.prefix.embedding.weight.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(again(ids), model(ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("inner", [None, 64, 192])  # plain; ChatGLM-6B's: as wide as the model; ChatGLM2's: as all
def test_official_checkpoints_are_read(tmp_path, form, inner):
    config = make("ChatGLM2-6B", prefix=False).config
    width = 3 * 2 * 2 * 16
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(P, inner or width)
    wide = embedding.embedding_dim
    trans = torch.nn.Sequential(torch.nn.Linear(wide, 64), torch.nn.Tanh(), torch.nn.Linear(64, width))
    wanted = (embedding.weight if inner is None else trans(embedding.weight)).detach()
    official = {"embedding.weight": embedding.weight.detach()}
    if inner is not None:
        official |= {f"trans.{name}": one.detach() for name, one in trans.named_parameters()}
    tensors = {f"transformer.prefix_encoder.{name}": one for name, one in official.items()}
    if form.endswith("bin"):
        torch.save(tensors, tmp_path / form)
    else:
        write_tensors(tmp_path / form, tensors)
    torch.testing.assert_close(load_prefix(tmp_path, config).table(), wanted)


def test_a_model_folder_never_loses_a_prefix_silently(tmp_path):
    with pytest.raises(InputError, match="no part of a model's folder"):
        save_model(make("Llama-2-70B"), tmp_path)


def test_what_is_no_prefix_for_this_model_is_refused(tmp_path):
    model = make("Llama-2-70B")
    save_prefix(model.prefix, tmp_path)
    other = ModelConfig.parse({**SMALL, "num_key_value_heads": 1, "num_hidden_layers": 6})  # as many numbers
    with pytest.raises(CheckpointError, match="a prefix for 3 layers, 2 key/value heads of 16; the model has 6 layers"):
        load_prefix(tmp_path, other)
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**described, "peft_type": "PREFIX_TUNING"}))
    with pytest.raises(CheckpointError, match="peft_type is 'PREFIX_TUNING'"):
        load_prefix(tmp_path, model.config)
    official = tmp_path / "official"
    official.mkdir()
    write_tensors(official / "model.safetensors", read_tensors(tmp_path / "adapter_model.safetensors"))
    with pytest.raises(CheckpointError, match=r"a prefix of shape \[7, 192\], the model takes \[length, 96\]"):
        load_prefix(official, ModelConfig.parse({**SMALL, "num_key_value_heads": 1}))
    write_tensors(official / "model.safetensors", {"lm_head.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match="no prefix here"):
        load_prefix(official, model.config)


def test_peft_opens_no_prefix_of_ours(tmp_path):
    """Its own prefixes count positions from behind themselves: it must not take ours for one."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    save_prefix(make("Llama-2-70B").prefix, tmp_path)
    with pytest.raises((KeyError, ValueError)):
        peft.PeftConfig.from_pretrained(str(tmp_path))
