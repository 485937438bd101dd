"""Embeddings through the official client, and tokens as vLLM gives them."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
import torch

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
TEXTS = ["The river Velna", "维尔纳河全长482公里", "Lakes and cities"]


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def post(server: Any, path: str, **body: Any) -> Any:
    return httpx.post(server.url + path, content=json.dumps(body), timeout=30)


def test_a_texts_vector_is_the_mean_of_its_tokens_states(client: Any, server: Any) -> None:
    found = client.embeddings.create(model="tiny", input=TEXTS)
    assert openai.types.CreateEmbeddingResponse.model_validate(found.model_dump()) == found
    tokenizer, model = server.engine.tokenizer, server.engine.model
    for one, text in zip(found.data, TEXTS, strict=True):
        ids = tokenizer.framed(text)
        with torch.inference_mode():
            states = model.hidden(torch.tensor([ids]))[0, len(tokenizer.frame.before) :]
        wanted = states.mean(0) / states.mean(0).norm()
        np.testing.assert_allclose(one.embedding, wanted.numpy(), atol=1e-5)
        assert np.linalg.norm(one.embedding) == pytest.approx(1, abs=1e-5)
    assert [one.index for one in found.data] == [0, 1, 2]
    assert found.usage.prompt_tokens == found.usage.total_tokens == sum(len(tokenizer.framed(text)) for text in TEXTS)


def test_vectors_come_as_numbers_and_as_bytes_and_of_tokens(client: Any, server: Any) -> None:
    plain, packed = (client.embeddings.with_raw_response.create(model="tiny", input=TEXTS[0], encoding_format=form)
                     for form in ("float", "base64"))
    numbers = json.loads(plain.content)["data"][0]["embedding"]
    data = base64.b64decode(json.loads(packed.content)["data"][0]["embedding"])
    np.testing.assert_array_equal(np.frombuffer(data, "<f4"), np.array(numbers, "<f4"))
    ids = server.engine.tokenizer.encode(TEXTS[0])
    alone, listed = (client.embeddings.create(model="tiny", input=given).data[0].embedding for given in (ids, [ids]))
    assert alone == listed
    assert len(alone) == server.engine.model.config.hidden_size


@pytest.mark.parametrize(("path", "change", "param"), [
    ("/v1/embeddings", {"input": ""}, "input"), ("/v1/embeddings", {"input": []}, "input"),
    ("/v1/embeddings", {"input": ["a", ""]}, "input"), ("/v1/embeddings", {"input": [99999]}, "input"),
    ("/v1/embeddings", {"input": ["a"] * 300}, "input"), ("/v1/embeddings", {"input": "x " * 400}, "input"),
    ("/v1/embeddings", {"input": "\ud800"}, "input"), ("/v1/embeddings", {"dimensions": 3}, "dimensions"),
    ("/v1/embeddings", {"encoding_format": "int8"}, "encoding_format"),
    ("/tokenize", {}, "prompt"), ("/tokenize", {"prompt": "\ud800"}, "prompt"),
    ("/tokenize", {"prompts": "a"}, "prompts"),
    ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
    ("/tokenize", {"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
    ("/tokenize", {"messages": []}, "messages"), ("/tokenize", {"messages": [{"role": "user"}]}, "messages.0.content"),
    ("/detokenize", {"tokens": [-1]}, "tokens"), ("/detokenize", {"tokens": [10**9]}, "tokens"),
    ("/detokenize", {"tokens": "1"}, "tokens"), ("/detokenize", {}, "tokens")])
def test_bad_requests_name_their_parameter(server: Any, path: str, change: dict[str, Any], param: str) -> None:
    body = {"model": "tiny", "input": "a", **change} if path.endswith("embeddings") else change
    answer = post(server, path, **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/detokenize"])
def test_another_model_is_not_found(server: Any, path: str) -> None:
    answer = post(server, path, model="other", input="a") if path.endswith("embeddings") else \
        post(server, path, model="other", **({"prompt": "a"} if path == "/tokenize" else {"tokens": [5]}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("text", [*TEXTS, "", "  two  spaces\n", "😀"])
def test_tokens_are_the_tokenizers_and_come_back_as_the_text(server: Any, text: str) -> None:
    tokenizer = server.engine.tokenizer
    own = post(server, "/tokenize", prompt=text, add_special_tokens=False, return_token_strs=True).json()
    assert own == {"count": len(own["tokens"]), "max_model_len": server.engine.max_length,
                   "tokens": tokenizer.encode(text), "token_strs": [tokenizer.piece(one) for one in own["tokens"]]}
    assert post(server, "/tokenize", prompt=text).json()["tokens"] == tokenizer.framed(text)
    assert post(server, "/detokenize", tokens=own["tokens"]).json() == {"prompt": text}


def test_a_chats_tokens_are_those_that_a_chat_is_charged_for(server: Any) -> None:
    messages = [{"role": "user", "content": "hello"}]
    tools = [{"type": "function", "function": {"name": "weather"}}]
    for more in ({}, {"tools": tools}):
        usage = post(server, "/v1/chat/completions", model="tiny", messages=messages, max_tokens=1, **more).json()
        assert post(server, "/tokenize", messages=messages, **more).json()["count"] == usage["usage"]["prompt_tokens"]
    asked, bare = (post(server, "/tokenize", messages=messages, add_generation_prompt=one).json()["tokens"]
                   for one in (True, False))
    assert asked[: len(bare)] == bare
    assert len(asked) > len(bare)
