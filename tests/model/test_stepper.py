"""Compiled decoding steps against the decoder itself."""

from __future__ import annotations

import pytest
import torch

from headwater import hardware
from headwater.generate import Engine, SamplingParams
from headwater.model import Decoder, KVCache, ModelConfig, few_rows, initialise
from headwater.model.cache import from_bytes
from headwater.model.checkpoint import load_model
from headwater.model.packed import pack_linears
from headwater.model.prefix import Prefix, PrefixSettings
from headwater.model.stepper import MOST, covers, stepper_of
from headwater.model.tensors import read_tensors

pytestmark = pytest.mark.skipif(not hardware.has_compiler(), reason="no compiler")
COVERED = ["baichuan1_13b", "baichuan1_7b", "baichuan2_13b", "baichuan2_7b", "chatglm2_6b", "chatglm2_6b_32k",
           "chatglm3_6b", "chatglm3_6b_32k", "glm4_0414", "glm4_9b", "glm4_9b_chatglm", "llama2_gqa", "llama_mha",
           "llama_rope_dynamic", "llama_rope_linear", "llama_rope_llama3", "llama_rope_yarn"]
LENGTHS = [5, 133, 1]  # more than the 128 keys that are scored at once, and a first token
SMALL = {"vocab_size": 61, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
         "num_attention_heads": 8, "num_key_value_heads": 2, "initializer_range": 0.2}


def filled(model: Decoder, rows: int, form: str | None = None) -> KVCache:
    """A cache whose rows hold the same texts each time."""
    generator = torch.Generator().manual_seed(0)
    cache = model.cache(rows, 140, form=form)
    model.hidden(torch.randint(0, model.config.vocab_size, (rows, 133), generator=generator), cache=cache.rows(0, rows))
    return cache.rows(0, rows)


def by_decoder(model: Decoder, tokens: list[int], cache: KVCache, slots: list[int]) -> torch.Tensor:
    ids, places = (torch.tensor(one)[:, None] for one in (tokens, slots))
    return model.head(model.hidden(ids, cache=cache, slots=places)[:, -1])


@torch.inference_mode()
def compare(model: Decoder, lengths: list[int], tolerance: float, reference: Decoder | None = None) -> None:
    """Steps of rows of different lengths; reference: the model in float32, where the steps are in another type."""
    plain = reference or model
    theirs, ours = filled(plain, len(lengths)), filled(model, len(lengths))
    step = stepper_of(model, ours)
    assert step is not None
    for turn in range(3):
        tokens, slots = [7 + turn + row for row in range(len(lengths))], [length + turn for length in lengths]
        wanted, found = by_decoder(plain, tokens, theirs, slots), step(tokens, slots)
        assert (found - wanted).abs().max() <= tolerance * wanted.std()
    for one, other in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=10 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", COVERED)
def test_every_covered_family_steps_as_its_decoder(shared, name: str) -> None:
    model = load_model(shared / "vectors" / name, dtype=torch.float32).eval()
    compare(model, LENGTHS, 1e-5)


@pytest.mark.parametrize("name", [name for name in COVERED if name != "llama_rope_dynamic"])  # it counts the padding
@torch.inference_mode()
def test_greedy_steps_are_the_official_ones(shared, name: str) -> None:
    """Each row without its padding, by itself."""
    folder = shared / "vectors" / name
    model, vectors = load_model(folder, dtype=torch.float32).eval(), read_tensors(folder / "vectors.safetensors")
    for ids, real, wanted in zip(vectors["input_ids"], vectors["valid_mask"] == 1, vectors["greedy_ids"], strict=True):
        prompt, found = ids[real], []
        cache = model.cache(1, len(prompt) + len(wanted))
        token = int(model(prompt[None], cache=cache)[0, -1].argmax())
        step = stepper_of(model, cache.rows(0, 1))
        assert step is not None
        for place in range(len(prompt), len(prompt) + len(wanted)):
            found.append(token)
            token = int(step([token], [place]).argmax())
        assert found == wanted.tolist()


@pytest.mark.parametrize("name", ["baichuan2_13b", "chatglm2_6b", "llama2_gqa"])
@torch.inference_mode()
def test_steps_from_bytes_are_the_decoder_s(shared, name: str) -> None:
    """A number between two bytes may become the other one."""
    model = load_model(shared / "vectors" / name, dtype=torch.float32).eval()
    theirs, ours = (filled(model, len(LENGTHS), "int8") for _ in range(2))
    step = stepper_of(model, ours)
    assert step is not None
    for turn in range(3):
        tokens, slots = [7, 8, 9], [length + turn for length in LENGTHS]
        wanted, found = by_decoder(model, tokens, theirs, slots), step(tokens, slots)
        assert (found - wanted).abs().max() <= 3e-3 * wanted.std()
    for one, other in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
        off = (from_bytes(one, torch.float32) - from_bytes(other, torch.float32)).abs()
        largest = from_bytes(other, torch.float32).abs().max()
        assert off.max() <= 0.01 * largest
        assert (off > 1e-4 * largest).float().mean() < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("form", ["float", "int8", "int4"])
