"""Steps of kernels against the decoder itself, and which of them are kept. Without a GPU they are interpreted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headwater.generate import Engine, SamplingParams
from headwater.model import Decoder, KVCache, ModelConfig, initialise
from headwater.model.cache import from_bytes
from headwater.model.captured import CapturedStepper, Run, captured_stepper
from headwater.model.checkpoint import load_model
from headwater.model.packed import pack_linears
from headwater.model.stepper import parts_of, stepper_of
from headwater.tokenizer import Tokenizer

pytest.importorskip("triton", reason="triton is not installed")
# Both layouts of pairs, ALiBi, NormHead, the sandwich norm, biases and every way to stretch positions.
FAMILIES = ["baichuan1_13b", "baichuan2_13b", "baichuan2_7b", "chatglm2_6b", "chatglm3_6b_32k", "glm4_0414", "glm4_9b",
            "llama2_gqa", "llama_mha", "llama_rope_dynamic", "llama_rope_yarn"]
LENGTHS = [5, 128, 1]  # the second step is one key more than are scored in two rounds; and a first token
SMALL = {"vocab_size": 61, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
         "num_attention_heads": 8, "num_key_value_heads": 2, "initializer_range": 0.2}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def small(seed: int = 0, **changed: object) -> Decoder:
    return initialise(Decoder(ModelConfig(**{**SMALL, **changed})), seed).eval()


def filled(model: Decoder, rows: int, form: str | None = None) -> KVCache:
    """A cache whose rows hold the same texts each time."""
    generator = torch.Generator().manual_seed(0)
    cache = model.cache(rows, 140, form=form)
    ids = torch.randint(0, model.config.vocab_size, (rows, 133), generator=generator)
    model.hidden(ids.to(model.device), cache=cache.rows(0, rows))
    return cache.rows(0, rows)


def by_decoder(model: Decoder, tokens: list[int], cache: KVCache, slots: list[int]) -> torch.Tensor:
    ids, places = (torch.tensor(one, device=model.device)[:, None] for one in (tokens, slots))
    return model.head(model.hidden(ids, cache=cache, slots=places)[:, -1])


def uncaptured(run: Run) -> Run:
    return run


def step_of(model: Decoder, cache: KVCache, capture: Callable[[Run], Run] | None = uncaptured) -> CapturedStepper:
    parts = parts_of(model)
    assert parts is not None
    return captured_stepper(model, cache, parts, capture)


@torch.inference_mode()
def compare(model: Decoder, lengths: list[int], tolerance: float, reference: Decoder | None = None) -> None:
    """Steps of rows of different lengths; reference: the model in float32, where the steps are in another type: then
    the decoder's own distance from it in that type, and half as much again, is allowed too."""
    plain = reference or model
    theirs, own, ours = (filled(one, len(lengths)) for one in (plain, model, model))
    step = step_of(model, ours)
    for turn in range(2):
        tokens, slots = [7 + turn + row for row in range(len(lengths))], [length + turn for length in lengths]
        wanted, found = by_decoder(plain, tokens, theirs, slots), step(tokens, slots)
        allowed = tolerance * wanted.std()
        if reference is not None:
            allowed = max(allowed, 1.5 * (by_decoder(model, tokens, own, slots) - wanted).abs().max())
        assert (found - wanted).abs().max() <= allowed
    for one, other in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=10 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_covered_family_steps_as_its_decoder(shared, device, name: str) -> None:
    model = load_model(shared / "vectors" / name, dtype=torch.float32, device=device).eval()
    compare(model, LENGTHS, 1e-5)


@pytest.mark.parametrize("name", ["baichuan2_13b", "glm4_0414"])
def test_a_single_row_steps_as_the_decoder(shared, device, name: str) -> None:
    model = load_model(shared / "vectors" / name, dtype=torch.float32, device=device).eval()
    compare(model, LENGTHS[1:2], 1e-5)


