from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headwater import plan
from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams
from headwater.model import Decoder
from headwater.model.prefix import Prefix, PrefixSettings
from headwater.tokenizer import Tokenizer

CONTEXT = 96  # of the models made here
GREEDY = SamplingParams(temperature=0, max_tokens=24)
Prompts = list[list[int]]


@torch.inference_mode()
def without_cache(model: Decoder, tokenizer: Tokenizer, prompt: list[int], count: int) -> list[int]:
    """Greedy decoding as its definition: the whole text through the model for every token."""
    ends = tokenizer.stop_ids
    tokens: list[int] = []
    while len(tokens) < count and len(prompt) + len(tokens) < CONTEXT:
        token = int(model(torch.tensor([prompt + tokens]))[0, -1, : tokenizer.vocab_size].argmax())
        if token in ends:
            break
        tokens.append(token)
    return tokens


@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_cached_batched_decoding_equals_the_full_forward(
        make_model: Callable[..., Decoder], trained: Tokenizer, prompts: Prompts, position: str) -> None:
    model = make_model(position=position)
    answers = Engine(model, trained, max_batch=4).generate(prompts, GREEDY)
    assert [a.tokens for a in answers] == [without_cache(model, trained, p, 24) for p in prompts]
    assert max(len(a.tokens) for a in answers) == 24


@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_long_prompts_are_read_piece_by_piece(
        make_model: Callable[..., Decoder], trained: Tokenizer, prompts: Prompts, position: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(position=position)
    long = [(prompt * 20)[:size] for prompt, size in zip(prompts, (70, 33, 64, 17, 1), strict=False)]
    whole = Engine(model, trained, max_batch=4).generate(long, GREEDY)
    read: list[int] = []
    monkeypatch.setattr("headwater.generate.engine.PREFILL_TOKENS", 20)
    monkeypatch.setattr("headwater.generate.engine.MASKED", 1)
    plain = model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, **given: (read.append(ids.shape[1]), plain(ids, **given))[1])
    pieces = Engine(model, trained, max_batch=4).generate(long, GREEDY)
    assert [answer.tokens for answer in pieces] == [answer.tokens for answer in whole]
    assert 16 in read
    assert max(read) <= 20


def test_prompts_read_both_ways_are_continued_at_their_mask(
        make_model: Callable[..., Decoder], trained: Tokenizer, prompts: Prompts) -> None:
    mask, start = 20, 21
    model = make_model(position="rope_2d", prefix_ids=(mask, start))
    marked = [[token for token in prompt if token not in (mask, start)] + [mask, start] for prompt in prompts]
    answers = Engine(model, trained, max_batch=4).generate(marked, GREEDY)
    assert [a.tokens for a in answers] == [without_cache(model, trained, p, 24) for p in marked]
    pairs = [(prompt, answer.tokens[:5]) for prompt, answer in zip(marked, answers, strict=True) if answer.tokens]
    assert all(one.greedy for one in Engine(model, trained).log_likelihoods(pairs))


@pytest.mark.parametrize("position", ["rope", "alibi", "rope_2d"])
def test_a_prefix_stands_before_every_row_of_a_batch(
        make_model: Callable[..., Decoder], trained: Tokenizer, prompts: Prompts, position: str) -> None:
    """P-Tuning v2: rows join, move and end, and every answer is that of full forward passes."""
    both_ways = (20, 21) if position == "rope_2d" else ()
    model, plain = (make_model(position=position, prefix_ids=both_ways) for _ in range(2))
    model.prefix = Prefix(model.config, PrefixSettings(length=9), seed=1)
    asked = [[token for token in prompt if token not in both_ways] + [*both_ways] for prompt in prompts]
    answers = Engine(model, trained, max_batch=4).generate(asked, GREEDY)
    assert [a.tokens for a in answers] == [without_cache(model, trained, p, 24) for p in asked]
    without = Engine(plain, trained, max_batch=4).generate(asked, GREEDY)
    assert [a.tokens for a in without] != [a.tokens for a in answers]
    pairs = [(prompt, prompts[n - 1][:9]) for n, prompt in enumerate(asked)]
    for (context, continuation), found in zip(pairs, Engine(model, trained).log_likelihoods(pairs), strict=True):
        with torch.inference_mode():
            rows = model(torch.tensor([context + continuation]))[0, len(context) - 1 : -1].log_softmax(-1)
        wanted = rows[torch.arange(len(continuation)), continuation].sum().item()
        assert found.logprob == pytest.approx(wanted, rel=1e-5, abs=1e-4)


