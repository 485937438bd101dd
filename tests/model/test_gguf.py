"""GGUF files: read back with llama.cpp's own package, and run by llama.cpp where it is installed."""

import ctypes
import math
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError, MissingExtraError, StorageError
from headwater.model import Decoder, KVCache, ModelConfig, initialise
from headwater.model.checkpoint import load_model
from headwater.model.gguf import writing
from headwater.model.gguf.architectures import architecture_of, paired, rope_factors
from headwater.model.gguf.numbers import packed, size_of, stored_as
from headwater.model.gguf.writing import write_gguf
from headwater.model.packed import pack_linears
from headwater.model.positions import frequencies, rope_tables, rotate
from headwater.model.scalings import Llama3, Yarn
from headwater.model.tensors import read_tensors

ARCHITECTURES = {
    "llama_mha": "llama", "llama2_gqa": "llama", "llama_rope_linear": "llama", "llama_rope_yarn": "llama",
    "llama_rope_llama3": "llama", "baichuan1_7b": "llama", "baichuan2_7b": "llama", "baichuan1_13b": "refact",
    "baichuan2_13b": "refact", "chatglm2_6b": "chatglm", "chatglm2_6b_32k": "chatglm", "chatglm3_6b": "chatglm",
    "chatglm3_6b_32k": "chatglm", "glm4_9b": "chatglm", "glm4_9b_chatglm": "chatglm", "glm4_0414": "glm4"}
TINY = {"vocab_size": 40, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def gguf():
    return pytest.importorskip("gguf", reason="the package gguf is not installed")


@pytest.fixture(scope="module")
def llama_cpp():
    return pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


def made(seed=0, **values):
    return initialise(Decoder(ModelConfig(**{**TINY, **values})), seed).eval()


def read(gguf, path):
    reader = gguf.GGUFReader(path)
    tensors = {one.name: (one.tensor_type.name, gguf.quants.dequantize(one.data, one.tensor_type))
               for one in reader.tensors}
    return {name: field.contents() for name, field in reader.fields.items()}, tensors


def test_pairs_of_half_a_head_apart_come_side_by_side():
    config = ModelConfig(**{**TINY, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1})
    rows = torch.arange(16.0)[:, None]  # two queries, a key and a value of four dimensions each
    assert paired(rows, config).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 13, 14, 15]
    partly = ModelConfig(**{**TINY, "hidden_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1,
                            "rope_dims": 4})
    assert paired(torch.arange(24.0), partly).tolist()[:12] == [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]
    for other in (config.model_copy(update={"rope_layout": "interleaved"}),
                  config.model_copy(update={"position": "alibi"})):
        assert paired(rows, other) is rows


@settings(max_examples=30)
@given(heads=st.integers(1, 3), pairs=st.integers(1, 4), still=st.integers(0, 3), seed=st.integers(0, 99))
def test_scores_are_the_same_in_either_order_of_pairs(heads, pairs, still, seed):
    size = 2 * pairs + still
    config = ModelConfig(**{**TINY, "hidden_size": heads * size, "num_attention_heads": heads, "head_dim": size,
                            "rope_dims": 2 * pairs})
    qkv = torch.randn(3 * heads * size, 5, generator=torch.Generator().manual_seed(seed))
    positions = torch.arange(5)[None]

    def scores(rows, layout):
        cos, sin = rope_tables(positions, frequencies(config, 5), layout=layout, scale=1.0)
        both = rotate(rows.unflatten(0, (3 * heads, size)).transpose(1, 2)[None], cos[:, None], sin[:, None], layout)
        return both[0, :heads] @ both[0, heads:2 * heads].transpose(1, 2)

    torch.testing.assert_close(scores(paired(qkv, config), "interleaved"), scores(qkv, "half"))


