"""Four-bit layers against float ones with the weights that they stand for; packing and unpacking; models packed."""

import json
import subprocess
import sys
from statistics import NormalDist

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headwater import hardware
from headwater.errors import CheckpointError, InputError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.four_bits import INT4, NF4, FourBitLinear, _gradient, product
from headwater.model.linear import Int8Linear
from headwater.model.native import four_bits
from headwater.model.native.four_bits import pack, unpack
from headwater.model.packed import pack_linears, packed_linears
from headwater.model.tensors import read_tensors
from headwater.train.recompute import recompute

FAMILIES = ["baichuan1_13b", "baichuan2_7b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "glm_10b", "llama2_gqa"]
IDS = torch.arange(12)[None] % 31
TINY = {"vocab_size": 31, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(params=["compiled", "pytorch"] if hardware.has_compiler() else ["pytorch"])
def way(request, monkeypatch):
    if request.param == "pytorch":
        monkeypatch.setattr(four_bits, "library", lambda name: None)
    return request.param


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def float_of(packed, dtype=torch.float32):
    """The nn.Linear that a packed layer stands for."""
    linear = nn.Linear(packed.in_features, packed.out_features, bias=packed.bias is not None, dtype=dtype)
    linear.weight.data.copy_(packed.unpacked(dtype))
    if packed.bias is not None:
        linear.bias.data.copy_(packed.bias)
    return linear.requires_grad_(False)


def test_the_levels_are_quantiles_of_the_normal_distribution():
    """QLoRA's construction: eight of one half and seven of the other, evenly by probability, and zero, all over the
    largest. The outermost probability lies between those of 16 and of 15 equal parts."""
    outermost = 1 - (1 / 32 + 1 / 30) / 2
    quantile = NormalDist().inv_cdf
    above = [quantile(outermost + (0.5 - outermost) * step / 8) for step in range(8)]
    below = [-quantile(outermost + (0.5 - outermost) * step / 7) for step in range(7)]
    wanted = [value / max(above) for value in sorted([*below, 0.0, *above])]
    assert pytest.approx(wanted, abs=2e-7) == NF4
    assert [f"{value:.4f}" for value in NF4] == [
        "-1.0000", "-0.6962", "-0.5251", "-0.3949", "-0.2844", "-0.1848", "-0.0911", "0.0000", "0.0796", "0.1609",
        "0.2461", "0.3379", "0.4407", "0.5626", "0.7230", "1.0000"]  # as the paper's appendix E prints them
    assert all(torch.tensor(value).item() == value for value in NF4)  # float32, as the library's table


@given(rows=st.integers(1, 9), columns=st.integers(1, 200), seed=st.integers(0, 999),
       size=st.sampled_from([1e-30, 1e-3, 1.0, 1e5]), levels=st.sampled_from([NF4, INT4]))
def test_packing_takes_the_nearest_level_and_what_is_packed_stays(rows, columns, seed, size, levels):
    weight = size * drawn(rows, columns, seed=seed)
    codes, scale = pack(weight, levels)
    found = unpack(codes, scale, levels, torch.float32)[:, :columns]
    each = scale.float().repeat_interleave(64, 1)[:, :columns]
    best = (weight[..., None] / each[..., None] - torch.tensor(levels)).abs().amin(-1)
    torch.testing.assert_close((weight - found).abs() / each, best, rtol=1e-5, atol=1e-6)
    again = pack(found, levels)
    assert torch.equal(again[0], codes)
    assert torch.equal(again[1], scale)
    assert torch.equal(pack(unpack(codes, scale, levels, torch.bfloat16)[:, :columns], levels)[0], codes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(rows=st.integers(1, 20), groups=st.integers(1, 5), first=st.integers(0, 4), seed=st.integers(0, 99))
def test_the_compiled_code_unpacks_to_the_same_bits(dtype, rows, groups, first, seed):
    if not hardware.has_compiler():
        pytest.skip("no C++ compiler")
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (rows, 5 * 32), generator=generator, dtype=torch.uint8)
    scale = torch.rand(rows, 5, generator=generator).bfloat16()
    codes, scale = codes[:, 32 * first : 32 * (first + groups)], scale[:, first : first + groups]
    found = unpack(codes, scale, NF4, dtype)
    place = torch.stack([codes >> 4, codes & 15], -1).flatten(1).long()
    wanted = torch.tensor(NF4).to(dtype)[place] * scale.repeat_interleave(64, 1).to(dtype)
    assert torch.equal(found, wanted)


def test_without_a_compiler_the_bits_are_the_same(way):
    codes, scale = pack(drawn(5, 200), NF4)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        place = torch.stack([codes >> 4, codes & 15], -1).flatten(1).long()
        wanted = torch.tensor(NF4).to(dtype)[place] * scale.repeat_interleave(64, 1).to(dtype)
        assert torch.equal(unpack(codes, scale, NF4, dtype), wanted)


def test_weights_of_zeros_and_no_numbers_show():
    weight = torch.zeros(2, 128)
    weight[0, 3], weight[1, 70] = float("nan"), float("inf")
    found = unpack(*pack(weight, NF4), NF4, torch.float32)
    assert found[0, :64].isnan().all()
    assert not found[1, 70].isfinite()
    assert not found[0, 64:].any()
    assert not found[1, :64].any()


def test_nf4_is_nearer_to_gaussian_weights_than_even_steps():
    """Where weights are normal; the scale's rounding to bfloat16 costs less than a thousandth of the error."""
    weight = drawn(512, 512)
    errors = {levels: (unpack(*pack(weight, levels), levels, torch.float32) - weight).square().mean().sqrt().item()
              for levels in (NF4, INT4)}
    assert errors[NF4] < 0.9 * errors[INT4]
    exact = weight.unflatten(1, (-1, 64))
    largest = exact.abs().amax(-1, keepdim=True)
    nearest = ((exact / largest)[..., None] - torch.tensor(NF4)).abs().argmin(-1)
    ideal = (torch.tensor(NF4)[nearest] * largest - exact).square().mean().sqrt().item()
    assert errors[NF4] == pytest.approx(ideal, rel=1e-3)


@pytest.mark.parametrize("columns", [64, 70, 4096])
def test_bytes_are_four_bits_a_weight_and_sixteen_a_group(columns):
    packed = FourBitLinear.pack(nn.Linear(columns, 33, bias=False))
    groups = -(-columns // 64)
    assert sum(one.nbytes for one in packed.state_dict().values()) == 33 * groups * 64 * (4 + 16 / 64) / 8


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("columns", "rows", "shape"), [(64, 5, (3,)), (70, 300, (2, 7)), (256, 40, (1, 2, 9)),
                                                         (128, 8, (0,))])
def test_products_and_gradients_are_those_of_a_float_layer(way, columns, rows, shape, bias):
    packed = FourBitLinear.pack(nn.Linear(columns, rows, bias=bias))
    linear = float_of(packed)
    x = drawn(*shape, columns).requires_grad_()
    other = x.detach().clone().requires_grad_()
    y, wanted = packed(x), linear(other)
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)
    weights = drawn(*y.shape, seed=1)
    y.backward(weights)
    wanted.backward(weights)
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-5, atol=1e-5)