def test_a_batch_gives_what_each_prompt_gives_alone(engine: Engine, prompts: Prompts) -> None:
    params = [SamplingParams(temperature=0 if n % 2 else 1.0, top_p=0.9, seed=n, max_tokens=5 + 3 * n)
              for n in range(len(prompts))]
    together = engine.generate(prompts, params)
    alone = [engine.generate([prompt], own)[0] for prompt, own in zip(prompts, params)]
    assert together == alone
    assert len({len(answer.tokens) for answer in together}) > 3  # rows ended at different steps


def test_a_request_that_joins_midway_changes_nothing(engine: Engine, prompts: Prompts) -> None:
    params = SamplingParams(seed=7, max_tokens=20)
    alone = engine.generate([prompts[6]], params)[0].tokens
    engine.submit(prompts[4], SamplingParams(seed=1, max_tokens=30))
    for _ in range(3):
        engine.step()
    late = engine.submit(prompts[6], params)
    while late.finish_reason is None:
        engine.step()
    assert late.tokens == alone


def test_seeds_decide_and_no_seed_varies(engine: Engine, prompts: Prompts) -> None:
    def draw(seed: int | None) -> list[int]:
        return engine.generate([prompts[3]], SamplingParams(seed=seed, temperature=2.0, max_tokens=30))[0].tokens

    assert draw(5) == draw(5)
    assert len({tuple(draw(seed)) for seed in (5, -5, 6, None, None)}) == 5


def test_more_requests_than_slots_are_all_answered(engine: Engine, prompts: Prompts) -> None:
    handles = [engine.submit(prompt, GREEDY) for prompt in prompts]
    most = 0
    while engine.busy:
        engine.step()
        most = max(most, engine.active)
    assert most <= 4
    assert all(handle.finish_reason for handle in handles)


def test_cancelling_frees_the_slot_at_the_next_step(engine: Engine, prompts: Prompts) -> None:
    handles = [engine.submit(prompt, GREEDY) for prompt in prompts[5:9]]
    waiting = engine.submit(prompts[0], GREEDY)
    engine.step()
    handles[1].cancel()
    engine.step()
    assert handles[1].finish_reason == "cancelled"
    assert waiting.tokens or waiting.finish_reason  # it has the slot now
    while engine.busy:
        engine.step()
    assert [h.tokens for h in handles[2:]] == [engine.generate([p], GREEDY)[0].tokens for p in prompts[7:9]]


def test_an_abandoned_stream_leaves_no_slot_taken(engine: Engine, prompts: Prompts) -> None:
    stream = engine.stream(prompts[4], GREEDY)
    next(stream)
    assert engine.active == 1
    stream.close()
    assert not engine.busy


def test_streamed_deltas_join_to_the_completion(engine: Engine, prompts: Prompts) -> None:
    params = SamplingParams(seed=3, temperature=1.5, max_tokens=60, logprobs=2)
    for prompt in prompts:
        whole = engine.generate([prompt], params)[0]
        deltas = list(engine.stream(prompt, params))
        assert "".join(d.text for d in deltas) == whole.text == engine.tokenizer.decode(whole.tokens)
        assert [token for d in deltas for token in d.tokens] == whole.tokens
        assert [entry for d in deltas for entry in d.logprobs] == whole.logprobs
        assert [d.finish_reason for d in deltas[:-1]] == [None] * (len(deltas) - 1)
        assert deltas[-1].finish_reason == whole.finish_reason


