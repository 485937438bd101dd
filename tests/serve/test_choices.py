"""Several choices, what an answer must be, penalties: through the official client."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest

from headwater.errors import MissingExtraError

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("llguidance", reason="the extra 'serve' is not installed")
HELLO = [{"role": "user", "content": "hello"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "km": {"type": "integer"}},
        "required": ["city", "km"], "additionalProperties": False}


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def ask(client: Any, **asked: Any) -> Any:
    return client.chat.completions.create(**{"model": "tiny", "messages": HELLO, "temperature": 1.5, "seed": 7,
                                             "max_tokens": 40} | asked)


def test_choices_differ_and_come_again_with_their_seed(client: Any) -> None:
    first = ask(client, n=4, temperature=2.0)
    texts = [one.message.content for one in first.choices]
    assert len(set(texts)) > 1
    assert [one.message.content for one in ask(client, n=4, temperature=2.0).choices] == texts
    assert ask(client, temperature=2.0).choices[0].message.content == texts[0]
    assert ask(client, n=4, temperature=2.0, seed=8).choices[0].message.content != texts[1]
    assert first.usage.completion_tokens > ask(client, temperature=2.0).usage.completion_tokens


def test_streamed_choices_are_told_apart(client: Any) -> None:
    whole = ask(client, n=3)
    parts: dict[int, str] = {}
    for chunk in ask(client, n=3, stream=True):
        for one in chunk.choices:
            parts[one.index] = parts.get(one.index, "") + (one.delta.content or "")
    assert parts == {one.index: one.message.content for one in whole.choices}


def test_answers_are_json_where_they_have_to_be(client: Any) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    for one in ask(client, response_format=schema, n=8).choices:
        jsonschema.validate(json.loads(one.message.content), CITY)
        assert one.finish_reason == "stop"
    for one in ask(client, response_format={"type": "json_object"}, n=8).choices:
        assert isinstance(json.loads(one.message.content), dict)


def test_the_clients_own_parsing_of_answers(client: Any) -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        city: str
        km: int

    found = client.chat.completions.parse(model="tiny", messages=HELLO, response_format=City, max_tokens=60, seed=1)
    assert isinstance(found.choices[0].message.parsed, City)


def test_guides_are_named_as_vllm_names_them(client: Any) -> None:
    def said(**guide: Any) -> str:
        return ask(client, extra_body=guide).choices[0].message.content

    assert said(guided_choice=["河流", "lake"]) in ("河流", "lake")
    assert said(guided_regex="[0-9]{3} km").endswith(" km")
    assert json.loads(said(guided_json=CITY)).keys() == CITY["properties"].keys()
    assert said(guided_grammar='start: "a" "b"+ "c"').startswith("ab")


def test_penalties_and_biases_change_what_is_said(client: Any, server: Any, lessons: dict[str, str]) -> None:
    assert ask(client, temperature=0, max_tokens=60).choices[0].message.content == lessons["hello"]
    first = server.engine.tokenizer.encode(lessons["hello"])[0]
    banned = ask(client, temperature=0, max_tokens=60, logit_bias={str(first): -100}).choices[0].message.content
    assert banned != lessons["hello"]
    varied = ask(client, temperature=0, max_tokens=60, frequency_penalty=2, presence_penalty=2).choices[0]
    assert varied.message.content != lessons["hello"]


def test_a_limit_too_short_for_the_schema_is_told(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="at most 3 tokens"):
        ask(client, max_tokens=3, response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": CITY}})


def test_constrained_and_free_answers_in_one_batch_are_those_given_alone(client: Any) -> None:
    def one(number: int) -> str:
        guide = [{}, {"guided_json": CITY}, {"guided_regex": "[a-z]{5,20}"}][number % 3]
        return ask(client, seed=number, extra_body=guide).choices[0].message.content

    alone = [one(number) for number in range(9)]
    with ThreadPoolExecutor(9) as pool:
        assert list(pool.map(one, range(9))) == alone


def test_a_guide_without_its_library_is_told_what_to_install(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def library() -> Any:
        raise MissingExtraError("constrained answers need llguidance", fix="pip install 'headwater[serve]'")

    monkeypatch.setattr("headwater.generate.constraint.library", library)
    with pytest.raises(openai.APIStatusError, match=r"pip install 'headwater\[serve\]'") as raised:
        ask(client, extra_body={"guided_regex": "[0-9]{7}unheard"})
    assert (raised.value.status_code, raised.value.code) == (501, "not_installed")