@torch.inference_mode()
def test_a_row_s_step_is_the_same_to_the_bit_whatever_is_beside_it(form: str, dtype: torch.dtype) -> None:
    model = initialise(Decoder(ModelConfig(**{**SMALL, "head_dim": 20})), seed=3).to(dtype).eval()
    if form != "float":
        pack_linears(model, head=False, form=form)
    lengths = [1 + 5 * row % 133 for row in range(MOST["cpu"])]
    tokens = [3 + row for row in range(len(lengths))]
    alone = torch.cat([step(tokens[row : row + 1], lengths[row : row + 1]) for row in range(len(lengths))
                       if (step := stepper_of(model, filled(model, len(lengths)).rows(row, row + 1))) is not None])
    for first, last in ((0, len(lengths)), (0, 2), (3, 7), (7, 18)):
        step = stepper_of(model, filled(model, len(lengths)).rows(first, last))
        assert step is not None
        assert torch.equal(step(tokens[first:last], lengths[first:last]), alone[first:last])


@pytest.mark.parametrize("form", ["float", "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_and_bfloat16_models_step_as_in_float32(form: str, dtype: torch.dtype) -> None:
    model = initialise(Decoder(ModelConfig(**SMALL)), 0).to(dtype).eval()
    if form != "float":
        pack_linears(model, head=False, form=form)
    reference = initialise(Decoder(ModelConfig(**SMALL)), 0).to(dtype).float().eval()
    if form != "float":
        pack_linears(reference, head=False, form=form)
        for own, other in zip(model.buffers(), reference.buffers(), strict=True):
            other.copy_(own)
    compare(model, LENGTHS, 1e-5 if dtype == torch.float32 else 0.1, reference)


@pytest.mark.parametrize("changed", [{"log_n_length": 16}, {"score_scale": 1.3}, {"num_key_value_heads": 1},
                                     {"attention_bias": True, "mlp_bias": True, "output_bias": True},
                                     {"position": "none"}, {"tie_word_embeddings": True}, {"head_dim": 20}])
def test_the_axes_that_are_covered(changed: dict) -> None:
    model = initialise(Decoder(ModelConfig(**{**SMALL, **changed})), 1).eval()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(generator=generator)
    compare(model, LENGTHS * 4, 3e-5)


@pytest.mark.parametrize("threads", [1, 2, 5])
@torch.inference_mode()
def test_threads_change_no_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = initialise(Decoder(ModelConfig(**SMALL)), 0).eval()
    alone = stepper_of(model, filled(model, 3))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    together = stepper_of(model, filled(model, 3))
    assert alone is not None
    assert together is not None
    assert torch.equal(alone([1, 2, 3], LENGTHS), together([1, 2, 3], LENGTHS))


def test_what_is_not_covered_goes_through_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def step_of(rows: int = 2, **changed) -> object:
        model = initialise(Decoder(ModelConfig(**{**SMALL, **changed})), 0).eval()
        return stepper_of(model, model.cache(rows, 8).rows(0, rows))

    assert step_of() is not None
    assert step_of(rows=MOST["cpu"] + 1) is None
    for changed in ({"activation": "gelu"}, {"norm": "layernorm"}, {"sliding_window": 4}, {"position": "rope_2d"}):
        assert not covers(ModelConfig(**{**SMALL, **changed}))
        assert step_of(**changed) is None
    model = initialise(Decoder(ModelConfig(**SMALL)), 0)
    model.prefix = Prefix(model.config, PrefixSettings(length=3))
    assert stepper_of(model, model.cache(1, 8)) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert step_of() is None


def test_the_engine_answers_the_same_without_a_compiler(small_model, trained, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, params = [[9, 10, 11], [12] * 20, [13]], SamplingParams(temperature=0, max_tokens=20)
    with_it = Engine(load_model(small_model), trained).generate(prompts, params)
    monkeypatch.setattr("headwater.model.stepper.library", lambda name: None)
    monkeypatch.setattr(few_rows, "library", lambda name: None)
    assert [one.tokens for one in Engine(load_model(small_model), trained).generate(prompts, params)] == [
        one.tokens for one in with_it]