def test_many_chunks_are_one_product(monkeypatch):
    """Breaks when the rows or columns of one chunk land in another's place."""
    monkeypatch.setattr("headwater.model.four_bits.FLOAT_BYTES", {"cpu": 70 * 4 * 3})
    test_products_and_gradients_are_those_of_a_float_layer(None, 70, 37, (5,), True)


def test_gradients_are_right_to_the_second_order_of_the_step():
    packed = FourBitLinear.pack(nn.Linear(70, 9))
    x = drawn(2, 3, 70, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: packed(x).sin(), (x,))


def test_autocast_takes_the_product_in_its_own_type(way):
    packed = FourBitLinear.pack(nn.Linear(128, 16))
    x = drawn(4, 128).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = packed(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, float_of(packed, torch.bfloat16)(x.detach().bfloat16()), rtol=0.02, atol=0.02)
    y.sum().backward()
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", [FourBitLinear, Int8Linear])
def test_what_comes_out_may_be_changed_in_place(kind):
    """As adapters do."""
    x = drawn(2, 3, 128).requires_grad_()
    packed = kind.pack(nn.Linear(128, 16)).requires_grad_(False)
    packed(x).mul_(3).sum().backward()
    other = x.detach().clone().requires_grad_()
    (3 * packed(other)).sum().backward()
    assert torch.equal(x.grad, other.grad)


def test_the_operators_are_what_the_compiler_takes_them_for():
    packed = FourBitLinear.pack(nn.Linear(70, 9))
    x = drawn(2, 70).requires_grad_()
    torch.library.opcheck(product, (x, packed.weight, packed.scale, None, list(NF4), packed.bias))
    torch.library.opcheck(_gradient, (drawn(2, 9), packed.weight, packed.scale, None, list(NF4), 70))


@pytest.mark.parametrize("again", ["none", "selective", "full"])
def test_a_packed_model_has_the_gradients_of_the_float_one_that_it_stands_for(again):
    packed = initialise(Decoder(ModelConfig(**TINY)), 0)
    pack_linears(packed, head=False, form="nf4")
    whole = Decoder(packed.config)
    whole.load_state_dict(packed.state_dict() | {
        f"{name}.weight": one.unpacked(torch.float32) for name, one in packed_linears(packed)}, strict=False)
    recompute(packed, again)
    for model in (packed, whole):
        model(IDS).logsumexp(-1).sum().backward()
    torch.testing.assert_close(packed.embedding.weight.grad, whole.embedding.weight.grad, rtol=1e-4, atol=1e-5)


