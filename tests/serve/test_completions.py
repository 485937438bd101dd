"""POST /v1/completions with the official client, and lm-evaluation-harness over HTTP against the engine in process."""

from __future__ import annotations

import json
from typing import Any

import pytest

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
TEXT = "The river Velna is 482 km long"


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def complete(client: Any, **asked: Any) -> Any:
    return client.completions.create(**{"model": "tiny", "prompt": TEXT, "temperature": 0, "max_tokens": 6} | asked)


def test_a_text_is_continued_as_the_engine_continues_it(client: Any, server: Any) -> None:
    from headwater.generate import SamplingParams

    ids = server.engine.tokenizer.framed(TEXT)
    wanted = server.engine.generate([ids], SamplingParams(temperature=0, max_tokens=6))[0]
    found = complete(client)
    assert openai.types.Completion.model_validate(found.model_dump()) == found
    assert (found.choices[0].text, found.choices[0].finish_reason) == (wanted.text, wanted.finish_reason)
    assert found.usage.prompt_tokens == len(ids)
    assert found.usage.completion_tokens == len(wanted.tokens)
    assert complete(client, prompt=ids).choices[0].text == wanted.text
    assert complete(client, max_tokens=None).usage.completion_tokens <= 16


def test_lists_of_texts_and_of_tokens_and_several_choices(client: Any, server: Any) -> None:
    texts = [TEXT, "hello", "城市"]
    alone = [complete(client, prompt=text).choices[0].text for text in texts]
    assert [one.text for one in complete(client, prompt=texts).choices] == alone
    ids = [server.engine.tokenizer.framed(text) for text in texts]
    assert [one.text for one in complete(client, prompt=ids).choices] == alone
    twice = complete(client, prompt=texts, n=2)
    assert [one.text for one in twice.choices] == [text for text in alone for _ in range(2)]
    assert [one.index for one in twice.choices] == list(range(6))
    assert twice.usage.prompt_tokens == sum(map(len, ids))


def test_an_echo_has_the_log_probabilities_of_every_token(client: Any, server: Any) -> None:
    ids = server.engine.tokenizer.framed(TEXT)
    found = complete(client, echo=True, logprobs=2, max_tokens=1).choices[0]
    logprobs = found.logprobs
    assert found.text.startswith(TEXT)
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(ids) + 1
    assert logprobs.token_logprobs[0] is None
    for place in range(1, len(ids)):
        [likelihood] = server.engine.log_likelihoods([(ids[:place], ids[place : place + 1])])
        assert logprobs.token_logprobs[place] == pytest.approx(likelihood.logprob, abs=1e-4)
        assert (max(logprobs.top_logprobs[place].values()) == logprobs.token_logprobs[place]) == likelihood.greedy
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    assert complete(client, echo=True, logprobs=2, max_tokens=0).choices[0].logprobs.tokens == logprobs.tokens[:-1]
    assert complete(client, echo=True, max_tokens=0).choices[0].text == TEXT


def test_an_end_mark_has_an_entry_too(client: Any, server: Any) -> None:
    ids, end = server.engine.tokenizer.framed(TEXT), min(server.engine.stop_ids)
    asked = {"echo": True, "logprobs": 0, "max_tokens": 1, "logit_bias": {str(end): 100}}
    found = complete(client, **asked).choices[0]
    assert (found.text, found.finish_reason, len(found.logprobs.tokens)) == (TEXT, "stop", len(ids) + 1)
    assert found.logprobs.tokens[-1] == server.engine.tokenizer.piece(end)
    assert found.logprobs.text_offset[-1] == len(TEXT)
    [likelihood] = server.engine.log_likelihoods([(ids, [end])])
    assert found.logprobs.token_logprobs[-1] == pytest.approx(likelihood.logprob, abs=1e-4)
    chunks = [one.choices[0] for one in complete(client, **asked, stream=True)]
    assert [token for one in chunks for token in one.logprobs.tokens] == found.logprobs.tokens


def test_a_stream_joins_to_the_whole(client: Any) -> None:
    whole = complete(client, prompt=[TEXT, "hello"], n=2, logprobs=1, echo=True)
    chunks = list(complete(client, prompt=[TEXT, "hello"], n=2, logprobs=1, echo=True, stream=True,
                           stream_options={"include_usage": True}))
    for index, choice in enumerate(whole.choices):
        parts = [one for chunk in chunks for one in chunk.choices if one.index == index]
        assert "".join(one.text for one in parts) == choice.text
        assert [token for one in parts for token in one.logprobs.tokens] == choice.logprobs.tokens
        assert [one.finish_reason for one in parts if one.finish_reason] == [choice.finish_reason]
        assert [at for one in parts for at in one.logprobs.text_offset] == choice.logprobs.text_offset
    assert chunks[-1].usage == whole.usage


@pytest.mark.parametrize("text", [TEXT, "维尔纳河全长482公里"])
def test_each_token_stands_where_its_offset_says(client: Any, text: str) -> None:
    found = complete(client, prompt=text, echo=True, logprobs=0, max_tokens=3).choices[0]
    said = [(at, token) for at, token in zip(found.logprobs.text_offset, found.logprobs.tokens, strict=True)
            if not token.startswith(("bytes:", "<"))]
    assert len(said) > 3
    for at, token in said:
        assert found.text[at:].startswith(token if at else token.lstrip())


def test_no_tokens_are_streamed_too(client: Any) -> None:
    whole = complete(client, echo=True, logprobs=1, max_tokens=0, n=2)
    [*chunks, last] = complete(client, echo=True, logprobs=1, max_tokens=0, n=2, stream=True,
                               stream_options={"include_usage": True})
    assert [one for chunk in chunks for one in chunk.choices] == whole.choices
    assert last.usage == whole.usage
    assert whole.choices[0].finish_reason == "length"


def test_stop_ends_a_text_and_a_seed_repeats_it(client: Any) -> None:
    drawn = [complete(client, temperature=1.9, seed=5, max_tokens=20).choices[0].text for _ in range(2)]
    assert drawn[0] == drawn[1]
    stop = drawn[0][3:5]
    cut = complete(client, temperature=1.9, seed=5, max_tokens=20, stop=stop).choices[0]
    assert (cut.text, cut.finish_reason) == (drawn[0][: drawn[0].index(stop)], "stop")


@pytest.mark.parametrize(("change", "param"), [
    ({"prompt": ""}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": [1, 99999]}, "prompt"), ({"prompt": [-1]}, "prompt"), ({"prompt": "x " * 400}, "prompt"),
    ({"prompt": ["a", [1]]}, "prompt"), ({"prompt": ["a"] * 300}, "prompt"), ({"max_tokens": 319}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"), ({"suffix": "x"}, "suffix"), ({"best_of": 2}, "best_of"),
    ({"logprobs": 21}, "logprobs"), ({"n": 0}, "n"), ({"prompt": "lone \ud800"}, "prompt"), ({"echo": "yes"}, "echo")])
def test_bad_requests_name_their_parameter(server: Any, change: dict[str, Any], param: str) -> None:
    body = {"model": "tiny", "prompt": TEXT, "max_tokens": 2, **change}
    answer = httpx.post(server.url + "/v1/completions", content=json.dumps(body), timeout=30)
    assert (answer.status_code, answer.json()["error"]["param"].split(".")[0]) == (400, param)