def test_a_llama_holds_the_official_rows_in_pairs(gguf, shared, tmp_path):
    folder = shared / "vectors" / "llama2_gqa"
    write_gguf(load_model(folder), tmp_path / "m.gguf", "F32")
    _, tensors = read(gguf, tmp_path / "m.gguf")
    official = {name: one.numpy() for name, one in read_tensors(folder / "model.safetensors").items()}
    assert len(tensors) == 3 + 9 * 2
    assert all(kind == "F32" for kind, _ in tensors.values())
    order = [0, 4, 1, 5, 2, 6, 3, 7]  # of a head of eight
    for part, heads in (("q", 8), ("k", 2)):
        rows = official[f"model.layers.1.self_attn.{part}_proj.weight"].reshape(heads, 8, 64)
        np.testing.assert_array_equal(tensors[f"blk.1.attn_{part}.weight"][1], rows[:, order].reshape(-1, 64))
    block = "model.layers.0"
    for ours, theirs in (("blk.0.attn_v", f"{block}.self_attn.v_proj"), ("blk.0.ffn_gate", f"{block}.mlp.gate_proj"),
                         ("blk.0.ffn_up", f"{block}.mlp.up_proj"), ("blk.0.ffn_down", f"{block}.mlp.down_proj"),
                         ("blk.0.attn_norm", f"{block}.input_layernorm"), ("output", "lm_head"),
                         ("token_embd", "model.embed_tokens"), ("output_norm", "model.norm")):
        np.testing.assert_array_equal(tensors[f"{ours}.weight"][1], official[f"{theirs}.weight"])


def test_chatglm_keeps_its_joined_matrices_as_they_are(gguf, shared, tmp_path):
    folder = shared / "vectors" / "chatglm3_6b"
    write_gguf(load_model(folder), tmp_path / "m.gguf", "F32")
    values, tensors = read(gguf, tmp_path / "m.gguf")
    official = read_tensors(folder / "model.safetensors")
    for ours, theirs in (("attn_qkv.weight", "self_attention.query_key_value.weight"),
                         ("attn_qkv.bias", "self_attention.query_key_value.bias"),
                         ("ffn_up.weight", "mlp.dense_h_to_4h.weight")):
        np.testing.assert_array_equal(tensors[f"blk.0.{ours}"][1],
                                      official[f"transformer.encoder.layers.0.{theirs}"].numpy())
    assert values["chatglm.rope.dimension_count"] == 4  # half of a head
    assert values["chatglm.attention.head_count_kv"] == 2


def test_a_normalised_head_is_written_with_rows_of_length_one(gguf, shared, tmp_path):
    write_gguf(load_model(shared / "vectors" / "baichuan2_7b"), tmp_path / "m.gguf", "F32")
    _, tensors = read(gguf, tmp_path / "m.gguf")
    np.testing.assert_allclose(np.linalg.norm(tensors["output.weight"][1], axis=1), 1, rtol=1e-6)