def test_nothing_is_kept_for_the_backward_pass_but_the_packed_weights():
    packed = FourBitLinear.pack(nn.Linear(256, 256))
    x, kept = drawn(64, 256).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        packed(x)
    assert sum(one.nbytes for one in kept) == packed.weight.nbytes + packed.scale.nbytes


@pytest.mark.parametrize("kind", [FourBitLinear, Int8Linear])
def test_frozen_bytes_stay_while_what_is_before_learns(kind):
    packed = kind.pack(nn.Linear(128, 64)).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in packed.state_dict().items()}
    vector = nn.Parameter(torch.zeros(128))
    optimizer, losses = torch.optim.AdamW([vector], lr=0.05), []
    for _ in range(10):
        loss = (packed(drawn(8, 128) + vector) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in packed.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_few_rows_of_int8_have_gradients_too(dtype):
    """The kernel for few rows has no backward pass."""
    packed = Int8Linear.pack(nn.Linear(64, 32)).to(dtype)
    x = drawn(3, 64, dtype=dtype).requires_grad_()
    packed(x).sum().backward()
    wanted = (packed.weight.float() * packed.scale.float()[:, None]).sum(0).expand(3, -1)
    torch.testing.assert_close(x.grad.float(), wanted, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("base", ["nf4", "int8"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_loads_packed(shared, name, base):
    """Weights packed while they are read are those of a model packed whole; embedding, head and norms stay."""
    folder = shared / "vectors" / name
    loaded, whole = load_model(folder, base=base), load_model(folder)
    ids = read_tensors(folder / "vectors.safetensors")["input_ids"]
    with torch.inference_mode():
        exact = whole(ids)
        assert pack_linears(whole, head=False, form=base)
        found = loaded(ids)
        assert torch.equal(found, whole(ids))
    assert torch.equal(loaded.head.weight, whole.head.weight)
    bound = 0.5 if base == "nf4" else 0.04  # the weights are random; measured .28 to .41 and .02 to .03
    assert (found - exact).square().mean().sqrt() < bound * exact.std()


@pytest.mark.parametrize("name", ["chatglm2_6b", "llama2_gqa", "chatglm_6b"])
def test_a_packed_model_survives_a_round_trip(shared, tmp_path, name):
    folder = shared / "vectors" / name
    model = load_model(folder, base="nf4")
    save_model(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["quant_method"] == "headwater-nf4"
    for again in (load_model(tmp_path), load_model(tmp_path, base="nf4")):
        state = again.state_dict()
        assert all(torch.equal(tensor, state[key]) and tensor.dtype == state[key].dtype
                   for key, tensor in model.state_dict().items())
    with pytest.raises(InputError, match="packed as nf4 already, not as int8"):
        load_model(tmp_path, base="int8")


def test_a_form_that_is_not_known_is_refused(tmp_path):
    save_model(initialise(Decoder(ModelConfig(**TINY)), 0), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "quantization_config": {"quant_method": "aqlm"}}))
    with pytest.raises(CheckpointError, match="quantization 'aqlm' is not supported") as caught:
        load_model(tmp_path)
    assert "compressed-tensors, gptq, awq, chatglm, headwater-nf4" in str(caught.value)
    with pytest.raises(InputError, match="base 'int3' is no form") as caught:
        load_model(tmp_path, base="int3")
    assert "int8, int4, nf4" in str(caught.value.fix)


@pytest.mark.parametrize(("base", "share"), [("nf4", 0.15), ("int4", 0.15), ("int8", 0.28)])
def test_loading_needs_the_packed_model_and_one_matrix(tmp_path, base, share):
    """Breaks when a float model, or more than one of its matrices, is in memory at once. The least of three processes:
    the system counts pages of the file too, and maps more of them around one that is read when it likes."""
    config = ModelConfig(vocab_size=64, hidden_size=1024, intermediate_size=4096, num_hidden_layers=4,
                         num_attention_heads=8)
    save_model(initialise(Decoder(config), 0), tmp_path)
    program = ("import sys; from headwater import hardware; from headwater.model.checkpoint import load_model\n"
               "before = hardware.memory_bytes(); hardware.forget_peak_memory()\n"
               "model = load_model(sys.argv[1], base=sys.argv[2])\n"
               "print(hardware.peak_memory_bytes() - before, sum(one.nbytes for one in model.buffers()))")
    command = [sys.executable, "-c", program, str(tmp_path), base]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    peak, packed = min((int(peak), int(packed)) for peak, packed in runs)
    matrix = 4 * 8192 * 1024  # gate and up together, float32
    assert packed < share * (tmp_path / "model.safetensors").stat().st_size
    assert peak < packed + matrix + (80 << 20)  # what packing a million weights at once takes, and libraries