@pytest.mark.parametrize("form", ["float", "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_and_bfloat16_models_step_as_in_float32(device, form: str, dtype: torch.dtype) -> None:
    model, reference = small().to(dtype), small().to(dtype).float()
    if form != "float":
        pack_linears(model, head=False, form=form)
        pack_linears(reference, head=False, form=form)
        for own, other in zip(model.buffers(), reference.buffers(), strict=True):
            other.copy_(own)
    for rows in (1, 3) if dtype == torch.bfloat16 else (1,):
        compare(model.to(device), LENGTHS[-rows:], 2e-5 if dtype == torch.float32 else 0.05, reference.to(device))


@pytest.mark.parametrize("changed", [{"log_n_length": 16}, {"score_scale": 1.3}, {"num_key_value_heads": 1},
                                     {"attention_bias": True, "mlp_bias": True, "output_bias": True},
                                     {"position": "none"}, {"tie_word_embeddings": True}, {"head_dim": 20}])
def test_the_axes_that_are_covered(device, changed: dict) -> None:
    model = small(1, **changed).to(device)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    compare(model, LENGTHS[1:], 3e-5)


@pytest.mark.parametrize("form", [None, "int8"])
@torch.inference_mode()
def test_a_gpu_with_many_processors_reads_rows_in_parts(device, form: str | None, monkeypatch: pytest.MonkeyPatch
                                                        ) -> None:
    monkeypatch.setattr("headwater.model.gpu.products.processors_of", lambda device: 8)
    model = small().to(device)
    theirs, ours = filled(model, 2, form), filled(model, 2, form)
    step = step_of(model, ours)
    for turn in range(2):
        tokens, slots = [7, 8 + turn], [133 + turn, 1 + turn]
        wanted, found = by_decoder(model, tokens, theirs, slots), step(tokens, slots)
        assert (found - wanted).abs().max() <= (1e-5 if form is None else 3e-3) * wanted.std()


@pytest.mark.parametrize("name", ["baichuan2_13b", "chatglm2_6b"])
@torch.inference_mode()
def test_steps_from_bytes_are_the_decoder_s(shared, device, name: str) -> None:
    """A number between two bytes may become the other one."""
    model = load_model(shared / "vectors" / name, dtype=torch.float32, device=device).eval()
    theirs, ours = (filled(model, len(LENGTHS), "int8") for _ in range(2))
    step = step_of(model, ours)
    for turn in range(2):
        tokens, slots = [7, 8, 9], [length + turn for length in LENGTHS]
        wanted, found = by_decoder(model, tokens, theirs, slots), step(tokens, slots)
        assert (found - wanted).abs().max() <= 3e-3 * wanted.std()
    for one, other in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
        off = (from_bytes(one, torch.float32) - from_bytes(other, torch.float32)).abs()
        largest = from_bytes(other, torch.float32).abs().max()
        assert off.max() <= 0.01 * largest
        assert (off > 1e-4 * largest).float().mean() < 0.01


class Recorder:
    """In the place of CUDA graphs: counts captures and replays."""

    def __init__(self) -> None:
        self.captured, self.replayed = 0, 0

    def __call__(self, run: Run) -> Run:
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            run()

        return replay


@torch.inference_mode()
def test_a_step_is_captured_once_for_each_number_of_rows(device) -> None:
    """Requests that join and leave bring back what was captured for as many."""
    model, recorder = small().to(device), Recorder()
    cache = model.cache(4, 16)
    for rows in (2, 3, 2, 3, 2):
        view = cache.rows(0, rows)
        for _ in range(2):
            step_of(model, view, recorder)([1] * rows, [0] * rows)
    assert recorder.captured == 2
    assert recorder.replayed == 10 - 2  # the first step of each number is made as it is


@torch.inference_mode()
def test_other_weights_and_other_caches_are_captured_anew(device) -> None:
    model = small().to(device)
    cache = model.cache(2, 16)
    first = step_of(model, cache.rows(0, 2))
    assert step_of(model, cache.rows(0, 2)) is first
    assert step_of(model, model.cache(2, 16).rows(0, 2)) is not first
    assert step_of(model, cache.rows(1, 2)) is not step_of(model, cache.rows(0, 1))
    model.blocks[0].attention.qkv = torch.nn.Linear(64, 96, bias=False, device=device)
    changed = step_of(model, cache.rows(0, 2))
    assert changed is not first
    wanted = by_decoder(model, [1, 2], model.cache(2, 16), [0, 0])
    assert torch.allclose(changed([1, 2], [0, 0]), wanted, atol=1e-4)


@torch.inference_mode()
def test_weights_changed_in_place_are_seen_by_what_was_captured(device) -> None:
    model = small(head="normalized").to(device)
    cache = model.cache(1, 16).rows(0, 1)
    before = step_of(model, cache)([1], [0])
    for parameter in model.parameters():
        parameter.mul_(1.1)
    wanted = by_decoder(model, [1], model.cache(1, 16), [0])
    found = step_of(model, cache)([1], [0])
    assert not torch.allclose(before, wanted, atol=1e-3)
    assert torch.allclose(found, wanted, atol=1e-4)


def answers(tokenizer: Tokenizer, device: torch.device | str) -> list[list[int]]:
    """Of an engine that meets no end mark; four slots for five requests."""
    model = small(3, vocab_size=tokenizer.vocab_size).to(device)
    engine = Engine(model, tokenizer, max_batch=4, max_length=64)
    engine.stop_ids = frozenset()
    prompts = [[9, 10, 11], [12] * 20, [13], [14, 15], [16]]
    params = [SamplingParams(temperature=0, max_tokens=count) for count in (5, 9, 12, 3, 6)]
    return [one.tokens for one in engine.generate(prompts, params)]


def test_an_engine_that_takes_captured_steps_answers_the_same(trained, device, monkeypatch: pytest.MonkeyPatch
                                                              ) -> None:
    monkeypatch.setattr("headwater.generate.engine.stepper_of", lambda model, cache: None)
    wanted, recorder = answers(trained, device), Recorder()
    monkeypatch.setattr("headwater.generate.engine.stepper_of",
                        lambda model, cache: step_of(model, cache, recorder) if cache.batch else None)
    assert answers(trained, device) == wanted
    assert recorder.replayed > 0
    assert [len(one) for one in wanted] == [5, 9, 12, 3, 6]


@needs_gpu
@pytest.mark.parametrize("form", ["float", "int8", "int4"])
@torch.inference_mode()
def test_a_captured_step_is_the_one_that_was_not(form: str) -> None:
    model = small().to(torch.bfloat16)
    if form != "float":
        pack_linears(model, head=True, form=form)
    model = model.cuda()
    one, other = filled(model, 3), filled(model, 3)
    captured, plain = step_of(model, one, None), step_of(model, other)
    for turn in range(4):
        tokens, slots = [7, 8, 9 + turn], [length + turn for length in LENGTHS]
        assert torch.equal(captured(tokens, slots), plain(tokens, slots))


@needs_gpu
@pytest.mark.parametrize("form", ["int8", "int4"])
@torch.inference_mode()
def test_packed_models_say_on_a_gpu_what_they_say_on_the_cpu(form: str) -> None:
    model, theirs = small(), small()
    for one in (model, theirs):
        pack_linears(one, head=True, form=form)
    model = model.cuda()
    step, cache = step_of(model, filled(model, 2), None), filled(theirs, 2)
    for turn in range(4):
        found, wanted = step([7, 8], [133 + turn, turn]), by_decoder(theirs, [7, 8], cache, [133 + turn, turn])
        assert (found.cpu() - wanted).abs().max() <= 1e-3 * wanted.std()


@needs_gpu
def test_the_engine_takes_captured_steps_on_a_gpu(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr("headwater.generate.engine.stepper_of",
                        lambda model, cache: taken.append(stepper_of(model, cache)) or taken[-1])
    found = answers(trained, "cuda")
    assert any(isinstance(one, CapturedStepper) for one in taken)
    assert found == answers(trained, "cpu")
