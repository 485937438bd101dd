"""The OpenAPI document, and the server under requests made out of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("llguidance", reason="the extra 'serve' is not installed")

from tests.serve.fuzz import Attack, attacked, random_server  # noqa: E402

STRIKES = 150


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with random_server() as url:
        yield url


@pytest.fixture(scope="module")
def document(url: str) -> Any:
    return httpx.get(f"{url}/openapi.json").json()


def posts(document: Any) -> list[tuple[str, Any]]:
    return [(path, one["post"]) for path, one in document["paths"].items() if "post" in one]


def require_openais_form(path: str, answer: Any) -> None:
    """By the types of OpenAI's own client, of every event where it is a stream."""
    types = pytest.importorskip("openai", reason="the openai client is not installed").types
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    whole, chunk = {"/v1/chat/completions": (types.chat.ChatCompletion, types.chat.ChatCompletionChunk),
                    "/v1/completions": (types.Completion, None),
                    "/v1/embeddings": (types.CreateEmbeddingResponse, None)}.get(path, (None, None))
    # The types know neither vectors in base64 nor texts that go on, nor prompts whose first token has no likelihood.
    if whole is None or '"embedding":"' in answer.text or '"token_logprobs":[null' in answer.text:
        return
    if not streamed:
        whole.model_validate(answer.json())
    if not streamed or chunk is None:
        return
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    for line in lines[:-1]:
        chunk.model_validate_json(line)


def test_every_example_of_the_document_fits_it_and_is_answered_as_it_says(url: str, document: Any) -> None:
    number = 0
    for path, operation in posts(document):
        body = operation["requestBody"]["content"]["application/json"]
        for example in body["examples"].values():
            number += 1
            jsonschema.validate(example["value"], {**body["schema"], "components": document["components"]})
            answer = httpx.post(url + path, json=example["value"], timeout=60)
            assert answer.status_code == 200, answer.text
            require_openais_form(path, answer)
            if not example["value"].get("stream"):
                schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
                jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
    assert number > 12


def test_what_is_read_has_the_form_that_the_document_says(url: str, document: Any) -> None:
    for path, one in document["paths"].items():
        if "get" in one and path != "/metrics":
            answer = httpx.get(url + path.replace("{model}", "tiny"))
            schema = one["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema.validate(answer.json(), {**schema, "components": document["components"]})


def test_the_document_names_every_parameter_that_is_read(document: Any) -> None:
    from headwater.serve.chat_request import ChatRequest

    told = document["components"]["schemas"]["ChatRequest"]
    assert {*told["properties"]} == {*ChatRequest.model_fields, *ChatRequest.harmless, *ChatRequest.neutral}
    assert told["required"] == ["model", "messages"]
    assert told["properties"]["model"] == {"enum": ["tiny"]}


def test_changed_examples_are_answered_or_refused_and_never_fail(url: str) -> None:
    attack = Attack(url)
    wrong = [found for seed in range(STRIKES) if (found := attack.strike(seed))]
    assert wrong == []
    assert attack.answered[200] > STRIKES // 5
    assert attack.answered[400] > STRIKES // 5
    assert json.loads(httpx.get(f"{url}/health").text)["active"] == 0


def test_schemathesis_finds_no_failure(url: str) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip install 'headwater[fuzz]')")
    found = attacked(url, seconds=4, seed=1)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "No issues found" in found.stdout