def test_metadata_says_what_the_configuration_says(gguf, tmp_path):
    model = made(num_key_value_heads=2, head_dim=32, max_position_embeddings=77, rope_theta=5e5, norm_eps=2e-5,
                 tie_word_embeddings=True, rope_scaling=Yarn(factor=4, original_length=64, attention_factor=1.5))
    write_gguf(model, tmp_path / "m.gguf", "BF16", name="small", tokenizer={"tokenizer.ggml.tokens": ["a", "b"]})
    values, tensors = read(gguf, tmp_path / "m.gguf")
    expected = {"general.architecture": "llama", "general.name": "small", "general.file_type": 32,
                "tokenizer.ggml.tokens": ["a", "b"], "llama.vocab_size": 40, "llama.context_length": 77,
                "llama.embedding_length": 64, "llama.block_count": 2, "llama.feed_forward_length": 96,
                "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
                "llama.attention.key_length": 32, "llama.attention.value_length": 32, "llama.rope.dimension_count": 32,
                "llama.rope.freq_base": 5e5, "llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0,
                "llama.rope.scaling.original_context_length": 64}
    assert {name: values.get(name) for name in expected} == expected
    assert values["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(2e-5)
    # llama.cpp multiplies by 0.1 ln 4 + 1 of its own.
    assert values["llama.rope.scaling.attn_factor"] * (0.1 * math.log(4) + 1) == pytest.approx(1.5)
    assert "output.weight" not in tensors  # the embedding stands for it
    assert {name: kind for name, (kind, _) in tensors.items() if name.startswith("blk.1.attn")} == {
        "blk.1.attn_norm.weight": "F32", **{f"blk.1.attn_{part}.weight": "BF16" for part in ("q", "k", "v", "output")}}


def test_factors_of_llama3_divide_slow_pairs_and_leave_quick_ones():
    config = ModelConfig(**{**TINY, "rope_scaling": Llama3(factor=8, original_length=64)})
    factors = rope_factors(config)
    wavelengths = [2 * math.pi * 10000 ** (2 * pair / 16) for pair in range(8)]
    assert [(wave < 64 / 4, wave > 64) for wave in wavelengths[:4]] == [
        (True, False), (False, False), (False, False), (False, True)]
    assert factors[0] == 1
    assert 1 < factors[1] < factors[2] < 8
    torch.testing.assert_close(factors[3:], torch.full((5,), 8.0))
    assert rope_factors(made().config) is None


@pytest.mark.parametrize(("values", "reason"), [
    ({"position": "rope_2d", "activation": "gelu_tanh"}, "position 'rope_2d'"),
    ({"norm": "layernorm"}, "norm 'layernorm'"),
    ({"sliding_window": 8}, "sliding_window 8"),
    ({"rope_dims": 8, "mlp_bias": True, "output_bias": True}, "how much of a head turns .rope_dims 8"),
    ({"position": "alibi", "norm_placement": "sandwich"}, "norm_placement 'sandwich'"),
    ({"rope_scaling": {"kind": "dynamic", "factor": 2}}, "dynamic NTK"),
    ({"rope_dims": 8, "rope_scaling": {"kind": "llama3", "factor": 2, "original_length": 64}}, "rope_dims 8"),
    ({"rope_scaling": {"kind": "yarn", "factor": 2, "original_length": 64, "beta_fast": 16}}, "yarn ramp")])
def test_what_llama_cpp_does_not_compute_is_refused(values, reason):
    with pytest.raises(InputError, match=reason):
        architecture_of(ModelConfig(**{**TINY, **values}))


def test_chatglm_6b_is_refused_in_words(shared):
    with pytest.raises(InputError) as found:
        architecture_of(load_model(shared / "vectors" / "chatglm_6b").config, "FOLDER")
    told = str(found.value)
    assert told.startswith("FOLDER: llama.cpp has no name for a model of the kind 'chatglm'")
    assert "prompts that are read both ways" in told
    assert "rotary in two dimensions" in told
    assert "prefix_ids" not in told


def test_baichuan_is_called_so_at_the_depths_that_llama_cpp_knows():
    def name(layers, position):
        return architecture_of(ModelConfig(**{**TINY, "num_hidden_layers": layers, "layout": "baichuan",
                                              "position": position, "head": "normalized"})).name

    assert [name(*one) for one in ((32, "rope"), (40, "alibi"), (40, "rope"), (32, "alibi"))] == [
        "baichuan", "baichuan", "llama", "refact"]


def test_families_have_their_architectures(shared):
    found = {}
    for name in ARCHITECTURES:
        found[name] = architecture_of(load_model(shared / "vectors" / name).config).name
    assert found == ARCHITECTURES
    for name in ("chatglm_6b", "glm_10b", "llama_rope_dynamic"):
        with pytest.raises(InputError, match=r"llama\.cpp has no"):
            architecture_of(load_model(shared / "vectors" / name).config)


def test_types_follow_the_rows():
    assert stored_as("output_norm.weight", (512,), "Q4_0", head=False) == "F32"
    assert stored_as("blk.0.ffn_up.weight", (96, 64), "Q4_0", head=False) == "Q4_0"
    assert stored_as("blk.0.ffn_down.weight", (64, 72), "Q8_0", head=False) == "F16"
    assert stored_as("output.weight", (40, 512), "Q4_0", head=True) == "Q6_K"
    assert stored_as("output.weight", (40, 64), "Q4_0", head=True) == "Q8_0"
    assert stored_as("output.weight", (40, 512), "Q8_0", head=True) == "Q8_0"
    assert [size_of((2, 256), kind) for kind in ("F32", "F16", "Q8_0", "Q4_0", "Q6_K")] == [2048, 1024, 544, 288, 420]


@settings(max_examples=20)
@given(seed=st.integers(0, 99), spread=st.sampled_from([0.03, 1.0, 300.0]))
def test_six_bits_are_within_a_step(gguf, seed, spread):
    rows = torch.randn(3, 512, generator=torch.Generator().manual_seed(seed)) * spread
    rows[1, :256] = 0
    data = packed(rows, "Q6_K")
    assert data.shape == (3, 420)
    blocks = data.reshape(6, 210)
    step = blocks[:, 208:].copy().view(np.float16).astype(np.float32)[:, :, None]
    scales = blocks[:, 192:208].copy().view(np.int8).astype(np.float32)[..., None] * step
    back = gguf.quants.dequantize(data, gguf.GGMLQuantizationType.Q6_K)
    error = np.abs(back - rows.numpy())
    # Half a step, a whole one opposite to the largest weight; that, at the range's end, moves with half a step of its
    # scale, and this with half a step of the smallest float16.
    assert (error.reshape(6, 16, 16) <= 1.01 * np.abs(scales) + 32 * (0.51 * np.abs(step) + 128 * 3e-8)).all()
    assert error.mean() < 0.26 * np.abs(scales).mean() + 1e-9
    assert not back[1, :256].any()


def test_quantized_files_have_the_bytes_of_their_formula(gguf, tmp_path):
    model = made(hidden_size=256, intermediate_size=320)
    sizes = write_gguf(model, tmp_path / "m.gguf", "Q4_0")
    matrices = 2 * (256 * 3 * 256 + 256 * 256 + 2 * 320 * 256 + 256 * 320) + 40 * 256
    assert sizes == {"Q4_0": matrices * 18 // 32, "Q6_K": 40 * 210, "F32": 5 * 256 * 4}
    values, tensors = read(gguf, tmp_path / "m.gguf")
    assert (values["general.file_type"], values["general.quantization_version"]) == (2, 2)
    weight = model.blocks[1].feedforward.down.weight.detach().numpy()
    error = np.abs(tensors["blk.1.ffn_down.weight"][1] - weight).reshape(256, 10, 32)
    steps = np.abs(weight).reshape(256, 10, 32).max(-1, keepdims=True) / 8
    assert (error <= steps * 1.01).all()  # half a step, but a whole one opposite to the largest weight
    assert error.mean() < steps.mean() / 3


def test_a_file_is_there_whole_or_not_at_all(gguf, tmp_path):
    model, limits = made(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # half of it: as on a full disk
    try:
        with pytest.raises(StorageError, match="cannot write: File too large"):
            write_gguf(model, tmp_path / "m.gguf", "F32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not any(tmp_path.iterdir())


def test_a_disk_without_room_is_told_before(gguf, tmp_path):
    with pytest.raises(StorageError, match=r"the file takes 1,152,921,504,606\.8 MB, and the disk has [\d,.]+ MB"):
        writing._require_space(tmp_path / "m.gguf", 1 << 60)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"headwater\[gguf\]"):
        write_gguf(made(), tmp_path / "m.gguf", "F32")
    assert not any(tmp_path.iterdir())


def test_packed_matrices_are_refused(tmp_path):
    model = made()
    pack_linears(model, head=False)
    with pytest.raises(InputError, match="packed"):
        write_gguf(model, tmp_path / "m.gguf", "F32")


def greedy(model, prompt, count):
    ids, found = torch.tensor([prompt]), []
    cache = KVCache(model.config, 1, len(prompt) + count)
    with torch.inference_mode():
        logits = model(ids)[0]
        for _ in range(count):
            ids = model(ids, cache=cache)[:, -1].argmax(-1, keepdim=True)
            found.append(int(ids))
    return found, logits.numpy()


def greedy_there(llama_cpp, path, prompt, count):
    """By llama.cpp, with keys and values in float32 too."""
    model = llama_cpp.Llama(str(path), n_ctx=128, n_threads=1, n_threads_batch=1, verbose=False, logits_all=True,
                            type_k=0, type_v=0, flash_attn=False)
    model.eval(prompt)
    logits, found = model.scores[: len(prompt)].copy(), []
    for _ in range(count):
        found.append(int(model.scores[model.n_tokens - 1].argmax()))
        model.eval(found[-1:])
    model.close()
    return found, logits


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_llama_cpp_says_what_we_say(llama_cpp, gguf, shared, tmp_path, name):
    model = load_model(shared / "vectors" / name, dtype=torch.float32)
    write_gguf(model, tmp_path / "m.gguf", "F32")
    drawn = torch.randint(model.config.vocab_size, (40,), generator=torch.Generator().manual_seed(3)).tolist()
    (said, logits), (there, others) = greedy(model, drawn, 32), greedy_there(llama_cpp, tmp_path / "m.gguf", drawn, 32)
    assert said == there
    np.testing.assert_allclose(others, logits, atol=1e-4)


@pytest.mark.parametrize("values", [
    {"num_hidden_layers": 32, "layout": "baichuan", "head": "normalized"},
    {"num_hidden_layers": 40, "layout": "baichuan", "position": "alibi"},
    {"num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": True},
    {"attention_bias": True, "output_bias": True, "mlp_bias": True},
    {"rope_dims": 8, "attention_bias": True},
    {"position": "alibi", "num_key_value_heads": 2, "head": "normalized", "attention_bias": True},
    {"norm_placement": "sandwich", "tie_word_embeddings": True}],
    ids=["baichuan 7B", "baichuan 13B", "one key head", "biases", "half-turned heads", "ALiBi with GQA", "sandwich"])
def test_llama_cpp_says_what_models_of_our_own_say(llama_cpp, gguf, tmp_path, values):
    model = made(1, initializer_range=0.3, **values)
    for name, one in model.named_parameters():
        if name.endswith("bias"):
            one.data.normal_(0, 0.5)
    write_gguf(model, tmp_path / "m.gguf", "F32")
    (said, logits), (there, others) = greedy(model, [*range(30)], 32), greedy_there(llama_cpp, tmp_path / "m.gguf",
                                                                                  [*range(30)], 32)
    np.testing.assert_allclose(others, logits, atol=5e-4)
    assert said == there


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q6_K"])
def test_blocks_are_those_of_llama_cpp(llama_cpp, gguf, kind):
    library = ctypes.CDLL(str(next((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.so*"))))
    quantize = library.ggml_quantize_chunk
    quantize.restype, integer = ctypes.c_size_t, ctypes.c_int64
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, integer, integer, integer, ctypes.c_void_p]
    weights = torch.randn(64, 1024, generator=torch.Generator().manual_seed(0)) * 0.02
    ours = packed(weights, kind)
    theirs, number = np.zeros_like(ours), gguf.GGMLQuantizationType[kind]
    quantize(int(number), weights.data_ptr(), theirs.ctypes.data, 0, *weights.shape, None)
    if kind == "Q6_K":  # theirs tries nineteen scales
        back = [gguf.quants.dequantize(one, number) for one in (ours, theirs)]
        error, other = (np.square(one - weights.numpy()).mean() for one in back)
        assert other < error < 1.2 * other
    else:
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("kind", "apart"), [("F16", 0.01), ("BF16", 0.06), ("Q8_0", 0.1), ("Q4_0", 1.6)])
def test_llama_cpp_reads_every_type(llama_cpp, gguf, tmp_path, kind, apart):
    model = made(2, hidden_size=256, intermediate_size=320, initializer_range=0.06)
    write_gguf(model, tmp_path / "m.gguf", kind)
    _, logits = greedy(model, [*range(30)], 0)
    _, others = greedy_there(llama_cpp, tmp_path / "m.gguf", [*range(30)], 0)
    assert np.abs(others - logits).max() < apart * logits.std()