def test_a_stop_text_ends_the_answer_and_is_left_out(engine: Engine, prompts: Prompts) -> None:
    full = engine.generate([prompts[5]], SamplingParams(temperature=0, max_tokens=40))[0].text
    stop = full[10:13]
    cut = engine.generate([prompts[5]], SamplingParams(temperature=0, max_tokens=40, stop=("\0never", stop)))[0]
    assert cut.text == full[: full.index(stop)]
    assert cut.finish_reason == "stop"


def test_the_end_mark_ends_the_answer_and_is_left_out(engine: Engine, prompts: Prompts) -> None:
    first = engine.generate([prompts[5]], GREEDY)[0].tokens
    engine.stop_ids = frozenset((first[4],))
    ended = engine.generate([prompts[5]], GREEDY)[0]
    assert ended.tokens == first[: first.index(first[4])]
    assert ended.finish_reason == "stop"


def test_length_ends_at_max_tokens_and_at_the_context(engine: Engine, prompts: Prompts) -> None:
    engine.stop_ids = frozenset()
    short, full = engine.generate([prompts[7]] * 2, [SamplingParams(max_tokens=3, seed=1),
                                                     SamplingParams(max_tokens=10_000, seed=1)])
    assert (short.finish_reason, len(short.tokens)) == ("length", 3)
    assert (full.finish_reason, len(full.tokens)) == ("length", CONTEXT - len(prompts[7]))


def test_padding_ids_of_the_model_are_never_produced(
        make_model: Callable[..., Decoder], trained: Tokenizer, prompts: Prompts) -> None:
    engine = Engine(make_model(padding=2000), trained)
    answers = engine.generate(prompts, SamplingParams(temperature=5.0, seed=0, max_tokens=30))
    assert max(token for answer in answers for token in answer.tokens) < trained.vocab_size


def test_logprobs_are_the_models_own(engine: Engine, model: Decoder, prompts: Prompts) -> None:
    answer = engine.generate([prompts[4]], SamplingParams(seed=2, temperature=1.4, max_tokens=6, logprobs=3))[0]
    assert answer.logprobs is not None
    with torch.inference_mode():
        logits = model(torch.tensor([prompts[4] + answer.tokens]))[0, :, : engine.vocabulary].log_softmax(-1)
    for step, entry in enumerate(answer.logprobs):
        row = logits[len(prompts[4]) - 1 + step]
        assert entry.token == answer.tokens[step]
        assert entry.logprob == pytest.approx(row[entry.token].item(), abs=1e-4)
        assert [token for token, _ in entry.top] == row.topk(3).indices.tolist()


def test_repetition_penalty_counts_the_prompt_and_the_answer(engine: Engine, prompts: Prompts) -> None:
    engine.stop_ids = frozenset()
    answer = engine.generate([prompts[7]], SamplingParams(temperature=0, repetition_penalty=1e6, max_tokens=40))[0]
    assert len(set(answer.tokens)) == 40
    assert not set(answer.tokens) & set(prompts[7])


@pytest.mark.parametrize(("prompt", "message"), [
    ([], "empty"), ([5] * CONTEXT, f"{CONTEXT} tokens; the context holds {CONTEXT}"), ([5, -1], "token -1"),
    ([5, 10**6], "token 1000000"),
])
def test_prompts_that_cannot_be_continued_are_refused(engine: Engine, prompt: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.generate([[5, 6], prompt], GREEDY)
    assert not engine.busy


def test_a_context_that_the_memory_cannot_hold_is_refused_or_made_shorter(
        model: Decoder, trained: Tokenizer, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    token = plan.cache_bytes_per_token(model.config, model.dtype.itemsize)
    monkeypatch.setattr("headwater.generate.engine.total_memory_bytes", lambda device: 100 * token)
    with pytest.raises(InputError, match="4 contexts of 26 tokens need"):
        Engine(model, trained, max_batch=4, max_length=26)
    assert Engine(model, trained, max_batch=4, max_length=25).max_length == 25
    assert Engine(model, trained, max_batch=4).max_length == 12
    assert "contexts of 12 tokens" in capsys.readouterr().err
